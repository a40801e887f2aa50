"""One child process that reads clips, seen from the parent."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO

from ..errors import VivimError
from .clip import Clip, ClipRef
from .reader import Unchanged

Reader = Callable[[ClipRef, str | None], Clip | Unchanged]


@dataclass
class DecodeProcess:
    """A child: starting, idle, or reading ``ref`` until ``deadline``.

    Attributes:
        process: a fresh interpreter that runs ``decode_child``.
        connection: our end of the pipe.
        noise: what the child writes to its standard and error output; an anonymous file.
        deadline: on ``time.monotonic``; of the start, or of the clip.
        starting: it has not yet said that it is ready.
        ref: the clip it reads.
        clips: how many it has read.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    noise: IO[bytes]
    deadline: float
    starting: bool = True
    ref: ClipRef | None = None
    clips: int = 0

    @classmethod
    def start(cls, reader: Reader, memory_bytes: int, deadline: float) -> "DecodeProcess":
        """Start a child that calls ``reader`` for every clip.

        Raises:
            VivimError: the system starts no more processes.
        """
        ours, theirs = Pipe()
        noise = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
        arguments = [str(theirs.fileno()), str(os.getpid()), str(memory_bytes)]
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vivim.extract.decode_child", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=noise,
                stderr=noise,
                pass_fds=[theirs.fileno()],
                env=child_environment(),
                process_group=0,  # Ctrl-C in the terminal is for the parent alone
            )
        except OSError as error:
            ours.close()
            noise.close()
            raise VivimError(f"a decoding process could not be started: {error}.") from error
        finally:
            theirs.close()
        with contextlib.suppress(OSError):  # if it died already, the closed pipe will tell
            ours.send(reader)
        return cls(process, ours, noise, deadline)

    def kill(self) -> None:
        """End it at once, whatever it is doing; nothing happens if it is dead."""
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.noise.close()

    def autopsy(self) -> tuple[str, str]:
        """Of a child that closed its pipe: how it ended, in words, and the end of what it wrote. The child is gone afterwards."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        size = os.fstat(self.noise.fileno()).st_size
        words = os.pread(self.noise.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()
        self.kill()
        return ending(self.process.returncode), words


def child_environment() -> dict[str, str]:
    """The parent's environment and module path, with one thread per library: children are many, or have little to compute."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": path}


def ending(code: int) -> str:
    """How a process ended, in words, from its return code."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name} (the kernel does this when memory runs out)" if name == "SIGKILL" else name
