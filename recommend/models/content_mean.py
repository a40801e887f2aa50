"""What looks like what was just watched. The yardstick without learning for content.

Legend: N items, V width of stored vectors, B histories, L positions.
"""

from typing import Self

import torch
import torch.nn.functional as F

from ..content import CatalogueVectors
from ..layout import Layout
from ..sequences import SequenceBatch

DECAY = 0.8


class ContentMean:
    """A history is the mean of its items' vectors, each item back counting ``decay`` times as much; scores are cosines to it.

    Vectors are standardised by dimension and brought to length 1; an item without one is as far from everything as from nothing.

    Attributes:
        items_NV: float32.
        decay: factor per step back.
    """

    def __init__(self, items_NV: torch.Tensor, decay: float) -> None:
        self.items_NV, self.decay = items_NV, decay

    @classmethod
    def of(cls, content: CatalogueVectors, decay: float = DECAY) -> Self:
        """From stored vectors."""
        there = content.vectors_NV[content.present_N]
        scaled = (content.vectors_NV - there.mean(0)) / there.std(0, correction=0).clamp_min(1e-6)
        return cls(F.normalize(scaled, dim=1) * content.present_N[:, None], decay)

    def score(self, batch: SequenceBatch) -> torch.Tensor:
        """(B, N) float32 on the CPU."""
        ages_BL = batch.lengths_B[:, None] - 1 - torch.arange(batch.items_BL.shape[1])
        weights_BL = torch.where(batch.valid_BL, self.decay ** ages_BL.clamp_min(0).float(), 0.0)
        users_BV = torch.einsum("bl,blv->bv", weights_BL, self.items_NV[batch.items_BL])
        return F.normalize(users_BV, dim=1) @ self.items_NV.T

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a safetensors file keeps."""
        return {"items": self.items_NV, "decay": torch.tensor([self.decay], dtype=torch.float64)}

    @staticmethod
    def layout(num_items: int) -> Layout:
        """Of ``tensors``, for a catalogue of N items."""
        return {"items": (torch.float32, (num_items, None)), "decay": (torch.float64, (1,))}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """The model that ``tensors`` were taken from."""
        return cls(tensors["items"], float(tensors["decay"][0]))
