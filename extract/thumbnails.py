"""Small pictures of clips, for web pages and reports: WebP through PyAV's libwebp. Legend: H, W of a picture."""

import hashlib
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

SIDE_PIXELS = 256
QUALITY = 75

_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
_EFFORT = "2"  # libwebp's method, of 0 to 6: 4 (its default) gives files 5 % smaller and takes twice as long


def thumbnail_webp(picture_HWC: npt.NDArray[np.uint8], pixel_aspect: float = 1.0) -> bytes:
    """A WebP file of an upright (H, W, 3) RGB picture; its longer side has 256 pixels, or fewer if the picture has, and its
    proportions are those on a screen.

    Args:
        pixel_aspect: width over height of a pixel of the upright picture.
    """
    shown_height, shown_width = picture_HWC.shape[0], picture_HWC.shape[1] * pixel_aspect
    scale = min(1.0, SIDE_PIXELS / max(shown_height, shown_width))
    height, width = (min(SIDE_PIXELS, max(1, round(side * scale))) for side in (shown_height, shown_width))
    rgb = VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")
    encoder = av.VideoCodecContext.create("libwebp", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = Fraction(1)
    encoder.options = {"quality": str(QUALITY), "compression_level": _EFFORT}
    frame = rgb.reformat(width=width, height=height, format="yuv420p", interpolation=_EXACT, threads=1)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def thumbnail_path(folder: Path, id_: str) -> Path:
    """Where a clip's thumbnail stands: named by a hash of the id, which no id can lead out of and no merging of files changes."""
    name = hashlib.sha256(id_.encode("utf-8", "surrogateescape")).hexdigest()
    return folder / name[:2] / f"{name}.webp"


def write_thumbnail(folder: Path, id_: str, picture_HWC: npt.NDArray[np.uint8], pixel_aspect: float = 1.0) -> Path:
    """Write a clip's thumbnail over the one there is, if any; whoever reads sees the old or the new. Returns its path.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    path = thumbnail_path(folder, id_)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(thumbnail_webp(picture_HWC, pixel_aspect))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
