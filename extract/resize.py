"""One resize for all decoders. Shapes: H, W of the decoded frame, S side of the square the encoder sees."""

from typing import Literal

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation

_FLAGS = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_MAX_STRETCH = 4.0


def resize(
    frame_HWC: npt.NDArray[np.uint8], size: int, mode: Literal["crop", "squash"], pixel_aspect: float = 1.0
) -> npt.NDArray[np.uint8]:
    """A square (3, S, S) uint8 RGB picture of an upright (H, W, 3) one.

    ``crop`` keeps the proportions as shown on a screen: the centre square of the picture fills the result. Pixels that are not
    square (``pixel_aspect``, width over height, of the upright frame) are stretched to what a viewer sees. ``squash`` takes the
    whole picture and ignores proportions, as MicroLens does.

    The filter is swscale's bilinear, widened when shrinking (antialiased): within 2 grey levels of
    ``torch.nn.functional.interpolate(..., mode="bilinear", antialias=True)`` except in the outermost rows and columns, where edges
    are continued differently; and it needs no torch in every decoding process.
    """
    if mode == "crop":
        frame_HWC = _centre_square(frame_HWC, pixel_aspect)
    planes_CHW = np.ascontiguousarray(frame_HWC.transpose(2, 0, 1))
    # Declared as yuv444p, three independent planes of full size: swscale then filters R, G and B without any colour conversion.
    frame = av.VideoFrame.from_ndarray(planes_CHW, format="yuv444p")
    return np.asarray(frame.reformat(width=size, height=size, interpolation=_FLAGS, threads=1).to_ndarray(), dtype=np.uint8)


def _centre_square(frame_HWC: npt.NDArray[np.uint8], pixel_aspect: float) -> npt.NDArray[np.uint8]:
    height, width, _ = frame_HWC.shape
    stretch = min(max(pixel_aspect, 1 / _MAX_STRETCH), _MAX_STRETCH)
    side = min(height, width * stretch)
    crop_height, crop_width = max(1, min(height, round(side))), max(1, min(width, round(side / stretch)))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return frame_HWC[top : top + crop_height, left : left + crop_width]
