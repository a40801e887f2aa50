"""What a clip's headers and packets say, before any frame is decoded.

Shapes: n frames in the video stream.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from .codec_tag import codec_tag
from .failures import ClipError
from .packets import Packet, can_be_counted, keyframe_places, read_packets

_UNTIMED_CONTAINERS = ("avi", "mpegvideo")
"""They store no presentation times; FFmpeg's guesses are wrong as soon as there are B-frames."""

_INDEXED_CONTAINERS = ("mov", "matroska")
"""In the others decord, which seeks by time and counts from there, now and then returns a neighbour of the frame it is asked for."""

_DEFAULT_RATE = 25.0

_HDR_TRANSFERS = (16, 18)
"""FFmpeg's numbers of the transfer functions PQ (SMPTE ST 2084) and HLG (ARIB STD-B67)."""


@dataclass(frozen=True)
class Limits:
    """What is refused before decoding: a hostile or absurd file must not cost memory or hours."""

    max_side_pixels: int = 8192
    max_pixels: int = 8192 * 4320
    max_seconds: float = 4 * 3600.0
    max_frames: int = 4 * 3600 * 120
    max_streams: int = 32


@dataclass(frozen=True)
class Probe:
    """The video stream that will be read.

    Attributes:
        container: FFmpeg's name of the container; the file is only ever opened as that.
        stream_index: number of the stream in the file.
        codec: its name, whichever decoder reads it.
        width, height: in pixels, before rotation.
        pixel_aspect: width over height of a pixel, before rotation.
        timed: every frame has its own timestamp; if not, times are counted at the average rate.
        pts: (n,) distinct timestamps in display order, in the stream's time base; empty if not timed.
        packets: (n,) how many packets carry that timestamp; empty if not timed.
        keyframe_pts: (m,) timestamps of the frames at which decoding can begin, ascending; empty if not timed.
        keyframe_seek: (m,) the timestamps at which the demuxer finds them.
        times_seconds: (n,) when each frame is shown.
        end_seconds: when the last frame stops being shown.
        seekable: packets have the same timestamps after a jump as when all are read in order.
        plain: simple enough for decord: MP4, MOV, Matroska or WebM, seekable, the only video stream, no frame hidden by an edit
            list, as many frames as are declared (it makes room for that many), ``packets.can_be_counted``, and not VP8, whose
            frames damage can make invisible.
        track: the stream's own number in its container; in MP4 the id of its track.
        bits: per colour channel; 0 if the header does not say.
        hdr: brightness is coded for high dynamic range (PQ or HLG).
    """

    container: str
    stream_index: int
    codec: str
    width: int
    height: int
    pixel_aspect: float
    timed: bool
    pts: npt.NDArray[np.int64]
    packets: npt.NDArray[np.int64]
    keyframe_pts: npt.NDArray[np.int64]
    keyframe_seek: npt.NDArray[np.int64]
    times_seconds: npt.NDArray[np.float64]
    end_seconds: float
    seekable: bool
    plain: bool
    track: int
    bits: int
    hdr: bool


@contextmanager
def open_clip(path: Path, container: str) -> Iterator[InputContainer]:
    """The file, opened as this container only, with no way to reach another file or address.

    Raises:
        ClipError: decode_error or truncated, when the header cannot be read.
    """
    try:
        opened = av.open(f"file:{path.absolute()}", format=container, options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except av.error.EOFError as error:
        raise ClipError("truncated", f"the file ends inside its {container} header") from error
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise ClipError("decode_error", f"its {container} header is damaged") from error
    with opened:
        yield opened


def probe_clip(path: Path, container: str, limits: Limits) -> Probe:
    """Read headers and the list of packets, decoding nothing.

    Args:
        container: as ``sniff.container_of`` named it.

    Raises:
        ClipError: no_video_stream, unsupported_codec, too_large, too_long, too_short, truncated or decode_error.
    """
    with open_clip(path, container) as file:
        if len(file.streams) > limits.max_streams:
            raise ClipError("too_large", f"{len(file.streams)} streams; at most {limits.max_streams} are allowed")
        stream = _choose_stream(file, path, container)
        _check_header(file, stream, limits)
        packets = read_packets(file, stream, limits.max_frames)
        if not packets:
            raise ClipError("too_short", f"its {stream.codec_context.name} stream of {stream.width}x{stream.height} holds no frame")
        pictures = [s for s in file.streams.video if s.disposition & Disposition.attached_pic]
        return _make_probe(container, stream, packets, plain=len(file.streams.video) == 1 and not pictures)


def counted_times(count: int, interval_seconds: float) -> npt.NDArray[np.float64]:
    """When frames without timestamps are shown, (count,): one after another at a constant rate."""
    return np.arange(count, dtype=np.float64) * interval_seconds


def _choose_stream(file: InputContainer, path: Path, container: str) -> VideoStream:
    """The film among the video streams: no cover art; the default one, then the largest picture, then the first."""
    films = [stream for stream in file.streams.video if not stream.disposition & Disposition.attached_pic]
    if not films:
        kinds = ", ".join(sorted({stream.type for stream in file.streams})) or "nothing"
        raise ClipError("no_video_stream", f"its streams are: {kinds}" + (" (cover art)" if file.streams.video else ""))
    supported = [stream for stream in films if stream.codec_context is not None and stream.codec_context.codec.is_decoder]
    if not supported:
        name = codec_tag(path, container)
        raise ClipError("unsupported_codec", f"no decoder here knows the codec of its video stream{f', {name}' if name else ''}")
    return max(supported, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, -s.index))


def _check_header(file: InputContainer, stream: VideoStream, limits: Limits) -> None:
    width, height = stream.width, stream.height
    if max(width, height) > limits.max_side_pixels or width * height > limits.max_pixels:
        raise ClipError(
            "too_large", f"frames of {width}x{height}; a side may have {limits.max_side_pixels} pixels, all {limits.max_pixels}"
        )
    seconds = (file.duration or 0) / av.time_base
    if seconds > limits.max_seconds:
        raise ClipError("too_long", f"{seconds:.0f} seconds; at most {limits.max_seconds:.0f} are allowed")


def _make_probe(container: str, stream: VideoStream, packets: list[Packet], *, plain: bool) -> Probe:
    rate = float(stream.average_rate or stream.guessed_rate or 0) or _DEFAULT_RATE
    time_base = float(stream.time_base or 0)
    shown = [packet for packet in packets if not packet.hidden]
    timed = container not in _UNTIMED_CONTAINERS and time_base > 0 and bool(shown) and all(p.pts is not None for p in packets)
    if timed:
        # Distinct: VP8 and VP9 send invisible reference frames under the timestamp of the visible one.
        pts, count = np.unique(np.array([p.pts for p in shown], dtype=np.int64), return_counts=True)
        keyframes, seek = keyframe_places(container, packets)
        times = pts.astype(np.float64) * time_base
        last = max(p.duration for p in shown if p.pts == pts[-1]) or (int(np.median(np.diff(pts))) if len(pts) > 1 else 0)
        end = float(times[-1] + last * time_base)
    else:
        pts = count = keyframes = seek = np.zeros(0, np.int64)
        times = counted_times(len(packets), 1 / rate)
        end = len(packets) / rate
    seekable = timed and all(packet.placed for packet in packets)
    plain = (
        plain
        and seekable
        and container in _INDEXED_CONTAINERS
        and stream.codec_context.name != "vp8"
        and len(shown) == len(packets)
        and stream.frames in (0, len(packets))
        and can_be_counted(packets)
    )
    aspect = float(stream.sample_aspect_ratio or 1)
    pixels = stream.codec_context.format
    return Probe(
        container=container,
        stream_index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        width=stream.width,
        height=stream.height,
        pixel_aspect=aspect if math.isfinite(aspect) and aspect > 0 else 1.0,
        timed=timed,
        pts=pts,
        packets=count.astype(np.int64),
        keyframe_pts=keyframes,
        keyframe_seek=seek,
        times_seconds=times,
        end_seconds=end,
        seekable=seekable,
        plain=plain,
        track=stream.id,
        bits=max((component.bits for component in pixels.components), default=0) if pixels else 0,
        hdr=stream.codec_context.color_trc in _HDR_TRANSFERS,
    )
