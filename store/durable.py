"""What is written and must survive the power going out."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """``with replacing(path) as temporary``: what is written to ``temporary`` is ``path`` afterwards, at once and on disk.

    If anything is in the way nothing of it is left, and ``path`` is what it was. For files that one process writes at a time.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def free_bytes(folder: Path) -> str:
    """What is left on the disk of a folder, for messages."""
    try:
        return str(shutil.disk_usage(folder).free)
    except OSError:
        return "an unknown number"


def require_writable(folder: Path) -> None:
    """Refuse, before any work is done, a place for ``--out`` that nothing can be written to.

    Raises:
        InputError: it is no folder, or not ours.
    """
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} is no folder that may be written to; choose another --out.")
