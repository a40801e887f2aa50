"""What others have printed for MicroLens-100K, and which of it can be.

``published.csv`` quotes two tables: the README of westlake-repl/MicroLens and the paper that this project was asked to follow. Nothing of
it was measured here.
"""

import csv
import math
from dataclasses import dataclass
from importlib.resources import files

METRICS = ("hit_rate@10", "ndcg@10", "hit_rate@20", "ndcg@20")
README, PAPER = "MicroLens README", "paper"
_DIGIT = 1e-4  # two printed numbers of four digits, each up to half a digit off, differ by a digit more or less than was measured


@dataclass(frozen=True)
class PublishedRow:
    """One line of a printed table.

    Attributes:
        kind: class of models, as the tables have them.
        row: name of the model; ``proposed`` is the paper's own.
        source: ``README`` or ``PAPER``.
        metrics: by name, as printed.
    """

    kind: str
    row: str
    source: str
    metrics: dict[str, float]

    @property
    def possible(self) -> bool:
        """Can one evaluation have given all four numbers?

        With one target per user every hit between rank 11 and rank 20 adds between 1 / log2(21) and 1 / log2(12) to NDCG.
        """
        gain = self.metrics["ndcg@20"] - self.metrics["ndcg@10"]
        hits = self.metrics["hit_rate@20"] - self.metrics["hit_rate@10"]
        return (hits - _DIGIT) / math.log2(21) <= gain + _DIGIT and gain - _DIGIT <= (hits + _DIGIT) / math.log2(12)


def published() -> tuple[PublishedRow, ...]:
    """All lines of both tables, in their order."""
    lines = files(__package__).joinpath("published.csv").read_text(encoding="utf-8").splitlines()
    return tuple(
        PublishedRow(line["class"], line["row"], line["source"], {name: float(line[name]) for name in METRICS})
        for line in csv.DictReader(lines)
    )


def differing(row: str) -> tuple[str, ...]:
    """Metrics in which the two tables print different numbers for the model ``row``; empty where only one has it."""
    found = [line.metrics for line in published() if line.row == row and row != "proposed"]
    return tuple(name for name in METRICS if len({metrics[name] for metrics in found}) > 1)
