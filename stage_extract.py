"""What extract and merge do: configuration in, summary out. The rooms do the work; this is the wiring between them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .discovery import FOLDER, find_videos
from .errors import InputError, TooManyFailures
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import FAILURES_SHOWN, known_interactions, make_recipe, pick_device
from .terminal import Summary, TableOf, program
from .workspace import Workspace

if TYPE_CHECKING:
    from .extract.clip import Failure
    from .extract.config import ExtractConfig
    from .extract.frame_writer import FrameCacheWriter
    from .extract.schedule import Plan
    from .extract.sources import Source
    from .extract.summary import ExtractSummary
    from .store import Health, Recipe


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
    encoder = make_encoder(config.encoder, pipeline.seed)
    weights = encoder.load_report
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
    touched, line = _touched(pipeline, done.failures)
    notes += [line] if line else []
    health = _health(target) if rows and done.sha256 and done.embedded else None
    notes += health.warnings() if health else []
    notes += [done.verdict.words] if done.verdict else []
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
        data=_counts(done, failures)
        | {
            "interactions_touched": touched,
            "health": health.as_dict() if health else None,
            "dim": encoder.dim,
            "device": device,
            "weights": weights.words,
            "load_report": asdict(weights),
            "out": str(target),
        },
        tables=[
            *([TableOf("Failed", ("id", "kind", "message"), shown)] if shown else []),
            *([TableOf("Health of all vectors in the file", ("what", "value"), health.lines())] if health else []),
        ],
        notes=notes,
        exit_code=exit_code,
    )


def _counts(done: "ExtractSummary", failures: list[dict[str, str]]) -> dict[str, Any]:
    """What happened to the clips, and how long it took."""
    return {
        "total": done.total,
        "embedded": done.embedded,
        "unchanged": done.unchanged,
        "failed": len(failures),
        "failures": failures,
        "seconds": round(done.seconds, 3),
        "clips_per_second": round(done.clips_per_second, 3),
        "decode_wait_seconds": round(done.decode_wait_seconds, 3),
        "encode_seconds": round(done.encode_seconds, 3),
        "verdict": done.verdict.as_dict() if done.verdict else None,
        "decoders": done.decoders,
        "sha256": done.sha256,
    }


def _health(target: Path) -> "Health":
    from .store import EmbeddingStore, measure_health

    return measure_health(EmbeddingStore.open(target).rows)


def _touched(pipeline: Pipeline, failures: "Sequence[Failure]") -> tuple[dict[str, Any], str]:
    """How many interactions the failed clips touch, where histories are known: as data, and as a line.

    A file of histories that cannot be read costs no more than this: the vectors are there.
    """
    from .recommend.coverage import cover

    if not failures:
        return {}, ""
    try:
        interactions = known_interactions(pipeline)
    except InputError as error:
        return {}, f"What the failed clips mean for the interactions is not known: {error}"
    if interactions is None:
        return {}, ""
    part = cover(interactions, readable=set(), unreadable={failure.id for failure in failures}).unreadable
    share = part.interactions / max(len(interactions), 1)
    data = {"interactions": part.interactions, "share": round(share, 6), "items": len(part.ids)}
    items = f"{len(part.ids):,} item{'' if len(part.ids) == 1 else 's'}"
    counted = f"{part.interactions:,} of {len(interactions):,} interactions ({share:.2%}), with {items}"
    return data, f"The failed clips touch {counted}."


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
