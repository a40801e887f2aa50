"""How good the recommendations are, beside what learns nothing, on the same questions.

Legend: Q questions, N items, K length of a list.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...progress import Progress
from ...recommend.build import yardstick
from ...recommend.config import ModelConfig
from ...recommend.content import CatalogueVectors, lay_out
from ...recommend.evaluation import by_history, by_views
from ...recommend.metrics import Estimate, accuracy
from ...recommend.ranker import rank_questions
from ...recommend.report import GroupResult, SplitResult, card_line, list_columns, space_told
from .evidence import Evidence

YARDSTICKS = ("popularity", "item-knn", "content-mean")
SPLIT = "test"


@dataclass(frozen=True)
class Line:
    """One model's numbers.

    Attributes:
        name: of the model.
        own: it is the run that is reported; else a yardstick.
        metrics: ``hit_rate@k``, ``ndcg@k`` and ``mrr``.
        by_views: by how often training saw the target.
        by_history: by how many items were watched before it.
    """

    name: str
    own: bool
    metrics: Mapping[str, Estimate]
    by_views: tuple[GroupResult, ...]
    by_history: tuple[GroupResult, ...]


@dataclass(frozen=True)
class Accuracy:
    """What ``look_at_accuracy`` finds.

    Attributes:
        questions: Q.
        items: that are ranked.
        ks: list lengths.
        lines: the run, then the yardsticks.
        beside: name -> value of what the run's lists are like beside accuracy, at the first K.
        card: the protocol in a sentence.
        date, commit: when the run was measured, and by which code.
    """

    questions: int
    items: int
    ks: tuple[int, ...]
    lines: tuple[Line, ...]
    beside: dict[str, str]
    card: str
    date: str
    commit: str

    @property
    def k(self) -> int:
        """The length of list that is shown where there is room for one: the first."""
        return self.ks[0]

    @property
    def chance(self) -> dict[str, float]:
        """Metric -> its mean for items in an order drawn at random, each of the N places as likely as another.

        HR@K is K / N, NDCG@K the sum of its discounts over N, and MRR the N-th harmonic number over N. What was watched before and is
        masked raises these by its share of the catalogue.
        """
        found = {"mrr": sum(1 / place for place in range(1, self.items + 1)) / self.items}
        for k in self.ks:
            found[f"hit_rate@{k}"] = k / self.items
            found[f"ndcg@{k}"] = sum(1 / math.log2(place + 1) for place in range(1, k + 1)) / self.items
        return found

    @property
    def verdict(self) -> str:
        """In a sentence, whether the run is better than the best of the yardsticks; intervals that touch say nothing."""
        own, *others = self.lines
        metric = f"hit_rate@{self.k}"
        if not others:
            return f"HR@{self.k} {own.metrics[metric].value:.4f}. It is a yardstick itself."
        best = max(others, key=lambda line: line.metrics[metric].value)
        ours, theirs = own.metrics[metric], best.metrics[metric]
        if ours.low > theirs.high:
            return f"It finds more than {best.name}, the best yardstick, and the 95 % intervals lie apart."
        if ours.high < theirs.low:
            return f"It finds less than {best.name}, which learns nothing: this run is not worth using."
        return f"Its 95 % interval overlaps that of {best.name}, which learns nothing: on these questions the two are not told apart."


def look_at_accuracy(evidence: Evidence, progress: Progress) -> Accuracy:
    """Read the run's results, and measure the yardsticks on its test questions; ``content-mean`` where the run has stored vectors."""
    results, split = evidence.results, evidence.split
    own = SplitResult.from_dict(SPLIT, results["splits"][SPLIT])
    ks = tuple(results["k"])
    lines = [Line(evidence.name, True, own.metrics, own.groups, own.history_groups)]
    content = None if evidence.store is None else lay_out(evidence.store, evidence.items, evidence.config.items.min_coverage)
    for name in YARDSTICKS:
        if name != evidence.config.model.kind and (name != "content-mean" or content is not None):
            lines.append(_measure(name, evidence, content, ks, progress))
    origin = results["provenance"]
    columns = list_columns(results["index"], space_told(results))
    return Accuracy(
        questions=own.questions,
        items=len(split.items),
        ks=ks,
        lines=tuple(lines),
        beside={name: value for name, value in zip(columns, own.list_words(ks[0]), strict=True) if value != "-"},
        card=card_line(results["protocol_card"]),
        date=origin["date"],
        commit=origin["commit"],
    )


def _measure(name: str, evidence: Evidence, content: CatalogueVectors | None, ks: Sequence[int], progress: Progress) -> Line:
    split = evidence.split
    scorer = yardstick(ModelConfig.model_validate({"kind": name}), split, content)
    ranks = rank_questions(scorer, split.test, num_items=len(split.items), progress=progress)
    found = (by_views(evidence.counts_N, split.test, ranks, ks), by_history(split.test, ranks, ks))
    return Line(name, False, accuracy(ranks, ks), *found)
