"""The training, epoch by epoch."""

from dataclasses import dataclass

from ...recommend.training import EpochLog
from .evidence import Evidence, Missing


@dataclass(frozen=True)
class Curves:
    """What ``look_at_training`` finds.

    Attributes:
        epochs: in order.
        best: number of the epoch whose weights were kept.
        stopped: why training ended.
        parameters: numbers that were trained.
        seconds: of training and validation together.
        memory_mb: largest memory of the process, MiB; None: not noted.
    """

    epochs: tuple[EpochLog, ...]
    best: int
    stopped: str
    parameters: int
    seconds: float
    memory_mb: int | None


def look_at_training(evidence: Evidence) -> Curves | Missing:
    """Read log.jsonl and what run.json says of the training."""
    info, lines = evidence.info, evidence.run.read_log()
    if "fit" not in info:
        return Missing(f"{evidence.name} is counted in one pass, so there are no curves.")
    if not lines:
        return Missing("log.jsonl is gone from the run, so there are no curves.")
    epochs = tuple(EpochLog(**line) for line in lines)
    fit = info["fit"]
    stopped = "validation stopped rising" if fit["stopped_early"] else f"all {fit['epochs']} epochs were done"
    if fit.get("stopped_by"):
        stopped = f"training was stopped by {fit['stopped_by']}"
    return Curves(epochs, fit["best_epoch"], stopped, fit["parameters"], fit["seconds"], info.get("peak_memory_mb"))
