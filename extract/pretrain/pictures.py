"""Single pictures as files: reading frames and masks, writing PNG. Legend: H, W of a picture."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from ...errors import InputError

Pixels = npt.NDArray[np.uint8]

# How files begin, and FFmpeg's name for what reads them.
_KINDS = {b"\xff\xd8\xff": "jpeg_pipe", b"\x89PNG\r\n\x1a\n": "png_pipe", b"BM": "bmp_pipe"}


def read_frame(path: Path) -> Pixels:
    """(H, W, 3) RGB.

    Raises:
        InputError: the file cannot be decoded.
    """
    return np.asarray(_decode(path).to_ndarray(format="rgb24"), dtype=np.uint8)


def read_mask(path: Path) -> Pixels:
    """(H, W) values as they stand in the file: grey levels, or the numbers of a palette's colours.

    Raises:
        InputError: the file cannot be decoded, or its pixels have colours, transparency or more than 8 bits, or a palette that is darker
            where the numbers are not 0.
    """
    frame = _decode(path)
    if frame.format.name == "pal8":
        return _numbers_of_palette(frame, path)
    bits = max(component.bits for component in frame.format.components)
    if bits > 8:  # 1 of 65535 would become 0
        raise InputError(f"{path} has {bits} bits a pixel; save the mask with 8, with 0 for background and 1 or 255 for the object.")
    if any(component.is_alpha for component in frame.format.components) and frame.to_ndarray(format="rgba")[..., 3].min() < 255:
        raise InputError(f"{path} is transparent in places; a mask is grey and opaque, with 0 for background and 1 or 255 for the object.")
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


def _numbers_of_palette(frame: av.VideoFrame, path: Path) -> Pixels:
    rows = np.frombuffer(bytes(frame.planes[0]), np.uint8).reshape(-1, frame.planes[0].line_size)
    numbers = rows[: frame.height, : frame.width].copy()
    brightness = np.frombuffer(bytes(frame.planes[1]), np.uint8).reshape(-1, 4)[:, :3].sum(1, dtype=int)
    darker = [number for number in np.unique(numbers).tolist() if brightness[number] < brightness[0]]
    if darker:  # numbers are the truth in DAVIS, but a painting program may number white first
        raise InputError(
            f"{path} has a palette whose number {darker[0]} is darker than its number 0, so that background and object may be exchanged. "
            "Save the mask as grey, with 0 for background and 1 or 255 for the object."
        )
    return numbers


def _decode(path: Path) -> av.VideoFrame:
    """The picture in a file, of the kind that its content says: a PNG may be called .jpg, but a video is no picture."""
    todo = "Copy it again, or remove it with its counterpart."
    try:
        content = path.read_bytes()
        kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), None)
        if kind is None:
            raise InputError(f"{path} is no JPEG, PNG or BMP. Convert it to one, or remove it with its counterpart.")
        # A JPEG whose last scan has no end was cut short; FFmpeg would fill it up.
        if kind == "jpeg_pipe" and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
            raise InputError(f"{path} cannot be read as a picture: it is cut short. {todo}")
        with av.open(f"file:{path}", "r", format=kind) as picture:  # file: because FFmpeg takes a:b for a protocol
            picture.streams.video[0].codec_context.options = {"err_detect": "explode"}
            return next(picture.decode(video=0))
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise InputError(f"{path} cannot be read as a picture: it is damaged or cut short. {todo}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}). {todo}") from error
