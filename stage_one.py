"""What convert-weights and check-data do, and what several commands share: the recipe, the device, the histories."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .discovery import FOLDER, find_data, find_interactions, interactions_if_any
from .errors import InputError
from .pipeline import Pipeline
from .progress import Progress
from .terminal import Summary, TableOf, program
from .workspace import Workspace

if TYPE_CHECKING:
    from .extract.config import ExtractConfig
    from .extract.frame_recipe import FrameRecipe
    from .extract.load_report import LoadReport
    from .extract.vivim import Vivim
    from .recommend.sequences import Interactions
    from .store import Recipe

FAILURES_SHOWN = 30


def pick_device(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """``cpu`` or ``cuda``.

    Raises:
        InputError: a GPU is asked for and torch sees none.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here; use --device cpu, or see what 'vivim doctor' says.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def run_convert(source: Path, target: Path) -> Summary:
    """A pickled checkpoint to a safetensors file."""
    from .extract.convert import convert_weights

    report = convert_weights(source, target)
    return Summary(
        headline=f"{target} written: the tensors of {source.name}, {report.size}, {report.scheme_words} names",
        data={"out": str(target), "load_report": asdict(report)},
        notes=["What an encoder takes from it:", *report.lines()[1:], f"next: {program()} extract --weights {shlex.quote(str(target))}"],
    )


def make_recipe(config: "ExtractConfig", encoder: "Vivim", weights: "LoadReport") -> "Recipe":
    """How vectors made by this encoder under this configuration come about."""
    from .extract.vivim import MEAN, STD
    from .store import Recipe

    read = frame_recipe(config)
    return Recipe(
        encoder={"kind": "vivim", "size": weights.size, "pooling": config.encoder.pooling, "dim": encoder.dim} | _precision(config),
        weights=dict(weights.recipe()),
        frames=read.frames,
        preprocessing=read.preprocessing | {"mean": list(MEAN), "std": list(STD)},
        dtype=config.dtype,
        decoder=read.decoder,
    )


def frame_recipe(config: "ExtractConfig") -> "FrameRecipe":
    """How frames are read under this configuration."""
    from .extract.frame_recipe import FrameRecipe
    from .extract.reader import decoder_versions

    return FrameRecipe(
        frames=dict(_used_frames(config)),
        preprocessing={"image_size": config.image_size, "resize": config.resize},
        decoder=dict(decoder_versions(config.decoder, config.seek, strict=config.strict)),
    )


def _precision(config: "ExtractConfig") -> dict[str, str]:
    """Nothing for float32, which is what a recipe without a word about it means."""
    return {} if config.precision == "32-true" else {"precision": config.precision}


def _used_frames(config: "ExtractConfig") -> dict[str, str | int | float]:
    """Only what the sampler looks at, so that an option without effect does not make another recipe."""
    used: dict[str, str | int | float] = {"sampler": config.frames.sampler, "count": config.frames.count}
    if config.seek != "exact":
        used["seek"] = config.seek
    return used | {"fps": config.frames.fps} if config.frames.sampler == "fps" else used


def known_interactions(pipeline: Pipeline) -> "Interactions | None":
    """The histories that are given, or found in ``data/``; None if there are none.

    Raises:
        InputError: more than one file fits, or the file cannot be read.
    """
    from .recommend.readers import read_interactions

    path, data = interactions_if_any(pipeline), pipeline.data
    if path is None:
        return None
    return read_interactions(path, user_column=data.user_column, item_column=data.item_column, time_column=data.time_column)


def load_interactions(pipeline: Pipeline) -> "Interactions":
    """The histories that are given, or found in ``data/``.

    Raises:
        InputError: there are none, more than one file fits, or the file cannot be read.
    """
    from .recommend.readers import read_interactions

    data = pipeline.data
    path = find_interactions(pipeline)
    return read_interactions(path, user_column=data.user_column, item_column=data.item_column, time_column=data.time_column)


def run_check_data(pipeline: Pipeline, progress: Progress, *, embeddings: Path | None) -> Summary:
    """Describe interactions, and the clips, titles and vectors that belong to them.

    What is not given is looked for beside the interactions; the embedding file made last is looked at only when the
    interactions are those of ``data/``, because otherwise it was likely made of other clips.
    """
    from .extract.clips import find_clips
    from .recommend.audit import audit
    from .store import EmbeddingStore

    given = pipeline.data.interactions
    interactions = load_interactions(pipeline)
    data = find_data(pipeline, given.parent if given else FOLDER).data
    workspace = Workspace(pipeline.runs)
    if embeddings is None and given is None and workspace.has_embeddings():
        embeddings = workspace.last_embeddings()
    clip_ids = None
    if data.videos is not None or pipeline.extract.manifest is not None:
        catalogue = find_clips(data.videos or FOLDER, pipeline.extract.manifest)
        clip_ids = {ref.id for ref in catalogue.refs} | {failure.id for failure in catalogue.failures}
    found = audit(
        interactions,
        clip_ids=clip_ids,
        vector_ids=set(EmbeddingStore.open(embeddings, allow_empty=True).ids.ids) if embeddings else None,
        titles=data.titles,
        protocol=pipeline.protocol,
    )
    facts = dict(found.lines())
    odd = [(str(oddity.kind), f"{oddity.count:,}", oddity.message) for oddity in found.oddities]
    looked_at = {"interactions": found.source, "videos": data.videos, "titles": data.titles, "embeddings": embeddings}
    return Summary(
        headline=f"{facts['users']} users, {facts['items']} items, {facts['interactions']} interactions, sparsity {facts['sparsity']}; "
        + (f"{len(odd)} {'kind' if len(odd) == 1 else 'kinds'} of oddities" if odd else "nothing odd"),
        data={**found.as_dict(), "looked_at": {name: str(place) if place else None for name, place in looked_at.items()}},
        tables=[
            TableOf("", ("fact", "value"), found.lines()),
            *([TableOf("Oddities", ("kind", "count", "what"), odd)] if odd else []),
        ],
        notes=[f"{name}: {place or 'none'}" for name, place in looked_at.items()],
    )
