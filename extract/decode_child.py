"""The other end of ``decode_pool``: a process that reads clips and may die of it.

It talks over one pipe, writes to no file, is not reached by Ctrl-C, and ends with its parent. FFmpeg's complaints go to its
error output, an anonymous file of the parent's.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

from .clip import Clip, ClipRef, Failure
from .failures import ClipError
from .reader import Unchanged

_NOISE_BYTES = 16 << 20
_PR_SET_PDEATHSIG = 1


def main(pipe: int, parent_pid: int, memory_bytes: int) -> None:
    """Receive a reader, say that it is ready, then answer every (ref, known hash) with a result until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent(parent_pid)
    connection = Connection(pipe)
    try:
        reader = connection.recv()
        _set_limits(memory_bytes)
        connection.send(None)
        while True:
            ref, known_sha256 = connection.recv()
            os.ftruncate(2, 0)
            os.lseek(2, 0, os.SEEK_SET)
            connection.send(attempt(reader, ref, known_sha256))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def attempt(
    reader: Callable[[ClipRef, str | None], Clip | Unchanged], ref: ClipRef, known_sha256: str | None
) -> Clip | Unchanged | Failure:
    """What became of a clip, whatever the reader raises."""
    try:
        return reader(ref, known_sha256)
    except ClipError as error:
        return Failure(ref.id, error.kind, error.message)
    except MemoryError:
        return Failure(ref.id, "oom", "reading needed more memory than a decoding process may have")
    except Exception as error:
        return Failure(ref.id, "crash", f"{type(error).__name__}: {error}")


def _end_with_parent(parent_pid: int) -> None:
    """Linux kills this process when the parent dies, even while a decoder spins; elsewhere the closing pipe ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit(0)


def _set_limits(memory_bytes: int) -> None:
    """Bound memory (private writable memory: mapped libraries do not count), what is written anywhere, and core dumps."""
    for what, limit in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, _NOISE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
