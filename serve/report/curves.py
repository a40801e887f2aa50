"""The training, epoch by epoch."""

from dataclasses import dataclass

from ...recommend.epochs import EpochLog
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
        clip_norm: gradients above it are scaled down to it; 0: none are.
    """

    epochs: tuple[EpochLog, ...]
    best: int
    stopped: str
    parameters: int
    seconds: float
    memory_mb: int | None
    clip_norm: float

    @property
    def with_lr(self) -> tuple[EpochLog, ...]:
        """Epochs whose learning rate is known."""
        return tuple(epoch for epoch in self.epochs if epoch.lr is not None)

    @property
    def with_norms(self) -> tuple[EpochLog, ...]:
        """Epochs whose gradient norms are known."""
        return tuple(epoch for epoch in self.epochs if epoch.grad_norm_mean is not None)

    @property
    def overflows(self) -> int:
        """Steps whose gradients were NaN or infinite."""
        return sum(epoch.grad_overflows or 0 for epoch in self.epochs)

    @property
    def lacking(self) -> tuple[str, ...]:
        """What the log does not hold, as earlier versions did not note it; a sentence each."""
        known = {"learning rate": len(self.with_lr), "gradient norms": len(self.with_norms)}
        return tuple(
            f"log.jsonl holds the {what} of {count} of {len(self.epochs)} epochs{'' if count else ', so that curve is left out'}."
            for what, count in known.items()
            if count < len(self.epochs)
        )


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
    clip_norm = evidence.run.config().train.clip_norm
    return Curves(epochs, fit["best_epoch"], stopped, fit["parameters"], fit["seconds"], info.get("peak_memory_mb"), clip_norm)
