"""Frames through PyAV: the careful decoder, which knows which frames are whole.

Shapes: n frames in the stream, H, W of a frame.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from .failures import ClipError
from .probe import Probe, open_clip

Picture = npt.NDArray[np.uint8]
_NEVER = np.iinfo(np.int64).max


def read_timed(path: Path, probe: Probe, wanted: Iterable[int]) -> Iterator[tuple[int, Picture]]:
    """Frames by position in ``probe.pts``, each as (position, upright (H, W, 3) RGB), in any order.

    Seeks to the keyframe before each wanted frame. A frame counts only if everything from its keyframe on was decoded without an
    error; where seeking does not give that, the clip is read again from its start, and what is still missing makes the clip fail.
    So an embedding is never made from concealed or guessed pictures.

    Raises:
        ClipError: decode_error.
    """
    missing = {int(probe.pts[k]): k for k in wanted}
    total = len(missing)
    for attempt in (_seek_to_keyframes, _from_the_start):
        with _open_stream(path, probe) as (file, stream):
            for pts, picture in attempt(file, stream, probe, sorted(missing)):
                yield missing.pop(pts), picture
        if not missing:
            return
    first = float(probe.times_seconds[min(missing.values())])
    raise ClipError("decode_error", f"{len(missing)} of {total} wanted frames cannot be decoded without errors, the first at {first:.2f} s")


def read_counted(path: Path, probe: Probe, wanted: Iterable[int]) -> tuple[dict[int, Picture], int]:
    """Frames of a stream without timestamps: decoded from the start and counted as they come out.

    Returns:
        The frames by number, as far as they exist, and n, how many frames the stream really has.

    Raises:
        ClipError: decode_error, when any error occurs up to the last wanted frame.
    """
    wanted = set(wanted)
    found: dict[int, Picture] = {}
    count, first_error = 0, _NEVER
    with _open_stream(path, probe) as (file, stream):
        for frame, _ in _decode(file, stream):
            if frame is None or frame.is_corrupt:
                first_error = min(first_error, count)
            if frame is not None:
                if count in wanted:
                    found[count] = upright(frame)
                count += 1
    if count == 0 or first_error <= max(found, default=0):
        raise ClipError("decode_error", f"the {probe.codec} stream cannot be decoded without errors beyond frame {min(first_error, count)}")
    return found, count


def _seek_to_keyframes(file: InputContainer, stream: VideoStream, probe: Probe, wanted: list[int]) -> Iterator[tuple[int, Picture]]:
    groups: dict[int, list[int]] = {}
    for pts in wanted:
        position = int(np.searchsorted(probe.keyframe_pts, pts, side="right")) - 1
        if position >= 0:
            groups.setdefault(int(probe.keyframe_pts[position]), []).append(pts)
    for keyframe, group in groups.items():
        try:
            file.seek(keyframe, stream=stream, backward=True)
        except av.FFmpegError:
            continue
        yield from _whole_frames(file, stream, probe, group, start=keyframe)


def _from_the_start(file: InputContainer, stream: VideoStream, probe: Probe, wanted: list[int]) -> Iterator[tuple[int, Picture]]:
    return _whole_frames(file, stream, probe, wanted, start=int(probe.pts[0]))


def _whole_frames(file: InputContainer, stream: VideoStream, probe: Probe, wanted: list[int], start: int) -> Iterator[tuple[int, Picture]]:
    """Wanted frames from here on that no error touches. An error spoils everything up to the next keyframe."""
    left, spoilt_until = set(wanted), -_NEVER
    for frame, packet_pts in _decode(file, stream):
        pts = packet_pts if frame is None else frame.pts
        if pts is None or pts < start:
            continue
        if frame is None or frame.is_corrupt:
            position = int(np.searchsorted(probe.keyframe_pts, pts, side="right"))
            spoilt_until = int(probe.keyframe_pts[position]) if position < len(probe.keyframe_pts) else _NEVER
        elif pts in left and pts >= spoilt_until:
            left.discard(pts)
            yield pts, upright(frame)
        if frame is not None and pts >= wanted[-1]:
            return


def _decode(file: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame | None, int | None]]:
    """Every frame with the timestamp of the packet that pushed it out; None for a packet that could not be decoded."""
    packets = file.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except MemoryError:
            raise
        except av.FFmpegError as error:
            raise ClipError("decode_error", "the stream breaks off") from error
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError:
            yield None, packet.pts
            continue
        for frame in frames:
            yield frame, packet.pts


@contextmanager
def _open_stream(path: Path, probe: Probe) -> Iterator[tuple[InputContainer, VideoStream]]:
    with open_clip(path, probe.container) as file:
        stream = file.streams[probe.stream_index]
        assert isinstance(stream, VideoStream), stream
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}
        yield file, stream


def upright(frame: VideoFrame, interpolation: Interpolation = Interpolation.BICUBIC) -> Picture:
    """(H, W, 3) RGB, turned as its display matrix says; angles that are no quarter turns (damaged matrices) are ignored.

    Args:
        interpolation: how colour planes of half size are enlarged. Bicubic is what decord uses: the two agree to the bit except
            beyond 8 bits a channel.
    """
    picture = frame.reformat(format="rgb24", interpolation=interpolation, threads=1).to_ndarray()
    turns, rest = divmod(frame.rotation, 90)
    return np.rot90(picture, turns) if rest == 0 else picture  # type: ignore[return-value]
