"""Trainings in processes of their own, side by side.

A process each, so that peak memory is the training's own, and a crash of one, the kernel's SIGKILL when memory runs out among them, costs
that one alone. Fresh interpreters rather than ``multiprocessing``: threads and memory allocator are set before torch is loaded, and
nothing of this process is imported again.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ..errors import VivimError
from ..progress import Progress
from ..store.children import child_environment, ending
from .job import Job

_SAVING_SECONDS = 20.0
_LOG_SHOWN = 200


@dataclass(frozen=True)
class Ended:
    """A process is over.

    Attributes:
        job: that it had.
        error: why it failed; empty if it did not.
    """

    job: Job
    error: str


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    log: Path
    listener: threading.Thread | None = None
    state: str = "starting"
    last: dict[str, str] = field(default_factory=dict)  # of ``done``, ``failed``, ``interrupted``


class RowProcesses:
    """The processes that are running; all have ended when it is left.

    Args:
        threads: of each; None: as the environment has it.
        progress: told what they say, and how far they are.
    """

    def __init__(self, threads: int | None, progress: Progress) -> None:
        self.threads, self.progress = threads, progress
        self.running: list[_Running] = []
        self.news: queue.Queue[tuple[_Running, bytes | None]] = queue.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Ask those that run to save and end, as Ctrl-C would; end those that do not."""
        try:
            for one in self.running:
                one.process.terminate()
            for one in self.running:
                with suppress(subprocess.TimeoutExpired):
                    one.process.wait(_SAVING_SECONDS)
        finally:  # also when Ctrl-C is pressed again
            for one in self.running:
                with suppress(ProcessLookupError):
                    os.killpg(one.process.pid, signal.SIGKILL)
                one.process.wait()
                _close(one)
            self.running.clear()

    def start(self, job: Job) -> None:
        """Begin a job.

        Raises:
            VivimError: the system starts no more processes.
        """
        job.folder.parent.mkdir(parents=True, exist_ok=True)
        log = job.folder.with_name(f"{job.folder.name}.log")
        try:
            with log.open("wb") as noise:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "vivim.suites.row_process", job.name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=noise,
                    env=child_environment(self.threads),
                    process_group=0,  # Ctrl-C in the terminal is for this process alone, which passes it on
                )
        except OSError as error:
            raise VivimError(f"the process of {job.name} could not be started: {error}.") from error
        one = _Running(job, process, log)
        self.running.append(one)
        with suppress(BrokenPipeError):  # its end will tell
            _pipe(process.stdin).write(job.model_dump_json().encode() + b"\n")
            _pipe(process.stdin).flush()
        one.listener = threading.Thread(target=self._listen, args=(one,), daemon=True)
        one.listener.start()

    def wait(self) -> Ended:
        """Until one of them is over."""
        while True:
            one, line = self.news.get()
            if line is None:
                return self._ended(one)
            for kind, what in json.loads(line).items():
                if kind == "say":
                    self.progress.say(f"{one.job.name}: {what}")
                elif kind == "state":
                    one.state = what
                    self.progress.advance(0, self.states())
                else:
                    one.last = {kind: str(what)}

    def _listen(self, one: _Running) -> None:
        for line in _pipe(one.process.stdout):
            if line.endswith(b"\n"):  # a process that is killed may leave half a line
                self.news.put((one, line))
        one.process.wait()
        self.news.put((one, None))

    def states(self) -> str:
        """What each is doing; empty if none runs."""
        return " | ".join(f"{one.job.name}: {one.state}" for one in self.running)

    def _ended(self, one: _Running) -> Ended:
        self.running.remove(one)
        _close(one)
        if "done" in one.last:
            if not one.log.stat().st_size:
                one.log.unlink()
            return Ended(one.job, "")
        if "failed" in one.last:
            return Ended(one.job, one.last["failed"])
        if "interrupted" in one.last:
            return Ended(one.job, "it was interrupted; run the suite again to go on with it")
        said = next(_last_lines(one.log), "")
        return Ended(one.job, f"its process ended: {ending(one.process.returncode)}{': ' + said if said else ''}; see {one.log}")


def _last_lines(log: Path) -> Iterator[str]:
    """What is written there, last line first."""
    for line in reversed(log.read_text(encoding="utf-8", errors="replace").splitlines()):
        if line.strip():
            yield line.strip()[:_LOG_SHOWN]


def _close(one: _Running) -> None:
    if one.listener is not None:
        one.listener.join()
    for pipe in (one.process.stdin, one.process.stdout):
        with suppress(BrokenPipeError):
            _pipe(pipe).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "every stream of a row's process is a pipe of ours"
    return pipe
