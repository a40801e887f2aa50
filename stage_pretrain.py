"""What pretrain does: configuration in, summary out. The rooms do the work; this is the wiring between them."""

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from .errors import InputError
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import FAILURES_SHOWN, pick_device
from .terminal import Summary, TableOf, program

if TYPE_CHECKING:
    from .extract.pretrain.masks import MaskedClip
    from .extract.pretrain.train import PretrainResult


def run_pretrain(pipeline: Pipeline, progress: Progress, *, clips: Path | None, out: Path | None, resume: bool) -> Summary:
    """Train the encoder; the options that are given say on what.

    Args:
        clips: folder of clips without masks.

    Raises:
        InputError: no training data, half of it, or both kinds at once.
    """
    config = pipeline.pretrain
    of_masks = {
        "--frames": config.frames,
        "--masks": config.masks,
        "--test-frames": config.test_frames,
        "--test-masks": config.test_masks,
    }
    given = [option for option, value in of_masks.items() if value is not None]
    if clips is not None:
        if given:
            key = f"pretrain.{given[0][2:].replace('-', '_')}"
            raise InputError(
                f"--clips and {given[0]} ({key}) are two ways to train; give --clips DIR for clips alone, or --frames DIR and "
                "--masks DIR for clips with masks."
            )
        return _pretrain_on_clips(pipeline, progress, clips, out=out, resume=resume)
    if given:
        return _pretrain_on_masks(pipeline, progress, out=out, resume=resume)
    raise InputError(
        "nothing to train on: give --clips DIR, a folder of videos, or --frames DIR and --masks DIR, clips as folders of pictures and "
        "a mask for every picture (docs/pretrain.md)."
    )


def _pretrain_on_clips(pipeline: Pipeline, progress: Progress, clips: Path, *, out: Path | None, resume: bool) -> Summary:
    from .extract.frame_cache import shards_of
    from .extract.pretrain.selfsup_train import pretrain_on_clips
    from .extract.vivim import VivimConfig
    from .store.metric_log import tensorboard

    size = pipeline.extract.encoder.size
    folder = out or pipeline.runs / "pretrain"
    done = pretrain_on_clips(
        clips,
        pipeline.selfsup,
        None if size == "auto" else VivimConfig.of_size(size),
        folder,
        progress,
        seed=pipeline.seed,
        device=pick_device(pipeline.device),
        resume=resume,
        manifest=pipeline.extract.manifest,
        loggers=[tensorboard(folder)] if pipeline.tensorboard else [],
    )
    first, last = done.epochs[0], done.epochs[-1]
    columns = ("", "loss", "invariance", "variance", "covariance", "deviation", "rank")
    rows = [
        (
            f"epoch {log.epoch}",
            *(f"{value:.3f}" for value in (log.loss, log.invariance, log.variance, log.covariance)),
            f"{log.feature_deviation:.2f}",
            f"{log.effective_rank:.1f}",
        )
        for log in dict.fromkeys((first, last))
    ]
    failures = [asdict(failure) for failure in done.failures]
    shown = [(failure["id"], failure["kind"], failure["message"]) for failure in failures[:FAILURES_SHOWN]]
    notes = [f"weights: {done.encoder}", done.weights]
    if done.collapsed:
        notes.append("WARNING: the features have collapsed; these weights are of no use. Lower selfsup.lr, or bring clips that differ.")
    kept = f"--from-cache {clips} --frames {pipeline.selfsup.cached_frames}" if shards_of(clips) else f"--videos {clips}"
    notes.append(f"next: {program()} extract {kept} --weights {done.encoder}")
    return Summary(
        headline=f"{done.size} trained on {done.clips:,} clips, {len(done.failures):,} left out, {len(done.epochs)} epochs of "
        f"{median(log.seconds for log in done.epochs):.1f} s; effective rank of the features {last.effective_rank:.1f}",
        data={
            "run": str(folder),
            "weights": str(done.encoder),
            "began": done.weights,
            "size": done.size,
            "clips": done.clips,
            "failures": failures,
            "collapsed": done.collapsed,
            "epochs": [asdict(log) for log in done.epochs],
        },
        tables=[TableOf("Training", columns, rows), *([TableOf("Left out", ("id", "kind", "message"), shown)] if shown else [])],
        notes=notes,
    )


def _pretrain_on_masks(pipeline: Pipeline, progress: Progress, *, out: Path | None, resume: bool) -> Summary:
    from .extract.pretrain.train import train_on_masks
    from .store.metric_log import tensorboard

    config = pipeline.pretrain
    device = pick_device(pipeline.device)
    clips = _clips(config.frames, config.masks, ("--frames", "--masks"), config.pixels, progress)
    test = None
    if config.test_frames is not None or config.test_masks is not None:
        test = _clips(config.test_frames, config.test_masks, ("--test-frames", "--test-masks"), config.pixels, progress)
    folder = out or pipeline.runs / "pretrain"
    size = pipeline.extract.encoder.size
    loggers = [tensorboard(folder)] if pipeline.tensorboard else []
    done = train_on_masks(
        clips, test, config, size, folder, seed=pipeline.seed, device=device, resume=resume, progress=progress, loggers=loggers
    )
    return _summary(done)


def _clips(frames: Path | None, masks: Path | None, options: tuple[str, str], pixels: int, progress: Progress) -> "list[MaskedClip]":
    from .extract.pretrain.masks import read_clips

    if frames is None or masks is None:
        given, missing = options if masks is None else options[::-1]
        raise InputError(f"{given} is given without {missing}; every frame needs a mask. Give {missing} DIR, laid out like {given}.")
    return read_clips(frames, masks, pixels, progress)


def _summary(done: "PretrainResult") -> Summary:
    best = done.best
    assert best.test is not None
    seconds = median(log.train_seconds for log in done.epochs)
    columns = ("", "Dice", "IoU", "MAE", "boundary F")
    rows = [
        (f"epoch {log.epoch}{', ' + word if word else ''}", *(f"{log.test[name]:.4f}" for name in ("dice", "iou", "mae", "boundary_f")))
        for log, word in ((best, "best"), (done.epochs[-1], "last"))
        if log.test is not None
    ]
    return Summary(
        headline=f"Dice {best.test['dice']:.4f} on {done.test_frames:,} test frames, best epoch {best.epoch} of {len(done.epochs)}; "
        f"{seconds:.1f} s per epoch of {done.train_frames:,} frames",
        data={
            "run": str(done.run),
            "size": done.size,
            "parameters": done.parameters,
            "train_frames": done.train_frames,
            "test_frames": done.test_frames,
            "test": done.held_out,
            "weights": done.weights,
            "seconds_per_epoch": seconds,
            "best": asdict(best),
            "epochs": [asdict(log) for log in done.epochs],
        },
        tables=[TableOf("Test clips", columns, rows)],
        notes=[
            f"run: {done.run}; pictures of what is predicted: {done.run / 'pictures'}",
            f"{done.weights} Measured on {done.held_out}.",
            f"next: {program()} extract --weights {done.run / 'encoder.safetensors'}",
        ],
    )
