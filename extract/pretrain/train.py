"""Training encoder, decoder and heads on masks, as one run in one folder.

run.json                configuration, size, clips and their hash, where the weights came from, provenance
best.safetensors        stages, decoder, mask and edge head after the epoch with the best Dice on the test clips
encoder.safetensors     the stages of the same
last.safetensors        the newest finished epoch with its optimizer and the epochs so far: --resume goes on exactly
previous.safetensors    the one before, for when the newest cannot be read
log.jsonl               one line an epoch
pictures/               what is predicted for the first test clip

Everything random in epoch e follows from (seed, e), so that a killed run resumes to the weights of an uninterrupted one.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning_fabric
import torch
from lightning_fabric.loggers.logger import Logger

from ...errors import InputError, Interrupted, VivimError
from ...progress import Progress
from ...store import run_folder
from ...store.metric_log import log_metrics
from ...store.provenance import provenance
from ...store.run_folder import pack_optimizer, unpack_optimizer
from ..vivim import SegmentLogits, Size, Vivim, VivimConfig
from ..weights import load_weights, save_encoder
from .config import PretrainConfig
from .losses import MaskLoss, mask_loss
from .masks import MaskedClip, hash_clips, hold_out
from .metrics import MaskMetrics
from .predict import draw, measure, normalised, predict
from .windows import WindowBatch, num_batches, training_batches

FORMAT = 1
# What may differ when a run goes on: where the data lies (its hash decides), and how often something is looked at.
_MAY_CHANGE = {"frames", "masks", "test_frames", "test_masks", "pictures_every"}


class RunFolder(run_folder.RunFolder):
    """The files of one run."""

    command: ClassVar[str] = "vivim pretrain"


@dataclass(frozen=True)
class EpochLog:
    """One line of log.jsonl.

    Attributes:
        epoch: counted from 1.
        loss: mean over the epoch's steps.
        terms: its parts, without their weights.
        test: metrics on the test clips; None where they were not measured.
        train_seconds: of the epoch's steps.
        test_seconds: of measuring and drawing.
    """

    epoch: int
    loss: float
    terms: dict[str, float]
    test: dict[str, float] | None
    train_seconds: float
    test_seconds: float

    @property
    def dice(self) -> float:
        """What decides which epoch is best; -1 where it was not measured."""
        return self.test["dice"] if self.test else -1.0


@dataclass(frozen=True)
class PretrainResult:
    """What a run left.

    Attributes:
        run: its folder.
        epochs: their logs.
        best: whose weights are in best.safetensors.
        parameters: of encoder, decoder and heads.
        train_frames: frames trained on.
        test_frames: frames measured on.
        held_out: what was measured on, in words.
        weights: what training began with, in words.
        size: of the encoder.
    """

    run: Path
    epochs: tuple[EpochLog, ...]
    best: EpochLog
    parameters: int
    train_frames: int
    test_frames: int
    held_out: str
    weights: str
    size: str


def train_on_masks(
    clips: Sequence[MaskedClip],
    test: Sequence[MaskedClip] | None,
    config: PretrainConfig,
    size: Size | Literal["auto"],
    out: Path,
    *,
    seed: int,
    device: str,
    resume: bool,
    progress: Progress,
    loggers: Sequence[Logger] = (),
) -> PretrainResult:
    """Train on ``clips`` and leave the run in ``out``.

    Args:
        size: of the encoder; ``auto``: of the weights it begins with, b0 if they are random.
        test: clips to measure on; None: a share of ``clips`` is held out.
        resume: go on with the interrupted run in ``out``.
        loggers: told the metrics of every epoch, beside log.jsonl.

    Raises:
        InputError: masks that teach nothing, or weights, an earlier run or a regressor that do not fit.
        Interrupted: Ctrl-C; finished epochs are kept.
        VivimError: the loss became NaN or infinite; the last finished epoch is kept.
    """
    held_out = f"{len(test or [])} test clips"
    if test is None:
        clips, test = hold_out(clips, config.held_out, seed)
        held_out = "held out: " + ", ".join(clip.name for clip in test)
    _refuse_without_object(clips, test, held_out)
    wanted = None if size == "auto" else replace(VivimConfig.of_size(size), segmentation=True)
    model = load_weights(config.weights, wanted, seed=seed, segmentation=True)
    report = model.load_report
    loss = mask_loss(config.loss)
    description = {
        "format": FORMAT,
        "task": "masks",
        "config": config.model_dump(mode="json"),
        "size": report.size,
        "seed": seed,
        "train": {"clips": [clip.name for clip in clips], "frames": sum(map(len, clips)), "sha256": hash_clips(clips)},
        "test": {"clips": [clip.name for clip in test], "frames": sum(map(len, test)), "sha256": hash_clips(test)},
        "weights": report.beginning,
        "provenance": provenance(),
        "finished": False,
    }
    run = _open_run(out, description, resume)
    with torch.random.fork_rng():
        logs, best = _fit(
            model, loss, clips, test, config, run, report.licence, loggers, seed=seed, device=device, resume=resume, progress=progress
        )
    result = PretrainResult(
        run=out,
        epochs=tuple(logs),
        best=best,
        parameters=sum(p.numel() for p in model.parameters()),
        train_frames=sum(map(len, clips)),
        test_frames=sum(map(len, test)),
        held_out=held_out,
        weights=report.beginning,
        size=report.size,
    )
    run.write_json("run.json", description | {"finished": True, "epochs": len(logs), "best": asdict(best)})
    return result


def _refuse_without_object(clips: Sequence[MaskedClip], test: Sequence[MaskedClip], held_out: str) -> None:
    """Single empty masks are legal; where all are, nothing can be learned, or told from its measurement."""
    for what, some, todo in (
        ("to train on", clips, "Look at the files: 0 is background, 1 or 255 the object"),
        (f"to measure on ({held_out})", test, "Give --test-frames and --test-masks with an object, or another --seed"),
    ):
        if not any(clip.masks_THW.any() for clip in some):
            raise InputError(f"none of the {sum(map(len, some))} masks {what} holds an object: all are 0. {todo}.")
        if all(clip.masks_THW.all() for clip in some):
            raise InputError(f"the {sum(map(len, some))} masks {what} hold no background: none is 0 anywhere. {todo}.")


def _fit(
    model: Vivim,
    loss: MaskLoss,
    clips: Sequence[MaskedClip],
    test: Sequence[MaskedClip],
    config: PretrainConfig,
    run: RunFolder,
    licence: str | None,
    loggers: Sequence[Logger],
    *,
    seed: int,
    device: str,
    resume: bool,
    progress: Progress,
) -> tuple[list[EpochLog], EpochLog]:
    fabric = lightning_fabric.Fabric(accelerator=device, devices=1, precision=config.precision, loggers=list(loggers))
    fabric.launch()
    # Plain Adam without decay, as the paper says and the published code does.
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    logs = _load_last(model, optimizer, run, progress) if resume else []
    if logs:  # the end may have come between the last checkpoint and its line
        run.write_log([asdict(line) for line in logs])
    module, optimizer = fabric.setup(model, optimizer)
    best = max(logs, key=lambda log: log.dice, default=None)
    try:
        for epoch in range(len(logs) + 1, config.epochs + 1):
            started = time.monotonic()
            total, terms = _train_epoch(fabric, module, model, optimizer, loss, clips, config, seed, epoch, progress)
            trained = time.monotonic()
            metrics = _test_epoch(fabric, model, test, config, run, epoch)
            log = EpochLog(
                epoch=epoch,
                loss=total,
                terms=terms,
                test=asdict(metrics) if metrics else None,
                train_seconds=round(trained - started, 3),
                test_seconds=round(time.monotonic() - trained, 3),
            )
            logs.append(log)
            if best is None or log.dice > best.dice:
                best = log
                save_encoder(model, run.path / "best.safetensors", licence)
                save_encoder(model, run.path / "encoder.safetensors", licence, stages_only=True)
            _save_last(model, optimizer, run, logs)
            run.write_log([asdict(line) for line in logs])
            log_metrics(fabric, asdict(log))
            progress.say(_line(log))
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped in epoch {len(logs) + 1}; {len(logs)} epochs are saved. Add --resume to the command to go on."
        ) from error
    assert best is not None
    return logs, best


def _train_epoch(
    fabric: lightning_fabric.Fabric,
    module: torch.nn.Module,
    model: Vivim,
    optimizer: torch.optim.Optimizer,
    loss: MaskLoss,
    clips: Sequence[MaskedClip],
    config: PretrainConfig,
    seed: int,
    epoch: int,
    progress: Progress,
) -> tuple[float, dict[str, float]]:
    """Mean loss and mean of its terms."""
    torch.manual_seed(seed * 1_000_003 + epoch)
    model.train()
    steps = num_batches(clips, config.clip_frames, config.supervise, config.batch)
    sums: dict[str, float] = {}
    progress.start(f"epoch {epoch}", steps, "batches")
    batches = training_batches(
        clips,
        frames=config.clip_frames,
        supervise=config.supervise,
        batch=config.batch,
        augment=config.augment,
        seed=seed * 1_000_003 + epoch,
    )
    done = 0
    for batch in batches:
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(config, (epoch - 1 + done / steps) / config.epochs)
        with fabric.autocast():
            logits = model.segment(normalised(model, batch.frames_BTCHW))
        found = loss(*_kept(logits, batch))  # outside of autocast: the moments of an edge need float32
        value = float(found.total.detach())
        if not math.isfinite(value):
            raise VivimError(
                f"the loss became {value} in epoch {epoch}; the weights were not touched by this batch. "
                "Lower pretrain.lr, or set pretrain.precision to 32-true; --resume continues from the last finished epoch."
            )
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(found.total)
        if config.clip_norm:
            fabric.clip_gradients(module, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        optimizer.step()
        done += 1
        for name, term in {"loss": found.total, **found.terms}.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach())
        progress.advance(1, f"loss {sums['loss'] / done:.4f}")
    progress.finish()
    means = {name: round(total / done, 6) for name, total in sums.items()}
    return means.pop("loss"), means


def _kept(logits: SegmentLogits, batch: WindowBatch) -> tuple[SegmentLogits, torch.Tensor]:
    keep = list(batch.keep)
    kept = SegmentLogits(logits.mask_BTHW[:, keep].float(), logits.edge_BTHW[:, keep].float())
    return kept, batch.masks_BTHW[:, keep].to(kept.mask_BTHW.device)


def _learning_rate(config: PretrainConfig, done: float) -> float:
    """Along half a cosine from ``lr`` to ``lr_end``; ``done`` is the share of the training that lies behind."""
    return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * done)) / 2


def _test_epoch(
    fabric: lightning_fabric.Fabric, model: Vivim, test: Sequence[MaskedClip], config: PretrainConfig, run: RunFolder, epoch: int
) -> MaskMetrics | None:
    last = epoch == config.epochs
    wanted = last or epoch % config.test_every == 0
    drawn = config.pictures_every > 0 and (last or epoch % config.pictures_every == 0)
    if not wanted and not drawn:
        return None
    with fabric.autocast():
        predictions = [predict(model, clip, config.clip_frames, config.supervise) for clip in (test if wanted else test[:1])]
    if drawn:
        (run.path / "pictures").mkdir(exist_ok=True)
        draw(run.path / "pictures" / f"epoch-{epoch:04d}.png", test[0], predictions[0])
    return measure(test, predictions) if wanted else None


def _line(log: EpochLog) -> str:
    parts = [f"epoch {log.epoch}: loss {log.loss:.4f} ({', '.join(f'{name} {value:.4f}' for name, value in log.terms.items())})"]
    if log.test:
        parts.append(f"test Dice {log.test['dice']:.4f} IoU {log.test['iou']:.4f}")
    return ", ".join([*parts, f"training {log.train_seconds:.1f} s, test {log.test_seconds:.1f} s"])


def _save_last(model: Vivim, optimizer: torch.optim.Optimizer, run: RunFolder, logs: list[EpochLog]) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()} | pack_optimizer(optimizer)
    run.save_state(tensors, {"epochs": [asdict(log) for log in logs]})


def _load_last(model: Vivim, optimizer: torch.optim.Optimizer, run: RunFolder, progress: Progress) -> list[EpochLog]:
    found = run.load_state(progress)
    if found is None:
        return []
    tensors, state = found
    model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    unpack_optimizer(optimizer, tensors)
    return [EpochLog(**entry) for entry in state["epochs"]]


def _open_run(out: Path, description: dict[str, Any], resume: bool) -> RunFolder:
    if not resume:
        run = RunFolder.create(out)
        run.write_json("run.json", description)
        return run
    run = RunFolder.open(out)
    _refuse_other_run(run, description)
    return run


def _refuse_other_run(run: RunFolder, now: dict[str, Any]) -> None:
    before = run.info()
    differences = [f"{key} {before.get(key)} (now {now[key]})" for key in ("task", "size", "seed") if before.get(key) != now[key]]
    differences += [f"other {part} clips" for part in ("train", "test") if before.get(part, {}).get("sha256") != now[part]["sha256"]]
    # An option that did not exist when the run began had the value that is its default now.
    old = PretrainConfig.model_validate(before.get("config", {})).model_dump(mode="json")
    differences += [
        f"{key} {old[key]} (now {value})" for key, value in now["config"].items() if key not in _MAY_CHANGE and old[key] != value
    ]
    if differences:
        raise InputError(
            f"{run.path} was trained with {'; '.join(differences)}. --resume goes on with the same data and configuration "
            "(the number of epochs shapes the learning rate); choose another --out for a new run."
        )
