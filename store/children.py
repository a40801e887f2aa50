"""What every child process shares: its surroundings, and how its end is told."""

import os
import signal
import sys


def child_environment(threads: int | None = 1) -> dict[str, str]:
    """The parent's environment and module path.

    Args:
        threads: of each library. One where children are many, or have little to compute; None: as the parent's environment has it.
    """
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    names = () if threads is None else ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": path}


def ending(code: int) -> str:
    """How a process ended, in words, from its return code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # most real-time signals have no name
        return f"signal {-code}"
    return f"{name} (the kernel does this when memory runs out)" if name == "SIGKILL" else name
