"""What pretrain does: configuration in, summary out. The rooms do the work; this is the wiring between them."""

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from .errors import InputError
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import pick_device
from .terminal import Summary, TableOf, program

if TYPE_CHECKING:
    from .extract.pretrain.masks import MaskedClip
    from .extract.pretrain.train import PretrainResult


def run_pretrain(pipeline: Pipeline, progress: Progress, *, out: Path | None, resume: bool) -> Summary:
    """Train the encoder; the options that are given say on what.

    Raises:
        InputError: no training data, or half of it.
    """
    config = pipeline.pretrain
    if config.frames is not None or config.masks is not None:
        return _pretrain_on_masks(pipeline, progress, out=out, resume=resume)
    raise InputError(
        "nothing to train on: give --frames DIR and --masks DIR, clips as folders of pictures and a mask for every picture "
        "(docs/pretrain.md)."
    )


def _pretrain_on_masks(pipeline: Pipeline, progress: Progress, *, out: Path | None, resume: bool) -> Summary:
    from .extract.pretrain.train import train_on_masks

    config = pipeline.pretrain
    device = pick_device(pipeline.device)
    clips = _clips(config.frames, config.masks, ("--frames", "--masks"), config.pixels, progress)
    test = None
    if config.test_frames is not None or config.test_masks is not None:
        test = _clips(config.test_frames, config.test_masks, ("--test-frames", "--test-masks"), config.pixels, progress)
    folder = out or pipeline.runs / "pretrain"
    size = pipeline.extract.encoder.size
    done = train_on_masks(clips, test, config, size, folder, seed=pipeline.seed, device=device, resume=resume, progress=progress)
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
