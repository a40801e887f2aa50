"""A trained run opened for use: histories in, recommendations out, one constant-time step per watched item.

Legend: N items of the catalogue, M new ones, D model width, L positions.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError
from ..store import ItemIndex
from .additions import read_additions
from .checkpoint import RunFolder
from .loading import load_scorer
from .models.vector_model import step_of
from .ranker import best_k
from .scorers import PairScorer, TableScorer, VectorScorer, with_items
from .sequences import SequenceBatch

# Items that are read at once: a history of a million items takes no more memory than one of a few thousand.
_AT_ONCE = 2048


@dataclass(frozen=True)
class UserState:
    """What a recommender knows of one user.

    Attributes:
        watched: rows of everything that was watched, oldest first; not recommended again.
        memory: state of the user model; None for models that read the whole history each time.
        user_1D: user vector after the newest item; None before the first.
        user: row of a user of training, for models that know their users by id; None: nobody known.
    """

    watched: tuple[int, ...]
    memory: Any
    user_1D: torch.Tensor | None
    user: int | None = None


class Recommender:
    """Answers for one run: over its catalogue, and behind it the items that were added since.

    ``state(history)`` followed by ``step(state, item)`` equals ``state(history + [item])``; with the Mamba model a step costs
    the same whatever the length of the history.
    """

    def __init__(self, run: RunFolder, device: str = "cpu") -> None:
        catalogue, _ = run.catalogue()
        added, vectors_MD = read_additions(run)
        self.items = ItemIndex((*catalogue.ids, *added))
        self.max_len = run.config().protocol.max_len
        self.scorer = with_items(load_scorer(run, device), vectors_MD)
        with torch.inference_mode():
            self._step = step_of(self.scorer.model) if isinstance(self.scorer, VectorScorer) else None

    @staticmethod
    def open(path: Path, device: str = "cpu") -> "Recommender":
        """Open a run's folder.

        Raises:
            InputError: it is not a run, or is damaged.
        """
        return Recommender(RunFolder.open(path), device)

    @torch.inference_mode()
    def state(self, history: Iterable[str] = (), user: int | None = None) -> UserState:
        """The state of a user with this history of item ids, oldest first; starts from nothing, reads every item once.

        Args:
            history: item ids.
            user: row of the user in training, if it is one.

        Raises:
            InputError: an id is not in the catalogue.
        """
        return self.continued(self.nothing(user), [self.items.row_of(id_) for id_ in history])

    @torch.inference_mode()
    def step(self, state: UserState, item: str) -> UserState:
        """The state after one more watched item; the old state is untouched.

        Raises:
            InputError: the id is not in the catalogue.
        """
        return self.continued(state, [self.items.row_of(item)])

    @torch.inference_mode()
    def continued(self, state: UserState, rows: Sequence[int]) -> UserState:
        """The state after some more watched items, given by their rows in ``items``; the old state is untouched.

        One is a step; many are read side by side, which gives the same but for rounding.
        """
        if not rows:
            return state
        watched = (*state.watched, *rows)
        if not isinstance(self.scorer, VectorScorer):
            return UserState(watched, None, None, state.user)
        items_ND, model = self.scorer.items_ND, self.scorer.model
        if len(rows) == 1:
            assert self._step is not None
            after_1D, memory = self._step(items_ND[rows[0] : rows[0] + 1], state.memory)
            return UserState(watched, memory, after_1D, state.user)
        user_1D: torch.Tensor | None = None
        memory = state.memory
        for start in range(0, len(rows), _AT_ONCE):
            rows_L = torch.tensor(rows[start : start + _AT_ONCE], device=items_ND.device)
            user_1D, memory = model.read(items_ND[rows_L][None], memory)
        return UserState(watched, memory, user_1D, state.user)

    def extended(self, ids: Sequence[str], vectors_MD: npt.NDArray[np.float32]) -> "Recommender":
        """The same model with more items, after those it has; states stay what they are.

        Args:
            ids: M of them, unknown to the catalogue.
            vectors_MD: of the run's item encoder.

        Raises:
            InputError: an id is known already; vectors of another width; a model that scores by no vectors of its own.
        """
        if not isinstance(self.scorer, VectorScorer | TableScorer | PairScorer):
            raise InputError("this model counts, or compares stored vectors; new items need one that scores by item vectors of its own.")
        width = self.scorer.items_ND.shape[1]
        if vectors_MD.shape != (len(ids), width):
            raise InputError(f"{len(ids)} new items come with vectors of shape {vectors_MD.shape}; this model needs {(len(ids), width)}.")
        other = copy(self)
        other.items = ItemIndex((*self.items.ids, *ids))
        other.scorer = with_items(self.scorer, vectors_MD)
        return other

    @torch.inference_mode()
    def top_k(self, state: UserState, k: int, *, exclude_seen: bool = True) -> list[tuple[str, float]]:
        """The ``k`` best items as (id, score), best first; fewer if the catalogue has no more unseen ones.

        Raises:
            InputError: k is not between 1 and the size of the catalogue, or nothing was watched yet.
        """
        self.check_k(k)
        scores_1N = self.scores(state)
        if exclude_seen:
            scores_1N = scores_1N.clone()
            scores_1N[0, list(state.watched)] = -torch.inf
        best, rows = best_k(scores_1N, k)
        pairs = zip(rows[0].tolist(), best[0].tolist(), strict=True)
        return [(self.items.ids[row], score) for row, score in pairs if score != -torch.inf]

    def check_k(self, k: int) -> None:
        """Raise ``InputError`` unless 1 <= k <= N."""
        if not 1 <= k <= len(self.items):
            raise InputError(f"k = {k} is not between 1 and the {len(self.items)} items of the catalogue.")

    def known(self, ids: Sequence[str]) -> list[str]:
        """Those of ``ids`` that the catalogue holds, in the same order."""
        return [id_ for id_ in ids if id_ in self.items]

    def nothing(self, user: int | None = None) -> UserState:
        """The state of somebody who watched nothing; ``user``: row of the user in training, if it is one."""
        memory = self.scorer.model.initial_state(1) if isinstance(self.scorer, VectorScorer) else None
        return UserState((), memory, None, user)

    @torch.inference_mode()
    def scores(self, state: UserState) -> torch.Tensor:
        """(1, N) scores of all items, higher is better. It may be a view that must not be written to.

        Raises:
            InputError: nothing was watched yet.
        """
        if not state.watched:
            raise InputError("this user has watched nothing that the catalogue knows; give a history of at least one item.")
        if isinstance(self.scorer, VectorScorer):
            assert state.user_1D is not None
            return state.user_1D @ self.scorer.items_ND.T
        rows = torch.tensor([state.watched[-self.max_len :]])
        users = None if state.user is None else torch.tensor([state.user])
        return self.scorer.score(SequenceBatch(rows, torch.tensor([rows.shape[1]]), users))
