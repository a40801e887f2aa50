"""One child process that reads clips, seen from the parent."""

import contextlib
import math
import os
import socket
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO

from ..errors import VivimError
from ..store.children import child_environment
from .clip import ClipRef
from .decode_child import Answer, Reader
from .frame_ring import RingWriter, Shelved

_STUCK_SECONDS = 5.0  # for what takes a live child no time: the rest of a message, dying
_CPU_FACTOR = 2.0  # a decoder may have a second thread, and the deadline is the rule, processor time the exception


@dataclass(frozen=True)
class ChildPlan:
    """What every child of a pool is started with.

    Attributes:
        reader: called for every clip.
        memory_bytes: private memory of the child.
        timeout_seconds: for a clip.
        ring: where it puts frames; None: into the pipe.
    """

    reader: Reader
    memory_bytes: int
    timeout_seconds: float
    ring: RingWriter | None = None


@dataclass
class DecodeProcess:
    """A child: starting, idle, or reading ``ref`` into ``slot`` until ``deadline``.

    Attributes:
        process: a fresh interpreter that runs ``decode_child``.
        connection: our end of the pipe.
        noise: what the child writes to its standard and error output; an anonymous file.
        deadline: on ``time.monotonic``; of the start, or of the clip; infinite when idle.
        starting: it has not yet said that it is ready.
        ref: the clip it reads; None when starting or idle.
        slot: the slot that is given to that clip.
        clips: how many it has read.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    noise: IO[bytes]
    deadline: float
    starting: bool = True
    ref: ClipRef | None = None
    slot: int = 0
    clips: int = 0

    @classmethod
    def start(cls, plan: ChildPlan, deadline: float) -> "DecodeProcess":
        """Start a child.

        Raises:
            VivimError: the system starts no more processes.
        """
        ours, theirs = _pipe()
        noise = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
        shared = [theirs.fileno()] if plan.ring is None else [theirs.fileno(), plan.ring.fd]
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vivim.extract.decode_child", str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=noise,
                stderr=noise,
                pass_fds=shared,
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
            ours.send((plan.reader, plan.memory_bytes, _CPU_FACTOR * plan.timeout_seconds, plan.ring))
        return cls(process, ours, noise, deadline)

    @property
    def idle(self) -> bool:
        """Ready, and without a clip."""
        return self.ref is None and not self.starting

    def give(self, ref: ClipRef, known_sha256: str | None, slot: int, deadline: float) -> None:
        """Let it read a clip; if it is dead, the closed pipe will tell."""
        self.ref, self.slot, self.deadline = ref, slot, deadline
        with contextlib.suppress(OSError):
            self.connection.send((ref, known_sha256, slot))

    def answer(self) -> Answer | None:
        """What it says, once its connection is ready: None that it has started, else what became of the clip.

        Raises:
            EOFError: it closed its end: it is dead, or as good as.
            ValueError: it says something that is no answer to what it was asked; it must be killed.
        """
        try:
            answer: Answer | None = self.connection.recv()
        except BlockingIOError as error:
            raise ValueError("it stopped in the middle of its answer") from error
        except OSError as error:
            raise EOFError from error
        except EOFError:
            raise
        except Exception as error:  # whatever unpickling of damaged bytes comes to
            raise ValueError(f"its answer cannot be read: {type(error).__name__}: {error}") from error
        if self.starting:
            if answer is not None:
                raise ValueError("it spoke before it was ready")
            self.starting, self.deadline = False, math.inf
            return None
        known = answer.clip if isinstance(answer, Shelved) else answer
        id_ = getattr(known, "id", None)  # readers may give other things than clips, as `scan` does; all say of which clip
        if id_ is None:
            raise ValueError(f"the reader gave {type(known).__name__}, which does not say of which clip")
        if self.ref is None or id_ != self.ref.id:
            raise ValueError(f"the reader answered for another clip, {id_!r}")
        return answer

    def kill(self) -> None:
        """End it at once, whatever it is doing; nothing happens if it is dead."""
        self.connection.close()
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel holds it, say in a stalled disk, and ends it after that
            self.process.wait(timeout=_STUCK_SECONDS)
        self.noise.close()

    def autopsy(self) -> tuple[int | None, str]:
        """Of a child that closed its end: its return code, None if it lived on, and the end of what it wrote. It is gone afterwards."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=_STUCK_SECONDS)
        size = os.fstat(self.noise.fileno()).st_size
        words = os.pread(self.noise.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()
        code = self.process.returncode
        self.kill()
        return code, words


def _pipe() -> tuple[Connection, Connection]:
    """Our end and the child's. Ours does not wait for ever for a child that stops in the middle of a message."""
    ours, theirs = socket.socketpair()
    limit = struct.pack("@ll", int(_STUCK_SECONDS), int(_STUCK_SECONDS % 1 * 1e6))  # struct timeval
    for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        ours.setsockopt(socket.SOL_SOCKET, direction, limit)
    return Connection(ours.detach()), Connection(theirs.detach())
