"""The other end of ``decode_pool``: a process that reads clips and may die of it.

It talks over one pipe, fills slots of shared memory, writes to no file, is not reached by Ctrl-C, and ends with its parent.
FFmpeg's complaints go to its error output, an anonymous file of the parent's.
"""

import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

from .clip import Clip, ClipRef, Failure
from .decode_limits import end_with_parent, limit_clip, limit_process
from .failures import ClipError
from .frame_ring import RingWriter, Shelved
from .reader import Unchanged

Reader = Callable[[ClipRef, str | None], Clip | Unchanged]
Answer = Clip | Shelved | Unchanged | Failure


def main(pipe: int, parent_pid: int) -> None:
    """Receive reader, limits and ring, say that it is ready, then answer every (ref, known hash, slot) until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent_pid)
    connection = Connection(pipe)
    try:
        reader, memory_bytes, cpu_seconds, ring = connection.recv()
        limit_process(memory_bytes)
        connection.send(None)
        while True:
            ref, known_sha256, slot = connection.recv()
            os.ftruncate(2, 0)
            os.lseek(2, 0, os.SEEK_SET)
            limit_clip(cpu_seconds)
            connection.send(attempt(reader, ref, known_sha256, ring, slot))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def attempt(reader: Reader, ref: ClipRef, known_sha256: str | None, ring: RingWriter | None = None, slot: int = 0) -> Answer:
    """What became of a clip, whatever the reader raises. Frames go into the slot, if there is a ring."""
    try:
        result = reader(ref, known_sha256)
        return ring.put(slot, result) if ring is not None and isinstance(result, Clip) else result
    except ClipError as error:
        return Failure(ref.id, error.kind, error.message)
    except MemoryError:
        return Failure(ref.id, "oom", "reading needed more memory than a decoding process may have")
    except Exception as error:
        return Failure(ref.id, "crash", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
