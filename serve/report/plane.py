"""The map: every item a place in the plane, near what it resembles.

Shapes: S items of the space, P places on the map, D width.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ...errors import MissingExtra
from .space import Space
from .vectors import covariance

Coordinates = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Plane:
    """What ``lay_flat`` makes.

    Attributes:
        rows_P: (P,) rows of the catalogue.
        places_P2: (P, 2) where they are; the axes have no unit.
        method: how they got there, in words.
        of: S, items with a vector.
    """

    rows_P: npt.NDArray[np.int64]
    places_P2: Coordinates
    method: str
    of: int


def lay_flat(space: Space, method: Literal["pca", "umap"], points: int, seed: int) -> Plane:
    """Places of the items, or of ``points`` of them drawn at random.

    Raises:
        MissingExtra: umap is asked for and not installed.
    """
    count = len(space)
    chosen_P = np.arange(count) if count <= points else np.sort(np.random.default_rng([seed, 2]).choice(count, points, replace=False))
    vectors_PD = space.vectors_SD[chosen_P]
    places_P2, words = principal(vectors_PD) if method == "pca" else _umap(vectors_PD, seed)
    return Plane(space.rows_S[chosen_P], places_P2, words, count)


def principal(vectors_PD: npt.NDArray[np.float32]) -> tuple[Coordinates, str]:
    """Coordinates along the two directions of the largest variance, and what they hold of it.

    The sign of a direction is such that its largest component is positive, so that one input has one map.
    """
    variances_D, directions_DD = np.linalg.eigh(covariance(vectors_PD))
    axes_D2 = directions_DD[:, ::-1][:, :2]
    if axes_D2.shape[1] < 2:  # vectors of one number lie on a line
        axes_D2 = np.pad(axes_D2, ((0, 0), (0, 1)))
    signs_2 = np.sign(axes_D2[np.abs(axes_D2).argmax(0), [0, 1]])
    places_P2 = (vectors_PD - vectors_PD.mean(0, dtype=np.float64)) @ (axes_D2 * signs_2)
    share = float(variances_D[::-1][:2].sum() / max(float(variances_D.sum()), np.finfo(np.float64).tiny))
    return places_P2.astype(np.float32), f"PCA: the two directions of the largest variance, which hold {share:.0%} of it"


def _umap(vectors_PD: npt.NDArray[np.float32], seed: int) -> tuple[Coordinates, str]:
    """UMAP by cosine (McInnes et al. 2018), from one seed and so on one thread."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingExtra("umap-learn", extra="umap", why="report.map: umap") from error
    neighbours = min(15, len(vectors_PD) - 1)
    places_P2 = UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1).fit_transform(vectors_PD)
    return np.asarray(places_P2, np.float32), f"UMAP by cosine, {neighbours} neighbours: near means alike, far means little"
