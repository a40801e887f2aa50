"""Every frame of a video file, for clips whose masks stand as pictures beside it.

Legend: T frames of the clip, S side of the square the encoder sees.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .. import pyav_frames
from ..clip import ClipRef, Failure
from ..decode_pool import DecodePool
from ..probe import Limits, probe_clip
from ..reader import regular_file
from ..resize import resize
from ..sniff import HEAD_BYTES, check_size, container_of

_MINUTES = 10.0


@dataclass(frozen=True)
class WholeClip:
    """All frames of a clip.

    Attributes:
        id: of the clip.
        frames_TCHW: uint8 RGB, squeezed to S x S, in the order in which they are shown.
        size_HW: of the upright frames in the file.
    """

    id: str
    frames_TCHW: npt.NDArray[np.uint8]
    size_HW: tuple[int, int]


@dataclass(frozen=True)
class WholeReader:
    """Reads all frames of a clip with PyAV, in a decoding process.

    Attributes:
        pixels: S.
    """

    pixels: int

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Any:
        """A ``WholeClip``.

        Raises:
            ClipError: as ``ClipReader``; also when a single frame is damaged.
        """
        size_bytes = regular_file(ref.path).st_size
        with ref.path.open("rb") as file:
            container = container_of(file.read(HEAD_BYTES))
        check_size(ref.path, container, size_bytes)
        probe = probe_clip(ref.path, container, Limits())
        every = range(len(probe.times_seconds))
        pictures = pyav_frames.read_timed(ref.path, probe, every) if probe.timed else self._counted(ref.path, probe, every)
        squares: dict[int, npt.NDArray[np.uint8]] = {}
        size = (0, 0)
        for k, picture in pictures:
            size = (picture.shape[0], picture.shape[1])
            squares[k] = resize(picture, self.pixels, "squash")
        return WholeClip(ref.id, np.stack([squares[k] for k in sorted(squares)]), size)

    def _counted(self, path: Path, probe: Any, every: range) -> Any:
        return pyav_frames.read_counted(path, probe, every)[0].items()


def read_whole(refs: Sequence[ClipRef], pixels: int) -> dict[str, WholeClip]:
    """All frames of some clips, by id.

    Raises:
        InputError: one cannot be read whole; says why.
    """
    found: dict[str, WholeClip] = {}
    pool = DecodePool(WholeReader(pixels), timeout_seconds=60 * _MINUTES, ahead=1)
    with closing(cast("Generator[WholeClip | Failure, None, None]", pool.decode(refs))) as results:
        for result in results:
            if isinstance(result, Failure):
                path = next(ref.path for ref in refs if ref.id == result.id)
                raise InputError(
                    f"--frames: {path} cannot be read: {result.kind}: {result.message}. Every frame needs a mask, and every mask one."
                )
            found[result.id] = result
    return found
