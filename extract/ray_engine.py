"""Extraction on a Ray cluster: the same loop over a chunk of clips at a time, wherever Ray runs it.

A task reads and encodes its chunk, with decoding processes of its own, and gives back rows and failures. It keeps nothing: a chunk whose
node dies is done again elsewhere, to the same rows. Shards and ledger are written by the process that started the run, as without Ray.

Files must lie at the same path on every node.
"""

import threading
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from ..errors import MissingExtra, VivimError
from ..progress import SILENT, Progress
from ..store import Rows
from .clip import ClipRef, EmbeddingBatch, Failure
from .decode_pool import DecodePool, Result
from .schedule import TRIED_TWICE
from .shard_loop import ClipEncoder, Tally, run_shard
from .writer import ShardWriter, rows_of

_TICK_SECONDS = 0.5
_RETRIES = 5
"""How often Ray may start a chunk again whose node or process died."""


@dataclass
class ChunkResult:
    """What a task gives back.

    Attributes:
        rows: of the clips that were embedded, vectors in float32; None: of none.
        failures: clips that failed for good.
        again: clips that are to be tried once more, alone.
        unchanged: clips whose file is the one that their row was made of.
        decoders: clips by the decoder that read them.
        decode_wait_seconds, encode_seconds: of the task.
    """

    rows: Rows | None = None
    failures: list[Failure] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    decoders: Counter[str] = field(default_factory=Counter)
    decode_wait_seconds: float = 0.0
    encode_seconds: float = 0.0


class _Collect:
    """A writer that keeps everything for the way back."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self.hashes = hashes
        self.parts: list[Rows] = []
        self.failures: list[Failure] = []
        self.unchanged: list[str] = []

    def add(self, batch: EmbeddingBatch) -> Sequence[Failure]:
        self.parts.append(rows_of(batch))
        return ()

    def fail(self, failure: Failure) -> None:
        self.failures.append(failure)

    def same(self, id_: str) -> None:
        self.unchanged.append(id_)

    def idle(self) -> None:
        """A chunk is kept as a whole or not at all."""


def do_chunk(refs: Sequence[ClipRef], known: Mapping[str, str], pool: DecodePool, encoder: ClipEncoder, batch_clips: int) -> ChunkResult:
    """Read and encode a chunk of clips; the same chunk gives the same rows wherever this runs."""
    result, into, tally = ChunkResult(), _Collect(known), Tally()

    def decode(refs: Sequence[ClipRef], known: Mapping[str, str]) -> Generator[Result, None, None]:
        for found in pool.decode(refs, known):
            if isinstance(found, Failure) and found.kind in TRIED_TWICE:
                result.again.append(found.id)
            else:
                yield found

    run_shard(refs, decode, encoder, into, tally, batch_clips=batch_clips, progress=SILENT)
    result.rows = Rows.join(into.parts) if into.parts else None
    result.failures, result.unchanged, result.decoders = into.failures, into.unchanged, tally.decoders
    result.decode_wait_seconds, result.encode_seconds = tally.decode_wait_seconds, tally.encode_seconds
    return result


_encoders: dict[str, ClipEncoder] = {}


def _task(refs: Sequence[ClipRef], known: Mapping[str, str], pool: DecodePool, encoder: Sequence[Any], batch_clips: int) -> ChunkResult:
    """``do_chunk`` in a worker of Ray's, which keeps the encoder that it was sent between chunks."""
    import ray

    key = encoder[0].hex()
    if key not in _encoders:
        torch.set_num_threads(max(1, pool.workers))
        _encoders.clear()
        _encoders[key] = ray.get(encoder[0])
    return do_chunk(refs, known, pool, _encoders[key], batch_clips)


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster.

    Attributes:
        pool: reads clips; each task has ``pool.workers`` decoding processes and as many CPUs of its node.
        encoder: frames to vectors; sent to every node once. Tasks ask for a GPU if it is on one.
        batch_clips: B, clips encoded at once.
        address: of the cluster; None: the one that the environment names (RAY_ADDRESS), else a cluster of this machine alone.
        chunk_clips: clips of a task.
    """

    pool: DecodePool
    encoder: ClipEncoder
    batch_clips: int
    address: str | None = None
    chunk_clips: int = 64

    def run(
        self, refs: Sequence[ClipRef], writer: ShardWriter, tally: Tally, stop: threading.Event, progress: Progress
    ) -> Sequence[ClipRef]:
        """See ``Engine.run``. After a stop, chunks that are being done are dropped: nothing of them is lost but time.

        Raises:
            MissingExtra: Ray is not installed.
            VivimError: no cluster can be reached, or it cannot run a task.
        """
        if not refs:
            return ()
        ray = _ray()
        started_here = not ray.is_initialized()
        if started_here:
            _connect(ray, self.address)
        try:
            again = self._run(ray, refs, writer, tally, stop, progress)
        finally:
            if started_here:
                ray.shutdown()
        return [ref for ref in refs if ref.id in again]

    def _run(
        self, ray: Any, refs: Sequence[ClipRef], writer: ShardWriter, tally: Tally, stop: threading.Event, progress: Progress
    ) -> set[str]:
        workers = self.pool.workers or 2
        gpu = self.encoder.device.type == "cuda"
        task = ray.remote(num_cpus=workers, num_gpus=1 if gpu else 0, max_retries=_RETRIES)(_task)
        submit = partial(
            task.remote, pool=replace(self.pool, workers=workers), encoder=[ray.put(self.encoder)], batch_clips=self.batch_clips
        )
        chunks = deque(refs[start : start + self.chunk_clips] for start in range(0, len(refs), self.chunk_clips))
        running: dict[Any, Sequence[ClipRef]] = {}
        again: set[str] = set()
        while (chunks or running) and not stop.is_set():
            while chunks and len(running) < self._at_once(ray, workers):
                chunk = chunks.popleft()
                running[submit(chunk, {ref.id: writer.hashes[ref.id] for ref in chunk if ref.id in writer.hashes})] = chunk
            ready, _ = ray.wait(list(running), timeout=_TICK_SECONDS)
            for job in ready:
                chunk = running.pop(job)
                self._take(job, ray, chunk, writer, tally, again, progress)
        for job in running:
            ray.cancel(job, force=True)
        return again

    def _at_once(self, ray: Any, workers: int) -> int:
        """Chunks in flight: two for every place where one can run, so that none waits for us."""
        return 2 * max(1, int(ray.cluster_resources().get("CPU", 1)) // workers)

    def _take(
        self,
        job: Any,
        ray: Any,
        chunk: Sequence[ClipRef],
        writer: ShardWriter,
        tally: Tally,
        again: set[str],
        progress: Progress,
    ) -> None:
        """What a chunk has given; one over which its nodes died again and again is done here, clip by clip."""
        try:
            result: ChunkResult = ray.get(job)
        except ray.exceptions.RayTaskError as error:
            raise VivimError(f"a chunk of {len(chunk)} clips failed on the cluster: {error.cause!r}") from error
        except ray.exceptions.RayError as error:
            progress.say(
                f"a chunk of {len(chunk)} clips was given up by the cluster ({type(error).__name__}); its clips are read here, alone"
            )
            again.update(ref.id for ref in chunk)
            return
        again.update(result.again)
        tally.decode_wait_seconds += result.decode_wait_seconds
        tally.encode_seconds += result.encode_seconds
        refused: Sequence[Failure] = ()
        if result.rows is not None:
            refused = writer.add_rows(result.rows)
            bad = {failure.id for failure in refused}
            tally.decoders.update(name for id_, name in zip(result.rows.ids, result.rows.decoder, strict=True) if id_ not in bad)
        for failure in result.failures:
            writer.fail(failure)
        for id_ in result.unchanged:
            writer.same(id_)
        tally.failures += [*refused, *result.failures]
        tally.unchanged += len(result.unchanged)
        progress.advance(len(chunk) - len(result.again), f"{len(tally.failures)} failed" if tally.failures else "")


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", extra="ray", why="--engine ray") from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    try:
        # The dashboard answers anybody who reaches it; nobody asked for it.
        options = {} if address else {"include_dashboard": False}
        ray.init(address=address, log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise VivimError(
            f"no Ray cluster answers at {address or 'the default address'}: {error}. Start one with `ray start --head`."
        ) from error
