"""GRU4Rec, the recurrent yardstick.

Source: Hidasi et al., "Session-based recommendations with recurrent neural networks" (2016); trained here like the other models, by a
loss over the catalogue at every position. As in MicroLens's code the state is the user vector, without a layer after it.
Legend: B histories, L positions, D model width.
"""

import torch
from torch import nn

from ..config import ModelConfig
from .dropout import Dropout
from .rows import Rows


class Gru4RecUserModel(nn.Module):
    """A ``VectorModel``. Its state is the hidden state of its layers: constant size, whatever the history.

    Args:
        config: see ``ModelConfig``; ``layers`` recurrent layers of width ``d_model``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(config.d_model, config.d_model, config.layers, batch_first=True, dropout=between)

    def forward(self, items_BLD: torch.Tensor, seq_idx_BL: torch.Tensor | None = None) -> torch.Tensor:
        x_BLD = self.dropout(self.norm_in(items_BLD))
        if seq_idx_BL is None:
            hidden_BLD: torch.Tensor = self.gru(x_BLD)[0]
            return hidden_BLD
        rows = Rows.of(seq_idx_BL)
        return rows.together(self.gru(rows.apart(x_BLD))[0])

    def initial_state(self, batch: int) -> torch.Tensor:
        return self.norm_in.weight.new_zeros(self.gru.num_layers, batch, self.gru.hidden_size)

    def step(self, item_BD: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert not self.training, "a step is for answering, not for training"
        hidden_B1D, state = self.gru(self.norm_in(item_BD)[:, None], state)
        return hidden_B1D[:, 0], state

    def read(self, items_BLD: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert not self.training, "reading is for answering, not for training"
        hidden_BLD, state = self.gru(self.norm_in(items_BLD), state)
        return hidden_BLD[:, -1], state
