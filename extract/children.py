"""What every child process shares: its surroundings, and how its end is told."""

import os
import signal
import sys


def child_environment() -> dict[str, str]:
    """The parent's environment and module path, with one thread per library: children are many, or have little to compute."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": path}


def ending(code: int) -> str:
    """How a process ended, in words, from its return code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # most real-time signals have no name
        return f"signal {-code}"
    return f"{name} (the kernel does this when memory runs out)" if name == "SIGKILL" else name
