"""SASRec, the attention yardstick: causal self-attention over a watch history.

Source: Kang and McAuley, "Self-Attentive Sequential Recommendation" (2018), with pre-norm blocks and GELU.
Legend: B histories, L positions, D model width, H heads.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..config import ModelConfig
from .dropout import Dropout


class AttentionLayer(nn.Module):
    """x += attention(norm x); x += feed-forward(norm x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        if d % config.heads:
            raise ValueError(f"model.d_model {d} must divide by model.heads {config.heads}")
        self.heads = config.heads
        self.attention_dropout = config.dropout
        self.norm1 = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.norm2 = nn.LayerNorm(d)
        self.ffn = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), Dropout(config.dropout), nn.Linear(4 * d, d))
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BLD: torch.Tensor, mask_B1LL: torch.Tensor | None) -> torch.Tensor:
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in self.qkv(self.norm1(x_BLD)).chunk(3, -1))
        dropout = self.attention_dropout if self.training else 0.0
        # Padding stands on the right, so the causal mask already keeps it out of every real position.
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B1LL, is_causal=mask_B1LL is None, dropout_p=dropout)
        x_BLD = x_BLD + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x_BLD + self.dropout(self.ffn(self.norm2(x_BLD)))


class SasRecUserModel(nn.Module):
    """A ``VectorModel``. Its state is the last ``max_len`` item vectors: a step reads the window again.

    Args:
        config: see ``ModelConfig``.
        max_len: learned positions; longer histories are cut to their newest items.
    """

    def __init__(self, config: ModelConfig, max_len: int) -> None:
        super().__init__()
        self.max_len = max_len
        self.positions_LD = nn.Parameter(torch.randn(max_len, config.d_model) * 0.02)
        self.norm_in = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(AttentionLayer(config) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(config.d_model)

    def forward(self, items_BLD: torch.Tensor, seq_idx_BL: torch.Tensor | None = None) -> torch.Tensor:
        if seq_idx_BL is None:
            self._require_room(items_BLD.shape[1])
            positions, mask_B1LL = self.positions_LD[: items_BLD.shape[1]], None
        else:
            begin_BL = _begin(seq_idx_BL)
            ages_L = torch.arange(seq_idx_BL.shape[1], device=seq_idx_BL.device)
            since_BL = ages_L - begin_BL
            self._require_room(int(since_BL.max()) + 1 if since_BL.numel() else 0)
            positions = F.embedding(since_BL, self.positions_LD)
            # A key is seen if it is not later than the query and not before the query's own history.
            mask_B1LL = ((ages_L <= ages_L[:, None]) & (ages_L >= begin_BL[..., None]))[:, None]
        x_BLD = self.dropout(self.norm_in(items_BLD + positions))
        for layer in self.layers:
            x_BLD = layer(x_BLD, mask_B1LL)
        return self.norm_out(x_BLD)

    def _require_room(self, length: int) -> None:
        if length > self.max_len:
            raise ValueError(f"{length} items are more than the {self.max_len} positions of this SASRec; keep the newest {self.max_len}")

    def initial_state(self, batch: int) -> torch.Tensor:
        return self.positions_LD.new_zeros(batch, 0, self.positions_LD.shape[1])

    def step(self, item_BD: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = torch.cat([state, item_BD[:, None]], 1)[:, -self.max_len :]
        return self(state)[:, -1], state

    def read(self, items_BLD: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = torch.cat([state, items_BLD[:, -self.max_len :]], 1)[:, -self.max_len :]
        return self(state)[:, -1], state


def _begin(seq_idx_BL: torch.Tensor) -> torch.Tensor:
    """(B, L) place in its row of the first item of each place's history."""
    changed_BL = F.pad(seq_idx_BL[:, 1:] != seq_idx_BL[:, :-1], (1, 0), value=True)
    places_L = torch.arange(seq_idx_BL.shape[1], device=seq_idx_BL.device)
    return (changed_BL * places_L).cummax(1).values
