"""Top-K lists from a FAISS index, and how far they agree with exact ones.

Legend: B users, N items, K places, D width.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import faiss
import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError
from .ranker import TopK
from .scorers import TableScorer, VectorScorer
from .sequences import Questions, SequenceBatch

Kind = Literal["flat", "hnsw", "ivf"]


class FaissIndex:
    """Inner-product search over item vectors.

    Args:
        kind: ``flat`` is exact; ``hnsw`` (graph, M = 32, efSearch 128) and ``ivf`` (4 sqrt(N) cells, a sixteenth of them probed)
            are approximate.
        items_ND: item vectors.
    """

    def __init__(self, kind: Kind, items_ND: torch.Tensor) -> None:
        items = np.ascontiguousarray(items_ND.detach().float().cpu().numpy())
        self.kind = kind
        self.num_items = len(items)
        self.index = _BUILD[kind](items)
        self.index.add(items)
        self._options: dict[str, Any] = {}

    @classmethod
    def around(cls, kind: Kind, index: Any, rows: int | None = None) -> Self:
        """Over an index of FAISS that holds the item vectors already.

        Args:
            rows: the first so many of them are searched, and the others never found; None: all.
        """
        self = cls.__new__(cls)
        self.kind, self.num_items, self.index = kind, index.ntotal if rows is None else rows, index
        self._options = {} if self.num_items == index.ntotal else {"params": _ONLY[kind](index, faiss.IDSelectorRange(0, self.num_items))}
        return self

    def search(self, users_BD: torch.Tensor, k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """(scores, rows) of the ``k`` nearest items, best first; row -1 where the index found fewer."""
        queries = np.ascontiguousarray(users_BD.detach().float().cpu().numpy())
        scores, rows = self.index.search(queries, min(k, self.num_items), **self._options)
        return scores, rows


def _flat(items_ND: npt.NDArray[np.float32]) -> Any:
    return faiss.IndexFlatIP(items_ND.shape[1])


def _hnsw(items_ND: npt.NDArray[np.float32]) -> Any:
    index = faiss.IndexHNSWFlat(items_ND.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    index.hnsw.efSearch = 128
    return index


def _ivf(items_ND: npt.NDArray[np.float32]) -> Any:
    num_items, width = items_ND.shape
    # FAISS wants at least 39 training vectors a cell.
    cells = max(1, min(int(4 * num_items**0.5), num_items // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
    index.train(items_ND)
    index.nprobe = max(1, cells // 16)
    return index


def read_index(path: Path, kind: Kind, shape: tuple[int, int] | None = None) -> FaissIndex:
    """An index that FAISS wrote to a file.

    Args:
        shape: (N, D) of the items that are searched; there may be more vectors behind them in the file. None: all there are.

    Raises:
        InputError: it cannot be read, or holds vectors of another width, or fewer.
    """
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as a FAISS index; export the run again.") from error
    if shape is not None and (index.ntotal < shape[0] or index.d != shape[1]):
        raise InputError(
            f"{path} holds {index.ntotal} vectors of {index.d} numbers, the run {shape[0]} of {shape[1]}; export the run again."
        )
    return FaissIndex.around(kind, index, None if shape is None else shape[0])


# What a search takes that looks at some rows alone; it says the settings of the index again. The types that faiss ships lack these names.
_ONLY: dict[Kind, Callable[[Any, Any], Any]] = {
    "flat": lambda index, rows: faiss.SearchParameters(sel=rows),  # type: ignore[call-arg]
    "hnsw": lambda index, rows: faiss.SearchParametersHNSW(sel=rows, efSearch=index.hnsw.efSearch),  # type: ignore[attr-defined]
    "ivf": lambda index, rows: faiss.SearchParametersIVF(sel=rows, nprobe=index.nprobe),  # type: ignore[call-arg]
}
_BUILD: dict[Kind, Callable[[npt.NDArray[np.float32]], Any]] = {"flat": _flat, "hnsw": _hnsw, "ivf": _ivf}


def faiss_top_k(index: FaissIndex, scorer: VectorScorer | TableScorer, questions: Questions, k: int, batch: int = 512) -> TopK:
    """The ``k`` best unseen items of every question through the index: enough is asked for to be left with k after masking."""
    items = np.full((len(questions), k), -1, np.int32)
    scores = np.full((len(questions), k), -np.inf, np.float32)
    masked = questions.masked
    order = np.argsort(questions.histories.lengths, kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            users_BD = scorer.users(SequenceBatch.of(questions.histories, rows, questions.users[rows]))
            most_seen = int(masked.lengths[rows].max(initial=0))
            found_scores, found = index.search(users_BD, k + most_seen)
            for place, row in enumerate(rows):
                unseen = (found[place] >= 0) & ~np.isin(found[place], masked[row])
                kept = found[place][unseen][:k]
                items[row, : len(kept)] = kept
                scores[row, : len(kept)] = found_scores[place][unseen][:k]
    return TopK(items, scores, index.num_items)


def agreement(found: TopK, exact: TopK, k: int) -> float:
    """Mean share of the exact top-``k`` list that the other list also holds, whatever the order."""
    shares = [
        len(np.intersect1d(a[a >= 0], b[b >= 0])) / max(int((b >= 0).sum()), 1)
        for a, b in zip(found.items[:, :k], exact.items[:, :k], strict=True)
    ]
    return float(np.mean(shares))
