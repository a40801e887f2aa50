"""The training, epoch by epoch."""

import json
from dataclasses import dataclass

from .evidence import Evidence, Missing


@dataclass(frozen=True)
class Epoch:
    """One line of log.jsonl.

    Attributes:
        number: from 1.
        loss: mean over the training positions.
        hit_rate_10, ndcg_10: on validation.
        train_seconds: of its steps.
    """

    number: int
    loss: float
    hit_rate_10: float
    ndcg_10: float
    train_seconds: float


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

    epochs: tuple[Epoch, ...]
    best: int
    stopped: str
    parameters: int
    seconds: float
    memory_mb: int | None


def look_at_training(evidence: Evidence) -> Curves | Missing:
    """Read log.jsonl and what run.json says of the training."""
    info = evidence.info
    path = evidence.run.path / "log.jsonl"
    if "fit" not in info or not path.is_file():
        return Missing(f"{evidence.name} is counted in one pass, so there are no curves.")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    epochs = tuple(Epoch(x["epoch"], x["loss"], x["hit_rate_10"], x["ndcg_10"], x["train_seconds"]) for x in lines)
    fit = info["fit"]
    stopped = "validation stopped rising" if fit["stopped_early"] else f"all {fit['epochs']} epochs were done"
    return Curves(
        epochs, fit["best_epoch"], fit.get("stopped_by") or stopped, fit["parameters"], fit["seconds"], info.get("peak_memory_mb")
    )
