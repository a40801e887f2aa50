"""From the runs of a suite to its table: means over seeds, intervals over users, what others printed, and what is significant.

Legend: U users.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from ..recommend.metrics import Estimate, bootstrap_mean, hit_rate
from ..recommend.ranker import Ranks
from ..recommend.report import card_line
from .cost import Cost, cost_of
from .published import PAPER, README, differing, published
from .runner import measured
from .significance import Comparison, holm, randomisation
from .suite import Row, Suite

_SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Cell:
    """A metric of a row.

    Attributes:
        estimate: mean over users and seeds, and its 95 % interval over users.
        sd: standard deviation over seeds; None of one.
    """

    estimate: Estimate
    sd: float | None

    def __str__(self) -> str:
        return f"{self.estimate}{'' if self.sd is None else f' ±{self.sd:.4f}'}"


@dataclass(frozen=True)
class Line:
    """A row with its numbers.

    Attributes:
        row: of the suite.
        seeds: trainings that it has results of.
        cells: (split, metric) -> number.
        gains: metric -> (U,) of the test, mean over seeds, by which rows are compared.
        cost: of its trainings.
    """

    row: Row
    seeds: int
    cells: dict[tuple[str, str], Cell]
    gains: dict[str, npt.NDArray[np.float64]]
    cost: Cost


@dataclass(frozen=True)
class Tested:
    """A row against another: the one it names, or the best baseline of its class.

    Attributes:
        row, baseline: their names.
        metric: on the test.
        found: the comparison.
        p: adjusted for all comparisons of the metric (Holm).
    """

    row: str
    baseline: str
    metric: str
    found: Comparison
    p: float


@dataclass(frozen=True)
class Table:
    """The whole table of a suite."""

    suite: Suite
    lines: tuple[Line, ...]
    tested: tuple[Tested, ...]
    card: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def metrics(self) -> list[str]:
        return [f"{name}@{k}" for k in sorted(self.suite.k) for name in ("hit_rate", "ndcg")]

    def header(self) -> list[str]:
        ours = [f"{split} {_short(metric)}" for split in _SPLITS for metric in self.metrics]
        return ["class", "model", "seeds", *ours, f"{README} HR@10", f"{PAPER} HR@10"]

    def rows(self) -> list[list[str]]:
        """As text, class by class."""
        found = []
        for line in self.lines:
            numbers = [str(line.cells[split, metric]) for split in _SPLITS for metric in self.metrics]
            name = (f"**{line.row.name}**" if line.row.ours else line.row.name) + (" §" if line.cost.stopped else "")
            quoted = [_printed(line.row.name, source) for source in (README, PAPER)]
            found.append([line.row.kind, name, str(line.seeds), *numbers, *quoted])
        return found

    def cost_rows(self) -> list[list[str]]:
        """What was trained, and what it cost."""
        return [[line.row.name, *line.cost.cells()] for line in self.lines if line.cost.epochs is not None]

    def notes(self) -> list[str]:
        """What stands below."""
        return [
            card_line(self.card),
            "Ours: mean over users and seeds, [95 % interval over users], ± standard deviation over seeds.",
            f"{README}, {PAPER}: printed for MicroLens-100K, not measured here. † the two differ in this cell; ‡ the four numbers of that "
            "row cannot come from one evaluation.",
            *(
                ["§ a training was ended by its budget of time, not by validation."]
                if any(line.cost.stopped for line in self.lines)
                else []
            ),
            *(f"{line.row.name}: {line.row.note}" for line in self.lines if line.row.note),
        ]

    def tested_rows(self) -> list[list[str]]:
        return [
            [t.row, t.baseline, _short(t.metric), f"{t.found.difference:+.4f}", f"{t.found.better:,}", f"{t.found.worse:,}", f"{t.p:.4f}"]
            for t in self.tested
        ]


def table_of(out: Path) -> Table:
    """The table of the suite that was run into ``out``; rows without results are left out.

    Raises:
        InputError: no suite was run there, nothing of it is finished, or its runs have different protocol cards.
    """
    try:
        suite = Suite.model_validate_json((out / "suite.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{out} holds no suite that was run ({error}); run one with: vivim benchmark run SUITE --out {out}.") from error
    lines: list[Line] = []
    cards: dict[str, Path] = {}
    provenance: dict[str, Any] = {}
    for row, runs in measured(suite, out):
        results = [json.loads((run / "results.json").read_text(encoding="utf-8")) for run in runs]
        for run, result in zip(runs, results, strict=True):
            cards.setdefault(json.dumps(result["protocol_card"], sort_keys=True), run)
            provenance = max(provenance, result["provenance"], key=lambda p: p.get("date", ""))
        lines.append(_line(suite, row, runs, results))
    if not lines:
        raise InputError(f"nothing of the suite in {out} is finished yet.")
    if len(cards) > 1:
        one, other = list(cards.values())[:2]
        raise InputError(f"{one} and {other} have different protocol cards; their numbers do not belong in one table.")
    order = list(dict.fromkeys(row.kind for row in suite.rows))
    lines.sort(key=lambda line: order.index(line.row.kind))
    return Table(suite, tuple(lines), tuple(_tests(lines)), json.loads(next(iter(cards))), provenance)


def _line(suite: Suite, row: Row, runs: Sequence[Path], results: Sequence[dict[str, Any]]) -> Line:
    ranks = [pl.read_parquet(run / "ranks.parquet") for run in runs]
    cells, gains = {}, {}
    for split in _SPLITS:
        of_split = [table.filter(pl.col("split") == split) for table in ranks]
        users = of_split[0]["user"]
        assert all(table["user"].equals(users) for table in of_split), "the seeds of a row answered different users"
        by_seed = [table["rank"].to_numpy() for table in of_split]
        for k in sorted(suite.k):
            for metric, values in (
                (f"hit_rate@{k}", [(rank <= k).astype(float) for rank in by_seed]),
                (f"ndcg@{k}", [np.where(rank <= k, 1 / np.log2(rank + 1), 0.0) for rank in by_seed]),
            ):
                mean_U = np.mean(values, axis=0)
                single = len(values) == 1 and metric.startswith("hit_rate")
                estimate = hit_rate(Ranks(by_seed[0], 0), k) if single else bootstrap_mean(mean_U)
                sd = statistics.stdev(float(v.mean()) for v in values) if len(values) > 1 else None
                cells[split, metric] = Cell(estimate, sd)
                if split == "test":
                    gains[metric] = mean_U
    return Line(row, len(runs), cells, gains, cost_of(runs, results))


def _tests(lines: Sequence[Line]) -> list[Tested]:
    """Rows against those they name; others of ours against the best baseline of their class, by validation."""
    first = next((f"ndcg@{k}" for k in (10,) if f"ndcg@{k}" in lines[0].gains), next(m for m in lines[0].gains if m.startswith("ndcg")))
    pairs = []
    for line in lines:
        of_class = [other for other in lines if other.row.kind == line.row.kind and not other.row.ours]
        if line.row.against is not None:
            pairs += [(line, other) for other in lines if other.row.name == line.row.against]
        elif line.row.ours and of_class:
            pairs.append((line, max(of_class, key=lambda other: other.cells["validation", first].estimate.value)))
    found = []
    for metric in (first.replace("ndcg", "hit_rate"), first):
        comparisons = [randomisation(line.gains[metric], best.gains[metric]) for line, best in pairs]
        adjusted = holm([comparison.p for comparison in comparisons])
        found += [
            Tested(line.row.name, best.row.name, metric, comparison, p)
            for (line, best), comparison, p in zip(pairs, comparisons, adjusted, strict=True)
        ]
    return found


def _printed(row: str, source: str) -> str:
    for line in published():
        if line.row == row and line.source == source:
            marks = ("†" if "hit_rate@10" in differing(row) else "") + ("" if line.possible else "‡")
            return f"{line.metrics['hit_rate@10']:.4f}{marks}"
    return "-"


def _short(metric: str) -> str:
    return metric.replace("hit_rate", "HR").replace("ndcg", "NDCG")
