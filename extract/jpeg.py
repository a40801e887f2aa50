"""JPEG pictures through PyAV's mjpeg codec. Legend: T frames, H, W of a picture."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from .upright import turned

Picture = npt.NDArray[np.uint8]

# Full-width interpolation of halved colour planes: within .15 grey levels of libjpeg-turbo on real pictures; without it, 1.1.
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_SIZELESS_MARKERS = frozenset([0x01, *range(0xD0, 0xD9)])
_PIXELS, _END = 0xDA, b"\xff\xd9"
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class DamagedJpeg(Exception):
    """The bytes are no JPEG picture, or one that is cut off or broken; says which."""


def encode_jpegs(frames_TCHW: Picture, qscale: int) -> list[bytes]:
    """Each of (T, 3, H, W) RGB frames as a JPEG file with colours at full size (4:4:4).

    Args:
        qscale: FFmpeg's scale of loss, from 1 (least) to 31.
    """
    encoder = av.VideoCodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = frames_TCHW.shape[2:]
    encoder.pix_fmt = "yuvj444p"
    encoder.framerate = Fraction(1)
    encoder.thread_count = 1
    encoder.qmin = encoder.qmax = qscale
    encoder.flags |= Flags.bitexact  # the same bytes from the same frames, and no comment naming the encoder in every picture
    frames = [VideoFrame.from_ndarray(planes_CHW, format="yuvj444p") for planes_CHW in _to_ycbcr(frames_TCHW)]
    packets = [packet for frame in [*frames, None] for packet in encoder.encode(frame)]
    assert len(packets) == len(frames_TCHW), (len(packets), len(frames_TCHW))
    return [bytes(packet) for packet in packets]


def decode_jpegs(files: Sequence[bytes]) -> list[Picture]:
    """Each file's picture as upright (H, W, 3) RGB; EXIF's quarter turns are made, its mirrorings are not.

    Bytes that changed inside the compressed pixels mostly decode to another picture without a sign: JPEG has no checksum.

    Raises:
        DamagedJpeg: a file that is cut off, or that the decoder finds an error in.
    """
    decoder = av.VideoCodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode"}
    return [_decode(decoder, data) for data in files]


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height that a JPEG's header declares; nothing is decoded.

    Raises:
        DamagedJpeg: not a JPEG, or its header ends before it says so.
    """
    for marker, offset in _segments(data):
        if marker in _FRAME_HEADERS and offset + 9 <= len(data):
            return int.from_bytes(data[offset + 7 : offset + 9], "big"), int.from_bytes(data[offset + 5 : offset + 7], "big")
    raise DamagedJpeg("its header is damaged or cut off")


def _to_ycbcr(frames_TCHW: Picture) -> Picture:
    """Luma and the two colour differences of (T, 3, H, W) RGB, as JFIF defines them; swscale's are half a grey level too dark."""
    times, _, height, width = frames_TCHW.shape
    values = _YCBCR @ frames_TCHW.reshape(times, 3, -1).astype(np.float32) + np.array([[0.5], [128.5], [128.5]], np.float32)
    return np.clip(values, 0, 255, out=values).astype(np.uint8).reshape(times, 3, height, width)


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and offset of each segment up to the compressed pixels, whose marker comes last."""
    if not data.startswith(b"\xff\xd8\xff"):
        raise DamagedJpeg(f"it begins like no JPEG: {data[:8].hex(' ')}")
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        yield marker, offset
        if marker == _PIXELS:
            return
        length = int.from_bytes(data[offset + 2 : offset + 4], "big")
        offset += 1 if marker == 0xFF else 2 if marker in _SIZELESS_MARKERS else 2 + length


def _decode(decoder: av.VideoCodecContext, data: bytes) -> Picture:
    # The decoder invents the last few bytes where they are lacking. Inside of compressed pixels the end mark does not occur.
    if not any(marker == _PIXELS and data.find(_END, offset) >= 0 for marker, offset in _segments(data)):
        raise DamagedJpeg("the JPEG is cut off")
    try:
        frames = decoder.decode(av.Packet(data))
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DamagedJpeg("the JPEG is damaged") from error
    if len(frames) != 1 or frames[0].is_corrupt:
        raise DamagedJpeg(f"the JPEG holds {len(frames)} whole pictures")
    rgb: Picture = frames[0].reformat(format="rgb24", interpolation=_EXACT, threads=1).to_ndarray()  # type: ignore[assignment]
    return turned(rgb, frames[0].rotation)
