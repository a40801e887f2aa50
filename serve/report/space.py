"""The vectors in which a report looks for neighbours and draws its map.

Shapes: N items of the catalogue, S items of the space, D width.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...recommend.scorers import item_vectors
from .evidence import Evidence, Missing


@dataclass(frozen=True)
class Space:
    """Items of the catalogue that have a vector.

    Attributes:
        rows_S: (S,) their rows in the catalogue, ascending.
        vectors_SD: float32.
        files: hash of the file behind each vector; empty where vectors come from no file.
        words: whose vectors these are.
    """

    rows_S: npt.NDArray[np.int64]
    vectors_SD: npt.NDArray[np.float32]
    files: tuple[str, ...]
    words: str

    def __post_init__(self) -> None:
        assert len(self.rows_S) == len(self.vectors_SD) and len(self.files) in (0, len(self.rows_S))

    def __len__(self) -> int:
        return len(self.rows_S)

    def directions(self) -> npt.NDArray[np.float32]:
        """(S, D) vectors of length one from the mean to the items; the mean is what all share and tells nothing apart.

        An item that is the mean has no direction and gets zeros.
        """
        centred_SD = self.vectors_SD - self.vectors_SD.mean(0, dtype=np.float64).astype(np.float32)
        lengths_S1 = np.linalg.norm(centred_SD, axis=1, keepdims=True)
        directions: npt.NDArray[np.float32] = centred_SD / np.where(lengths_S1 > 0, lengths_S1, 1).astype(np.float32)
        return directions


def space_of(evidence: Evidence) -> Space | Missing:
    """The stored vectors of the catalogue's items; in a run without any, those that its model learned."""
    store = evidence.store
    if store is not None:
        rows_N = store.ids.rows_of(evidence.items.ids)
        present_S = np.flatnonzero(rows_N >= 0)
        stored_S = rows_N[present_S]
        files = tuple(store.rows.sha256[row] for row in stored_S)
        return Space(present_S, store.vectors_ND[stored_S], files, f"the stored vectors, made from {store.recipe.made_from}")
    learned_ND = item_vectors(evidence.scorer)
    if learned_ND is None:
        return Missing(f"{evidence.name} counts, and has no vectors of items.", "vivim train-rec --model mamba")
    vectors_ND = learned_ND.detach().float().cpu().numpy()
    return Space(np.arange(len(vectors_ND)), vectors_ND, (), "the vectors that the model learned, by who watched what")
