"""Scoring every item with a trained vector model.

Legend: B histories, L positions, U users, N items, M items that were added, D model width.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ..errors import InputError
from .models.content_mean import ContentMean
from .models.pairs import PairModel
from .models.vector_model import VectorModel
from .ranker import Scorer
from .sequences import SequenceBatch

# Numbers of (B, M, D) at a time. Those of 1 MiB stay in a CPU's cache: three to six times faster there than those of 64 MiB, which keep
# a GPU busy (benchmarks/pair_scores.py).
_PAIR_NUMBERS_CPU = 2**18
_PAIR_NUMBERS_GPU = 2**24


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


class TableScorer:
    """A ``Scorer`` of users that are known by id: user vector . item vector, whatever the history.

    Args:
        users_UD: vectors of the users of training.
        items_ND: vectors of the whole catalogue, on the same device.
    """

    def __init__(self, users_UD: torch.Tensor, items_ND: torch.Tensor) -> None:
        self.users_UD = users_UD
        self.items_ND = items_ND

    def users(self, batch: SequenceBatch) -> torch.Tensor:
        """(B, D).

        Raises:
            InputError: nobody known.
        """
        if batch.users_B is None:
            raise InputError(
                "this model knows the users it was trained on, by id, and nothing of anybody's history: it can be evaluated, and answers "
                "`recommend --user ID`. For histories train a model that reads them, such as mamba."
            )
        return self.users_UD[batch.users_B.to(self.users_UD.device)]

    def score(self, batch: SequenceBatch) -> torch.Tensor:
        """(B, N)."""
        return self.users(batch) @ self.items_ND.T


class PairScorer:
    """A ``Scorer``: every pair of a history and an item on its own, some items at a time.

    Args:
        model: in evaluation mode.
        items_ND: vectors of the whole catalogue, on the model's device.
    """

    def __init__(self, model: PairModel, items_ND: torch.Tensor) -> None:
        self.model = model
        self.items_ND = items_ND

    def score(self, batch: SequenceBatch) -> torch.Tensor:
        """(B, N)."""
        batch = batch.to(self.items_ND.device)
        read = self.model.read(F.embedding(batch.items_BL, self.items_ND), batch.lengths_B)
        numbers = _PAIR_NUMBERS_CPU if self.items_ND.device.type == "cpu" else _PAIR_NUMBERS_GPU
        at_once = max(1, numbers // (len(batch) * self.items_ND.shape[1]))
        return torch.cat([self.model.scores(read, some_MD) for some_MD in self.items_ND.split(at_once)], 1)


# Those that hold a vector of every item.
ItemScorer = VectorScorer | TableScorer | PairScorer


def item_vectors(scorer: Scorer) -> torch.Tensor | None:
    """The vectors of the whole catalogue by which ``scorer`` scores, (N, D); None where it counts instead."""
    match scorer:
        case VectorScorer() | TableScorer() | PairScorer():
            return scorer.items_ND
        case ContentMean():
            return scorer.items_NV
        case _:
            return None


def with_items(scorer: Scorer, vectors_MD: npt.NDArray[np.float32]) -> Scorer:
    """The scorer over M items more, whose rows come after the catalogue's.

    Args:
        vectors_MD: of the run's item encoder. M may be 0.
    """
    if not len(vectors_MD):
        return scorer
    assert isinstance(scorer, VectorScorer | TableScorer | PairScorer), "only to a run with item vectors can items be added"
    items_ND = torch.cat([scorer.items_ND, torch.from_numpy(vectors_MD).to(scorer.items_ND)])
    match scorer:
        case VectorScorer():
            return VectorScorer(scorer.model, items_ND)
        case TableScorer():
            return TableScorer(scorer.users_UD, items_ND)
        case PairScorer():
            return PairScorer(scorer.model, items_ND)
