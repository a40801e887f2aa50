"""The strong yardstick without learning: what was watched soon after the items of the history.

Shapes: N items, P pairs (a, b) of items of which b was watched soon after a, B histories, L positions.
"""

from typing import Self

import numpy as np
import torch

from ...errors import InputError
from ..layout import Layout
from ..sequences import SequenceBatch, Sequences

WINDOW = 10
DECAY = 0.6
POPULARITY_EXPONENT = 0.25
# Far below any co-visit, so popularity only orders what no neighbour of the history reaches.
_BACK_OFF = 1e-6


class ItemKnn:
    """Forward co-visits with distance decay.

    The weight of a pair is the sum over its occurrences of ``decay ** (distance - 1)``, divided by
    ``(count(a) * count(b)) ** exponent`` so that popular items do not follow everything. The score of an item is the sum of
    its pair weights over the history, older items decayed in the same way; items without any pair come after all others,
    by popularity. The form is an item-based neighbourhood model (Sarwar et al. 2001) over ordered pairs.

    Attributes:
        starts: (N + 1,) int64; the pairs of item a are ``starts[a]`` to ``starts[a + 1]``.
        followers: (P,) int32 item b of each pair.
        weights: (P,) float32.
        counts_N: float32, training interactions of each item.
        decay: factor per step of distance.
    """

    def __init__(self, starts: torch.Tensor, followers: torch.Tensor, weights: torch.Tensor, counts_N: torch.Tensor, decay: float) -> None:
        assert len(starts) == len(counts_N) + 1
        assert int(starts[-1]) == len(followers) == len(weights)
        self.starts, self.followers, self.weights, self.counts_N, self.decay = starts, followers, weights, counts_N, decay

    @classmethod
    def fit(
        cls, train: Sequences, num_items: int, *, window: int = WINDOW, decay: float = DECAY, exponent: float = POPULARITY_EXPONENT
    ) -> Self:
        """Count ordered pairs at most ``window`` places apart in the training sequences."""
        owner = np.repeat(np.arange(len(train)), train.lengths)
        keys, values = [np.zeros(0, np.int64)], [np.zeros(0)]
        for distance in range(1, window + 1):
            first = np.flatnonzero(owner[distance:] == owner[:-distance])
            keys.append(train.items[first].astype(np.int64) * num_items + train.items[first + distance])
            values.append(np.full(len(first), decay ** (distance - 1)))
        pairs, inverse = np.unique(np.concatenate(keys), return_inverse=True)
        visits = np.bincount(inverse, weights=np.concatenate(values), minlength=len(pairs))
        before, after = pairs // num_items, pairs % num_items
        counts = np.bincount(train.items, minlength=num_items).astype(np.float64)
        weights = visits / (counts[before] * counts[after]) ** exponent
        starts = np.searchsorted(before, np.arange(num_items + 1))
        return cls(
            torch.from_numpy(starts.astype(np.int64)),
            torch.from_numpy(after.astype(np.int32)),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(counts.astype(np.float32)),
            decay,
        )

    def score(self, batch: SequenceBatch) -> torch.Tensor:
        """(B, N) float32 on the CPU."""
        num_items = len(self.counts_N)
        back_off_N = self.counts_N * (_BACK_OFF / max(1.0, float(self.counts_N.max())))
        scores_BN = back_off_N.repeat(len(batch), 1)
        rows, columns = batch.valid_BL.nonzero(as_tuple=True)
        items = batch.items_BL[rows, columns]
        recency = self.decay ** (batch.lengths_B[rows] - 1 - columns).float()
        per_item = self.starts[items + 1] - self.starts[items]
        # Position of every pair of every history item in the flat arrays.
        source = torch.repeat_interleave(self.starts[items] - per_item.cumsum(0) + per_item, per_item)
        source += torch.arange(len(source))
        target = self.followers[source] + torch.repeat_interleave(rows * num_items, per_item)
        scores_BN.view(-1).index_add_(0, target, self.weights[source] * torch.repeat_interleave(recency, per_item))
        return scores_BN

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a safetensors file keeps."""
        return {
            "starts": self.starts,
            "followers": self.followers,
            "weights": self.weights,
            "counts": self.counts_N,
            "decay": torch.tensor([self.decay], dtype=torch.float64),
        }

    @staticmethod
    def layout(num_items: int) -> Layout:
        """Of ``tensors``, for a catalogue of N items."""
        return {
            "starts": (torch.int64, (num_items + 1,)),
            "followers": (torch.int32, (None,)),
            "weights": (torch.float32, (None,)),
            "counts": (torch.float32, (num_items,)),
            "decay": (torch.float64, (1,)),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """The model that ``tensors`` were taken from.

        Raises:
            InputError: they lead out of the catalogue.
        """
        starts, followers = tensors["starts"], tensors["followers"]
        ordered = int(starts[0]) == 0 and int(starts[-1]) == len(followers) == len(tensors["weights"]) and bool((starts.diff() >= 0).all())
        if not ordered or (len(followers) and not 0 <= int(followers.min()) <= int(followers.max()) < len(tensors["counts"])):
            raise InputError("starts, followers and weights of model.safetensors are not those of one table of pairs; train the run again.")
        return cls(tensors["starts"], tensors["followers"], tensors["weights"], tensors["counts"], float(tensors["decay"][0]))
