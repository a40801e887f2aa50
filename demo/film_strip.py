"""A few frames of a clip side by side as one small JPEG."""

from collections.abc import Sequence
from pathlib import Path

import av
import av.codec
import numpy as np
import numpy.typing as npt

MOMENTS = (1 / 3, 1 / 2, 2 / 3)  # shares of the clip: far enough apart to show motion, close enough to follow a thing
_GAP = 2  # pixels between frames
_JPEG_QUANTISER = 4  # of 1 (best) to 31


def film_strip(path: Path, *, height: int = 128, moments: Sequence[float] = MOMENTS) -> bytes:
    """JPEG of the frames nearest to ``moments`` of the clip, side by side, each ``height`` (even) pixels high.

    Raises:
        OSError, av.FFmpegError, ValueError: the file is missing, is not a video, or holds no frame.
    """
    frames = _frames_at(path, moments)
    first = frames[0]
    width = max(2, round(first.width * height / first.height / 2) * 2)
    pictures = [frame.reformat(width=width, height=height, format="rgb24").to_ndarray() for frame in frames]
    gap = np.full((height, _GAP, 3), 240, dtype=np.uint8)
    return encode_jpeg(np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis=1))


def encode_jpeg(pixels_HW3: npt.NDArray[np.uint8]) -> bytes:
    """JPEG file of uint8 RGB pixels; height and width must be even."""
    height, width, _ = pixels_HW3.shape
    encoder = av.codec.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.framerate = 1  # type: ignore[assignment]
    encoder.qmin = encoder.qmax = _JPEG_QUANTISER
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HW3), format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def _frames_at(path: Path, moments: Sequence[float]) -> list[av.VideoFrame]:
    """One frame per moment. Reads the clip once from its start: demo clips are short."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    if not frames:
        raise ValueError(f"{path} holds no video frame")
    return [frames[min(int(moment * len(frames)), len(frames) - 1)] for moment in moments]
