"""Finding the compiled scan, or building it.

An install with a compiler brings one library per instruction set. Without one, or in a checkout, the library is compiled on
first use into the user's cache, once per source, flags and compiler; two processes that build at once wait for each other.
Whatever goes wrong is a reason in words (``why_not``), never an exception: the plain-torch scan takes over.
"""

import ctypes
import fcntl
import logging
import os
import platform
from functools import cache
from pathlib import Path

import torch

from . import build

_log = logging.getLogger("vivim.ssm")

# Where setup.py puts libraries.
INSTALLED = Path(__file__).parent
# What torch sees -> the newest library that runs there.
_NEWEST = {"AVX512": "_scan_v4.so", "AVX2": "_scan_v3.so"}


class UnavailableError(Exception):
    """The library cannot be had here; the message is the reason."""


@cache
def load() -> ctypes.CDLL | None:
    """The library, or None; the reason is then logged once as a warning and kept by ``why_not``."""
    try:
        return _load()
    except (UnavailableError, OSError) as reason:
        _reason.append(str(reason))
        _log.warning("the compiled scan is not used: %s; the scan runs in plain torch, which is slower", reason)
        return None


_reason: list[str] = []


def why_not() -> str | None:
    """Why there is no library here, or None if there is one."""
    return None if load() is not None else _reason[0]


def _load() -> ctypes.CDLL:
    if os.environ.get("VIVIM_NATIVE", "1") == "0":
        raise UnavailableError("VIVIM_NATIVE=0")
    if platform.system() != "Linux":
        raise UnavailableError(f"it is built on Linux only, this is {platform.system()}")
    runnable = _runnable()
    for name, flags in runnable.items():
        if build.is_whole(INSTALLED / name, build.key_of(*flags)):
            try:
                return _open(INSTALLED / name)
            except UnavailableError as error:
                # Built on a machine with a newer libc or OpenMP, for example: what is built here may still work.
                _log.info("the installed %s is passed over: %s", name, error)
    return _open(_built(next(iter(runnable.values()))))


def _runnable() -> dict[str, tuple[str, ...]]:
    """File name -> flags of the libraries that this processor can run, the fastest first."""
    every = build.variants()
    newest = _NEWEST.get(torch.backends.cpu.get_cpu_capability(), list(every)[-1])
    names = list(every)
    return {name: every[name] for name in names[names.index(newest) if newest in names else 0 :]}


def cache_folder() -> Path:
    """Where built libraries lie: ``$VIVIM_CACHE``, or ``vivim`` in the user's cache folder."""
    given = os.environ.get("VIVIM_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vivim"


def _built(flags: tuple[str, ...]) -> Path:
    """The library in the cache, built if it is not there or not what was built."""
    try:
        compiler = build.find_compiler()
        key = build.key_of(*compiler, *flags)
        library = cache_folder() / f"scan-{key}.so"
        if not build.is_whole(library, key):
            library.parent.mkdir(parents=True, exist_ok=True)
            with library.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Another process may have built it while this one waited.
                if not build.is_whole(library, key):
                    _log.info("building the compiled scan, once: %s", library)
                    build.compile_scan(compiler, flags, library, key)
        return library
    except build.BuildError as error:
        raise UnavailableError(str(error)) from error
    except (OSError, RuntimeError) as error:
        raise UnavailableError(f"the cache folder cannot be used ({error}); set VIVIM_CACHE to a writable folder") from error


def _open(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"{path.name} cannot be loaded: {error}") from error
    library.vivim_scan_floor.restype = ctypes.c_int64
    library.vivim_scan_floor.argtypes = (ctypes.c_int64, ctypes.c_int32, ctypes.POINTER(ctypes.c_float))
    _log.info("compiled scan: %s", path)
    return library
