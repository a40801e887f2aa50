"""What others have printed for MicroLens-100K, and which of it can be.

``published.csv`` quotes two tables: the README of westlake-repl/MicroLens and the paper that this project was asked to follow. Nothing of
it was measured here.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ..errors import VivimError
from ..recommend.metrics import arithmetic_check

METRICS = ("hit_rate@10", "ndcg@10", "hit_rate@20", "ndcg@20")
README, PAPER = "MicroLens README", "paper"
DIFFERS, IMPOSSIBLE = "differs", "impossible"
MARKS = {DIFFERS: "†", IMPOSSIBLE: "‡"}
_ROUNDING = 0.00005  # of four printed digits


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
        """Can one evaluation have given all four numbers? See ``arithmetic_check``."""
        m = self.metrics
        try:
            arithmetic_check(m["hit_rate@10"], m["ndcg@10"], m["hit_rate@20"], m["ndcg@20"], 10, 20, rounding=_ROUNDING)
        except VivimError:
            return False
        return True


@cache
def published() -> tuple[PublishedRow, ...]:
    """All lines of both tables, in their order."""
    lines = files(__package__).joinpath("published.csv").read_text(encoding="utf-8").splitlines()
    return tuple(
        PublishedRow(line["class"], line["row"], line["source"], {name: float(line[name]) for name in METRICS})
        for line in csv.DictReader(lines)
    )


def printed_for(kind: str, row: str) -> tuple[PublishedRow, ...]:
    """What the two tables print for the row of that name in that class; empty where neither has it."""
    return tuple(line for line in published() if (line.kind, line.row) == (kind, row))


def differing(rows: Sequence[PublishedRow]) -> tuple[str, ...]:
    """Metrics in which tables print different numbers for one row; empty where only one has it."""
    return tuple(name for name in METRICS if len({row.metrics[name] for row in rows}) > 1)


def flags(row: PublishedRow, metric: str) -> tuple[str, ...]:
    """What is to be known of a printed number: ``DIFFERS`` from the other table's, ``IMPOSSIBLE`` as its row is."""
    differs = metric in differing(printed_for(row.kind, row.row))
    return (*((DIFFERS,) if differs else ()), *(() if row.possible else (IMPOSSIBLE,)))


def marked(row: PublishedRow, metric: str) -> str:
    """A printed number with its marks."""
    return f"{row.metrics[metric]:.4f}{''.join(MARKS[flag] for flag in flags(row, metric))}"
