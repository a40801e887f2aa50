"""One training of a row: what its process is told, and what that process does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..progress import Progress
from ..recommend.checkpoint import RunFolder
from ..recommend.config import EvaluateConfig, RecommendConfig
from ..recommend.epochs import Enough, EpochLog
from ..recommend.evaluation import evaluate_run
from ..recommend.train import train_run
from ..settings import Settings
from ..store import EmbeddingStore
from .data import SuiteData

BUDGET = "budget"


class Job(Settings):
    """A training and its measurement.

    Attributes:
        name: of the row and the seed, for people.
        seed: of the training.
        folder: of its run.
        config: whole and without ``auto``.
        location: how to read the interactions.
        vectors: embedding file; None for a row that looks at none.
        k: list lengths.
        space: embedding file that the diversity of lists is measured in; None: what the row looks at, or else its model's own vectors.
        device: that trains.
        budget_seconds: see ``Budget``; None: no limit.
        command: that made it, for provenance.
    """

    name: str
    seed: int
    folder: Path
    config: RecommendConfig
    location: Mapping[str, Any]
    vectors: Path | None
    k: tuple[int, ...]
    space: Path | None
    device: str
    budget_seconds: float | None
    command: tuple[str, ...]


class Budget:
    """Told of every epoch; ends the training with the one in which the budget is used up.

    What counts are the seconds of training steps and validations as the run has them, so that a run that was interrupted and resumed has
    no more than one that was not.

    Args:
        seconds: that may be used.
        spent: used already.
    """

    def __init__(self, seconds: float, spent: float) -> None:
        self.seconds, self.spent = seconds, spent

    def __call__(self, log: EpochLog) -> None:
        self.spent += log.train_seconds + log.validation_seconds
        if self.spent >= self.seconds:
            raise Enough(BUDGET)


def spent_seconds(run: Path, until_epoch: int | None = None) -> float:
    """Seconds of training and validation that the log of a run tells of, until the end of an epoch or of all; 0.0 without a log."""
    lines = RunFolder(run).read_log()
    return sum(line["train_seconds"] + line["validation_seconds"] for line in lines if until_epoch is None or line["epoch"] <= until_epoch)


def train_and_measure(job: Job, progress: Progress) -> None:
    """Train, or go on with what was interrupted, and measure: what a job's process does.

    Raises:
        VivimError: whatever ``train_run`` and ``evaluate_run`` refuse.
        Interrupted: Ctrl-C; finished epochs are kept.
    """
    interactions = SuiteData(job.location).interactions()
    train_run(
        interactions,
        EmbeddingStore.open(job.vectors) if job.vectors else None,
        job.config,
        job.folder,
        seed=job.seed,
        device=job.device,
        # Of another configuration, other interactions or other vectors: refused there, with the difference.
        resume=(job.folder / "run.json").exists(),
        progress=progress,
        data_location=dict(job.location),
        after_epoch=None if job.budget_seconds is None else Budget(job.budget_seconds, spent_seconds(job.folder)),
    )
    evaluate_run(
        RunFolder.open(job.folder),
        interactions,
        EvaluateConfig(k=job.k),
        device=job.device,
        vectors=EmbeddingStore.open(job.space) if job.space else None,
        progress=progress,
    )
