"""What the trainings of a row cost; of rows that need none, what counting does."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .job import BUDGET, spent_seconds

COLUMNS = ("s/epoch", "epochs", "best", "s to best", "total s", "peak MiB", "parameters", "stopped by budget", "on")


@dataclass(frozen=True)
class Cost:
    """Medians over seeds; None where a run does not tell. What needs no training has no epochs.

    Attributes:
        seconds_per_epoch: of training steps.
        epochs: that were trained.
        best_epoch: that was kept.
        seconds_to_best: of the epochs until the one that was kept, with their validations.
        seconds: of all epochs, with their validations; or of counting.
        memory_mb: peak of the process, MiB.
        parameters: numbers that are trained.
        stopped: seeds that their budget ended.
        where: device and precision, for example ``cpu, 32-true``.
        seconds_of_all: of all seeds together.
    """

    seconds_per_epoch: float | None = None
    epochs: float | None = None
    best_epoch: float | None = None
    seconds_to_best: float | None = None
    seconds: float | None = None
    memory_mb: float | None = None
    parameters: float | None = None
    stopped: int = 0
    where: str = ""
    seconds_of_all: float = 0.0

    @property
    def known(self) -> bool:
        """Does any run tell of it?"""
        return any(number is not None for number in self.numbers.values())

    @property
    def numbers(self) -> dict[str, float | None]:
        """By name, in the order of ``COLUMNS``."""
        return {
            "seconds_per_epoch": self.seconds_per_epoch,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds_to_best": self.seconds_to_best,
            "seconds": self.seconds,
            "peak_memory_mb": self.memory_mb,
            "parameters": self.parameters,
        }

    def cells(self) -> list[str]:
        """As text, in the order of ``COLUMNS``."""
        numbers = ["-" if number is None else f"{number:,.{_digits(number)}f}" for number in self.numbers.values()]
        return [*numbers, str(self.stopped) if self.stopped else "-", self.where or "-"]


def cost_of(runs: Sequence[Path], results: Sequence[Mapping[str, Any]]) -> Cost:
    """The cost of a row.

    Args:
        runs: of its seeds.
        results: their results.json.
    """
    trained = [result["run"] for result in results if result["run"].get("fit")]
    fits = [run["fit"] for run in trained]
    if not fits:
        return _of_counting([result["run"] for result in results])
    # A run that does not tell its parameters was made before every training had its own process: its peak is that of several.
    peaks = [run["peak_memory_mb"] for run in trained if "parameters" in run["fit"]]
    places = {f"{run['fit']['device']}, {run['config']['train']['precision']}" for run in trained if "device" in run["fit"]}
    spent = [spent_seconds(run) for run in runs]
    kept = [(run, result["run"]["fit"]["best_epoch"]) for run, result in zip(runs, results, strict=True) if result["run"].get("fit")]
    to_best = [spent_seconds(run, epoch) for run, epoch in kept]
    return Cost(
        seconds_per_epoch=_median([fit["seconds_per_epoch"] for fit in fits]),
        epochs=_median([fit["epochs"] for fit in fits]),
        best_epoch=_median([fit["best_epoch"] for fit in fits]),
        seconds_to_best=_median(to_best),
        seconds=_median(spent),
        memory_mb=_median(peaks),
        parameters=_median([fit["parameters"] for fit in fits if "parameters" in fit]),
        stopped=sum(fit.get("stopped_by") == BUDGET for fit in fits),
        where="; ".join(sorted(places)),
        seconds_of_all=sum(spent),
    )


def _of_counting(runs: Sequence[Mapping[str, Any]]) -> Cost:
    """Runs of before it was measured tell nothing."""
    counted = [run["counting"] for run in runs if run.get("counting")]
    seconds = [one["seconds"] for one in counted]
    peaks = [run["peak_memory_mb"] for run in runs if run.get("counting")]
    return Cost(seconds=_median(seconds), memory_mb=_median(peaks), where="cpu" if counted else "", seconds_of_all=sum(seconds))


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _digits(number: float) -> int:
    return 1 if number < 100 and number != int(number) else 0
