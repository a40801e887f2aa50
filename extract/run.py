"""An extraction: a catalogue in, one embedding file out, however often it is killed on the way."""

import threading
import time
from contextlib import suppress
from pathlib import Path

from ..errors import Interrupted, VivimError
from ..progress import Progress
from ..store import EmbeddingStore, Recipe
from ..store.embedding_file import check_recipe
from .clips import Catalogue
from .config import ExtractConfig
from .decode_pool import DecodePool, usable_cores
from .decode_statistics import DecodeStatistics
from .engines import Engine, LocalEngine, MakeEngine
from .frame_writer import FrameCacheWriter
from .ledger import Entry, Ledger
from .merge import DamagedShardError, merge_if_new
from .parts import WHOLE, Parts, Share, open_parts, part_of, parts_of, shard_files, take_over
from .run_log import note_run
from .schedule import Plan, make_plan
from .shard_loop import ClipEncoder, Tally
from .sources import Source
from .stop_signals import shielded, stop_gently
from .summary import ExtractSummary
from .verdict import StageTimes, verdict
from .writer import ShardWriter


def extract_catalogue(
    source: Source,
    out: Path,
    config: ExtractConfig,
    encoder: ClipEncoder,
    recipe: Recipe,
    progress: Progress,
    *,
    share: Share = WHOLE,
    retry_failed: bool = False,
    engine: MakeEngine | None = None,
    keep: FrameCacheWriter | None = None,
) -> ExtractSummary:
    """Embed every clip of a source into one file.

    What is done is kept in shards beside the file (see ``parts``) and merged into it at the end. Run again, it does only what is missing:
    new, changed and interrupted clips. Rows of clips that are no longer listed stay. A file without shards beside it is taken over.

    Args:
        source: the clips, and how they are read.
        share: which part of the catalogue; a partial run writes shards only, and ``merge`` makes the file of all.
        retry_failed: try clips again that failed for good.
        engine: where clips are read and encoded; None: here.
        keep: where their frames are kept, too. A clip that has a vector and whose frames are not there is done again.

    Raises:
        InputError: a place that cannot be written, or is being written by another run; before any work.
        RecipeMismatch: what is there was made another way; before any work.
        Interrupted: Ctrl-C or SIGTERM; what was encoded is in the shards.
        VivimError: a shard or the file cannot be written; earlier shards are whole.
    """
    assert keep is None or engine is None, "frames that are decoded elsewhere do not come here"
    catalogue = part_of(source.catalogue, share)
    started = time.monotonic()
    with open_parts(parts_of(out) / share.folder, recipe, encoder.dim, progress) as parts:
        take_over(out, parts, recipe, encoder.dim, share)
        pool = DecodePool(source.reader, config.workers, config.timeout_seconds, ahead=2 * config.batch_clips)
        local = LocalEngine(pool, encoder, config.batch_clips, parts.ledger)
        engines = (local if engine is None else engine(pool, encoder, config.batch_clips), local)
        tally, write_seconds = Tally(), 0.0
        sha256: str | None = None
        while sha256 is None:
            plan = make_plan(catalogue, _entries(parts.ledger, keep), parts.ledger.suspects(), retry_failed=retry_failed)
            writer = _writer(parts, recipe, encoder.dim, plan, config, keep)
            _follow(plan, engines, writer, tally, progress, out)
            merging = time.monotonic()
            sha256 = _merge(out, parts, progress) if share.count == 1 else ""
            write_seconds += writer.write_seconds + time.monotonic() - merging
            retry_failed = False
    seconds = time.monotonic() - started
    times = _stage_times(seconds, write_seconds, tally, pool.statistics, config, encoder.device.type)
    done = _summarise(len(catalogue), tally, sha256, times, told=engine is None)
    note_run(parts_of(out) / share.folder, done, progress)
    return done


def _entries(ledger: Ledger, keep: FrameCacheWriter | None) -> dict[str, Entry]:
    """What is done and what failed; without what has a vector and lacks the frames that are to be kept."""
    entries = ledger.entries()
    if keep is None:
        return entries
    return {id_: entry for id_, entry in entries.items() if entry.state == "failed" or keep.hashes.get(id_) == entry.sha256}


def _writer(parts: Parts, recipe: Recipe, dim: int, plan: Plan, config: ExtractConfig, keep: FrameCacheWriter | None) -> ShardWriter:
    return ShardWriter(
        parts,
        recipe,
        dim,
        hashes=plan.hashes,
        stats=plan.stats,
        clips=config.shard_clips,
        seconds=config.commit_seconds,
        keep=keep,
        thumbnails=config.thumbnails,
    )


def _merge(out: Path, parts: Parts, progress: Progress) -> str | None:
    """Hash of the file of all shards; None: one of them was damaged and put aside, so that its clips are to be done again."""
    try:
        return merge_if_new(out, parts, progress)
    except DamagedShardError as error:
        progress.say(f"{error.shard.name} is damaged and put aside; its clips are done again")
        parts.put_aside(error.shard)
        return None


def _summarise(total: int, tally: Tally, sha256: str, times: StageTimes, *, told: bool) -> ExtractSummary:
    """With a verdict if it can be told from the times, which are those of this machine."""
    failures = tuple(sorted(tally.failures, key=lambda failure: failure.id))
    return ExtractSummary(
        total=total,
        embedded=tally.embedded,
        unchanged=total - tally.embedded - len(failures),
        failures=failures,
        seconds=times.seconds,
        decode_wait_seconds=tally.decode_wait_seconds,
        encode_seconds=tally.encode_seconds,
        decoders=dict(tally.decoders),
        sha256=sha256,
        verdict=verdict(times) if told and tally.embedded else None,
    )


def _stage_times(
    seconds: float, write_seconds: float, tally: Tally, done: DecodeStatistics, config: ExtractConfig, device: str
) -> StageTimes:
    return StageTimes(
        seconds=seconds,
        clips=done.clips,
        wait_seconds=tally.decode_wait_seconds,
        encode_seconds=tally.encode_seconds,
        write_seconds=write_seconds,
        decoders=max(done.workers, 1),
        decode_busy_seconds=done.busy_seconds,
        blocked_seconds=done.blocked_seconds,
        cores=usable_cores(),
        device=device,
        precision=config.precision,
        seek=config.seek,
    )


def look_ahead(catalogue: Catalogue, out: Path, recipe: Recipe, dim: int, *, share: Share = WHOLE, retry_failed: bool = False) -> Plan:
    """What ``extract_catalogue`` would do; nothing is read, made or locked.

    Raises:
        RecipeMismatch: what is there was made another way.
        InputError: what is there cannot be read.
    """
    folder = parts_of(out) / share.folder
    shards = shard_files(folder)
    entries, suspects = Ledger.look(folder / "ledger.sqlite")
    if shards or out.exists():
        store = EmbeddingStore.open(shards[0] if shards else out, allow_empty=True)
        check_recipe(store, recipe, dim)
        if not shards:
            entries = {id_: Entry("done", None, sha256, "", "") for id_, sha256 in zip(store.ids.ids, store.rows.sha256, strict=True)}
    return make_plan(part_of(catalogue, share), entries, suspects, retry_failed=retry_failed)


def _follow(plan: Plan, engines: tuple[Engine, LocalEngine], writer: ShardWriter, tally: Tally, progress: Progress, out: Path) -> None:
    """Do what a plan says: first all clips side by side; then, one at a time, those over which something died or might have."""
    tally.failures = list(plan.failures)
    tally.unchanged = len(plan.unchanged) + len(plan.gone)
    if plan.gone:
        shown = ", ".join(plan.gone[:3])
        progress.say(f"{len(plan.gone)} files are gone, their vectors are kept: {shown}{', ...' if len(plan.gone) > 3 else ''}")
    progress.start("extract", plan.total, "clips")
    progress.advance(tally.unchanged + len(plan.failures), f"{len(plan.failures)} failed" if plan.failures else "")
    stop = threading.Event()
    everywhere, here = engines
    try:
        with stop_gently(stop):
            for failure in plan.news:
                writer.fail(failure)
            again = everywhere.run(plan.todo, writer, tally, stop, progress)
            here.run_alone([*plan.alone, *again], writer, tally, stop, progress)
            writer.commit()
    except KeyboardInterrupt:
        raise Interrupted(f"stopped at once; what was not yet in a shard is lost. {_how_to_go_on(plan, tally, out)}") from None
    except BaseException:
        with shielded():
            writer.commit()
        raise
    finally:
        progress.finish()
        with suppress(VivimError):  # a full disk, which another error tells of; the clips in question are read alone next time
            writer.parts.ledger.nothing_is_read()
    if stop.is_set():
        raise Interrupted(f"stopped. {_how_to_go_on(plan, tally, out)}")


def _how_to_go_on(plan: Plan, tally: Tally, out: Path) -> str:
    return (
        f"{tally.embedded + tally.unchanged} of {plan.total} clips are done and kept in {parts_of(out)}. "
        "Run the same command again to do the rest."
    )
