"""What a clip's header and packets say, read in a child process; no frame is decoded.

Shapes: n frames in the stream.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from .clip import ClipRef
from .failures import ClipError
from .probe import Limits, probe_clip
from .reader import regular_file
from .sampling import FrameSampler, is_short
from .sniff import HEAD_BYTES, check_size, container_of

_MAX_BOXES = 10_000


@dataclass(frozen=True, slots=True)
class Header:
    """A clip that can be read as far as its header tells.

    Attributes:
        id: external id.
        size_bytes: of the file.
        container: FFmpeg's name.
        codec: FFmpeg's name.
        width, height: in pixels, as players show the picture: after rotation.
        frames: n; only an estimate where the container stores no timestamps (AVI).
        seconds: from the first frame's beginning to the last one's end.
        variable: frames are not evenly spaced in time.
        rotation: degrees, clockwise, by which players turn the picture: 0, 90, 180 or 270; read in MP4 and MOV, elsewhere 0.
        bits: per colour channel; 0 if the header does not say.
        hdr: coded for high dynamic range.
        short: fewer distinct frames than are wanted, so that some repeat.
    """

    id: str
    size_bytes: int
    container: str
    codec: str
    width: int
    height: int
    frames: int
    seconds: float
    variable: bool
    rotation: int
    bits: int
    hdr: bool
    short: bool


@dataclass(frozen=True)
class HeaderReader:
    """Looks at a clip as ``ClipReader`` does before it decodes. Small and picklable, for ``DecodePool``.

    Attributes:
        sampler: which frames will be wanted.
        limits: what is refused.
    """

    sampler: FrameSampler
    limits: Limits = field(default_factory=Limits)

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Header:
        """Look at one clip; ``known_sha256`` is not used.

        Raises:
            ClipError: the clip cannot be read; what only decoding shows (``decode_error`` in the pictures) stays unknown.
        """
        size_bytes = regular_file(ref.path).st_size
        try:
            with ref.path.open("rb") as file:
                container = container_of(file.read(HEAD_BYTES))
        except OSError as error:
            raise ClipError("missing", f"{ref.path}: {error.strerror}") from error
        check_size(ref.path, container, size_bytes)
        probe = probe_clip(ref.path, container, self.limits)
        rotation = track_rotation(ref.path, probe.track) if container == "mov" else 0
        sides = (probe.height, probe.width) if rotation in (90, 270) else (probe.width, probe.height)
        return Header(
            id=ref.id,
            size_bytes=size_bytes,
            container=container,
            codec=probe.codec,
            width=sides[0],
            height=sides[1],
            frames=len(probe.times_seconds),
            seconds=float(probe.end_seconds - probe.times_seconds[0]),
            variable=is_variable(probe.pts),
            rotation=rotation,
            bits=probe.bits,
            hdr=probe.hdr,
            short=is_short(self.sampler.pick(probe.times_seconds, probe.end_seconds)),
        )


def is_variable(pts: npt.NDArray[np.int64]) -> bool:
    """Whether any two neighbours of n ascending timestamps are further apart, or closer, than the median by more than a tenth.

    A clock too coarse for the rate (Matroska's milliseconds) makes even intervals differ by one tick; that alone does not count.
    """
    if len(pts) < 3:
        return False
    intervals = np.diff(pts)
    usual = float(np.median(intervals))
    return bool(np.abs(intervals - usual).max() > max(usual / 10, min(1.0, usual / 4)))


def track_rotation(path: Path, track: int) -> int:
    """By how many degrees, clockwise, an MP4 or MOV file has this track turned; 0 for none, or for what is no quarter turn.

    Read from the track header (``tkhd``), because FFmpeg's bindings tell it of decoded frames only.
    """
    with path.open("rb") as file:
        for name, start, end in _boxes(file, 0, path.stat().st_size):
            if name != b"moov":
                continue
            for trak in (inner for inner in _boxes(file, start, end) if inner[0] == b"trak"):
                for header in (inner for inner in _boxes(file, *trak[1:]) if inner[0] == b"tkhd"):
                    file.seek(header[1])
                    content = file.read(96)
                    wide = 12 if content[:1] == b"\x01" else 0  # version 1 has times of 8 bytes
                    if len(content) < 84 + wide or int.from_bytes(content[12 + wide * 2 // 3 :][:4], "big") != track:
                        continue
                    a, b = (int.from_bytes(content[at + wide :][:4], "big", signed=True) for at in (40, 44))
                    degrees = round(math.degrees(math.atan2(b, a))) % 360
                    return degrees if degrees % 90 == 0 else 0
    return 0


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, and first and last byte of the content, of the boxes that lie one after another in this part of a file."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        length, content = int.from_bytes(header[:4], "big"), 8
        if length == 1:
            length, content = int.from_bytes(header[8:16], "big"), 16
        elif length == 0:
            length = end - start
        if length < content:
            return
        yield header[4:8], start + content, min(start + length, end)
        start += length
