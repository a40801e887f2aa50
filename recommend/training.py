"""The training loop.

Everything random in epoch e follows from (seed, e): the order of the batches and the dropout masks. A checkpoint after each
epoch therefore lets a resumed run end with the same weights as an uninterrupted one.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import lightning_fabric
import torch
from lightning_fabric.loggers.logger import Logger

from ..errors import Interrupted, VivimError
from ..progress import Progress
from ..store.metric_log import log_metrics
from ..store.run_folder import pack_optimizer, unpack_optimizer
from .batches import TrainBatch, num_batches, train_batches
from .checkpoint import RunFolder
from .config import TrainConfig
from .learner import Learner
from .metrics import hit_rate, ndcg
from .protocol import Split
from .ranker import rank_questions


@dataclass(frozen=True)
class EpochLog:
    """One line of log.jsonl.

    Attributes:
        epoch: counted from 1.
        loss: mean over the positions of the epoch.
        hit_rate_10: validation HR@10.
        ndcg_10: validation NDCG@10, which decides.
        train_seconds: of the epoch's steps.
        validation_seconds: of its validation.
        positions: predictions learned from.
    """

    epoch: int
    loss: float
    hit_rate_10: float
    ndcg_10: float
    train_seconds: float
    validation_seconds: float
    positions: int


@dataclass(frozen=True)
class FitResult:
    """What the loop leaves: the epochs, and which of them is in model.safetensors."""

    epochs: tuple[EpochLog, ...]
    best: EpochLog
    stopped_early: bool


def fit(
    learner: Learner,
    split: Split,
    config: TrainConfig,
    run: RunFolder,
    *,
    max_len: int,
    seed: int,
    device: str,
    resume: bool,
    progress: Progress,
    loggers: Sequence[Logger] = (),
) -> FitResult:
    """Train until ``config.epochs``, or until validation NDCG@10 has not risen for ``config.patience`` epochs.

    Raises:
        Interrupted: Ctrl-C; the finished epochs are saved.
        VivimError: the loss became NaN or infinite; the last finished epoch is saved.
    """
    fabric = lightning_fabric.Fabric(accelerator=device, devices=1, precision=config.precision, loggers=list(loggers))
    fabric.launch()
    optimizer_type = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    # One pass over the tables instead of eight. Fabric cannot clip the gradients of a fused optimizer that a loss scaler feeds.
    fused = config.precision != "16-mixed"
    optimizer = optimizer_type(learner.parameter_groups(config.weight_decay), lr=config.lr, fused=fused)
    logs = _load_last(learner, optimizer, run) if resume else []
    module, optimizer = fabric.setup(learner, optimizer)
    best = max(logs, key=lambda log: log.ndcg_10, default=None)
    stopped_early = best is not None and logs[-1].epoch - best.epoch >= config.patience
    try:
        for epoch in range(len(logs) + 1, config.epochs + 1):
            if stopped_early:
                break
            log = _one_epoch(fabric, module, learner, optimizer, split, config, max_len, seed, epoch, progress)
            logs.append(log)
            if best is None or log.ndcg_10 > best.ndcg_10:
                best = log
                save_best(learner, run)
            _save_last(learner, optimizer, run, logs)
            run.append_log(asdict(log))
            log_metrics(fabric, asdict(log))
            stopped_early = log.epoch - best.epoch >= config.patience
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped in epoch {len(logs) + 1}; {len(logs)} epochs are saved. Add --resume to the command to go on."
        ) from error
    assert best is not None
    return FitResult(tuple(logs), best, stopped_early)


def _one_epoch(
    fabric: lightning_fabric.Fabric,
    module: torch.nn.Module,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    split: Split,
    config: TrainConfig,
    max_len: int,
    seed: int,
    epoch: int,
    progress: Progress,
) -> EpochLog:
    started = time.monotonic()
    torch.manual_seed(seed * 1_000_003 + epoch)
    learner.train()
    total, positions = 0.0, 0
    progress.start(f"epoch {epoch}", num_batches(split.train, config.batch), "batches")
    for batch in train_batches(split.train, batch=config.batch, max_len=max_len, seed=seed, epoch=epoch):
        batch = batch.to(fabric.device)
        # Not module(batch): with mixed precision Fabric would look for numbers to convert in the batch, and refuses it as it is frozen.
        with fabric.autocast():
            loss = learner(batch)
        value = float(loss.detach())
        _require_finite(value, batch, epoch)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        if config.clip_norm:
            fabric.clip_gradients(module, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        optimizer.step()
        count = len(batch.place_P)
        total, positions = total + value * count, positions + count
        progress.advance(1, f"loss {total / positions:.4f}")
    progress.finish()
    trained = time.monotonic()
    questions = split.validation
    ranks = rank_questions(learner.scorer(), questions, num_items=len(split.items))
    log = EpochLog(
        epoch=epoch,
        loss=total / max(positions, 1),
        hit_rate_10=hit_rate(ranks, 10).value,
        ndcg_10=ndcg(ranks, 10).value,
        train_seconds=round(trained - started, 3),
        validation_seconds=round(time.monotonic() - trained, 3),
        positions=positions,
    )
    progress.say(
        f"epoch {epoch}: loss {log.loss:.4f}, validation HR@10 {log.hit_rate_10:.4f} NDCG@10 {log.ndcg_10:.4f}, "
        f"training {log.train_seconds:.1f} s, validation {log.validation_seconds:.1f} s"
    )
    return log


def _require_finite(loss: float, batch: TrainBatch, epoch: int) -> None:
    if not abs(loss) < float("inf"):
        items = batch.sequences.items_BL[:3].tolist()
        raise VivimError(
            f"the loss became {loss} in epoch {epoch}; the weights were not touched by this batch (its first rows: {items}). "
            "Lower train.lr, or set train.precision to 32-true; --resume continues from the last finished epoch."
        )


def save_best(learner: Learner, run: RunFolder) -> None:
    """model.safetensors: the user model and the vectors of all items, which is all that answering needs."""
    tensors = {f"model.{k}": v for k, v in learner.model.state_dict().items()}
    tensors["items"] = learner.scorer().items_ND
    run.write_tensors("model.safetensors", tensors)


def _save_last(learner: Learner, optimizer: torch.optim.Optimizer, run: RunFolder, logs: list[EpochLog]) -> None:
    run.write_tensors("last.safetensors", {f"learner.{k}": v for k, v in learner.state_dict().items()} | pack_optimizer(optimizer))
    run.write_json("last.json", {"epochs": [asdict(log) for log in logs]})


def _load_last(learner: Learner, optimizer: torch.optim.Optimizer, run: RunFolder) -> list[EpochLog]:
    if not (run.path / "last.json").exists():
        return []
    tensors = run.read_tensors("last.safetensors")
    learner.load_state_dict({k.removeprefix("learner."): v for k, v in tensors.items() if k.startswith("learner.")})
    unpack_optimizer(optimizer, tensors)
    return [EpochLog(**entry) for entry in run.read_json("last.json")["epochs"]]
