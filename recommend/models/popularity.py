"""The simplest yardstick: everyone is offered what was watched most."""

from typing import Self

import numpy as np
import torch

from ..layout import Layout
from ..sequences import SequenceBatch, Sequences


class Popularity:
    """Scores an item by how often it occurs in training.

    Attributes:
        counts_N: float32, interactions of each item.
    """

    def __init__(self, counts_N: torch.Tensor) -> None:
        self.counts_N = counts_N

    @classmethod
    def fit(cls, train: Sequences, num_items: int) -> Self:
        """Count the training sequences."""
        return cls(torch.from_numpy(np.bincount(train.items, minlength=num_items).astype(np.float32)))

    def score(self, batch: SequenceBatch) -> torch.Tensor:
        """(B, N) float32, the same row for everyone: a view that must not be written to."""
        return self.counts_N.expand(len(batch), -1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a safetensors file keeps."""
        return {"counts": self.counts_N}

    @staticmethod
    def layout(num_items: int) -> Layout:
        """Of ``tensors``, for a catalogue of N items."""
        return {"counts": (torch.float32, (num_items,))}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """The model that ``tensors`` were taken from."""
        return cls(tensors["counts"])
