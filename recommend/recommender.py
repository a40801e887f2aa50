"""A trained run opened for use: histories in, recommendations out, one constant-time step per watched item."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..store import ItemIndex
from .additions import read_additions
from .checkpoint import RunFolder
from .config import RecommendConfig
from .loading import load_scorer
from .ranker import best_k
from .scorers import VectorScorer, with_items
from .sequences import SequenceBatch


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
        self.max_len = RecommendConfig.model_validate(run.info()["config"]).protocol.max_len
        self.scorer = with_items(load_scorer(run, device), vectors_MD)

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
        state = replace(self._empty(), user=user)
        for id_ in history:
            state = self.step(state, id_)
        return state

    @torch.inference_mode()
    def step(self, state: UserState, item: str) -> UserState:
        """The state after one more watched item; the old state is untouched.

        Raises:
            InputError: the id is not in the catalogue.
        """
        row = self.items.row_of(item)
        watched = (*state.watched, row)
        if not isinstance(self.scorer, VectorScorer):
            return UserState(watched, None, None, state.user)
        user_1D, memory = self.scorer.model.step(self.scorer.items_ND[row : row + 1], state.memory)
        return UserState(watched, memory, user_1D, state.user)

    @torch.inference_mode()
    def top_k(self, state: UserState, k: int, *, exclude_seen: bool = True) -> list[tuple[str, float]]:
        """The ``k`` best items as (id, score), best first; fewer if the catalogue has no more unseen ones.

        Raises:
            InputError: k is not between 1 and the size of the catalogue, or nothing was watched yet.
        """
        self.check_k(k)
        scores_1N = self._scores(state)
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

    def _empty(self) -> UserState:
        memory = self.scorer.model.initial_state(1) if isinstance(self.scorer, VectorScorer) else None
        return UserState((), memory, None)

    def _scores(self, state: UserState) -> torch.Tensor:
        if not state.watched:
            raise InputError("this user has watched nothing that the catalogue knows; give a history of at least one item.")
        if isinstance(self.scorer, VectorScorer):
            assert state.user_1D is not None
            return state.user_1D @ self.scorer.items_ND.T
        rows = torch.tensor([state.watched[-self.max_len :]])
        users = None if state.user is None else torch.tensor([state.user])
        return self.scorer.score(SequenceBatch(rows, torch.tensor([rows.shape[1]]), users))
