"""Which frames of a clip are read.

A sampler is told when each frame of the stream is shown (real timestamps, never a declared count) and answers which T of
them it wants. Shapes: n frames in the stream, T frames wanted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .config import FramesConfig

Times = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class FrameSampler(Protocol):
    """Chooses T frames of a clip."""

    @property
    def count(self) -> int:
        """T, frames per clip."""

    def pick(self, times_seconds: Times, end_seconds: float) -> Indices:
        """The frames wanted.

        Args:
            times_seconds: (n,) when each frame is shown, strictly ascending, n >= 1.
            end_seconds: when the last frame stops being shown.

        Returns:
            (T,) positions in ``times_seconds``, ascending; repeated where the clip has too few frames.
        """


@dataclass(frozen=True)
class Uniform:
    """The frame shown at the centre of each of ``count`` equal spans of the whole clip, by time."""

    count: int

    def pick(self, times_seconds: Times, end_seconds: float) -> Indices:
        start = times_seconds[0]
        centres = start + (np.arange(self.count) + 0.5) / self.count * (end_seconds - start)
        return shown_at(times_seconds, centres)


@dataclass(frozen=True)
class Middle:
    """MicroLens's frames: the middle frame, floor(n / 2), and the frames ``stride`` apart on both sides of it.

    As the dataset's authors do, an even ``count`` leaves the middle frame itself out: its two inner frames are
    floor(middle - stride / 2) and ceil(middle + stride / 2). Beyond the ends of the clip its first or last frame repeats.
    Source: microlens, frame extraction script (reference/microlens-benchmark.md, 1.3).
    """

    count: int
    stride: int = 1

    def pick(self, times_seconds: Times, end_seconds: float) -> Indices:
        middle = len(times_seconds) // 2
        outward = np.arange(self.count // 2, dtype=np.int64) * self.stride
        if self.count % 2:
            steps = outward + self.stride
            wanted = np.concatenate([middle - steps[::-1], [middle], middle + steps])
        else:
            wanted = np.concatenate([(middle - (self.stride + 1) // 2) - outward[::-1], (middle + (self.stride + 1) // 2) + outward])
        return np.clip(wanted, 0, len(times_seconds) - 1).astype(np.int64)


@dataclass(frozen=True)
class Fps:
    """The frames shown at ``count`` moments, 1 / ``fps`` seconds apart, around the middle of the clip.

    Moments beyond the ends of the clip give its first or last frame.
    """

    count: int
    fps: float

    def pick(self, times_seconds: Times, end_seconds: float) -> Indices:
        middle = (times_seconds[0] + end_seconds) / 2
        return shown_at(times_seconds, middle + (np.arange(self.count) - (self.count - 1) / 2) / self.fps)


def make_sampler(config: "FramesConfig") -> FrameSampler:
    """The sampler that a configuration asks for."""
    match config.sampler:
        case "uniform":
            return Uniform(config.count)
        case "middle":
            return Middle(config.count)
        case "fps":
            return Fps(config.count, config.fps)


def shown_at(times_seconds: Times, moments_seconds: Times) -> Indices:
    """Which frame is on the screen at each moment: the last one that began by then; before the first frame, the first."""
    return np.maximum(np.searchsorted(times_seconds, moments_seconds, side="right") - 1, 0).astype(np.int64)


def nearest_keyframes(indices_T: Indices, keyframes_K: Indices, times_seconds: Times) -> Indices:
    """For each wanted frame the keyframe shown nearest to it in time, the earlier one of two as near; (T,), ascending.

    Args:
        keyframes_K: positions of the keyframes in ``times_seconds``, ascending, at least one.
    """
    wanted, times_K = times_seconds[indices_T], times_seconds[keyframes_K]
    after = np.clip(np.searchsorted(times_K, wanted), 1, len(times_K) - 1) if len(times_K) > 1 else np.zeros(len(wanted), np.int64)
    before = np.maximum(after - 1, 0)
    nearer = np.where(times_K[after] - wanted < wanted - times_K[before], after, before)
    return keyframes_K[nearer]


def regular_times(duration_seconds: float, frame_rate: float) -> Times:
    """Timestamps of a stream with a constant rate, (n,) with n = round(duration x rate) but at least one."""
    return np.arange(max(1, round(duration_seconds * frame_rate))) / frame_rate


def is_short(indices_T: Indices) -> bool:
    """Whether frames repeat, because the clip has too few of them where they were wanted."""
    return len(np.unique(indices_T)) < len(indices_T)
