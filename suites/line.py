"""A row of a suite with its numbers: means over seeds, intervals over users.

Legend: U users.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..recommend.metrics import Estimate, bootstrap_mean, hit_rate
from ..recommend.ranker import Ranks
from .beside import Beside, beside_of
from .cost import Cost, cost_of
from .suite import Row

SPLITS = ("validation", "test")


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
class Answers:
    """What a row got on the test, user by user.

    Attributes:
        users: (U,) their ids.
        gains: metric -> (U,), mean over seeds, by which rows are compared.
    """

    users: pl.Series
    gains: dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Line:
    """A row with its numbers.

    Attributes:
        row: of the suite.
        seeds: trainings that it has results of.
        cells: (split, metric) -> number.
        answers: by which rows are compared.
        beside: buckets, and what its lists are like.
        cost: of its trainings.
        measured: day, commit and hardware of each measurement, in words; as a rule one.
    """

    row: Row
    seeds: int
    cells: dict[tuple[str, str], Cell]
    answers: Answers
    beside: Beside
    cost: Cost
    measured: tuple[str, ...] = ()

    @property
    def learned(self) -> bool:
        """Was it trained, and not only counted?"""
        return self.cost.epochs is not None

    def metrics_as_dict(self) -> dict[str, dict[str, float | None]]:
        """For JSON: ``test hit_rate@10`` -> value, low, high, sd."""
        return {f"{split} {metric}": {**cell.estimate.as_dict(), "sd": cell.sd} for (split, metric), cell in self.cells.items()}


def line_of(row: Row, ks: Sequence[int], runs: Sequence[Path], results: Sequence[dict[str, Any]]) -> Line:
    """From the runs of a row.

    Args:
        ks: list lengths.
        runs: of its seeds; each holds ranks.parquet. One without names of users has them in the order of the questions.
        results: their results.json.
    """
    ranks = [pl.read_parquet(run / "ranks.parquet") for run in runs]
    cells, gains = {}, {}
    for split in SPLITS:
        of_split = [table.filter(pl.col("split") == split) for table in ranks]
        by_name = [table.get_column("user", default=pl.int_range(table.height, eager=True).alias("user")) for table in of_split]
        users = by_name[0]
        assert all(other.equals(users) for other in by_name), "the seeds of a row answered different users"
        by_seed = [table["rank"].to_numpy() for table in of_split]
        for k in sorted(ks):
            for metric, values in (
                (f"hit_rate@{k}", [(rank <= k).astype(float) for rank in by_seed]),
                (f"ndcg@{k}", [np.where(rank <= k, 1 / np.log2(rank + 1), 0.0) for rank in by_seed]),
            ):
                mean_U = np.mean(values, axis=0)
                single = len(values) == 1 and metric.startswith("hit_rate")
                estimate = hit_rate(Ranks(by_seed[0], 0), k) if single else bootstrap_mean(mean_U)
                sd = statistics.stdev(float(v.mean()) for v in values) if len(values) > 1 else None
                cells[split, metric] = Cell(estimate, sd)
                gains[metric] = mean_U  # the test comes last
    origins = [result["provenance"] for result in results]
    measured = tuple(dict.fromkeys(f"{origin['date'][:10]}, commit {origin['commit']}, {origin['hardware']}" for origin in origins))
    return Line(row, len(runs), cells, Answers(users, gains), beside_of(results), cost_of(runs, results), measured)
