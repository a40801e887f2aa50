"""Watch histories as arrays.

Shapes: U users, S sequences, Q questions, N items of the catalogue, B sequences of a batch, L positions.
Items are rows of an ``ItemIndex``, counted from 0. Inside every sequence the oldest item comes first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..store.item_index import ItemIndex


@dataclass(frozen=True)
class Sequences:
    """Sequences of item rows of different lengths, in compressed form (CSR).

    Attributes:
        offsets: (S+1,) int64; sequence s is ``items[offsets[s]:offsets[s + 1]]``.
        items: (total,) int32 item rows.
    """

    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        assert self.offsets.dtype == np.int64 and self.items.dtype == np.int32, (self.offsets.dtype, self.items.dtype)
        assert self.offsets[0] == 0 and self.offsets[-1] == len(self.items)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, s: int) -> npt.NDArray[np.int32]:
        return self.items[self.offsets[s] : self.offsets[s + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[np.int32]]:
        return (self[s] for s in range(len(self)))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    def take(self, rows: npt.NDArray[np.int64]) -> "Sequences":
        """The sequences ``rows``, in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        where = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Sequences(offsets, self.items[where])


@dataclass(frozen=True)
class Interactions:
    """Everything every user watched, in time order (stable: ties keep the order of the file).

    Attributes:
        users: external user ids and their rows.
        items: external item ids and their rows.
        histories: (U sequences) item rows per user row, oldest first.
        times_ms: (total,) int64 Unix milliseconds parallel to ``histories.items``, or None if the file has only order.
        source: path of the file and its format, for the protocol card.
        sha256: hash of the file's bytes.
    """

    users: ItemIndex
    items: ItemIndex
    histories: Sequences
    times_ms: npt.NDArray[np.int64] | None
    source: str
    sha256: str

    def __post_init__(self) -> None:
        assert len(self.users) == len(self.histories)
        assert self.times_ms is None or len(self.times_ms) == len(self.histories.items)

    def __len__(self) -> int:
        """Number of interactions."""
        return len(self.histories.items)


@dataclass(frozen=True)
class Questions:
    """What an evaluation asks: after this history, where does the target rank?

    Attributes:
        users: (Q,) int32 rows of the split's users.
        histories: (Q sequences) what the model is shown.
        targets: (Q,) int32 the item that came next.
        seen: (Q sequences) items watched before, by the protocol's rule.
        masks_seen: these are not to be recommended. A target among them (a repeat) is masked like them: a certain miss, counted
            in the protocol card.
    """

    users: npt.NDArray[np.int32]
    histories: Sequences
    targets: npt.NDArray[np.int32]
    seen: Sequences
    masks_seen: bool = True

    def __post_init__(self) -> None:
        assert len(self.users) == len(self.histories) == len(self.targets) == len(self.seen)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: npt.NDArray[np.int64]) -> "Questions":
        """The questions ``rows``, in that order."""
        return Questions(self.users[rows], self.histories.take(rows), self.targets[rows], self.seen.take(rows), self.masks_seen)

    @property
    def masked(self) -> Sequences:
        """(Q sequences) items that are not ranked."""
        return self.seen if self.masks_seen else Sequences(np.zeros(len(self) + 1, np.int64), np.zeros(0, np.int32))


@dataclass(frozen=True)
class SequenceBatch:
    """Some histories, padded on the right to one length; the padding's content is never looked at.

    Attributes:
        items_BL: int64 item rows; positions at or beyond ``lengths_B`` hold 0 and mean nothing.
        lengths_B: int64, each at least 1.
        users_B: int64 rows of the users whose histories these are; None: nobody known.
    """

    items_BL: torch.Tensor
    lengths_B: torch.Tensor
    users_B: torch.Tensor | None = None

    @staticmethod
    def of(sequences: Sequences, rows: npt.NDArray[np.int64], users: npt.NDArray[np.integer[Any]] | None = None) -> "SequenceBatch":
        """The sequences ``rows`` as one padded batch on the CPU; ``users`` are those of the rows."""
        lengths = sequences.lengths[rows]
        columns = np.arange(int(lengths.max()) if len(rows) else 0)
        valid = columns[None, :] < lengths[:, None]
        source = np.minimum(sequences.offsets[rows][:, None] + columns[None, :], max(len(sequences.items) - 1, 0))
        items = np.where(valid, sequences.items[source], 0)
        users_B = None if users is None else torch.from_numpy(users.astype(np.int64))
        return SequenceBatch(torch.from_numpy(items.astype(np.int64)), torch.from_numpy(lengths), users_B)

    def __len__(self) -> int:
        return len(self.lengths_B)

    @property
    def valid_BL(self) -> torch.Tensor:
        """bool, True where an item stands."""
        return torch.arange(self.items_BL.shape[1], device=self.items_BL.device)[None, :] < self.lengths_B[:, None]

    def to(self, device: torch.device) -> "SequenceBatch":
        users_B = None if self.users_B is None else self.users_B.to(device)
        return SequenceBatch(self.items_BL.to(device), self.lengths_B.to(device), users_B)
