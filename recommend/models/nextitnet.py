"""NextItNet, the convolutional yardstick: causal convolutions, further and further apart.

Source: Yuan et al., "A simple convolutional generative network for next item recommendation" (2019), residual block (b); dilations 1
and 4, the second convolution of a block twice as far, kernel 3, as in MicroLens's code.
Legend: B histories, L positions, D model width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..config import ModelConfig
from .dropout import Dropout
from .rows import Rows

_KERNEL = 3
_DILATIONS = (1, 4)


class CausalConv(nn.Module):
    """Sees this place and ``2 * dilation`` before it.

    Args:
        width: D.
        dilation: places between taps.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.past = (_KERNEL - 1) * dilation
        self.conv = nn.Conv1d(width, width, _KERNEL, dilation=dilation)

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        x_BDL: torch.Tensor = self.conv(F.pad(x_BLD.transpose(1, 2), (self.past, 0)))
        return x_BDL.transpose(1, 2)


class ConvBlock(nn.Module):
    """x += relu(norm(conv(relu(norm(conv x)))))."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv1, self.norm1 = CausalConv(width, dilation), nn.LayerNorm(width)
        self.conv2, self.norm2 = CausalConv(width, 2 * dilation), nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.past = self.conv1.past + self.conv2.past

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        inner_BLD = F.relu(self.norm1(self.conv1(x_BLD)))
        return x_BLD + self.dropout(F.relu(self.norm2(self.conv2(inner_BLD))))


class NextItNetUserModel(nn.Module):
    """A ``VectorModel``. Its state is the item vectors of the window it can see: a step reads the window again.

    Args:
        config: see ``ModelConfig``; ``layers`` times both dilations.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        dilations = _DILATIONS * config.layers
        self.blocks = nn.ModuleList(ConvBlock(config.d_model, dilation, config.dropout) for dilation in dilations)
        self.window = 1 + sum(block.past for block in self.blocks if isinstance(block, ConvBlock))

    def forward(self, items_BLD: torch.Tensor, seq_idx_BL: torch.Tensor | None = None) -> torch.Tensor:
        x_BLD = self.dropout(self.norm_in(items_BLD))
        if seq_idx_BL is None:
            return self._convolve(x_BLD)
        rows = Rows.of(seq_idx_BL)
        return rows.together(self._convolve(rows.apart(x_BLD)))

    def initial_state(self, batch: int) -> torch.Tensor:
        return self.norm_in.weight.new_zeros(batch, 0, self.norm_in.normalized_shape[0])

    def step(self, item_BD: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = torch.cat([state, item_BD[:, None]], 1)[:, -self.window :]
        return self(state)[:, -1], state

    def read(self, items_BLD: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = torch.cat([state, items_BLD[:, -self.window :]], 1)[:, -self.window :]
        return self(state)[:, -1], state

    def _convolve(self, x_BLD: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return x_BLD
