"""From the four feature levels to one vector per clip.

Legend: B clips, T frames, Ci channels of level i, Hi and Wi its size, E decoder width, D embedding width.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

Levels = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class Pooling(Protocol):
    """(F1..F4, each (B*T, Ci, Hi, Wi)), B -> (B, dim)."""

    dim: int

    def __call__(self, levels: Levels, clips: int) -> torch.Tensor: ...


class LevelsPooling(nn.Module):
    """Mean over space and time of each level, layer-normalised without learned scale, concatenated.

    Needs no decoder. D is the sum of the channels: 240 for nano, 512 for b0, 1024 for b1..b5.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.dim = sum(channels)

    def forward(self, levels: Levels, clips: int) -> torch.Tensor:
        means = [x.unflatten(0, (clips, -1)).mean((1, 3, 4)) for x in levels]
        return torch.cat([F.layer_norm(m, m.shape[-1:]) for m in means], 1)


class UnifiedPooling(nn.Module):
    """Eq. 6 of the paper: a linear per level, upsampling to the first level, concatenation from F4 to F1, fusion; then the mean.

    D is the decoder width E: 64 for nano, 256 for b0 and b1, 768 for b2..b5. Meant for weights whose decoder was trained.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.dim = width
        self.linear = nn.ModuleList(nn.Linear(c, width) for c in channels)
        self.fuse = nn.Conv2d(len(channels) * width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def unify(self, levels: Levels) -> torch.Tensor:
        """The fused map (B*T, E, H1, W1)."""
        size = levels[0].shape[2:]
        maps = []
        for x, linear in zip(levels, self.linear, strict=True):
            x = linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            maps.append(F.interpolate(x, size, mode="bilinear", align_corners=False) if x.shape[2:] != size else x)
        return F.relu(self.norm(self.fuse(torch.cat(maps[::-1], 1))))

    def forward(self, levels: Levels, clips: int) -> torch.Tensor:
        return self.unify(levels).unflatten(0, (clips, -1)).mean((1, 3, 4))
