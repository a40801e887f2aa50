"""What travels through stage one.

Shapes: T frames, C = 3 colour channels (RGB), H height, W width, B clips, D embedding width.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ClipRef:
    """A clip that is to be embedded: its external id and where its file is."""

    id: str
    path: Path


@dataclass(frozen=True)
class Clip:
    """A decoded clip, resized and upright, not yet normalised.

    Attributes:
        id: external id.
        frames_TCHW: uint8 RGB.
        times_seconds: (T,) presentation time of each frame from the stream's own timestamps, ascending.
        decoder: which decoder read it: ``"decord"`` or ``"pyav"``.
        sha256: hash of the file's bytes.
        short: the clip had fewer than T distinct frames, so frames repeat.
        thumbnail: WebP file of a frame, where one is asked for.
    """

    id: str
    frames_TCHW: npt.NDArray[np.uint8]
    times_seconds: npt.NDArray[np.float64]
    decoder: str
    sha256: str
    short: bool = False
    thumbnail: bytes = b""

    def __post_init__(self) -> None:
        shape = self.frames_TCHW.shape
        assert self.frames_TCHW.dtype == np.uint8 and len(shape) == 4 and shape[1] == 3, (self.frames_TCHW.dtype, shape)
        assert self.times_seconds.shape == (shape[0],), (self.times_seconds.shape, shape)


@dataclass(frozen=True)
class Failure:
    """A clip that could not be embedded.

    Attributes:
        id: external id.
        kind: class of the failure, one of ``extract.failures.KINDS``.
        message: one line for people; what cannot be printed in it (file names hold anything) is escaped.
    """

    id: str
    kind: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message))


def printable(text: str) -> str:
    """The text on one line, with control characters and bytes that are no text escaped as Python does."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class EmbeddingBatch:
    """Vectors of some clips, with what is recorded per row.

    Attributes:
        clips: the clips without their frames' fate; their ids, times, decoders and hashes go into the file.
        vectors_BD: float32.
    """

    clips: tuple[Clip, ...]
    vectors_BD: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        assert self.vectors_BD.ndim == 2 and len(self.vectors_BD) == len(self.clips), (self.vectors_BD.shape, len(self.clips))
