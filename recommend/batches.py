"""Training batches: a pure function of seed and epoch, so that a resumed run sees exactly what an uninterrupted one would.

Histories are short and of different lengths, so a row holds several of them, one after another: padded to the longest, more
than half of what a model reads on MicroLens would be padding.

Legend: B sequences, L inputs of the longest, P predictions of the batch, S rows of W places that the model reads, R rows of some
items, D model width.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .sequences import SequenceBatch, Sequences

# Places of a row that holds several histories: enough for little waste, few enough for many rows to be read side by side.
ROW_TOKENS = 64


@dataclass(frozen=True)
class TrainBatch:
    """Sequences to learn from: the item at position l + 1 is predicted from items 0..l, at every position; or, where ``first_target`` is
    0, every item from whose it is.

    Attributes:
        sequences: (B, L + 1) items, each sequence at least 2 long.
        inputs_SW: int64 items as the model reads them; places between histories and row end hold 0 and mean nothing.
        seq_idx_SW: int64 number of the history that a place belongs to, -1 for none; None: one history per row.
        place_P: int64 place among all S * W of every prediction, in the order of ``targets_P``.
        step_seed: from which a loss draws its negatives.
        slots_M: int64 items of all slots of the step's sequences, one sequence after another. With several processes these sequences
            are those of all of them; ``sequences`` are this one's.
        first_slot_B: where each of ``sequences`` begins in ``slots_M``.
        positions: predictions of the step, in all processes.
        first_target: place in a sequence from which on its items are predicted.
    """

    sequences: SequenceBatch
    inputs_SW: torch.Tensor
    seq_idx_SW: torch.Tensor | None
    place_P: torch.Tensor
    step_seed: int
    slots_M: torch.Tensor
    first_slot_B: torch.Tensor
    positions: int
    first_target: int = 1

    @staticmethod
    def pairs(sequences: SequenceBatch, step_seed: int = 0, part: tuple[int, int] = (0, 1)) -> "TrainBatch":
        """Every item with its user, and no order; ``part`` as in ``packed``. The model reads nothing."""
        slots_M, first_slot_B = _slots(sequences)
        positions = len(slots_M)
        if part[1] > 1:
            mine = slice(part[0], None, part[1])
            users_B = None if sequences.users_B is None else sequences.users_B[mine]
            sequences, first_slot_B = SequenceBatch(sequences.items_BL[mine], sequences.lengths_B[mine], users_B), first_slot_B[mine]
        place_P = torch.arange(int(sequences.lengths_B.sum()))
        nothing_SW = torch.zeros(0, 0, dtype=torch.long)
        return TrainBatch(sequences, nothing_SW, None, place_P, step_seed, slots_M, first_slot_B, positions, first_target=0)

    @staticmethod
    def padded(sequences: SequenceBatch) -> "TrainBatch":
        """One history per row, padded to the longest."""
        inputs_BL = sequences.items_BL[:, :-1]
        place_P = sequences.valid_BL[:, 1:].flatten().nonzero()[:, 0]
        return TrainBatch(sequences, inputs_BL, None, place_P, 0, *_slots(sequences), len(place_P))

    @staticmethod
    def packed(sequences: SequenceBatch, row_tokens: int = ROW_TOKENS, step_seed: int = 0, part: tuple[int, int] = (0, 1)) -> "TrainBatch":
        """Rows of about ``row_tokens`` places, or of the longest history; for sequences on the CPU.

        Args:
            part: (r, n): sequences r, r + n, r + 2 n... are this process's.
        """
        slots_M, first_slot_B = _slots(sequences)
        positions = int((sequences.lengths_B - 1).sum())
        rank, count = part
        if count > 1:
            mine = slice(rank, None, count)
            users_B = None if sequences.users_B is None else sequences.users_B[mine]
            sequences, first_slot_B = SequenceBatch(sequences.items_BL[mine], sequences.lengths_B[mine], users_B), first_slot_B[mine]
        lengths_B = sequences.lengths_B.numpy() - 1
        first_B, rows, width = _pack(lengths_B, row_tokens)
        owner_P = np.repeat(np.arange(len(lengths_B)), lengths_B)
        position_P = np.arange(len(owner_P)) - np.repeat(np.cumsum(lengths_B) - lengths_B, lengths_B)
        place_P = first_B[owner_P] + position_P
        inputs, seq_idx = np.zeros(rows * width, np.int64), np.full(rows * width, -1, np.int64)
        inputs[place_P] = sequences.items_BL.numpy()[owner_P, position_P]
        seq_idx[place_P] = owner_P
        arrays = (inputs.reshape(rows, width), seq_idx.reshape(rows, width), place_P)
        inputs_SW, seq_idx_SW, place = map(torch.from_numpy, arrays)
        return TrainBatch(sequences, inputs_SW, seq_idx_SW, place, step_seed, slots_M, first_slot_B, positions)

    def to(self, device: torch.device) -> "TrainBatch":
        seq_idx_SW = None if self.seq_idx_SW is None else self.seq_idx_SW.to(device)
        moved = (self.place_P.to(device), self.step_seed, self.slots_M.to(device), self.first_slot_B.to(device), self.positions)
        return TrainBatch(self.sequences.to(device), self.inputs_SW.to(device), seq_idx_SW, *moved, self.first_target)

    @property
    def share(self) -> float:
        """Of this process in the step's predictions."""
        return len(self.place_P) / self.positions

    @property
    def valid_BL(self) -> torch.Tensor:
        """bool, True where there is an item to predict; the first column is that of ``first_target``."""
        return self.sequences.valid_BL[:, self.first_target :]

    @property
    def targets_P(self) -> torch.Tensor:
        return self.sequences.items_BL[:, self.first_target :][self.valid_BL]

    @property
    def target_slots_P(self) -> torch.Tensor:
        """Where the targets stand in ``slots_M``."""
        places_L = torch.arange(self.first_target, self.sequences.items_BL.shape[1], device=self.first_slot_B.device)
        return (self.first_slot_B[:, None] + places_L)[self.valid_BL]

    @property
    def users_P(self) -> torch.Tensor:
        """Rows of the users whose targets they are."""
        assert self.sequences.users_B is not None
        return self.sequences.users_B[self.valid_BL.nonzero()[:, 0]]


def _slots(sequences: SequenceBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """``slots_M`` and ``first_slot_B`` of all of these sequences."""
    return sequences.items_BL[sequences.valid_BL], sequences.lengths_B.cumsum(0) - sequences.lengths_B


def _pack(lengths_B: npt.NDArray[np.int64], row_tokens: int) -> tuple[npt.NDArray[np.int64], int, int]:
    """(place of each history's first item, number of rows, their width): the longest first, each into the emptiest row."""
    rows = max(1, -(-int(lengths_B.sum()) // max(row_tokens, int(lengths_B.max(initial=0)))))
    row_B, start_B = np.zeros_like(lengths_B), np.zeros_like(lengths_B)
    filled = [(0, row) for row in range(rows)]
    for b in np.argsort(-lengths_B, kind="stable"):
        start, row = filled[0]
        row_B[b], start_B[b] = row, start
        heapq.heapreplace(filled, (start + int(lengths_B[b]), row))
    width = max(used for used, _ in filled)
    return row_B * width + start_B, rows, width


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


def train_batches(
    train: Sequences, *, batch: int, max_len: int, seed: int, epoch: int, part: tuple[int, int] = (0, 1), first_target: int = 1
) -> Iterator[TrainBatch]:
    """One epoch over every target of every sequence, in an order that depends on (seed, epoch) alone.

    A sequence with more than ``max_len`` inputs is cut into several. With several processes each gets its ``part`` of every batch, see
    ``TrainBatch.packed``.

    Args:
        train: a sequence for each user.
        first_target: 0: pairs of users and items instead of next items.
    """
    pieces, users = _pieces(train, max_len, first_target)
    order = np.random.default_rng((seed, epoch)).permutation(len(pieces))
    for step, start in enumerate(range(0, len(order), batch)):
        step_seed = int(np.random.SeedSequence((seed, epoch, step)).generate_state(1, np.uint32)[0])
        rows = order[start : start + batch]
        sequences = SequenceBatch.of(pieces, rows, users[rows])
        yield (TrainBatch.packed if first_target else TrainBatch.pairs)(sequences, step_seed=step_seed, part=part)


def num_batches(train: Sequences, batch: int, max_len: int, first_target: int = 1) -> int:
    """Batches of one epoch."""
    return -(-int(_counts(train, max_len, first_target).sum()) // batch)


def _counts(sequences: Sequences, max_len: int, first_target: int) -> npt.NDArray[np.int64]:
    """Into how many pieces each sequence is cut: 0 where nothing is to be predicted."""
    return -(-(sequences.lengths - first_target).clip(0) // (max_len + 1 - first_target))


def _pieces(sequences: Sequences, max_len: int, first_target: int) -> tuple[Sequences, npt.NDArray[np.int64]]:
    """Pieces of at most ``max_len`` + 1 items, counted from the newest, and whose each is.

    Of next items, a piece begins with the last target of the one before it, so that every item but a sequence's first is predicted once.
    """
    counts = _counts(sequences, max_len, first_target)
    owners = np.repeat(np.arange(len(sequences)), counts)
    back = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = sequences.lengths[owners] - back * (max_len + 1 - first_target)
    lengths = np.minimum(ends, max_len + 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    where = np.repeat(sequences.offsets[:-1][owners] + ends - lengths - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Sequences(offsets, sequences.items[where]), owners
