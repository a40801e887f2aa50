"""What each command does: configuration in, summary out. The rooms do the work; this is the wiring between them."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .discovery import find_videos
from .errors import InputError, TooManyFailures
from .pipeline import Pipeline
from .progress import Progress
from .terminal import Summary, TableOf
from .workspace import Workspace

if TYPE_CHECKING:
    from .extract.config import ExtractConfig
    from .extract.vivim import Vivim
    from .extract.weights import WeightsInfo
    from .store import Recipe

FAILURES_SHOWN = 20


def pick_device(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """``cpu`` or ``cuda``.

    Raises:
        InputError: a GPU is asked for and torch sees none.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here; use --device cpu, or see what 'vivim doctor' says.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def run_extract(pipeline: Pipeline, progress: Progress, *, out: Path | None) -> Summary:
    """A folder of clips to an embedding file, which is remembered."""
    from .extract.run import extract_catalogue
    from .extract.summary import check_fail_rate
    from .extract.vivim import VivimConfig
    from .extract.weights import load_encoder

    config = pipeline.extract
    videos = find_videos(pipeline)
    device = pick_device(pipeline.device)
    workspace = Workspace(pipeline.runs)
    target = out or workspace.embeddings_path()
    encoder, weights = load_encoder(config.encoder.weights, VivimConfig.of_size(config.encoder.size, config.encoder.pooling), pipeline.seed)
    encoder.to(device)
    done = extract_catalogue(videos, target, config, encoder, make_recipe(config, encoder, weights), progress)
    rows = done.embedded + done.unchanged
    if rows:
        workspace.remember_embeddings(target)
    notes = [f"{rows:,} vectors of {encoder.dim} dimensions in {target}", weights.words]
    exit_code = 0
    try:
        check_fail_rate(done, config.max_fail_rate)
    except TooManyFailures as error:
        notes.append(str(error))
        exit_code = error.exit_code
    failures = [{"id": failure.id, "kind": failure.kind, "message": failure.message} for failure in done.failures]
    shown = [tuple(failure.values()) for failure in failures[:FAILURES_SHOWN]]
    if len(failures) > len(shown):
        notes.insert(0, f"{len(failures) - len(shown):,} more failures are listed in the file.")
    return Summary(
        headline=done.first_line(),
        data={
            "total": done.total,
            "embedded": done.embedded,
            "unchanged": done.unchanged,
            "failed": len(failures),
            "failures": failures,
            "seconds": round(done.seconds, 3),
            "clips_per_second": round(done.clips_per_second, 3),
            "decode_wait_seconds": round(done.decode_wait_seconds, 3),
            "encode_seconds": round(done.encode_seconds, 3),
            "bound": done.bound,
            "decoders": done.decoders,
            "dim": encoder.dim,
            "device": device,
            "weights": weights.words,
            "out": str(target),
            "sha256": done.sha256,
        },
        tables=[TableOf("Failed", ("id", "kind", "message"), shown)] if shown else (),
        notes=notes,
        exit_code=exit_code,
    )


def make_recipe(config: "ExtractConfig", encoder: "Vivim", weights: "WeightsInfo") -> "Recipe":
    """How vectors made by this encoder under this configuration come about."""
    from .extract.reader import decoder_versions
    from .extract.vivim import MEAN, STD
    from .store import Recipe

    return Recipe(
        encoder={"kind": "vivim", "size": config.encoder.size, "pooling": config.encoder.pooling, "dim": encoder.dim},
        weights={"source": weights.source, "sha256": weights.sha256},
        frames=_used_frames(config),
        preprocessing={"image_size": config.image_size, "resize": config.resize, "mean": list(MEAN), "std": list(STD)},
        dtype=config.dtype,
        decoder=dict(decoder_versions(config.decoder)),
    )


def _used_frames(config: "ExtractConfig") -> dict[str, str | int | float]:
    """Only what the sampler looks at, so that an option without effect does not make another recipe."""
    used: dict[str, str | int | float] = {"sampler": config.frames.sampler, "count": config.frames.count}
    return used | {"fps": config.frames.fps} if config.frames.sampler == "fps" else used
