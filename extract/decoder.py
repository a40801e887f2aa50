"""From the four feature levels to one map, and from that to masks.

Source: eq. 6-8 of the Vivim paper; where text and published code differ, this is the code (docs/extract.md has the table).
Legend: B clips, T frames, Ci channels of level i, Hi and Wi its size, E decoder width.
"""

import torch
import torch.nn.functional as F
from torch import nn

Levels = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class Decoder(nn.Module):
    """Eq. 6: a linear per level, upsampling to the first level, concatenation from F4 to F1, 1x1 convolution, batch norm, ReLU.

    Args:
        channels: Ci.
        width: E.
        dropout: share of the fused map's values dropped in training.
    """

    def __init__(self, channels: tuple[int, ...], width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.ModuleList(nn.Linear(c, width) for c in channels)
        self.fuse = nn.Conv2d(len(channels) * width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, levels: Levels) -> torch.Tensor:
        """Levels (B*T, Ci, Hi, Wi) -> the unified map (B*T, E, H1, W1)."""
        size = levels[0].shape[2:]
        maps = []
        for x, linear in zip(levels, self.linear, strict=True):
            x = linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            maps.append(F.interpolate(x, size, mode="bilinear", align_corners=False) if x.shape[2:] != size else x)
        return self.dropout(F.relu(self.norm(self.fuse(torch.cat(maps[::-1], 1)))))
