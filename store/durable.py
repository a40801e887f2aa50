"""What is written and must survive the power going out."""

import os
import shutil
from pathlib import Path


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
