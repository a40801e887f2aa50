"""What people watched before the service began: the interactions a run was trained on.

Legend: I items of the interactions file, L positions.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..recommend.sequences import Interactions
from ..store import ItemIndex


@dataclass(frozen=True)
class BaseHistories:
    """The histories that all events of the service come after.

    Attributes:
        interactions: everything in the file, also what the protocol keeps for its questions: people did watch it. None: nothing.
        trained_users: rows of the users that the run was trained on, for models that know their users by id; None: nobody.
    """

    interactions: Interactions | None = None
    trained_users: ItemIndex | None = None

    @cached_property
    def sha256(self) -> str:
        """Two with one hash give every user the same history."""
        if self.interactions is None:
            return "nothing"
        own = hashlib.sha256(self.interactions.sha256.encode())
        own.update(self.interactions.histories.offsets.tobytes())
        return own.hexdigest()

    def ids_of_items(self) -> tuple[str, ...]:
        """(I,) ids by the rows that ``rows`` gives."""
        return () if self.interactions is None else self.interactions.items.ids

    def rows(self, user: str) -> npt.NDArray[np.int32]:
        """(L,) rows of what ``user`` watched, oldest first, in the items of the file; empty if nobody knows the user."""
        if self.interactions is None or user not in self.interactions.users:
            return np.zeros(0, np.int32)
        return self.interactions.histories[self.interactions.users.row_of(user)]

    def times_ms(self, user: str) -> npt.NDArray[np.int64] | None:
        """(L,) when; None where nobody knows."""
        if self.interactions is None or self.interactions.times_ms is None or user not in self.interactions.users:
            return None
        row = self.interactions.users.row_of(user)
        first, last = self.interactions.histories.offsets[row : row + 2]
        return self.interactions.times_ms[first:last]

    def trained_row(self, user: str) -> int | None:
        """The user's row in training; None: the run was not trained on it."""
        users = self.trained_users
        return None if users is None or user not in users else users.row_of(user)
