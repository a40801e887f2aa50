"""The extraction loop: clips in, one embedding file out, whatever single clips do.

Shapes: B clips in a batch, T frames per clip, C = 3, H = W = image size, D embedding width.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from ..errors import Interrupted
from ..progress import Progress
from ..store import EmbeddingStore, Recipe
from ..store.embedding_file import check_recipe
from .clip import Clip, ClipRef, EmbeddingBatch, Failure
from .clips import Catalogue
from .config import ExtractConfig
from .decode_pool import DecodePool, Result
from .ledger import Entry, Ledger
from .merge import DamagedShardError, merge_if_new
from .parts import WHOLE, Parts, Share, open_parts, part_of, parts_of, shard_files, take_over
from .reader import ClipReader, Unchanged
from .sampling import make_sampler
from .schedule import TRIED_TWICE, Plan, make_plan
from .stop_signals import shielded, stop_gently
from .summary import ExtractSummary
from .writer import EmbeddingWriter, ShardWriter

Decode = Callable[[Sequence[ClipRef], Mapping[str, str]], Generator[Result, None, None]]


class ClipEncoder(Protocol):
    """What turns frames into vectors."""

    @property
    def dim(self) -> int:
        """D, width of the vectors."""

    @property
    def device(self) -> torch.device:
        """Where it computes; frames are moved there."""

    def embed_uint8(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """(B, D) float32 vectors of (B, T, 3, H, W) uint8 RGB frames on ``device``; normalising is its own business."""


@dataclass
class Tally:
    """What has happened so far in a run; filled by ``run_shard``, readable at any time."""

    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)
    decoders: Counter[str] = field(default_factory=Counter)
    decode_wait_seconds: float = 0.0
    encode_seconds: float = 0.0

    @property
    def embedded(self) -> int:
        return self.decoders.total()


def run_shard(
    refs: Sequence[ClipRef],
    decode: Decode,
    encoder: ClipEncoder,
    writer: EmbeddingWriter,
    tally: Tally,
    *,
    batch_clips: int,
    progress: Progress,
) -> None:
    """Read, encode and hand over clips; the one loop, wherever it runs.

    Args:
        refs: the clips, each id once.
        decode: gives one result per ref, in any order; usually ``DecodePool(...).decode``.
        encoder: frames to vectors.
        writer: takes vectors and failures; clips it has already are not computed again while their file stays the same.
        tally: counts what happens; true also when this function is left by an exception.
        batch_clips: B, clips encoded at once.
        progress: told about every clip.
    """
    known = writer.hashes
    waiting: list[Clip] = []
    with closing(decode(refs, known)) as results:  # whatever happens, the decoding processes end here
        while (result := _next(results, tally)) is not None:
            if isinstance(result, Clip):
                waiting.append(result)
                if len(waiting) == batch_clips:
                    _encode_and_write(waiting, encoder, writer, tally, progress)
                    waiting = []
            elif isinstance(result, Unchanged):
                writer.same(result.id)
                tally.unchanged += 1
                progress.advance()
            else:
                _note_failure(result, known, writer, tally, progress)
        if waiting:
            _encode_and_write(waiting, encoder, writer, tally, progress)


def extract_catalogue(
    catalogue: Catalogue,
    out: Path,
    config: ExtractConfig,
    encoder: ClipEncoder,
    recipe: Recipe,
    progress: Progress,
    *,
    share: Share = WHOLE,
    retry_failed: bool = False,
) -> ExtractSummary:
    """Embed every clip of a catalogue into one file.

    What is done is kept in shards beside the file (see ``parts``) and merged into it at the end. Run again, it does only what is missing:
    new, changed and interrupted clips. Rows of clips that are no longer listed stay. A file without shards beside it is taken over.

    Args:
        share: which part of the catalogue; a partial run writes shards only, and ``merge`` makes the file of all.
        retry_failed: try clips again that failed for good.

    Raises:
        InputError: a place that cannot be written, or is being written by another run; before any work.
        RecipeMismatch: what is there was made another way; before any work.
        Interrupted: Ctrl-C or SIGTERM; what was encoded is in the shards.
        VivimError: a shard or the file cannot be written; earlier shards are whole.
    """
    catalogue = part_of(catalogue, share)
    started = time.monotonic()
    with open_parts(parts_of(out) / share.folder, recipe, encoder.dim, progress) as parts:
        take_over(out, parts, recipe, encoder.dim, share)
        tally, total = Tally(), len(catalogue)
        while True:
            plan = make_plan(catalogue, parts.ledger.entries(), parts.ledger.suspects(), retry_failed=retry_failed)
            _extract_planned(plan, parts, config, encoder, recipe, tally, progress, out)
            retry_failed = False
            if share.count > 1:
                sha256 = ""
                break
            try:
                sha256 = merge_if_new(out, parts, progress)
                break
            except DamagedShardError as error:
                progress.say(f"{error.shard.name} is damaged and put aside; its clips are done again")
                parts.put_aside(error.shard)
    failures = tuple(sorted(tally.failures, key=lambda failure: failure.id))
    return ExtractSummary(
        total=total,
        embedded=tally.embedded,
        unchanged=total - tally.embedded - len(failures),
        failures=failures,
        seconds=time.monotonic() - started,
        decode_wait_seconds=tally.decode_wait_seconds,
        encode_seconds=tally.encode_seconds,
        decoders=dict(tally.decoders),
        sha256=sha256,
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


def _extract_planned(
    plan: Plan,
    parts: Parts,
    config: ExtractConfig,
    encoder: ClipEncoder,
    recipe: Recipe,
    tally: Tally,
    progress: Progress,
    out: Path,
) -> None:
    """Do what a plan says: first all clips side by side; then, one at a time, those over which something died or might have."""
    tally.failures = list(plan.failures)
    tally.unchanged = len(plan.unchanged) + len(plan.gone)
    writer = ShardWriter(
        parts, recipe, encoder.dim, hashes=plan.hashes, stats=plan.stats, clips=config.shard_clips, seconds=config.commit_seconds
    )
    reader = ClipReader(make_sampler(config.frames), config.image_size, config.resize, config.decoder)
    pool = DecodePool(reader, config.workers, config.timeout_seconds, ahead=2 * config.batch_clips)
    stop, again = threading.Event(), Again()

    def decode(refs: Sequence[ClipRef], known: Mapping[str, str], *, alone: bool) -> Generator[Result, None, None]:
        def starting(ref: ClipRef) -> None:
            parts.ledger.starting(ref.id, alone=alone)

        used = replace(pool, workers=1, ahead=1) if alone else pool
        with closing(used.decode(refs, known, starting, stop)) as results:
            for result in results:
                parts.ledger.read(result.id)
                if alone or not again.takes(result):
                    yield result

    if plan.gone:
        shown = ", ".join(plan.gone[:3])
        progress.say(f"{len(plan.gone)} files are gone, their vectors are kept: {shown}{', ...' if len(plan.gone) > 3 else ''}")
    progress.start("extract", plan.total, "clips")
    progress.advance(tally.unchanged + len(plan.failures), _note(tally))
    loop = partial(run_shard, encoder=encoder, writer=writer, tally=tally, batch_clips=config.batch_clips, progress=progress)
    try:
        with stop_gently(stop):
            for failure in plan.news:
                writer.fail(failure)
            loop(plan.todo, partial(decode, alone=False))
            last = [*plan.alone, *(ref for ref in plan.todo if ref.id in again.ids)]
            if last and not stop.is_set():
                loop(last, partial(decode, alone=True))
            writer.commit()
    except KeyboardInterrupt:
        raise Interrupted(f"stopped at once; what was not yet in a shard is lost. {_how_to_go_on(plan, tally, out)}") from None
    except BaseException:
        with shielded():
            writer.commit()
        raise
    finally:
        progress.finish()
        parts.ledger.nothing_is_read()
    if stop.is_set():
        raise Interrupted(f"stopped. {_how_to_go_on(plan, tally, out)}")


def _how_to_go_on(plan: Plan, tally: Tally, out: Path) -> str:
    return (
        f"{tally.embedded + tally.unchanged} of {plan.total} clips are done and kept in {parts_of(out)}. "
        "Run the same command again to do the rest."
    )


def _next(results: Generator[Result, None, None], tally: Tally) -> Result | None:
    """The next result, or None at the end; the time spent waiting for it is put down."""
    begin = time.perf_counter()
    result = next(results, None)
    tally.decode_wait_seconds += time.perf_counter() - begin
    return result


def _encode_and_write(clips: list[Clip], encoder: ClipEncoder, writer: EmbeddingWriter, tally: Tally, progress: Progress) -> None:
    begin = time.perf_counter()
    vectors_BD = _encode(clips, encoder, progress)
    tally.encode_seconds += time.perf_counter() - begin
    refused = writer.add(EmbeddingBatch(tuple(clips), vectors_BD))
    tally.failures += refused
    bad = {failure.id for failure in refused}
    tally.decoders.update(clip.decoder for clip in clips if clip.id not in bad)
    progress.advance(len(clips), _note(tally))


def _encode(clips: Sequence[Clip], encoder: ClipEncoder, progress: Progress) -> npt.NDArray[np.float32]:
    """(B, D) vectors; when the device has too little memory for all at once, in halves."""
    try:
        return _encode_at_once(clips, encoder)
    except torch.OutOfMemoryError:
        if len(clips) == 1:
            raise
    progress.say(f"the device has no memory for {len(clips)} clips at once; trying halves. A smaller batch_clips avoids this.")
    half = len(clips) // 2
    return np.concatenate([_encode(clips[:half], encoder, progress), _encode(clips[half:], encoder, progress)])


def _encode_at_once(clips: Sequence[Clip], encoder: ClipEncoder) -> npt.NDArray[np.float32]:
    frames = torch.from_numpy(np.stack([clip.frames_TCHW for clip in clips])).to(encoder.device)
    with torch.inference_mode():
        vectors: npt.NDArray[np.float32] = encoder.embed_uint8(frames).float().cpu().numpy()
    return vectors


def _note_failure(failure: Failure, known: Mapping[str, str], writer: EmbeddingWriter, tally: Tally, progress: Progress) -> None:
    """A file that went missing since the plan was made keeps its row, as one that was missing before."""
    if failure.kind == "missing" and failure.id in known:
        tally.unchanged += 1
        progress.say(f"{failure.id}: the file is gone, its vector is kept")
    else:
        writer.fail(failure)
        tally.failures.append(failure)
    progress.advance(1, _note(tally))


def _note(tally: Tally) -> str:
    return f"{len(tally.failures)} failed" if tally.failures else ""


@dataclass
class Again:
    """Failures that deserve a second try, alone, because a busy machine or a neighbour may be to blame."""

    ids: set[str] = field(default_factory=set)

    def takes(self, result: Result) -> bool:
        """Whether this result is set aside for the second try."""
        if not isinstance(result, Failure) or result.kind not in TRIED_TWICE:
            return False
        self.ids.add(result.id)
        return True
