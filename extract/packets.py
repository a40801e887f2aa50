"""The packets of a video stream: what a file says of each frame without decoding any."""

from collections.abc import Iterable
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from .failures import ClipError

_SAY_THEIR_DURATION = ("flv", "asf", "ogg", "matroska,webm")


@dataclass(frozen=True)
class Packet:
    """A frame as it lies in the file, or a part of one.

    Attributes:
        pts: when it is shown, in the stream's time base; None where the container does not say.
        dts: when it is decoded.
        duration: how long it is shown; 0 if unknown.
        keyframe: decoding can begin here.
        hidden: an edit list keeps it from being shown.
        fresh: a keyframe with which all decoding begins anew; H.264 also calls those keyframes from which pictures build up by and by.
        placed: the container gives this packet itself a place and a time; if not, FFmpeg cut it out of a larger one and guessed.
    """

    pts: int | None
    dts: int | None
    duration: int
    keyframe: bool
    hidden: bool
    fresh: bool
    placed: bool


def read_packets(file: InputContainer, stream: VideoStream, max_frames: int) -> list[Packet]:
    """The video stream's packets in file order.

    Where the container states no size of its own, a file whose packets of all streams end long before the declared duration
    was cut off.

    Raises:
        ClipError: truncated, too_long (more than ``max_frames``), decode_error, or unsupported_codec where it is encrypted.
    """
    packets: list[Packet] = []
    last_seconds = 0.0
    is_h264, extradata = stream.codec_context.name == "h264", stream.codec_context.extradata or b""
    length_bytes = 1 + (extradata[4] & 3) if len(extradata) > 4 and extradata[0] == 1 else 0
    try:
        for packet in file.demux():
            if not packet.size or packet.time_base is None:
                continue
            if packet.pts is not None:
                last_seconds = max(last_seconds, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index == stream.index:
                if packet.has_sidedata("encryption_info"):
                    raise ClipError("unsupported_codec", f"its {stream.codec_context.name} stream is encrypted")
                packets.append(
                    Packet(
                        packet.pts,
                        packet.dts,
                        packet.duration or 0,
                        packet.is_keyframe,
                        packet.is_discard,
                        fresh=packet.is_keyframe and (not is_h264 or has_idr_slice(bytes(packet), length_bytes)),
                        placed=packet.pos is not None,
                    )
                )
                if len(packets) > max_frames:
                    raise ClipError("too_long", f"more than {max_frames} frames")
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise ClipError("decode_error", f"its list of frames is damaged after frame {len(packets)}") from error
    if file.format.name in _SAY_THEIR_DURATION and len(packets) > 1 and file.duration:
        start = (file.start_time or 0) / av.time_base
        declared = start + file.duration / av.time_base
        if declared - last_seconds > max(0.5, 0.05 * (declared - start)):
            raise ClipError("truncated", f"the file ends {last_seconds:.1f} s into a clip of {declared:.1f} s")
    return packets


def keyframe_places(container: str, packets: Iterable[Packet]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Timestamps of the keyframes, ascending, and what to seek to for each; both (m,), in the stream's time base.

    The demuxers of containers that are meant for broadcasting look for decoding times: asked for the presentation time, which is
    later where there are B-frames, they overshoot.
    """
    by_dts = container in ("mpegts", "mpeg", "flv")
    places: dict[int, int] = {}
    for packet in packets:
        if packet.keyframe and packet.pts is not None:
            places.setdefault(packet.pts, packet.dts if by_dts and packet.dts is not None else packet.pts)
    order = sorted(places)
    return np.array(order, dtype=np.int64), np.array([places[pts] for pts in order], dtype=np.int64)


def can_be_counted(packets: Iterable[Packet]) -> bool:
    """Whether after a jump to any keyframe exactly the frames from there on come out, so that they may be counted as decord does.

    Not so where frames follow a keyframe in the file but come before it on the screen (the open groups of HEVC and MPEG), nor
    where pictures build up after a keyframe (intra refresh): decord does not notice that some frames are missing and returns a
    later one than it was asked for.
    """
    keyframe: Packet | None = None
    for packet in packets:
        if packet.keyframe:
            if keyframe is not None and not packet.fresh:
                return False
            keyframe = packet
        elif keyframe is not None and packet.pts is not None and keyframe.pts is not None and packet.pts < keyframe.pts:
            return False
    return True


def has_idr_slice(data: bytes, length_bytes: int) -> bool:
    """Whether an H.264 packet holds a slice of an instantaneous decoding refresh (NAL unit type 5).

    Args:
        length_bytes: of the length before each unit, as in MP4 and Matroska; 0: units begin with 00 00 01.
    """
    if not length_bytes:
        return any(part and part[0] & 31 == 5 for part in data.split(b"\0\0\1")[1:])
    place = 0
    while place + length_bytes < len(data):
        start = place + length_bytes
        if data[start] & 31 == 5:
            return True
        place = start + int.from_bytes(data[place:start], "big")
    return False
