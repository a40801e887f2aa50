"""The Mamba user models: causal Mamba-1 or Mamba-2 blocks over a watch history, with a constant-time update.

Source: Gu and Dao, "Mamba" (2023) and Dao and Gu, "Transformers are SSMs" (2024); the use for next-item prediction follows Liu et
al., "Mamba4Rec" (2024), with pre-norm residual blocks and a loss at every position. Legend: B histories, L positions, D model width.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from ...ssm import Mamba2Block, MambaBlock, MambaState, Step
from ..config import ModelConfig
from .dropout import Dropout


class Mixer(Protocol):
    """What a layer asks of the block that carries information from item to item."""

    def __call__(self, x_BLD: torch.Tensor, *, seq_idx: torch.Tensor | None = None) -> torch.Tensor: ...

    def initial_state(self, batch: int) -> MambaState: ...

    def stepper(self) -> Step: ...

    def read(self, x_BLC: torch.Tensor, state: MambaState) -> tuple[torch.Tensor, MambaState]: ...


def mamba1(config: ModelConfig) -> MambaBlock:
    """A step size and a state matrix per channel."""
    return MambaBlock(config.d_model, config.d_state, config.d_conv, config.expand)


def mamba2(config: ModelConfig) -> Mamba2Block:
    """One step size and one decay per head."""
    return Mamba2Block(config.d_model, config.d_state, config.d_conv, config.expand, config.headdim)


class MambaLayer(nn.Module):
    """x += mixer(norm x); x += feed-forward(norm x)."""

    def __init__(self, config: ModelConfig, mixer: MambaBlock | Mamba2Block) -> None:
        super().__init__()
        d = config.d_model
        self.norm1 = nn.LayerNorm(d)
        self.mixer: Mixer = mixer
        self.norm2 = nn.LayerNorm(d)
        self.ffn = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), Dropout(config.dropout), nn.Linear(4 * d, d))
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BLD: torch.Tensor, seq_idx_BL: torch.Tensor | None) -> torch.Tensor:
        x_BLD = x_BLD + self.dropout(self.mixer(self.norm1(x_BLD), seq_idx=seq_idx_BL))
        return x_BLD + self.dropout(self.ffn(self.norm2(x_BLD)))

    def stepper(self) -> Step:
        mix, norm1, norm2 = self.mixer.stepper(), _norm(self.norm1), _norm(self.norm2)
        wide, back = self.ffn[0], self.ffn[3]
        assert isinstance(wide, nn.Linear)
        assert isinstance(back, nn.Linear)
        w1, b1, w2, b2 = wide.weight, wide.bias, back.weight, back.bias

        def step(x_BD: torch.Tensor, state: MambaState) -> tuple[torch.Tensor, MambaState]:
            mixed, state = mix(norm1(x_BD), state)
            x_BD = x_BD + mixed
            return x_BD + F.linear(F.gelu(F.linear(norm2(x_BD), w1, b1)), w2, b2), state

        return step

    def read(self, x_BLD: torch.Tensor, state: MambaState) -> tuple[torch.Tensor, MambaState]:
        mixed, state = self.mixer.read(self.norm1(x_BLD), state)
        x_BLD = x_BLD + mixed
        return x_BLD + self.ffn(self.norm2(x_BLD)), state


class MambaUserModel(nn.Module):
    """A ``VectorModel``. Its state is the convolution and scan states of its layers: constant size, whatever the history.

    Args:
        config: see ``ModelConfig``.
        mixer: makes the mixer of a layer, ``mamba1`` or ``mamba2``.
    """

    def __init__(self, config: ModelConfig, mixer: Callable[[ModelConfig], MambaBlock | Mamba2Block] = mamba1) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(MambaLayer(config, mixer(config)) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(config.d_model)

    def forward(self, items_BLD: torch.Tensor, seq_idx_BL: torch.Tensor | None = None) -> torch.Tensor:
        x_BLD = self.dropout(self.norm_in(items_BLD))
        for layer in self.layers:
            x_BLD = layer(x_BLD, seq_idx_BL)
        return self.norm_out(x_BLD)

    def initial_state(self, batch: int) -> tuple[MambaState, ...]:
        return tuple(layer.mixer.initial_state(batch) for layer in self._layers())

    def step(self, item_BD: torch.Tensor, state: tuple[MambaState, ...]) -> tuple[torch.Tensor, tuple[MambaState, ...]]:
        return self.stepper()(item_BD, state)

    def stepper(self) -> Callable[[torch.Tensor, tuple[MambaState, ...]], tuple[torch.Tensor, tuple[MambaState, ...]]]:
        assert not self.training, "a step is for answering, not for training"
        norm_in, norm_out, layers = _norm(self.norm_in), _norm(self.norm_out), [layer.stepper() for layer in self._layers()]

        def step(item_BD: torch.Tensor, state: tuple[MambaState, ...]) -> tuple[torch.Tensor, tuple[MambaState, ...]]:
            x_BD = norm_in(item_BD)
            states = []
            for layer, before in zip(layers, state, strict=True):
                x_BD, after = layer(x_BD, before)
                states.append(after)
            return norm_out(x_BD), tuple(states)

        return step

    def read(self, items_BLD: torch.Tensor, state: tuple[MambaState, ...]) -> tuple[torch.Tensor, tuple[MambaState, ...]]:
        assert not self.training, "reading is for answering, not for training"
        x_BLD = self.norm_in(items_BLD)
        states = []
        for layer, before in zip(self._layers(), state, strict=True):
            x_BLD, after = layer.read(x_BLD, before)
            states.append(after)
        return self.norm_out(x_BLD[:, -1]), tuple(states)

    def _layers(self) -> list[MambaLayer]:
        return [layer for layer in self.layers if isinstance(layer, MambaLayer)]


def _norm(norm: nn.LayerNorm) -> Callable[[torch.Tensor], torch.Tensor]:
    """A layer norm without its module around it."""
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda x: F.layer_norm(x, shape, weight, bias, eps)
