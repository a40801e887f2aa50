"""What is written and must survive the power going out."""

import os
import shutil
from pathlib import Path

from ..errors import InputError


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
