"""How much memory there is, and how much this process holds; bytes, None where the system does not say."""

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path

_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total_bytes() -> int | None:
    """Of the machine, or of the container if it is allowed less."""
    try:
        ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = _limit_bytes()
    return ram if limit is None else min(ram, limit)


def free_bytes(processes: int = 1) -> int | None:
    """What this process may hold in all: what nobody holds, and what it holds itself; its share, of so many that hold as much."""
    free, held, limit = _field(Path("/proc/meminfo"), "MemAvailable"), _field(Path("/proc/self/status"), "VmRSS"), _limit_bytes()
    if free is None or held is None:
        return None
    everything = free + processes * held
    return (everything if limit is None else min(everything, limit)) // processes


def peak_bytes() -> int:
    """The most this process held since its start, or since ``begin_peak_anew``; 0 where the system does not say."""
    return _field(Path("/proc/self/status"), "VmHWM") or 0


def peak_mb() -> int:
    """``peak_bytes`` in MiB, or what the system has instead.

    On Linux ``ru_maxrss`` is no less than what the process that started this one held at that moment.
    """
    return (peak_bytes() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) // 2**20


def begin_peak_anew() -> None:
    """On Linux, where it is allowed, the peak begins anew at what is held now; else it stays that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def give_back() -> None:
    """What was freed goes back to the system: glibc keeps it for the thread that had asked for it, however many others ask for more. Other
    C libraries have no such call, and nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _limit_bytes() -> int | None:
    for path in _CGROUPS:
        with suppress(OSError):
            if (text := path.read_text().strip()).isdigit():
                return int(text)
    return None


def _field(path: Path, name: str) -> int | None:
    with suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return None
