"""Whether the stored vectors are healthy: the numbers of ``store.health``, and the curves behind them.

Shapes: N rows, D embedding width, K singular values.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...store import Health, measure_health
from .evidence import Evidence, Missing
from .extraction import no_vectors

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Vectors:
    """What ``look_at_vectors`` finds.

    Attributes:
        health: in numbers.
        made_from: what the vectors were made from, in words.
        origin: what made them, in words.
        norms_N: (N,) lengths.
        deviations_D: (D,) standard deviation of each dimension over the clips, the largest first.
        spectrum_K: (K,) share of the variance along each principal direction, the largest first.
    """

    health: Health
    made_from: str
    origin: str
    norms_N: Floats
    deviations_D: Floats
    spectrum_K: Floats

    @property
    def items(self) -> str:
        """What has a vector, in a word."""
        return "clips" if self.made_from == "clips" else "items"


def look_at_vectors(evidence: Evidence, seed: int) -> Vectors | Missing:
    """Measure the vectors a run was trained on."""
    store = evidence.store
    if store is None:
        return no_vectors(evidence)
    covariance_DD = covariance(store.vectors_ND)
    variances_K = np.maximum(np.linalg.eigvalsh(covariance_DD)[::-1], 0.0)[: max(1, min(len(store) - 1, store.dim))]
    return Vectors(
        health=measure_health(store.rows, seed=seed),
        made_from=store.recipe.made_from,
        origin=store.recipe.origin_words,
        norms_N=np.sqrt(np.einsum("nd,nd->n", store.vectors_ND, store.vectors_ND, dtype=np.float64)),
        deviations_D=np.sqrt(np.sort(np.maximum(np.diag(covariance_DD), 0.0))[::-1]),
        spectrum_K=variances_K / max(float(variances_K.sum()), np.finfo(np.float64).tiny),
    )


def covariance(vectors_ND: npt.NDArray[np.float32]) -> Floats:
    """(D, D) over the rows; in float64, some rows at a time."""
    mean_D = vectors_ND.mean(0, dtype=np.float64)
    gram_DD = np.zeros((len(mean_D), len(mean_D)))
    for start in range(0, len(vectors_ND), 4096):
        centred_BD = vectors_ND[start : start + 4096] - mean_D
        gram_DD += centred_BD.T @ centred_BD
    return gram_DD / len(vectors_ND)
