"""Real clips, made when a test asks for them, with content that tells which frame is which."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest


def grey(k: int) -> int:
    """The grey level of frame k of a made clip: far enough apart to survive a codec."""
    return (20 + 4 * k) % 256


def write_clip(
    path: Path,
    count: int = 40,
    *,
    width: int = 64,
    height: int = 48,
    rate: int = 20,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    picture: Callable[[int], np.ndarray] | None = None,
    tracks: int = 1,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Frame k is plain grey of level ``grey(k)``, shown at k / rate or at ``pts[k]`` / rate, unless ``picture`` draws it."""
    with av.open(str(path), "w") as file:
        streams = [file.add_stream(codec, rate=rate, options=options or {}) for _ in range(tracks)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for k in range(count):
            pixels = np.full((height, width, 3), grey(k), np.uint8) if picture is None else picture(k)
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = k if pts is None else pts[k]
                file.mux(stream.encode(frame))
        for stream in streams:
            file.mux(stream.encode(None))
    return path


def turn(path: Path, degrees: int) -> Path:
    """Write a rotation into an MP4's track header, as phones do: players turn the picture clockwise by ``degrees``."""
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    for position, value in ((0, a), (1, b), (3, c), (4, d)):
        data[matrix + 4 * position : matrix + 4 * position + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def fewest_packets(path: Path, wanted: Sequence[int]) -> int:
    """How many packets must be decoded for these frames (numbers in display order), each group of pictures once.

    In every group that holds a wanted frame: from its keyframe to the last wanted frame, in the order of the file.
    """
    with av.open(str(path)) as file:
        packets = [(packet.pts, packet.is_keyframe) for packet in file.demux(video=0) if packet.size]
    place = {pts: k for k, (pts, _) in enumerate(packets)}
    times = sorted(place)
    last: dict[int, int] = {}
    for number in wanted:
        begin = place[max(pts for pts, keyframe in packets if keyframe and pts <= times[number])]
        last[begin] = max(last.get(begin, 0), place[times[number]])
    return sum(end - begin + 1 for begin, end in last.items())


def spoil(path: Path, numbers: Iterable[int], begin: int = 0, end: int | None = None) -> Path:
    """Invert bytes ``begin`` to ``end`` of the packets with these numbers in file order."""
    with av.open(str(path)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        position, size = packets[number]
        for place in range(position + begin, position + (size if end is None else min(end, size))):
            data[place] ^= 0xFF
    path.write_bytes(data)
    return path


def two_halves(k: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Left half red, right half blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return pixels


class Clips:
    """The functions above, for tests, which import nothing from each other."""

    grey = staticmethod(grey)
    write = staticmethod(write_clip)
    turn = staticmethod(turn)
    two_halves = staticmethod(two_halves)
    fewest_packets = staticmethod(fewest_packets)
    spoil = staticmethod(spoil)


@pytest.fixture(scope="session")
def clips() -> type[Clips]:
    return Clips


@pytest.fixture
def readers(monkeypatch) -> ModuleType:
    """The module of readers that misbehave, found by name in decoding processes too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import misbehaving_readers

    return misbehaving_readers
