"""Models that score pairs of a history and an item: more than a product of two vectors, so that no index can serve them.

Legend: B histories, L positions, M items, D width, H hidden width.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from ..config import ModelConfig
from .dropout import Dropout


class PairModel(Protocol):
    """Reads histories once, then scores any items after each of them."""

    def read(self, items_BLD: torch.Tensor, lengths_B: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What is kept of histories, oldest item first, padded on the right; each tensor (B, ...)."""

    def scores(self, read: tuple[torch.Tensor, ...], items_MD: torch.Tensor) -> torch.Tensor:
        """(B, M)."""


class _BiInteraction(nn.Module):
    """The fields of a factorisation machine are the items of a history and the candidate: all products of two of them, summed.

    With sums s of the history and q of its squares that is (s*s - q) / 2 + s * c, elementwise, for a candidate c.
    """

    def read(self, items_BLD: torch.Tensor, lengths_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum, products among the history), both (B, D)."""
        valid_BL = torch.arange(items_BLD.shape[1], device=items_BLD.device) < lengths_B[:, None]
        items_BLD = items_BLD * valid_BL[..., None]
        sum_BD = items_BLD.sum(1)
        return sum_BD, (sum_BD.square() - items_BLD.square().sum(1)) / 2


class Nfm(nn.Module):
    """Neural factorisation machine: bi-interaction pooling, batch norm, one hidden layer.

    Source: He and Chua, "Neural factorization machines" (2017), eq. 3 to 7, with the fields of MicroLens, which has no first-order
    terms. The published MicroLens code clips scores at 0, as a ReLU follows the last layer; here they are free.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.d_model
        self.pool = _BiInteraction()
        self.norm = nn.BatchNorm1d(width)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, 1, bias=False)
        self.dropout = Dropout(config.dropout)

    def read(self, items_BLD: torch.Tensor, lengths_B: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.pool.read(items_BLD, lengths_B)

    def scores(self, read: tuple[torch.Tensor, ...], items_MD: torch.Tensor) -> torch.Tensor:
        sum_BD, among_BD = read
        pooled_BMD = among_BD[:, None] + sum_BD[:, None] * items_MD
        normed_BMD = self.norm(pooled_BMD.flatten(0, 1)).view_as(pooled_BMD)
        hidden_BMD = F.relu(self.hidden(self.dropout(normed_BMD)))
        scores_BM1: torch.Tensor = self.out(self.dropout(hidden_BMD))
        return scores_BM1[..., 0]


class DeepFm(nn.Module):
    """A factorisation machine's second order, plus one hidden layer over all fields side by side.

    Source: Guo et al., "DeepFM" (2017), eq. 1 to 4, with the fields of MicroLens, which has no first-order terms. The layer over
    ``max_len`` history items and the candidate is a sum of a part of each, so that a history passes it once for all candidates.
    """

    def __init__(self, config: ModelConfig, max_len: int) -> None:
        super().__init__()
        width = config.d_model
        self.max_len = max_len
        self.pool = _BiInteraction()
        self.history = nn.Linear(max_len * width, width)
        self.candidate = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, 1, bias=False)
        self.dropout = Dropout(config.dropout)

    def read(self, items_BLD: torch.Tensor, lengths_B: torch.Tensor) -> tuple[torch.Tensor, ...]:
        length = items_BLD.shape[1]
        # The newest item is always in the same field; fields before the first item are empty.
        places_BL = torch.arange(self.max_len, device=items_BLD.device) + (lengths_B - self.max_len)[:, None]
        fields_BLD = items_BLD.take_along_dim(places_BL.clamp(0, length - 1)[..., None], 1) * (places_BL >= 0)[..., None]
        return (*self.pool.read(items_BLD, lengths_B), self.history(fields_BLD.flatten(1)))

    def scores(self, read: tuple[torch.Tensor, ...], items_MD: torch.Tensor) -> torch.Tensor:
        sum_BD, among_BD, history_BH = read
        second_BM = among_BD.sum(1, keepdim=True) + sum_BD @ items_MD.T
        hidden_BMH = F.relu(history_BH[:, None] + self.candidate(items_MD))
        deep_BM1: torch.Tensor = self.out(self.dropout(hidden_BMH))
        return second_BM + deep_BM1[..., 0]
