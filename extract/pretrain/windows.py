"""Which frames are seen together, and how they are varied in training.

Legend: B windows, T frames of a window, H and W their size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from .masks import MaskedClip

Supervise = Literal["all", "middle"]

# Factors of brightness, contrast and saturation are drawn within 1 -+ this.
_JITTER = 0.2


@dataclass(frozen=True)
class Window:
    """Consecutive frames of a clip.

    Attributes:
        clip: which clip.
        frames: T positions in it; the ends of a clip are repeated where it is too short.
        keep: positions in ``frames`` whose prediction counts.
    """

    clip: int
    frames: tuple[int, ...]
    keep: tuple[int, ...]


def windows_of(clip: int, length: int, frames: int, supervise: Supervise, offset: int = 0) -> list[Window]:
    """Windows that together look at every frame of a clip.

    ``all`` lays them end to end, the first one shifted back by ``offset``, the outermost moved inside; ``middle`` centres one on every
    frame, which costs T times as much, and keeps the middle prediction only.
    """
    if supervise == "middle":
        starts = [centre - frames // 2 for centre in range(length)]
        keep: tuple[int, ...] = (frames // 2,)
    else:
        last = max(length - frames, 0)
        starts = sorted({min(max(start, 0), last) for start in range(-offset, length, frames)})
        keep = tuple(range(frames))
    return [Window(clip, tuple(min(max(start + t, 0), length - 1) for t in range(frames)), keep) for start in starts]


@dataclass(frozen=True)
class WindowBatch:
    """What a step learns from.

    Attributes:
        frames_BTCHW: float RGB from 0 to 1.
        masks_BTHW: float, 0 or 1, of all T frames.
        keep: positions that count.
    """

    frames_BTCHW: torch.Tensor
    masks_BTHW: torch.Tensor
    keep: tuple[int, ...]


def training_batches(
    clips: Sequence[MaskedClip], *, frames: int, supervise: Supervise, batch: int, augment: bool, seed: int
) -> Iterator[WindowBatch]:
    """One epoch in random order, which follows from ``seed`` alone; see ``num_batches``."""
    generator = torch.Generator().manual_seed(seed)
    windows = []
    for index, clip in enumerate(clips):
        offset = int(torch.randint(frames, (), generator=generator))
        windows += windows_of(index, len(clip), frames, supervise, offset)
    order = torch.randperm(len(windows), generator=generator).tolist()
    for start in range(0, len(order), batch):
        chosen = [windows[place] for place in order[start : start + batch]]
        pairs = [_load(clips[window.clip], window) for window in chosen]
        if augment:
            pairs = [_vary(*pair, generator) for pair in pairs]
        yield WindowBatch(torch.stack([x for x, _ in pairs]), torch.stack([x for _, x in pairs]), chosen[0].keep)


def num_batches(clips: Sequence[MaskedClip], frames: int, supervise: Supervise, batch: int) -> int:
    """Steps of an epoch, at most: where the random offset falls decides whether a clip needs one window more."""
    return -(-sum(len(windows_of(0, len(clip), frames, supervise, frames - 1)) for clip in clips) // batch)


def load(clip: MaskedClip, window: Window) -> WindowBatch:
    """A batch of one window, as it is."""
    frames, masks = _load(clip, window)
    return WindowBatch(frames[None], masks[None], window.keep)


def _load(clip: MaskedClip, window: Window) -> tuple[torch.Tensor, torch.Tensor]:
    places = list(window.frames)
    return clip.frames_TCHW[places].float() / 255, clip.masks_THW[places].float()


def _vary(frames_TCHW: torch.Tensor, masks_THW: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Mirror, and change brightness, contrast and saturation, alike for all frames: what moves must not flicker."""
    flip, brightness, contrast, saturation = torch.rand(4, generator=generator).tolist()
    if flip < 0.5:
        frames_TCHW, masks_THW = frames_TCHW.flip(3), masks_THW.flip(2)
    brightness, contrast, saturation = (1 + _JITTER * (2 * x - 1) for x in (brightness, contrast, saturation))
    frames_TCHW = frames_TCHW * brightness
    middle = frames_TCHW.mean()
    frames_TCHW = middle + contrast * (frames_TCHW - middle)
    grey = frames_TCHW.mean(1, keepdim=True)
    return (grey + saturation * (frames_TCHW - grey)).clamp(0, 1), masks_THW
