"""What a decoding process may use, and who ends it when the parent cannot."""

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path

_NOISE_BYTES = 16 << 20
_FILES_PER_CLIP = 64
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def end_with_parent(parent_pid: int) -> None:
    """Linux kills this process when the parent dies, even while a decoder spins; elsewhere the closing pipe ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit(0)


def limit_process(memory_bytes: int) -> None:
    """Limits for the whole life of this process.

    Private writable memory (mapped libraries and shared memory do not count), what is written to any file, and no core dumps,
    neither as files nor to a crash reporter. When the machine runs out of memory, Linux ends this process first.
    """
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # a parent may have ignored it, and that is inherited
    _limit(resource.RLIMIT_DATA, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, _NOISE_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # some containers forbid it; the memory limit above holds without it
            Path("/proc/self/oom_score_adj").write_text("1000")
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def limit_clip(cpu_seconds: float) -> None:
    """Limits for the next clip: processor time, which ends a spinning decoder (SIGXCPU) while the parent is stopped, and open files.

    Both count from what is used by now, so that a small leak in a decoder does not make a later clip fail.
    """
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + cpu_seconds))
    _limit(resource.RLIMIT_NOFILE, _lowest_free_descriptor() + _FILES_PER_CLIP)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _lowest_free_descriptor() -> int:
    try:
        fd = os.dup(0)
    except OSError:  # the last clip left open all it was allowed
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.close(fd)
    return fd
