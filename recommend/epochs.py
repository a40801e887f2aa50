"""The epochs of a training: what is said of each, how far it has come, which is the best, and when there are enough."""

from dataclasses import dataclass, field
from typing import Any

from .config import Metric


@dataclass(frozen=True)
class EpochLog:
    """One line of log.jsonl. What has a default is not in the logs of earlier versions.

    Attributes:
        epoch: counted from 1.
        loss: mean over the positions of the epoch.
        hit_rate_10: validation HR@10.
        ndcg_10: validation NDCG@10.
        train_seconds: of the epoch's steps.
        validation_seconds: of its validation.
        positions: predictions learned from.
        lr: of the last step; parts of the model with a learning rate of their own rise and fall alike.
        grad_norm_mean: Euclidean norm of all gradients before clipping, mean over the steps where it was finite; None: there are none.
        grad_norm_max: the largest of them; None likewise.
        grad_overflows: steps with gradients that were NaN or infinite, which ``precision: 16-mixed`` leaves out.
    """

    epoch: int
    loss: float
    hit_rate_10: float
    ndcg_10: float
    train_seconds: float
    validation_seconds: float
    positions: int
    lr: float | None = None
    grad_norm_mean: float | None = None
    grad_norm_max: float | None = None
    grad_overflows: int | None = None


class Enough(Exception):
    """Raised by ``after_epoch``: there will be no more epochs; the training ends as if these were all, and the message says why.

    Raised by the progress it ends the epoch under way too, whose steps are lost, once one is finished. With several processes all must
    decide the same.
    """


@dataclass(frozen=True)
class FitResult:
    """What the loop leaves.

    Attributes:
        epochs: that were trained.
        best: the one that is in model.safetensors.
        stopped_early: validation rose no more.
        parameters: numbers that are trained.
        stopped_by: what ``Enough`` said; empty where epochs or patience ended it.
    """

    epochs: tuple[EpochLog, ...]
    best: EpochLog
    stopped_early: bool
    parameters: int
    stopped_by: str = ""


@dataclass
class Progressed:
    """How far a training has come; kept in every checkpoint.

    Attributes:
        epochs: that are finished.
        step: steps done of the one after.
        loss_sum: of its losses, each times its positions.
        positions: of its steps.
        seconds: that they took.
    """

    epochs: list[EpochLog] = field(default_factory=list)
    step: int = 0
    loss_sum: float = 0.0
    positions: int = 0
    seconds: float = 0.0

    @staticmethod
    def of(state: dict[str, Any]) -> "Progressed":
        """As ``dataclasses.asdict`` made it for a checkpoint.

        Raises:
            KeyError, TypeError: it has other entries.
        """
        return Progressed(**(state | {"epochs": [EpochLog(**entry) for entry in state["epochs"]]}))

    @property
    def epoch(self) -> int:
        """The one that is under way."""
        return len(self.epochs) + 1


LABELS: dict[Metric, str] = {"ndcg@10": "NDCG@10", "hit_rate@10": "HR@10"}
"""Names of metrics for people."""


def metric_field(metric: Metric) -> str:
    """Its name in ``EpochLog``, log.jsonl and tables."""
    return metric.replace("@", "_")


def validation_value(log: EpochLog, metric: Metric) -> float:
    """What decides between epochs."""
    return log.ndcg_10 if metric == "ndcg@10" else log.hit_rate_10
