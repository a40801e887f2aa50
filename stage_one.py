"""What extract and check-data do: configuration in, summary out. The rooms do the work; this is the wiring between them."""

import shlex
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .discovery import FOLDER, find_data, find_interactions, find_videos
from .errors import InputError, TooManyFailures
from .pipeline import Pipeline
from .progress import Progress
from .terminal import Summary, TableOf, program
from .workspace import Workspace

if TYPE_CHECKING:
    from .extract.config import ExtractConfig
    from .extract.frame_writer import FrameCacheWriter
    from .extract.load_report import LoadReport
    from .extract.schedule import Plan
    from .extract.sources import Source
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


@dataclass(frozen=True)
class ExtractOptions:
    """What is said of one extraction on the command line only.

    Attributes:
        out: embedding file; None: the workspace's.
        shard: part of the catalogue, ``"2/8"``; None: all of it.
        limit: so many clips at most, the first by id.
        retry_failed: try clips again that failed for good.
        dry_run: say what would be done.
    """

    out: Path | None = None
    shard: str | None = None
    limit: int | None = None
    retry_failed: bool = False
    dry_run: bool = False


def run_extract(pipeline: Pipeline, progress: Progress, options: ExtractOptions) -> Summary:
    """A folder of clips to an embedding file, which is remembered."""
    from .extract.parts import WHOLE, Share, parts_of
    from .extract.precision import MixedPrecision
    from .extract.ray_engine import RayEngine
    from .extract.run import extract_catalogue, look_ahead
    from .extract.summary import check_fail_rate
    from .extract.weights import make_encoder

    config = pipeline.extract
    share = WHOLE if options.shard is None else Share.parse(options.shard)
    device = pick_device(pipeline.device)
    workspace = Workspace(pipeline.runs)
    target = options.out or workspace.embeddings_path()
    encoder, weights = make_encoder(config.encoder, pipeline.seed)
    encoder.to(device)
    used = MixedPrecision(encoder) if config.precision == "bf16-mixed" else encoder
    recipe = make_recipe(config, encoder, weights)
    source = _source(pipeline, recipe, progress)
    source, recipe = replace(source, catalogue=source.catalogue.first(options.limit)), source.recipe(recipe)
    if options.dry_run:
        plan = look_ahead(source.catalogue, target, recipe, encoder.dim, share=share, retry_failed=options.retry_failed)
        return _plan_summary(plan, target, recipe)
    engine = partial(RayEngine, address=config.ray_address) if config.engine == "ray" else None
    with _keep(config, recipe, engine is not None) as keep:
        done = extract_catalogue(
            source, target, config, used, recipe, progress, share=share, retry_failed=options.retry_failed, engine=engine, keep=keep
        )
    rows = done.embedded + done.unchanged
    notes = [f"{rows:,} vectors of {encoder.dim} dimensions in {target if done.sha256 else parts_of(target) / share.folder}"]
    if rows and done.sha256:
        workspace.remember_embeddings(target)
    notes += weights.lines()
    if not rows:
        notes = [f"no clip could be embedded; {target} holds only the failures"]
    exit_code = 0
    try:
        check_fail_rate(done, config.max_fail_rate)
    except TooManyFailures as error:
        notes.append(str(error))
        exit_code = error.exit_code
    failures = [{"id": failure.id, "kind": failure.kind, "message": failure.message} for failure in done.failures]
    shown = [tuple(failure.values()) for failure in failures[:FAILURES_SHOWN]]
    if len(failures) > len(shown):
        notes.insert(0, f"{len(failures) - len(shown):,} more failures stand in the file's failures table; --json lists all.")
    if not done.sha256 and share.count > 1:
        notes.append(f"next: {program()} merge {target}, when all {share.count} parts are done")
    elif rows:
        notes.append(f"next: {program()} train-rec")
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
            "load_report": asdict(weights),
            "out": str(target),
            "sha256": done.sha256,
        },
        tables=[TableOf("Failed", ("id", "kind", "message"), shown)] if shown else (),
        notes=notes,
        exit_code=exit_code,
    )


def _source(pipeline: Pipeline, recipe: "Recipe", progress: Progress) -> "Source":
    """The clips, from where they are said to be.

    Raises:
        InputError: two places are said, or the one has no clips.
    """
    from .extract import sources

    config = pipeline.extract
    places = {
        "--from-cache": config.from_cache,
        "--from-frames": config.from_frames,
        "--manifest": config.manifest,
        "--videos": pipeline.data.videos,
    }
    given = [option for option, place in places.items() if place is not None]
    if len(given) > 1 and set(given) != {"--manifest", "--videos"}:
        raise InputError(f"{given[0]} and {given[1]} are two places to read from; give one.")
    if config.from_cache is not None:
        return sources.cached(config.from_cache, config, recipe, progress)
    if config.from_frames is not None:
        return sources.frame_files(config.from_frames, config)
    return sources.videos(find_videos(pipeline) if config.manifest is None else FOLDER, config)


def _keep(config: "ExtractConfig", recipe: "Recipe", elsewhere: bool) -> "AbstractContextManager[FrameCacheWriter | None]":
    """Where frames are kept, if they are."""
    from .extract.frame_format import Jpeg, Raw
    from .extract.frame_recipe import FrameRecipe
    from .extract.frame_writer import FrameCacheWriter

    if config.cache_frames is None:
        return nullcontext()
    if elsewhere:
        raise InputError("--cache-frames keeps frames that are decoded here; with --engine ray they are not. Leave out one of the two.")
    if config.from_cache is not None or config.from_frames is not None:
        raise InputError("--cache-frames keeps the frames of videos; what is read here are frames already. Leave it out.")
    return FrameCacheWriter(config.cache_frames, FrameRecipe.of(recipe), Jpeg() if config.cache_format == "jpeg" else Raw())


def _plan_summary(plan: "Plan", target: Path, recipe: "Recipe") -> Summary:
    to_read = [*plan.todo, *plan.alone]
    rows = [
        ("to be read", f"{len(to_read):,}", f"{plan.size_bytes / 1e9:,.2f} GB"),
        ("of them changed since", f"{len(plan.hashes):,}", "decoded only if their bytes differ"),
        ("of them read alone, at the end", f"{len(plan.alone):,}", "an earlier run ended while they were being read"),
        ("done", f"{len(plan.unchanged):,}", ""),
        ("done, file gone", f"{len(plan.gone):,}", "their vectors are kept"),
        ("failed", f"{len(plan.failures):,}", "read again when the file changes, or with --retry-failed"),
    ]
    return Summary(
        headline=f"{len(to_read):,} of {plan.total:,} clips would be read, {plan.size_bytes / 1e9:,.2f} GB; nothing was done",
        data={
            "total": plan.total,
            "todo": [ref.id for ref in to_read],
            "alone": [ref.id for ref in plan.alone],
            "unchanged": len(plan.unchanged),
            "gone": list(plan.gone),
            "failures": [asdict(failure) for failure in plan.failures],
            "size_bytes": plan.size_bytes,
            "out": str(target),
            "recipe": recipe.sha256,
        },
        tables=[TableOf("Plan", ("clips", "", ""), rows)],
        notes=[f"out: {target}; recipe {recipe.sha256[:12]}"],
    )


def run_merge(pipeline: Pipeline, progress: Progress, *, out: Path | None) -> Summary:
    """Shards of whole and partial runs to one embedding file, which is remembered."""
    from .extract.merge import merge

    workspace = Workspace(pipeline.runs)
    target = out or workspace.embeddings_path()
    done = merge(target, progress)
    if done.rows:
        workspace.remember_embeddings(target)
    return Summary(
        headline=f"{done.rows:,} vectors and {done.failures:,} failed clips of {done.shards:,} shards in {target}",
        data={
            "out": str(target),
            "rows": done.rows,
            "failed": done.failures,
            "shards": done.shards,
            "folders": list(done.folders),
            "sha256": done.sha256,
        },
        notes=[f"from: {', '.join(done.folders)}", f"next: {program()} train-rec"],
    )


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
    from .extract.reader import decoder_versions
    from .extract.vivim import MEAN, STD
    from .store import Recipe

    return Recipe(
        encoder={"kind": "vivim", "size": weights.size, "pooling": config.encoder.pooling, "dim": encoder.dim} | _precision(config),
        weights=dict(weights.recipe()),
        frames=_used_frames(config),
        preprocessing={"image_size": config.image_size, "resize": config.resize, "mean": list(MEAN), "std": list(STD)},
        dtype=config.dtype,
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
