"""Reading clips in child processes, so that a decoder which hangs, crashes or eats memory costs one clip.

Native decoders hang holding the interpreter's lock and die uncatchably. Each child reads one clip at a time; the parent kills
it at the deadline and starts another. Children are fresh interpreters (not forks, and not copies of the caller's main module).
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from ..errors import VivimError
from .clip import Clip, ClipRef, Failure
from .decode_process import DecodeProcess, Reader
from .reader import Unchanged

Result = Clip | Unchanged | Failure

_START_SECONDS = 120.0
_TICK_SECONDS = 0.2
_OUT_OF_MEMORY = ("bad_alloc", "Cannot allocate memory", "MemoryError")


@dataclass(frozen=True)
class DecodePool:
    """Reads many clips at once, each under a deadline and a memory limit.

    Attributes:
        reader: called in a child as ``reader(ref, known_sha256)``; any picklable callable, usually a ``ClipReader``.
        workers: child processes; 0: one per CPU core that this process may use.
        timeout_seconds: a clip that takes longer is given up.
        memory_bytes: private memory of one child, of which the interpreter takes about 100 MB.
        ahead: finished clips that wait at most until they are fetched, beyond one in each child.
        clips_per_child: a child is replaced after so many, against slow leaks.
    """

    reader: Reader
    workers: int = 0
    timeout_seconds: float = 30.0
    memory_bytes: int = 3 << 30
    ahead: int = 16
    clips_per_child: int = 1000

    def decode(
        self,
        refs: Sequence[ClipRef],
        known: Mapping[str, str] | None = None,
        on_start: Callable[[ClipRef], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[Result, None, None]:
        """What became of each clip, as they finish. Every ref gives exactly one result.

        Args:
            refs: what is to be read.
            known: hash of the file that already has a row, by id; clips whose file still has it come back as ``Unchanged``.
            on_start: called before a clip is handed to a child, in another thread.
            stop: once it is set, the results end early; what is being read is dropped.

        Raises:
            VivimError: child processes cannot be started, which is no fault of a clip.
        """
        results: queue.Queue[Result | Exception | None] = queue.Queue(maxsize=self.ahead)
        ended = threading.Event()
        run = _Run(self, iter(refs), known or {}, min(self.workers or _cores(), max(len(refs), 1)), results, ended, on_start)
        # The thread that starts the children must outlive them: Linux counts it as their parent.
        thread = threading.Thread(target=run.go, name="decode-pool", daemon=True)
        thread.start()
        try:
            while (result := self._next(results, stop or ended, ended)) is not None:
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            ended.set()
            thread.join()

    def _next(
        self, results: "queue.Queue[Result | Exception | None]", stop: threading.Event, ended: threading.Event
    ) -> Result | Exception | None:
        """What comes next; after a stop, what is there already."""
        while not stop.is_set():
            with contextlib.suppress(queue.Empty):
                return results.get(timeout=_TICK_SECONDS)
        ended.set()
        with contextlib.suppress(queue.Empty):
            return results.get_nowait()
        return None


@dataclass
class _Run:
    pool: DecodePool
    refs: Iterator[ClipRef]
    known: Mapping[str, str]
    size: int
    results: "queue.Queue[Result | Exception | None]"
    stop: threading.Event
    on_start: Callable[[ClipRef], None] | None
    children: list[DecodeProcess] = field(default_factory=list)
    exhausted: bool = False

    def go(self) -> None:
        """The life of the pool; everything it has to say goes through the queue, None at the end."""
        try:
            self.children = [self._start() for _ in range(self.size)]
            while self.children and not self.stop.is_set():
                self._turn()
            self._put(None)
        except Exception as error:
            self._put(error)
        finally:
            for child in self.children:
                child.kill()

    def _turn(self) -> None:
        """Wait for news, take it in, hand out work, and kill what is overdue."""
        now = time.monotonic()
        pause = min(_TICK_SECONDS, max(0.0, min(child.deadline for child in self.children) - now))
        ready = wait([child.connection for child in self.children], timeout=pause)
        for child in [child for child in self.children if child.connection in ready]:
            self._listen(child)
        now = time.monotonic()
        for child in [child for child in self.children if now > child.deadline and not child.connection.poll()]:
            self._give_up(child)

    def _listen(self, child: DecodeProcess) -> None:
        try:
            result = child.connection.recv()
        except (EOFError, OSError):
            self._bury(child)
            return
        if child.starting:
            child.starting = False
            self._next(child)
            return
        child.clips += 1
        if child.clips >= self.pool.clips_per_child:
            self._replace(child)
        else:
            self._next(child)
        self._put(result)

    def _next(self, child: DecodeProcess) -> None:
        """Give the child a clip, or let it go."""
        child.ref = next(self.refs, None)
        if child.ref is None:
            self.exhausted = True
            self.children.remove(child)
            child.kill()
            return
        if self.on_start is not None:
            self.on_start(child.ref)
        child.deadline = time.monotonic() + self.pool.timeout_seconds
        try:
            child.connection.send((child.ref, self.known.get(child.ref.id)))
        except OSError:
            self._bury(child)

    def _bury(self, child: DecodeProcess) -> None:
        """The child died by itself: the clip it was reading is to blame."""
        ending, words = child.autopsy()
        if child.starting or child.ref is None:
            self.children.remove(child)
            raise VivimError(f"a decoding process ended while it started ({ending}): {words[-800:]}")
        kind = "oom" if any(mark in words for mark in _OUT_OF_MEMORY) else "crash"
        last = f": {words.splitlines()[-1]}" if words else ""
        failure = Failure(child.ref.id, kind, f"the decoding process ended with {ending}{last}")
        self._replace(child)
        self._put(failure)

    def _give_up(self, child: DecodeProcess) -> None:
        if child.starting or child.ref is None:
            raise VivimError(f"a decoding process did not start within {_START_SECONDS:.0f} seconds; the machine may be overloaded.")
        failure = Failure(child.ref.id, "timeout", f"reading took longer than {self.pool.timeout_seconds:g} seconds")
        child.kill()
        self._replace(child)
        self._put(failure)

    def _replace(self, child: DecodeProcess) -> None:
        self.children.remove(child)
        if child.process.returncode is None:
            child.kill()
        if not self.exhausted:
            self.children.append(self._start())

    def _put(self, result: Result | Exception | None) -> None:
        """Hand over a result, unless nobody wants it any more."""
        while not self.stop.is_set():
            try:
                self.results.put(result, timeout=_TICK_SECONDS)
                return
            except queue.Full:
                continue

    def _start(self) -> DecodeProcess:
        return DecodeProcess.start(self.pool.reader, self.pool.memory_bytes, deadline=time.monotonic() + _START_SECONDS)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
