"""A decoded frame as people see it: RGB, turned the right way up.

Shapes: H, W of the upright frame.
"""

from fractions import Fraction

import av.filter
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

Picture = npt.NDArray[np.uint8]


class Upright:
    """Converts frames of one clip, one at a time; keeps FFmpeg's converter from frame to frame.

    The converter is the filter that decord and the ffmpeg program use, so that all three agree to the bit: swscale called
    directly places colour planes of half size elsewhere, which shows beyond 8 bits a channel.
    """

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._made_for: tuple[int, int, str] | None = None

    def __call__(self, frame: VideoFrame) -> Picture:
        """(H, W, 3) RGB, turned as its display matrix says."""
        kind = (frame.width, frame.height, frame.format.name)
        if self._graph is None or self._made_for != kind:
            self._graph, self._made_for = _converter(frame), kind
        self._graph.push(frame)
        converted = self._graph.pull()
        assert isinstance(converted, VideoFrame), converted
        picture: Picture = converted.to_ndarray()  # type: ignore[assignment]  # rgb24 has 8 bits
        return turned(picture, frame.rotation)


def turned(picture: Picture, degrees: int) -> Picture:
    """The picture turned anticlockwise; angles that are no quarter turns (damaged display matrices) are ignored."""
    turns, rest = divmod(degrees, 90)
    return np.rot90(picture, turns) if rest == 0 else picture


def _converter(frame: VideoFrame) -> av.filter.Graph:
    """Frames of this size and format to RGB; colour planes of half size are interpolated bicubically."""
    graph = av.filter.Graph()
    # Timestamps do not matter here, and after draining a decoder some frames have no time base.
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    scale = graph.add("scale", "flags=bicubic:threads=1")
    rgb = graph.add("format", "pix_fmts=rgb24")
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(rgb)
    rgb.link_to(sink)
    graph.configure()
    return graph
