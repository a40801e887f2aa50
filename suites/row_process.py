"""A process of one training: reads its job from standard input, and tells what happens on standard output, a line of JSON each.

    {"say": line}            worth keeping in a log
    {"state": text}          how far it is
    {"done": true}           trained and measured
    {"failed": message}      and why
    {"interrupted": message}

Run as ``python -m vivim.suites.row_process NAME``, whose name is for people who look at processes. Standard input stays open as long as
the suite lives: when it closes, the suite is gone, and this process saves what a Ctrl-C would save and ends.
"""

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import IO

from ..errors import Interrupted, VivimError

_STATE_SECONDS = 1.0
_LAST_SECONDS = 20.0  # to save in, when nobody is left to ask for it


class Channel:
    """``Progress`` as lines of JSON.

    Args:
        stream: to write to.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.tasks: list[tuple[str, int, str]] = []
        self.done: list[int] = []
        self.told = 0.0

    def tell(self, kind: str, what: str | bool) -> None:
        """One line; nobody may be left to read it."""
        with suppress(BrokenPipeError):
            self.stream.write(json.dumps({kind: what}) + "\n")
            self.stream.flush()

    def start(self, what: str, total: int, unit: str) -> None:
        self.tasks.append((what, total, unit))
        self.done.append(0)

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done[-1] += count
        if time.monotonic() - self.told > _STATE_SECONDS:
            self.told = time.monotonic()
            what, total, unit = self.tasks[-1]
            self.tell("state", f"{what}, {self.done[-1]:,}/{total:,} {unit}{', ' + note if note else ''}")

    def finish(self) -> None:
        self.tasks.pop()
        self.done.pop()

    def say(self, line: str) -> None:
        self.tell("say", line)


def main() -> int:
    """One job; the exit code is that of ``vivim train-rec``."""
    for ending in (signal.SIGTERM, signal.SIGINT):  # also where whoever started the suite ignores Ctrl-C
        signal.signal(ending, signal.default_int_handler)
    # Libraries that print do so into the log of the process.
    channel = Channel(os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        content = sys.stdin.buffer.readline()
        threading.Thread(target=_end_with_the_suite, daemon=True).start()
        from ..allocator import keep_freed_memory
        from .job import Job, train_and_measure

        keep_freed_memory()
        job = Job.model_validate_json(content)
        sys.argv = list(job.command)  # what the run says it was made by
        train_and_measure(job, channel)
    except (Interrupted, KeyboardInterrupt) as error:
        channel.tell("interrupted", str(error))
        return Interrupted.exit_code
    except VivimError as error:
        channel.tell("failed", str(error))
        return error.exit_code
    channel.tell("done", True)
    return 0


def _end_with_the_suite() -> None:
    # Not through sys.stdin: its lock, held here, would be missed when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_LAST_SECONDS)
    os._exit(Interrupted.exit_code)


if __name__ == "__main__":
    sys.exit(main())
