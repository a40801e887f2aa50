"""Single pictures as files: reading frames and masks, writing PNG. Legend: H, W of a picture."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from ...errors import InputError

Pixels = npt.NDArray[np.uint8]


def read_frame(path: Path) -> Pixels:
    """(H, W, 3) RGB.

    Raises:
        InputError: the file cannot be decoded.
    """
    return np.asarray(_decode(path).to_ndarray(format="rgb24"), dtype=np.uint8)


def read_mask(path: Path) -> Pixels:
    """(H, W) values as they stand in the file: grey levels, or the numbers of a palette's colours.

    Raises:
        InputError: the file cannot be decoded, or its pixels have colours or more than 8 bits.
    """
    frame = _decode(path)
    if frame.format.name == "pal8":
        rows = np.frombuffer(bytes(frame.planes[0]), np.uint8).reshape(-1, frame.planes[0].line_size)
        return rows[: frame.height, : frame.width].copy()
    bits = max(component.bits for component in frame.format.components)
    if bits > 8:  # 1 of 65535 would become 0
        raise InputError(f"{path} has {bits} bits a pixel; save the mask with 8, with 0 for background and 1 or 255 for the object.")
    if frame.format.name in ("gray", "monob", "monow"):
        return np.asarray(frame.to_ndarray(format="gray"), dtype=np.uint8)
    red, green, blue = np.moveaxis(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8), 2, 0)
    if not (np.array_equal(red, green) and np.array_equal(red, blue)):
        raise InputError(f"{path} has colours; a mask is grey, with 0 for background and 1 or 255 for the object.")
    return red


def write_png(path: Path, picture_HWC: Pixels) -> None:
    """Write (H, W, 3) RGB; the file appears only when it is whole."""
    encoder = av.VideoCodecContext.create("png", "w")
    encoder.height, encoder.width = picture_HWC.shape[:2]
    encoder.pix_fmt = "rgb24"
    encoder.framerate = Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    part = path.with_name(path.name + ".part")
    part.write_bytes(b"".join(bytes(packet) for packet in packets))
    os.replace(part, path)


def _decode(path: Path) -> av.VideoFrame:
    try:
        with av.open(str(path)) as file:
            return next(file.decode(video=0))
    except (av.FFmpegError, OSError, StopIteration, IndexError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error or 'no picture in it'}).") from error
