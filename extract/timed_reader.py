"""Reading clips with a watch, in a decoding process; knows nothing of encoders, so that the process starts as fast as any."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from .clip import Clip, ClipRef, Failure
from .failures import ClipError
from .reader import ClipReader


@dataclass(frozen=True)
class Timing:
    """One clip read for time.

    Attributes:
        id: external id.
        seconds: from opening the file to frames, or to the failure.
        outcome: what came of it.
    """

    id: str
    seconds: float
    outcome: Clip | Failure


@dataclass(frozen=True)
class TimedReader:
    """Reads clips with another reader and a watch, each file from the disk and not from the memory a scan left it in."""

    reader: ClipReader

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Timing:
        """Read one clip; ``known_sha256`` is not used."""
        if self.reader.decoder == "auto":
            import decord  # noqa: F401 - or the first clip of every process would pay for it
        _forget(ref.path)
        begin = time.perf_counter()
        outcome: Clip | Failure
        try:
            clip = self.reader(ref)
            assert isinstance(clip, Clip), clip
            outcome = clip
        except ClipError as error:
            outcome = Failure(ref.id, error.kind, error.message)
        return Timing(ref.id, time.perf_counter() - begin, outcome)


def _forget(path: Path) -> None:
    """Ask the system to drop the file from its memory, where it can be asked (Linux): a large catalogue will not be in it."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
