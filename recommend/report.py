"""A result: metrics with intervals, the protocol card they hold under, and where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .leakage import Leakage, leakage_lines
from .metrics import Estimate
from .space import OWN


@dataclass(frozen=True)
class GroupResult:
    """Accuracy on questions of one kind.

    Attributes:
        name: of the bucket: ``0``, ``1-4``, ``5-19`` or ``20+`` training interactions of the target; or so many items watched before it.
        questions: how many are of this kind.
        metrics: ``hit_rate@k`` and ``ndcg@k``.
    """

    name: str
    questions: int
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class SplitResult:
    """What one split's questions gave.

    Attributes:
        name: ``validation`` or ``test``.
        questions: how many were asked.
        metrics: ``hit_rate@k``, ``ndcg@k``, ``mrr``.
        coverage: k -> share of the catalogue that occurs in any top-k list.
        mean_popularity: k -> mean training interactions of the items in top-k lists.
        gini: k -> Gini coefficient of how often items of the catalogue stand in top-k lists.
        diversity: k -> mean 1 - cosine of two items of a top-k list, in the space that the report names; None where there are no vectors.
        groups: accuracy by training frequency of the target.
        history_groups: accuracy by the number of items watched before the target.
        index_agreement: k -> share of the exact list that the FAISS list holds; None for models that FAISS cannot serve.
    """

    name: str
    questions: int
    metrics: dict[str, Estimate]
    coverage: dict[int, float]
    mean_popularity: dict[int, float]
    gini: dict[int, float]
    diversity: dict[int, float] | None
    groups: tuple[GroupResult, ...]
    history_groups: tuple[GroupResult, ...]
    index_agreement: dict[int, float] | None

    @staticmethod
    def from_dict(name: str, told: Mapping[str, Any]) -> "SplitResult":
        """As ``Report.as_dict`` holds it: of ``results.json``, the part of the split ``name``."""
        return SplitResult(
            name=name,
            questions=told["questions"],
            metrics=_metrics_of(told["metrics"]),
            coverage=_by_k(told["coverage"]),
            mean_popularity=_by_k(told["mean_popularity"]),
            gini=_by_k(told["gini"]),
            diversity=None if told["diversity"] is None else _by_k(told["diversity"]),
            groups=_groups_of(told["groups"]),
            history_groups=_groups_of(told["history_groups"]),
            index_agreement=None if told["index_agreement"] is None else _by_k(told["index_agreement"]),
        )

    def list_words(self, k: int) -> list[str]:
        """What the lists of length ``k`` are like, in the order of ``list_columns``."""
        return [
            f"{self.coverage[k]:.1%}",
            f"{self.gini[k]:.3f}",
            f"{self.mean_popularity[k]:.1f}",
            "-" if self.diversity is None else f"{self.diversity[k]:.3f}",
            "-" if self.index_agreement is None else f"{self.index_agreement[k]:.2%}",
        ]


@dataclass(frozen=True)
class Report:
    """Everything one evaluation says.

    Attributes:
        model: name of the run's model, for example ``mamba, ids``.
        ks: list lengths.
        splits: results, validation first.
        index: kind of the FAISS index.
        card: protocol card; results with different cards are not comparable.
        provenance: date, commit, hardware, versions, command.
        run: what run.json says of the training.
        leakage: how far training looks past the test; None where the file has no times.
        space: whose vectors diversity is measured in; see ``Space``.
    """

    model: str
    ks: tuple[int, ...]
    splits: tuple[SplitResult, ...]
    index: str
    card: dict[str, Any]
    provenance: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)
    leakage: Leakage | None = None
    space: str = OWN

    def columns(self) -> list[str]:
        """Names of the accuracy metrics in the order of a table."""
        return [name for k in self.ks for name in (f"hit_rate@{k}", f"ndcg@{k}")] + ["mrr"]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model,
            "k": list(self.ks),
            "index": self.index,
            "splits": {s.name: _split_dict(s) for s in self.splits},
            "protocol_card": self.card,
            "leakage": None if self.leakage is None else self.leakage.as_dict(),
            "diversity_in": self.space,
            "provenance": self.provenance,
            "run": self.run,
        }

    def rows(self) -> list[list[str]]:
        """A table: header, then one row per split."""
        header = ["split", *(short_name(name) for name in self.columns())]
        return [header] + [[s.name, *(str(s.metrics[name]) for name in self.columns())] for s in self.splits]

    def list_rows(self) -> list[list[str]]:
        """A table of what the lists are like beside accuracy: header, then one row per split and k."""
        header = ["split", "K", *list_columns(self.index, self.space)]
        return [header, *([s.name, str(k), *s.list_words(k)] for s in self.splits for k in self.ks)]

    def lines(self) -> list[str]:
        """What stands below the tables: leakage, card."""
        return [*leakage_lines(self.card["protocol"], self.leakage), card_line(self.card)]

    def group_lines(self) -> list[str]:
        """Accuracy by how often training saw the target, and by how much was watched before it."""
        return [
            f"{s.name}: {kind.format(group.name)} ({group.questions}): "
            + ", ".join(f"{short_name(k)} {v}" for k, v in group.metrics.items())
            for s in self.splits
            for kind, groups in (("targets seen {} times in training", s.groups), ("targets after {} items", s.history_groups))
            for group in groups
        ]

    def markdown(self) -> str:
        """The report as a Markdown page."""
        origin = self.provenance
        source = f"{origin['date']}, commit {origin['commit']}, {origin['hardware']}; `{origin['command']}`"
        return "\n".join(
            [
                *(f"# {self.model}", "", *_table(self.rows()), "", *(f"- {line}" for line in self.group_lines()), ""),
                *(*_table(self.list_rows()), "", f"{_LISTS}.", "", *(f"- {line}" for line in self.lines()), "", source, ""),
            ]
        )


def list_columns(index: str, space: str) -> list[str]:
    """Names of ``SplitResult.list_words``.

    Args:
        index: kind of the FAISS index.
        space: that diversity is measured in.
    """
    return ["coverage", "Gini", "mean views", f"diversity in {space}", f"{index} agrees"]


def space_told(results: Mapping[str, Any]) -> str:
    """Which space the diversity of a ``results.json`` is of; before it was said there, models were measured in their own."""
    space: str = results.get("diversity_in", OWN)
    return space


# What these mean.
_LISTS = (
    "coverage and Gini: of how often items of the catalogue stand in top-K lists; mean views: training interactions of these items; "
    f"diversity: mean 1 - cosine of two items of a list, in the vectors that its column names; {OWN} are not those of another model"
)


def short_name(metric: str) -> str:
    """``hit_rate@10`` -> ``HR@10``."""
    return metric.replace("hit_rate", "HR").replace("ndcg", "NDCG").replace("mrr", "MRR")


# How each protocol divides, in the fields of its card.
_DIVIDES = {
    "microlens": "last {keep_last} kept, leave one out",
    "leave-one-out": "whole histories, leave one out",
    "temporal": "training before {validation_from}, validation before {test_from}, then test (UTC), the first of each user in a span",
}


def card_line(card: dict[str, Any]) -> str:
    """The protocol in one sentence."""
    return (
        f"protocol {card['protocol']}: {_DIVIDES[card['protocol']].format(**card)}, input {card['max_len']}, full ranking of "
        f"{card['items']:,} items for {card['users']:,} users; {card['seen_rule']}; ties: {card['tie_rule']}; order: {card['ordering']}"
    )


def _table(rows: list[list[str]]) -> list[str]:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [header, f"|{'---|' * len(rows[0])}", *body]


def _split_dict(split: SplitResult) -> dict[str, Any]:
    return {
        "questions": split.questions,
        "metrics": {k: v.as_dict() for k, v in split.metrics.items()},
        "coverage": {str(k): v for k, v in split.coverage.items()},
        "mean_popularity": {str(k): v for k, v in split.mean_popularity.items()},
        "gini": {str(k): v for k, v in split.gini.items()},
        "diversity": None if split.diversity is None else {str(k): v for k, v in split.diversity.items()},
        "groups": _group_dict(split.groups),
        "history_groups": _group_dict(split.history_groups),
        "index_agreement": None if split.index_agreement is None else {str(k): v for k, v in split.index_agreement.items()},
    }


def _group_dict(groups: tuple[GroupResult, ...]) -> dict[str, Any]:
    return {g.name: {"questions": g.questions, **{k: v.as_dict() for k, v in g.metrics.items()}} for g in groups}


def _by_k(told: Mapping[str, float]) -> dict[int, float]:
    return {int(k): value for k, value in told.items()}


def _metrics_of(told: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**value) for name, value in told.items()}


def _groups_of(told: Mapping[str, Any]) -> tuple[GroupResult, ...]:
    return tuple(
        GroupResult(name, group["questions"], _metrics_of({k: v for k, v in group.items() if k != "questions"}))
        for name, group in told.items()
    )


def group_names() -> Sequence[tuple[str, int, int]]:
    """Buckets of training frequency: name, least, most."""
    return (("0", 0, 0), ("1-4", 1, 4), ("5-19", 5, 19), ("20+", 20, 2**62))


def history_names() -> Sequence[tuple[str, int, int]]:
    """Buckets of the items watched before a target: name, least, most. A window of MicroLens ends in the fourth."""
    return (("1-2", 1, 2), ("3-5", 3, 5), ("6-9", 6, 9), ("10-19", 10, 19), ("20-49", 20, 49), ("50+", 50, 2**62))
