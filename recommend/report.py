"""A result: metrics with intervals, the protocol card they hold under, and where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .metrics import Estimate


@dataclass(frozen=True)
class GroupResult:
    """Accuracy on targets of one kind, by how often they occur in training.

    Attributes:
        name: ``0``, ``1-4``, ``5-19`` or ``20+`` training interactions.
        questions: how many targets are of this kind.
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
        groups: accuracy by training frequency of the target.
        index_agreement: k -> share of the exact list that the FAISS list holds; None for models that FAISS cannot serve.
    """

    name: str
    questions: int
    metrics: dict[str, Estimate]
    coverage: dict[int, float]
    mean_popularity: dict[int, float]
    groups: tuple[GroupResult, ...]
    index_agreement: dict[int, float] | None


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
    """

    model: str
    ks: tuple[int, ...]
    splits: tuple[SplitResult, ...]
    index: str
    card: dict[str, Any]
    provenance: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)

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
            "provenance": self.provenance,
            "run": self.run,
        }

    def rows(self) -> list[list[str]]:
        """A table: header, then one row per split."""
        header = ["split", *(short_name(name) for name in self.columns())]
        return [header] + [[s.name, *(str(s.metrics[name]) for name in self.columns())] for s in self.splits]

    def lines(self) -> list[str]:
        """What stands below the tables: lists, index, card."""
        lines = []
        for s in self.splits:
            shown = ", ".join(f"@{k} {s.coverage[k]:.1%}" for k in self.ks)
            popularity = ", ".join(f"@{k} {s.mean_popularity[k]:.1f}" for k in self.ks)
            lines.append(f"{s.name}: catalogue coverage {shown}; mean training views of recommended items {popularity}")
            if s.index_agreement is not None:
                agree = ", ".join(f"@{k} {v:.2%}" for k, v in s.index_agreement.items())
                lines.append(f"{s.name}: FAISS {self.index} lists agree with exact ones {agree}")
        lines.append(card_line(self.card))
        return lines

    def group_lines(self) -> list[str]:
        """Accuracy by how often training saw the target."""
        return [
            f"{s.name}: targets seen {group.name} times in training ({group.questions}): "
            + ", ".join(f"{short_name(k)} {v}" for k, v in group.metrics.items())
            for s in self.splits
            for group in s.groups
        ]

    def markdown(self) -> str:
        """The report as a Markdown page."""
        header, *rows = self.rows()
        table = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *(f"| {' | '.join(row)} |" for row in rows)]
        origin = self.provenance
        source = f"{origin['date']}, commit {origin['commit']}, {origin['hardware']}; `{origin['command']}`"
        return "\n".join(
            [f"# {self.model}", "", *table, "", *(f"- {line}" for line in (*self.group_lines(), *self.lines())), "", source, ""]
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


def _split_dict(split: SplitResult) -> dict[str, Any]:
    return {
        "questions": split.questions,
        "metrics": {k: v.as_dict() for k, v in split.metrics.items()},
        "coverage": {str(k): v for k, v in split.coverage.items()},
        "mean_popularity": {str(k): v for k, v in split.mean_popularity.items()},
        "groups": {g.name: {"questions": g.questions, **{k: v.as_dict() for k, v in g.metrics.items()}} for g in split.groups},
        "index_agreement": None if split.index_agreement is None else {str(k): v for k, v in split.index_agreement.items()},
    }


def group_names() -> Sequence[tuple[str, int, int]]:
    """Buckets of training frequency: name, least, most."""
    return (("0", 0, 0), ("1-4", 1, 4), ("5-19", 5, 19), ("20+", 20, 2**62))
