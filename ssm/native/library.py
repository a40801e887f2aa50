"""Finding or building the compiled scan.

The source is one portable C++ file with a C interface. It is compiled on first use into the user's cache, once per source,
flags, compiler and instruction set; two processes that build at once wait for each other. Whatever goes wrong is a reason in
words (``why_not``), never an exception: the plain-torch scan takes over.
"""

import ctypes
import fcntl
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

_log = logging.getLogger("vivim.ssm")

SOURCE = Path(__file__).with_name("scan.cpp")
# No -ffast-math: loading such a library would switch the whole process to flush-to-zero (gcc's crtfastmath).
FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=fast", "-fPIC", "-shared")
_LEVELS = {"AVX512": "x86-64-v4", "AVX2": "x86-64-v3"}


class UnavailableError(Exception):
    """The library cannot be had here; the message is the reason."""


@cache
def load() -> ctypes.CDLL | None:
    """The library, or None; the reason is then logged once as a warning and kept by ``why_not``."""
    try:
        return _load()
    except UnavailableError as reason:
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
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise UnavailableError("no C++ compiler is installed (g++ or clang++)")
    return _open(_built(compiler, (*FLAGS, *_machine_flags(), "-fopenmp")))


def _machine_flags() -> tuple[str, ...]:
    """The newest x86-64 level that torch sees here; nothing on other machines."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return ()
    return (f"-march={_LEVELS.get(torch.backends.cpu.get_cpu_capability(), 'x86-64-v2')}",)


def cache_folder() -> Path:
    """Where built libraries lie: ``$VIVIM_CACHE``, or ``vivim`` in the user's cache folder."""
    given = os.environ.get("VIVIM_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vivim"


def _built(compiler: str, flags: tuple[str, ...]) -> Path:
    """The library in the cache, built if it is not there or not what was built."""
    key = hashlib.sha256("\0".join([SOURCE.read_text(encoding="utf-8"), compiler, *flags]).encode()).hexdigest()[:16]
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / f"scan-{key}.so"
        with (folder / f"scan-{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_whole(library):
                _compile(compiler, flags, library)
        return library
    except (OSError, RuntimeError) as error:
        raise UnavailableError(f"the cache folder cannot be used ({error}); set VIVIM_CACHE to a writable folder") from error


def _is_whole(library: Path) -> bool:
    """Is the file what the compiler wrote? A damaged library must not be mapped into the process."""
    stamp = library.with_suffix(".sha256")
    return library.is_file() and stamp.is_file() and stamp.read_text() == hashlib.sha256(library.read_bytes()).hexdigest()


def _compile(compiler: str, flags: tuple[str, ...], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        built = Path(folder) / library.name
        command = [compiler, *flags, str(SOURCE), "-o", str(built)]
        _log.info("building the compiled scan, once: %s", " ".join(command))
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        except subprocess.CalledProcessError as error:
            first = next((line for line in error.stderr.splitlines() if "error" in line), error.stderr.strip()[:200])
            raise UnavailableError(f"{compiler} failed: {first}") from error
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{compiler} took more than {error.timeout:.0f} s") from error
        digest = hashlib.sha256(built.read_bytes()).hexdigest()
        os.replace(built, library)
        library.with_suffix(".sha256").write_text(digest)


def _open(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"{path.name} cannot be loaded: {error}") from error
    for name in ("vivim_scan_forward", "vivim_scan_backward", "vivim_scan_chunk", "vivim_scan_max_states", "vivim_scan_struct_bytes"):
        getattr(library, name).restype = ctypes.c_int
    return library
