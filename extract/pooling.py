"""From the four feature levels to one vector per clip.

Legend: B clips, T frames, Ci channels of level i, Hi and Wi its size, E decoder width, D embedding width.
"""

from typing import Protocol

import torch
import torch.nn.functional as F

from .decoder import Decoder, Levels


class Pooling(Protocol):
    """(F1..F4, each (B*T, Ci, Hi, Wi)), B -> (B, dim)."""

    dim: int

    def __call__(self, levels: Levels, clips: int) -> torch.Tensor: ...


class LevelsPooling:
    """Mean over space and time of each level, layer-normalised without learned scale, concatenated.

    Needs no decoder. D is the sum of the channels: 240 for nano, 512 for b0, 1024 for b1..b5.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        self.dim = sum(channels)

    def __call__(self, levels: Levels, clips: int) -> torch.Tensor:
        means = [x.unflatten(0, (clips, -1)).mean((1, 3, 4)) for x in levels]
        return torch.cat([F.layer_norm(m, m.shape[-1:]) for m in means], 1)


class FramesPooling:
    """``LevelsPooling`` of eight equal spans of the clip, one after another: at eight frames, of every frame.

    For models that learn what to make of a clip's course (``--items adapter``). D is eight times that of ``LevelsPooling``.
    """

    SPANS = 8

    def __init__(self, channels: tuple[int, ...]) -> None:
        self.dim = self.SPANS * sum(channels)

    def __call__(self, levels: Levels, clips: int) -> torch.Tensor:
        means = [x.unflatten(0, (clips, -1)).mean((3, 4)) for x in levels]
        frames_BTD = torch.cat([F.layer_norm(m, m.shape[-1:]) for m in means], 2)
        return F.adaptive_avg_pool1d(frames_BTD.transpose(1, 2), self.SPANS).transpose(1, 2).flatten(1)


class UnifiedPooling:
    """The mean of the decoder's map (eq. 6 of the paper). For weights whose decoder was trained.

    D is the decoder width E: 64 for nano, 256 for b0 and b1, 768 for b2..b5.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.dim = decoder.width
        self.decoder = decoder

    def __call__(self, levels: Levels, clips: int) -> torch.Tensor:
        unified: torch.Tensor = self.decoder(levels)
        return unified.unflatten(0, (clips, -1)).mean((1, 3, 4))
