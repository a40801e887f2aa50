"""Training batches: a pure function of seed and epoch, so that a resumed run sees exactly what an uninterrupted one would.

Legend: B sequences, L inputs of the longest, P valid positions of the batch, R rows of some items, D model width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .sequences import SequenceBatch, Sequences


@dataclass(frozen=True)
class TrainBatch:
    """Sequences to learn from: the item at position l + 1 is predicted from items 0..l, at every position.

    Attributes:
        sequences: (B, L + 1) items, each sequence at least 2 long.
    """

    sequences: SequenceBatch

    def to(self, device: torch.device) -> "TrainBatch":
        return TrainBatch(self.sequences.to(device))

    @property
    def inputs_BL(self) -> torch.Tensor:
        return self.sequences.items_BL[:, :-1]

    @property
    def valid_BL(self) -> torch.Tensor:
        """bool, True where there is a next item to predict."""
        return self.sequences.valid_BL[:, 1:]

    @property
    def targets_P(self) -> torch.Tensor:
        return self.sequences.items_BL[:, 1:][self.valid_BL]


@dataclass(frozen=True)
class EncodedItems:
    """Vectors of the items that a step needs, each encoded once.

    Attributes:
        vectors_RD: their vectors.
        rows_R: their rows, ascending; None: all N, row r at place r.
    """

    vectors_RD: torch.Tensor
    rows_R: torch.Tensor | None

    def place(self, items: torch.Tensor) -> torch.Tensor:
        """Where the items stand in ``vectors_RD``; every one of them must be there."""
        return items if self.rows_R is None else torch.searchsorted(self.rows_R, items.contiguous())

    def at(self, items: torch.Tensor) -> torch.Tensor:
        """Vectors of ``items``, (..., D)."""
        return torch.nn.functional.embedding(self.place(items), self.vectors_RD)


def train_batches(train: Sequences, *, batch: int, max_len: int, seed: int, epoch: int) -> Iterator[TrainBatch]:
    """One epoch over all sequences of at least two items, in an order that depends on (seed, epoch) alone.

    Each sequence is cut to its newest ``max_len`` inputs and their targets.
    """
    usable = np.flatnonzero(train.lengths >= 2)
    order = np.random.default_rng((seed, epoch)).permutation(usable)
    newest = _newest(train, max_len + 1)
    for start in range(0, len(order), batch):
        yield TrainBatch(SequenceBatch.of(newest, order[start : start + batch]))


def num_batches(train: Sequences, batch: int) -> int:
    """Batches of one epoch."""
    return -(-int((train.lengths >= 2).sum()) // batch)


def _newest(sequences: Sequences, count: int) -> Sequences:
    """Each sequence cut to its last ``count`` items."""
    lengths = sequences.lengths
    if lengths.max(initial=0) <= count:
        return sequences
    kept = np.minimum(lengths, count)
    ends = sequences.offsets[1:]
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    where = np.repeat(ends - kept - offsets[:-1], kept) + np.arange(offsets[-1])
    return Sequences(offsets, sequences.items[where])
