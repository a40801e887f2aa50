"""One writer at a time: locks that the system lets go of when their process ends, however it ends."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ..errors import InputError


@contextmanager
def locked(path: Path, *, holder: str = "run", option: str = "--out") -> Iterator[int]:
    """Hold the lock of a folder, a file that is opened and given; the system lets go of it when this process ends, however it ends.

    Args:
        path: of the lock.
        holder: what holds it, for messages.
        option: that chooses another place, for messages.

    Raises:
        InputError: another process holds it; or the place cannot be written, or keeps no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}. Choose another {option}.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another {holder} is writing to {path.parent}{_holder(path)}. Wait for it, or stop it.") from None
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise InputError(f"{path.parent} lies on a file system without file locks; choose an {option} on another disk.") from error
            raise
        started = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": started}).encode(), 0)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}. Make room there, or choose another {option}.") from error
        yield descriptor
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {told['pid']} on {told['host']}, since {told['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
