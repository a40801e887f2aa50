"""Frames through PyAV: the careful decoder, which knows which frames are whole.

Shapes: n frames in the stream, H, W of a frame.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import dropwhile
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .failures import ClipError
from .probe import Probe, open_clip
from .upright import Picture, Upright

_NEVER = np.iinfo(np.int64).max
_CAREFUL, _STRICT = "explode", "crccheck+bitstream+buffer+explode+careful"
"""What FFmpeg's decoders take for an error. Strict: also whatever breaks the standard, and checksums where a stream has them."""


def read_timed(path: Path, probe: Probe, wanted: Iterable[int], *, strict: bool = False) -> Iterator[tuple[int, Picture]]:
    """Frames by position in ``probe.pts``, each as (position, upright (H, W, 3) RGB), in any order.

    One seek per group of pictures that holds a wanted frame, then every packet up to the last wanted frame of the group and none
    beyond. A frame counts only if everything from its keyframe on was decoded without an error. Where that does not give a
    frame (open groups, in which frames need the group before theirs; damage), decoding begins one keyframe earlier, then at the
    start of the clip; what is still missing makes the clip fail. So an embedding is never made from concealed or guessed
    pictures.

    Raises:
        ClipError: decode_error.
    """
    missing = {int(probe.pts[k]): k for k in wanted}
    total = len(missing)
    jumps = (_seek_to_keyframes, partial(_seek_to_keyframes, earlier=1)) if probe.seekable else ()
    for attempt in (*jumps, _from_the_start):
        with _open_stream(path, probe, strict) as (file, stream):
            upright = Upright()
            for frame in attempt(file, stream, probe, sorted(missing)):
                yield missing.pop(_pts(frame)), upright(frame)
        if not missing:
            return
    first = float(probe.times_seconds[min(missing.values())])
    raise ClipError("decode_error", f"{len(missing)} of {total} wanted frames cannot be decoded without errors, the first at {first:.2f} s")


def read_counted(path: Path, probe: Probe, wanted: Iterable[int], *, strict: bool = False) -> tuple[dict[int, Picture], int]:
    """Frames of a stream without timestamps: decoded from the start and counted as they come out.

    Returns:
        The frames by number, as far as they exist, and n, how many frames the stream really has.

    Raises:
        ClipError: decode_error, when any error occurs up to the last wanted frame.
    """
    wanted = set(wanted)
    found: dict[int, Picture] = {}
    count, first_error = 0, _NEVER
    with _open_stream(path, probe, strict) as (file, stream):
        upright = Upright()
        for frame, _ in _decode(stream, _packets(file, stream)):
            if frame is None or frame.is_corrupt:
                first_error = min(first_error, count)
            if frame is not None:
                if count in wanted:
                    found[count] = upright(frame)
                count += 1
    if count == 0 or first_error <= max(found, default=0):
        raise ClipError("decode_error", f"the {probe.codec} stream cannot be decoded without errors beyond frame {min(first_error, count)}")
    return found, count


def _seek_to_keyframes(
    file: InputContainer, stream: VideoStream, probe: Probe, wanted: list[int], earlier: int = 0
) -> Iterator[VideoFrame]:
    """Wanted frames, each group decoded from the last keyframe before its frames, or from the one ``earlier`` keyframes before that."""
    groups: dict[int, list[int]] = {}
    for pts in wanted:
        position = int(np.searchsorted(probe.keyframe_pts, pts, side="right")) - 1 - earlier
        if position >= 0:
            groups.setdefault(position, []).append(pts)
    for position, group in groups.items():
        try:
            file.seek(int(probe.keyframe_seek[position]), stream=stream, backward=True)
        except av.FFmpegError:
            continue
        # Cutting the decoder short saves the frames by which it lags behind. The second attempt leaves it its time: a few
        # streams keep a frame's rest in a packet of its own.
        last = None if earlier else Counter({pts: int(probe.packets[np.searchsorted(probe.pts, pts)]) for pts in group})
        start = int(probe.keyframe_pts[position])
        yield from _whole_frames(_decode(stream, _packets_from(file, stream, start), last), probe, group, start)


def _from_the_start(file: InputContainer, stream: VideoStream, probe: Probe, wanted: list[int]) -> Iterator[VideoFrame]:
    return _whole_frames(_decode(stream, _packets(file, stream)), probe, wanted, start=int(probe.pts[0]))


def _whole_frames(
    decoded: Iterable[tuple[VideoFrame | None, int | None]], probe: Probe, wanted: list[int], start: int
) -> Iterator[VideoFrame]:
    """Wanted frames from here on that no error touches. An error spoils everything up to the next keyframe."""
    left, spoilt_until = set(wanted), -_NEVER
    for frame, packet_pts in decoded:
        pts = packet_pts if frame is None else frame.pts
        if pts is None or pts < start:
            continue
        if frame is None or frame.is_corrupt:
            position = int(np.searchsorted(probe.keyframe_pts, pts, side="right"))
            spoilt_until = int(probe.keyframe_pts[position]) if position < len(probe.keyframe_pts) else _NEVER
        elif pts in left and pts >= spoilt_until:
            left.discard(pts)
            yield frame
        if frame is not None and pts >= wanted[-1]:
            return


def _decode(
    stream: VideoStream, packets: "Iterable[av.Packet[VideoStream]]", last: Mapping[int, int] | None = None
) -> Iterator[tuple[VideoFrame | None, int | None]]:
    """Every frame with the timestamp of the packet that pushed it out; None for a packet that could not be decoded.

    None also for a packet that the demuxer marks: it is cut short, or in a transport stream something is missing around it, which
    decoders fill in without a word.

    Args:
        last: timestamp -> how many packets carry it; when all of them have been read, no more are, and the decoder gives up what
            it holds. None: to the end of the stream.
    """
    due = Counter(last)
    for packet in packets:
        if packet.is_corrupt:
            yield None, packet.pts
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError:
            yield None, packet.pts
            frames = []
        for frame in frames:
            yield frame, packet.pts
        if packet.pts is not None and packet.pts in due:
            due -= Counter([packet.pts])
            if not due:
                break
    else:
        return
    try:
        held = stream.codec_context.decode(None)
    except MemoryError:
        raise
    except av.FFmpegError:
        return
    for frame in held:
        yield frame, packet.pts


def _packets(file: InputContainer, stream: VideoStream) -> "Iterator[av.Packet[VideoStream]]":
    try:
        yield from file.demux(stream)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise ClipError("decode_error", "the stream breaks off") from error


def _packets_from(file: InputContainer, stream: VideoStream, keyframe: int) -> "Iterator[av.Packet[VideoStream]]":
    """Packets from this keyframe on. Some demuxers go back further than they are asked to; what lies between is not decoded."""
    return dropwhile(lambda packet: not (packet.is_keyframe and packet.pts == keyframe), _packets(file, stream))


def _pts(frame: VideoFrame) -> int:
    assert frame.pts is not None
    return frame.pts


@contextmanager
def _open_stream(path: Path, probe: Probe, strict: bool) -> Iterator[tuple[InputContainer, VideoStream]]:
    with open_clip(path, probe.container) as file:
        stream = file.streams[probe.stream_index]
        assert isinstance(stream, VideoStream), stream
        stream.codec_context.thread_count = 1
        # In H.264 also what no sane encoder writes; of MPEG-4 that would refuse whole clips of common encoders.
        errors = _STRICT + ("+aggressive" if probe.codec == "h264" else "") if strict else _CAREFUL
        stream.codec_context.options = {"err_detect": errors}
        yield file, stream
