"""Thumbnails of clips that were extracted without: one frame of each, from the middle."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ..errors import InputError
from ..progress import Progress
from .clip import Clip, ClipRef, Failure
from .config import ExtractConfig, FramesConfig
from .decode_pool import DecodePool
from .reader import make_reader
from .thumbnails import write_thumbnail

_PIXELS = 32  # of the square that the reader makes beside the thumbnail, and that nobody looks at


def make_thumbnails(refs: Sequence[ClipRef], folder: Path, config: ExtractConfig, progress: Progress) -> tuple[Failure, ...]:
    """Write a thumbnail of each clip, read in child processes; returns the clips that cannot be read.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    if not refs:
        return ()
    one = config.model_copy(update={"frames": FramesConfig(count=1), "image_size": _PIXELS, "thumbnails": folder})
    pool = DecodePool(make_reader(one), config.workers, config.timeout_seconds)
    failures: list[Failure] = []
    progress.start("thumbnails", len(refs), "clips")
    with closing(pool.decode(refs)) as results:
        for result in results:
            if isinstance(result, Clip) and result.thumbnail:
                _write(folder, result)
            elif isinstance(result, Failure):
                failures.append(result)
            progress.advance(1, f"{len(failures)} failed" if failures else "")
    progress.finish()
    return tuple(failures)


def _write(folder: Path, clip: Clip) -> None:
    try:
        write_thumbnail(folder, clip.id, clip.thumbnail)
    except OSError as error:
        raise InputError(f"thumbnails cannot be written to {folder}: {error.strerror}. Give another folder: --thumbnails DIR.") from None
