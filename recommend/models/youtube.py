"""YouTube's candidate network: a history is the mean of its items, through layers.

Source: Covington et al., "Deep neural networks for YouTube recommendations" (2016), section 3; the features other than what was
watched are left out, as MicroLens has none. MicroLens names the row and publishes no code for it. Histories and targets share one table
of items, as in all models here; the paper has one for what was watched and another for what is predicted.
Legend: B histories, L positions, D model width.
"""

from itertools import pairwise

import torch
from torch import nn

from ..config import ModelConfig
from .dropout import Dropout
from .rows import Rows

State = tuple[torch.Tensor, torch.Tensor]


class YoutubeUserModel(nn.Module):
    """A ``VectorModel``. Its state is the sum of what was watched, and how much that was.

    Args:
        config: see ``ModelConfig``; ``layers`` hidden layers of twice ``d_model``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, hidden = config.d_model, 2 * config.d_model
        self.norm_in = nn.LayerNorm(width)
        widths = [width, *[hidden] * config.layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            parts += [nn.Linear(before, after), nn.ReLU(), Dropout(config.dropout)]
        self.tower = nn.Sequential(*parts, nn.Linear(widths[-1], width))

    def forward(self, items_BLD: torch.Tensor, seq_idx_BL: torch.Tensor | None = None) -> torch.Tensor:
        x_BLD = self.norm_in(items_BLD)
        if seq_idx_BL is None:
            return self._user(x_BLD.cumsum(1), torch.arange(1, x_BLD.shape[1] + 1, device=x_BLD.device)[:, None])
        rows = Rows.of(seq_idx_BL)
        return self._user(rows.together(rows.apart(x_BLD).cumsum(1)), rows.since_BL[..., None] + 1)

    def _user(self, sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        user: torch.Tensor = self.tower(sums / counts)
        return user

    def initial_state(self, batch: int) -> State:
        zeros = self.norm_in.weight.new_zeros
        return zeros(batch, len(self.norm_in.weight)), zeros(batch, 1)

    def step(self, item_BD: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        assert not self.training, "a step is for answering, not for training"
        state = state[0] + self.norm_in(item_BD), state[1] + 1
        return self._user(*state), state

    def read(self, items_BLD: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        assert not self.training, "reading is for answering, not for training"
        state = state[0] + self.norm_in(items_BLD).sum(1), state[1] + items_BLD.shape[1]
        return self._user(*state), state
