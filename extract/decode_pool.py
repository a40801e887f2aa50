"""Reading clips in child processes, so that a decoder which hangs, crashes or eats memory costs one clip.

Native decoders hang holding the interpreter's lock and die uncatchably. Each child reads one clip at a time; the parent kills
it at the deadline and starts another. Children are fresh interpreters (not forks, and not copies of the caller's main module).
Frames come back through shared memory, everything else through a pipe.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from .clip import Clip, ClipRef, Failure
from .decode_child import Reader
from .decode_process import ChildPlan
from .decode_run import DecodeRun, News
from .decode_statistics import DecodeStatistics
from .file_limit import file_limit_explained
from .frame_ring import FrameRing, Shelved, Slots
from .reader import Unchanged

Result = Clip | Unchanged | Failure


@dataclass(frozen=True)
class Idle:
    """No clip has come for a while; more are being read."""


_RING_BYTES = 1 << 30
_TICK_SECONDS = 0.2


@runtime_checkable
class SizedReader(Protocol):
    """A reader that knows how large its clips are."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of the largest ``frames_TCHW`` it gives."""

    def __call__(self, ref: ClipRef, known_sha256: str | None) -> Clip | Unchanged:
        """See ``ClipReader``."""


@dataclass(frozen=True)
class DecodePool:
    """Reads many clips at once, each under a deadline and a memory limit.

    Attributes:
        reader: called in a child as ``reader(ref, known_sha256)``; any picklable callable, usually a ``ClipReader``. Frames of a
            ``SizedReader`` travel through shared memory; those of other readers are pickled, which takes several times longer.
        workers: child processes; 0: one per CPU core that this process may use.
        timeout_seconds: a clip that takes longer is given up.
        memory_bytes: private memory of one child, of which the interpreter takes about 100 MB.
        ahead: finished clips that wait at most until they are fetched, beyond one for each child. Fewer where they are so large
            that the shared memory would exceed 1 GiB.
        clips_per_child: a child is replaced after so many, against slow leaks.
        idle_seconds: ``listen`` tells when nothing has come for so long.
        statistics: what the children did, over all calls of ``decode``.
    """

    reader: Reader
    workers: int = 0
    timeout_seconds: float = 30.0
    memory_bytes: int = 3 << 30
    ahead: int = 16
    clips_per_child: int = 1000
    idle_seconds: float = 1.0
    statistics: DecodeStatistics = field(default_factory=DecodeStatistics, compare=False)

    def decode(
        self,
        refs: Sequence[ClipRef],
        known: Mapping[str, str] | None = None,
        on_start: Callable[[ClipRef], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[Result, None, None]:
        """``listen`` without the pauses."""
        with closing(self.listen(refs, known, on_start, stop)) as results:
            for result in results:
                if not isinstance(result, Idle):
                    yield result

    def listen(
        self,
        refs: Sequence[ClipRef],
        known: Mapping[str, str] | None = None,
        on_start: Callable[[ClipRef], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[Result | Idle, None, None]:
        """What became of each clip, as they finish. Every ref gives exactly one result; frames belong to the caller.

        Args:
            refs: what is to be read.
            known: hash of the file that already has a row, by id; clips whose file still has it come back as ``Unchanged``.
            on_start: told about a clip immediately before a child gets it, from another thread than the caller's, and one at a
                time. No clip is handed out before it returns. What it raises ends the decoding and is raised here.
            stop: once it is set, the results end after those that are there; what is being read is dropped.

        Raises:
            VivimError: child processes cannot be started, too many files are open, or there is no memory for frames, which is no fault
                of a clip.
        """
        size = min(self.workers or usable_cores(), len(refs))
        if not size:
            return
        with file_limit_explained(), ExitStack() as resources:
            frame_bytes = self.reader.frame_bytes if isinstance(self.reader, SizedReader) else 0
            waiting = min(self.ahead, len(refs) - size, max(0, _RING_BYTES // frame_bytes - size) if frame_bytes else self.ahead)
            slots = resources.enter_context(closing(Slots(size + waiting)))
            ring = resources.enter_context(closing(FrameRing(size + waiting, frame_bytes))) if frame_bytes else None
            plan = ChildPlan(self.reader, self.memory_bytes, self.timeout_seconds, ring.writer if ring else None)
            run = DecodeRun(plan, self.clips_per_child, iter(refs), known or {}, on_start, size, slots, self.statistics)
            # The thread that starts the children must outlive them: Linux counts it as their parent.
            thread = threading.Thread(target=run.go, name="decode-pool", daemon=True)
            thread.start()
            resources.callback(thread.join)
            resources.callback(run.leave)
            while (news := _next(run, stop, self.idle_seconds)) is not None:
                if isinstance(news, BaseException):
                    raise news
                if isinstance(news, Idle):
                    yield news
                    continue
                slot, answer = news
                result = ring.take(slot, answer) if ring is not None and isinstance(answer, Shelved) else answer
                assert not isinstance(result, Shelved), result
                slots.give_back(slot)
                yield result


def _next(run: DecodeRun, stop: threading.Event | None, idle_seconds: float) -> News | Idle | None:
    """What comes next; after a stop, what is there already."""
    idle_at = time.monotonic() + idle_seconds
    while stop is None or not stop.is_set():
        left = max(0.0, idle_at - time.monotonic())
        with suppress(queue.Empty):
            return run.news.get(timeout=left if stop is None else min(left, _TICK_SECONDS))
        if time.monotonic() >= idle_at:
            return Idle()
    run.leave()
    with suppress(queue.Empty):
        return run.news.get_nowait()
    return None


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
