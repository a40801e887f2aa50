"""Frames through decord: the quick decoder, believed only when it agrees with the packets and keeps quiet.

decord (the fork decord2) counts wrongly, hides damage and pads tiny frames without saying so; each of these is checked, and
any doubt hands the clip to PyAV. Shapes: n frames in the stream, H, W of a frame.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .probe import Probe

Picture = npt.NDArray[np.uint8]


class DoubtError(Exception):
    """decord cannot be relied on for this clip."""


def read_frames(path: Path, probe: Probe, wanted: Iterable[int]) -> Iterator[tuple[int, Picture]]:
    """Frames by position in ``probe.pts``, each as (position, upright (H, W, 3) RGB), in display order.

    Raises:
        DoubtError: decord fails, disagrees with the packets, returns impossible shapes, or FFmpeg complains on the error output.
            Frames that were yielded before must then be thrown away.
    """
    if not probe.plain:
        raise DoubtError(
            "not an MP4 or Matroska file with a single video stream, its timestamps, closed groups of pictures and no edit list"
        )
    name = str(path.absolute())
    if not _is_text(name):
        raise DoubtError("its path is no UTF-8 text")
    import decord

    quiet = _noise_bytes()
    try:
        # A fault tolerance this small makes a single frame that decord would quietly replace by its neighbour an error.
        reader = decord.VideoReader(name, ctx=decord.cpu(0), num_threads=1, fault_tol=1e-9)
        if len(reader) != len(probe.pts):
            raise DoubtError(f"it counts {len(reader)} frames, the packets say {len(probe.pts)}")
        ordered = sorted(wanted)
        _check_times(reader, probe, ordered)
        for k in ordered:
            picture: Picture = reader[k].asnumpy()
            if picture.shape not in ((probe.height, probe.width, 3), (probe.width, probe.height, 3)):
                raise DoubtError(f"a frame of {probe.width}x{probe.height} came out as {picture.shape}")
            yield k, picture
    except DoubtError:
        raise
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, IndexError, OSError) as error:
        raise DoubtError(str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__) from error
    if _noise_bytes() > quiet:
        raise DoubtError("FFmpeg reported errors while decord read")


def _check_times(reader: object, probe: Probe, wanted: list[int]) -> None:
    """decord's own timestamps, counted from the first frame, must be ours to half a frame."""
    theirs = np.asarray(reader.get_frame_timestamp([0, *wanted]))[:, 0]  # type: ignore[attr-defined]
    ours = probe.times_seconds[[0, *wanted]]
    interval = float(np.diff(probe.times_seconds).min()) if len(probe.times_seconds) > 1 else 1.0
    if not np.all(np.abs((theirs - theirs[0]) - (ours - ours[0])) < max(interval / 2, 1e-4)):
        raise DoubtError("its timestamps are not those of the packets")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _noise_bytes() -> int:
    """How much was written to the error output, where that is a file: in a decoding process it is."""
    status = os.fstat(2)
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
