"""Scoring every item with a trained vector model.

Legend: B histories, L positions, N items, D model width.
"""

from typing import Any

import torch
import torch.nn.functional as F

from .models.vector_model import VectorModel
from .sequences import SequenceBatch


class VectorScorer:
    """A ``Scorer``: user vector . item vector.

    Args:
        model: in evaluation mode.
        items_ND: vectors of the whole catalogue, on the model's device.
    """

    def __init__(self, model: VectorModel[Any], items_ND: torch.Tensor) -> None:
        self.model = model
        self.items_ND = items_ND

    def users(self, batch: SequenceBatch) -> torch.Tensor:
        """(B, D) user vectors after the last item of each history."""
        batch = batch.to(self.items_ND.device)
        hidden_BLD = self.model(F.embedding(batch.items_BL, self.items_ND))
        return hidden_BLD[torch.arange(len(batch), device=hidden_BLD.device), batch.lengths_B - 1]

    def score(self, batch: SequenceBatch) -> torch.Tensor:
        """(B, N)."""
        return self.users(batch) @ self.items_ND.T
