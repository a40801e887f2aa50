"""The best items of a list of scores, and the nearest items of an item.

Legend: N items of the catalogue, M of them that training knew, K places, H items of a history, R items of a list, D model width.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import faiss
import numpy as np
import numpy.typing as npt
import torch

from ..recommend.ranker import best_k
from ..recommend.retrieval import FaissIndex
from .errors import NotReady, SearchUnavailable

_HISTORY_FOR_REASONS = 1000  # newest different clips of a history that are looked at


class Place(NamedTuple):
    """An item of a list, by its row, and its score."""

    row: int
    score: float


def products(items_ND: torch.Tensor, vector_D: torch.Tensor) -> torch.Tensor:
    """(N,) inner product of every item with one vector, float32 on the CPU: as fast as the items can be read from memory.

    FAISS's loop over rows; the matrix products of torch take two to four times as long for a single vector (benchmarks/serve_core.py).
    """
    items, vector = items_ND.numpy(), np.ascontiguousarray(vector_D.numpy())
    assert items.dtype == vector.dtype == np.float32 and items.flags.c_contiguous, (items.dtype, vector.dtype, items.strides)
    assert vector.shape == items.shape[1:], (vector.shape, items.shape)
    found = np.empty(len(items), np.float32)
    pointers = [faiss.swig_ptr(array) for array in (found, vector, items)]
    # In every faiss since 1.0, but not in the list of types that it ships.
    faiss.fvec_inner_products_ny(*pointers, items.shape[1], len(items))  # type: ignore[attr-defined]
    return torch.from_numpy(found)


def best(scores_N: torch.Tensor, k: int, left_out: Sequence[int]) -> list[Place]:
    """The ``k`` highest, best first, without the rows ``left_out``; of equal scores the lower row first. Fewer if no more are left.

    Nothing is masked, so that nothing is copied: as many more are looked for as may have to be left out.
    """
    unwanted = set(left_out)
    found, rows = _best_rows(scores_N, min(len(scores_N), k + len(unwanted)))
    return _without(unwanted, rows, found, k)


def _best_rows(scores_N: torch.Tensor, k: int) -> tuple[list[float], list[int]]:
    """As ``best_k``, which is asked only if there are equal scores among the best: two operations in the place of eight."""
    scores, places = scores_N.topk(min(len(scores_N), k + 1))  # one more: who is left out may be as good as the last
    found, rows = scores.tolist(), places.tolist()
    if all(higher > lower for higher, lower in itertools.pairwise(found)):
        return found[:k], rows[:k]
    best_1K, rows_1K = best_k(scores_N[None], k)
    return best_1K[0].tolist(), rows_1K[0].tolist()


def _without(unwanted: set[int], rows: list[int], scores: list[float], k: int) -> list[Place]:
    places = [Place(row, score) for row, score in zip(rows, scores, strict=True) if row >= 0 and row not in unwanted]
    return places[:k]


class AnnSearch:
    """An approximate index over the items of training; items that came later are compared one by one, they are few.

    Args:
        make: the index over M rows; called once, in a thread of its own.
    """

    def __init__(self, make: Callable[[], FaissIndex]) -> None:
        self._done = threading.Event()
        self._index: FaissIndex | None = None
        self._thread = threading.Thread(target=self._build, args=(make,), name="ann index", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        return self._done.is_set()

    def wait(self) -> None:
        """Until the index is made."""
        self._done.wait()

    def best(self, user_D: torch.Tensor, items_ND: torch.Tensor, k: int, left_out: Sequence[int]) -> list[Place]:
        """About the ``k`` best, best first, without the rows ``left_out``.

        Raises:
            NotReady: the index is still being made.
            SearchUnavailable: it could not be made.
        """
        if not self.ready:
            raise NotReady("the approximate index is still being made; ask again in a while, or with search=exact.")
        index = self._index
        if index is None:
            raise SearchUnavailable("the approximate index could not be made; ask with search=exact.")
        unwanted = set(left_out)
        scores, rows = index.search(user_D[None], k + len(unwanted))
        places = _without(unwanted, rows[0].tolist(), scores[0].tolist(), k)
        if len(items_ND) > index.num_items:
            later = products(items_ND[index.num_items :], user_D).tolist()
            places += [Place(row, score) for row, score in enumerate(later, index.num_items) if row not in unwanted]
            places.sort(key=lambda place: (-place.score, place.row))
        return places[:k]

    def _build(self, make: Callable[[], FaissIndex]) -> None:
        try:
            self._index = make()
        finally:
            self._done.set()


class Nearness:
    """Cosines of item vectors, without a second copy of them.

    Args:
        items_ND: item vectors.
    """

    def __init__(self, items_ND: torch.Tensor) -> None:
        self.items_ND = items_ND
        self.inverse_N = 1 / items_ND.norm(dim=1).clamp_min(1e-12)

    def to(self, vector_D: torch.Tensor) -> torch.Tensor:
        """(N,) cosines of every item to ``vector_D``."""
        return products(self.items_ND, vector_D) * self.inverse_N / vector_D.norm().clamp_min(1e-12)

    def unit(self, rows: Sequence[int]) -> torch.Tensor:
        """(len(rows), D) vectors of length 1."""
        index = torch.tensor(list(rows), dtype=torch.int64)
        return self.items_ND[index] * self.inverse_N[index, None]

    def reasons(self, rows: Sequence[int], history: Sequence[int], count: int) -> list[list[Place]]:
        """For each of ``rows`` the ``count`` nearest different items of a history, nearest first; of its newest thousand."""
        watched = _newest_different(history, _HISTORY_FOR_REASONS)
        if not rows or not watched or not count:
            return [[] for _ in rows]
        cosines_RH = self.unit(rows) @ self.unit(watched).T
        values, places = cosines_RH.topk(min(count, len(watched)), dim=1)
        return [
            [Place(watched[place], value) for place, value in zip(row_places, row_values, strict=True)]
            for row_places, row_values in zip(places.tolist(), values.tolist(), strict=True)
        ]


def _newest_different(history: Sequence[int], count: int) -> list[int]:
    """Newest first; a history of a million is not gone through for its last thousand."""
    found: dict[int, None] = {}
    for row in reversed(history):
        found[row] = None
        if len(found) == count:
            break
    return list(found)


def logarithmic_popularity(counts_N: npt.NDArray[np.int64]) -> torch.Tensor:
    """(N,) between 0 and 1: log(1 + watched) over that of the item that was watched most."""
    counts = torch.from_numpy(counts_N.astype(np.float32)).log1p()
    return counts / counts.max().clamp_min(1e-12)
