"""The thread that keeps decoding processes at work."""

import math
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from ..errors import VivimError
from ..store.children import ending
from .clip import ClipRef, Failure
from .decode_child import Answer
from .decode_process import ChildPlan, DecodeProcess
from .decode_statistics import DecodeStatistics
from .frame_ring import Slots

_START_SECONDS = 120.0
_TICK_SECONDS = 0.2
_START_ATTEMPTS = 3
_UNWATCHED_SECONDS = 1.0
_OUT_OF_MEMORY = ("bad_alloc", "Cannot allocate memory", "MemoryError")

News = tuple[int, Answer] | BaseException


@dataclass
class DecodeRun:
    """One call of ``DecodePool.decode``, seen from the thread that runs ``go``. It never waits for the consumer.

    Attributes:
        plan: how children are started.
        clips_per_child: after so many a child is replaced.
        refs: the clips.
        known: hash of the file that already has a row, by id.
        on_start: told about each clip before a child gets it.
        size: children side by side.
        slots: a clip is handed out only with a free slot; the consumer gives it back when it has fetched the result.
        statistics: filled here.
        news: (slot, what became of the clip) for every clip; at the end None, or the exception that ended it early.
    """

    plan: ChildPlan
    clips_per_child: int
    refs: Iterator[ClipRef]
    known: Mapping[str, str]
    on_start: Callable[[ClipRef], None] | None
    size: int
    slots: Slots
    statistics: DecodeStatistics
    news: "queue.SimpleQueue[News | None]" = field(default_factory=queue.SimpleQueue)
    children: list[DecodeProcess] = field(default_factory=list)
    upcoming: ClipRef | None = None
    clock: float = 0.0
    failed_starts: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def go(self) -> None:
        """The life of the pool; all children are dead when it returns."""
        try:
            self.upcoming = next(self.refs, None)
            self.clock = time.monotonic()
            self.statistics.workers = self.size
            for _ in range(self.size):
                self._start()
            while self.children and not self.stop.is_set():
                self._turn()
            self.news.put(None)
        except BaseException as error:
            self.news.put(error)
        finally:
            for child in self.children:
                child.kill()

    def leave(self) -> None:
        """From another thread: nobody wants the rest; ``go`` ends soon."""
        self.stop.set()
        self.slots.ring()

    def _turn(self) -> None:
        """Wait for news, take it in, kill what is overdue, and hand out work."""
        pause = min(_TICK_SECONDS, max(0.0, min(child.deadline for child in self.children) - time.monotonic()))
        ready = wait([self.slots.bell, *(child.connection for child in self.children)], timeout=pause)
        self._pass_time(pause)
        for child in [child for child in self.children if child.connection in ready]:
            self._listen(child)
        now = time.monotonic()
        # An answer that came while nobody listened counts.
        for child in [child for child in self.children if now > child.deadline and not child.connection.poll()]:
            self._give_up(child)
        self.slots.hush()
        for child in [child for child in self.children if child.idle or (child.starting and self.upcoming is None)]:
            self._employ(child)

    def _pass_time(self, pause: float) -> None:
        """Account for the time since the last turn. What nobody watched is no fault of the clips: the machine may have slept."""
        passed = time.monotonic() - self.clock
        self.clock += passed
        if (unwatched := passed - pause) > _UNWATCHED_SECONDS:
            for child in self.children:
                child.deadline += unwatched
        self.statistics.worker_seconds += passed * self.size
        self.statistics.busy_seconds += passed * sum(child.ref is not None for child in self.children)
        self.statistics.blocked_seconds += passed * sum(child.idle for child in self.children)

    def _listen(self, child: DecodeProcess) -> None:
        try:
            answer = child.answer()
        except EOFError:
            self._bury(child)
        except ValueError as error:
            if child.starting:
                self._start_again(child, f"does not say that it started: {error}")
                return
            self.statistics.died += 1
            if child.ref is not None:
                self._settle(child, Failure(child.ref.id, "crash", str(error)))
            self._replace(child)
        else:
            if answer is None:
                self.failed_starts = 0
            else:
                child.clips += 1
                self._settle(child, answer)
                if child.clips >= self.clips_per_child and self.upcoming is not None:
                    self.statistics.recycled += 1
                    self._replace(child)

    def _settle(self, child: DecodeProcess, answer: Answer) -> None:
        """The child's clip has its result."""
        self.news.put((child.slot, answer))
        self.statistics.clips += 1
        child.ref, child.deadline = None, math.inf

    def _employ(self, child: DecodeProcess) -> None:
        """Give an idle child a clip if there is a free slot; let a child go for which there is none left."""
        if self.upcoming is None:
            self._replace(child)
        elif child.connection.poll():  # it died idle, which is no fault of the next clip
            self._listen(child)
        elif (slot := self.slots.take()) is not None:
            ref, self.upcoming = self.upcoming, next(self.refs, None)
            if self.on_start is not None:
                self.on_start(ref)
            child.give(ref, self.known.get(ref.id), slot, time.monotonic() + self.plan.timeout_seconds)

    def _bury(self, child: DecodeProcess) -> None:
        """The child died by itself: the clip it was reading is to blame."""
        code, words = child.autopsy()
        how = "its pipe closed" if code is None else ending(code)
        if child.starting:
            self._start_again(child, f"ended while it started ({how}): {words[-800:]}")
            return
        if code == -signal.SIGXCPU:
            self.statistics.overdue += 1
        else:
            self.statistics.died += 1
        if child.ref is not None:
            self._settle(child, _post_mortem(child.ref, code, how, words))
        self._replace(child)

    def _give_up(self, child: DecodeProcess) -> None:
        child.kill()
        if child.ref is None:
            self._start_again(child, f"did not start within {_START_SECONDS:.0f} seconds; the machine may be overloaded.")
            return
        self.statistics.overdue += 1
        self._settle(child, Failure(child.ref.id, "timeout", f"reading took longer than {self.plan.timeout_seconds:g} seconds"))
        self._replace(child)

    def _start_again(self, child: DecodeProcess, what: str) -> None:
        """No clip is to blame. Something else killed it once, or nothing starts here."""
        self.failed_starts += 1
        if self.failed_starts >= _START_ATTEMPTS:
            raise VivimError(f"a decoding process {what}")
        self._replace(child)

    def _replace(self, child: DecodeProcess) -> None:
        """Let a child go, and start another if there is work left."""
        self.children.remove(child)
        child.kill()
        if self.upcoming is not None:
            self._start()

    def _start(self) -> None:
        self.children.append(DecodeProcess.start(self.plan, deadline=time.monotonic() + _START_SECONDS))


def _post_mortem(ref: ClipRef, code: int | None, how: str, words: str) -> Failure:
    if code == -signal.SIGXCPU:
        return Failure(ref.id, "timeout", "reading took more processor time than a clip may have")
    kind = "oom" if any(mark in words for mark in _OUT_OF_MEMORY) else "crash"
    last = f": {words.splitlines()[-1]}" if words else ""
    return Failure(ref.id, kind, f"the decoding process ended with {how}{last}")
