"""The Mamba user model: causal Mamba-1 blocks over a watch history, with a constant-time update.

Source: Gu and Dao, "Mamba" (2023); the use for next-item prediction follows Liu et al., "Mamba4Rec" (2024), with pre-norm
residual blocks and a loss at every position. Legend: B histories, L positions, D model width.
"""

import torch
from torch import nn

from ...ssm import MambaBlock, MambaState
from ..config import ModelConfig


class MambaLayer(nn.Module):
    """x += mamba(norm x); x += feed-forward(norm x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        self.norm1 = nn.LayerNorm(d)
        self.mixer = MambaBlock(d, config.d_state, config.d_conv, config.expand)
        self.norm2 = nn.LayerNorm(d)
        self.ffn = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(4 * d, d))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BLD: torch.Tensor) -> torch.Tensor:
        x_BLD = x_BLD + self.dropout(self.mixer(self.norm1(x_BLD)))
        return x_BLD + self.dropout(self.ffn(self.norm2(x_BLD)))

    def step(self, x_BD: torch.Tensor, state: MambaState) -> tuple[torch.Tensor, MambaState]:
        mixed, state = self.mixer.step(self.norm1(x_BD), state)
        x_BD = x_BD + mixed
        return x_BD + self.ffn(self.norm2(x_BD)), state


class MambaUserModel(nn.Module):
    """A ``VectorModel``. Its state is the convolution and scan states of its layers: constant size, whatever the history."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(MambaLayer(config) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(config.d_model)

    def forward(self, items_BLD: torch.Tensor) -> torch.Tensor:
        x_BLD = self.dropout(self.norm_in(items_BLD))
        for layer in self.layers:
            x_BLD = layer(x_BLD)
        return self.norm_out(x_BLD)

    def initial_state(self, batch: int) -> tuple[MambaState, ...]:
        return tuple(layer.mixer.initial_state(batch) for layer in self._layers())

    def step(self, item_BD: torch.Tensor, state: tuple[MambaState, ...]) -> tuple[torch.Tensor, tuple[MambaState, ...]]:
        assert not self.training, "a step is for answering, not for training"
        x_BD = self.norm_in(item_BD)
        states = []
        for layer, before in zip(self._layers(), state, strict=True):
            x_BD, after = layer.step(x_BD, before)
            states.append(after)
        return self.norm_out(x_BD), tuple(states)

    def _layers(self) -> list[MambaLayer]:
        return [layer for layer in self.layers if isinstance(layer, MambaLayer)]
