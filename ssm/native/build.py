"""Compiling the scan: at install time by setup.py, on first use by ``library``. Imports neither torch nor the rest of vivim.

A compiled library lies beside a stamp that names what it was made from and what the compiler wrote, so that a damaged file or one
from another source is seen before it is mapped into the process.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("scan.cpp")
# No -ffast-math: loading such a library would switch the whole process to flush-to-zero (gcc's crtfastmath).
FLAGS = (
    *("-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffp-contract=fast"),
    *("-fPIC", "-shared", "-fopenmp"),
)
LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64-v2")


class BuildError(Exception):
    """The library cannot be built; the message is the reason."""


def variants() -> dict[str, tuple[str, ...]]:
    """File name -> flags of every library for this kind of machine, the newest instruction set first."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return {"_scan.so": FLAGS}
    return {f"_scan_{level.removeprefix('x86-64-')}.so": (*FLAGS, f"-march={level}") for level in LEVELS}


def find_compiler() -> tuple[str, ...]:
    """``$CXX``, or the first C++ compiler on the PATH.

    Raises:
        BuildError: there is none.
    """
    if given := shlex.split(os.environ.get("CXX", "")):
        return tuple(given)
    found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        raise BuildError("no C++ compiler is installed (g++ or clang++)")
    return (found,)


def key_of(*words: str) -> str:
    """Changes with the source and with each of ``words``."""
    return hashlib.sha256("\0".join([SOURCE.read_text(encoding="utf-8"), *words]).encode()).hexdigest()[:16]


def is_whole(library: Path, key: str) -> bool:
    """Is the file what the compiler wrote, from what ``key`` stands for?"""
    try:
        return stamp_of(library).read_text() == _stamp(library, key)
    except (OSError, UnicodeDecodeError):
        return False


def stamp_of(library: Path) -> Path:
    """Where the stamp of a library lies."""
    return library.with_suffix(".stamp")


def _stamp(library: Path, key: str) -> str:
    return f"{key} {hashlib.sha256(library.read_bytes()).hexdigest()}\n"


def compile_scan(compiler: tuple[str, ...], flags: tuple[str, ...], library: Path, key: str) -> None:
    """Compile into ``library`` and its stamp; both appear whole or not at all.

    Raises:
        BuildError: the compiler cannot be run, fails or takes too long.
        OSError: the folder cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        built = Path(folder) / library.name
        try:
            command = [*compiler, *flags, str(SOURCE), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True, text=True, errors="replace", timeout=300)
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
            raise BuildError(f"{compiler[0]} failed: {next((line for line in said if 'error' in line), said[0])[:300]}") from error
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"{compiler[0]} took more than {error.timeout:.0f} s") from error
        except OSError as error:
            raise BuildError(f"{compiler[0]} cannot be run: {error.strerror}") from error
        if not built.is_file():
            raise BuildError(f"{compiler[0]} wrote no library")
        stamp_of(built).write_text(_stamp(built, key))
        os.replace(built, library)
        os.replace(stamp_of(built), stamp_of(library))
