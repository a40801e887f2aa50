"""The gallery: some items and what is nearest to them. Whoever looks sees at once whether vectors know what they look at.

Shapes: S items of the space, Q queries, K neighbours.
"""

from dataclasses import dataclass

import numpy as np

from .evidence import Missing
from .space import Space
from .vectors import Vectors


@dataclass(frozen=True)
class Neighbour:
    """An item near a query.

    Attributes:
        row: in the catalogue.
        cosine: to the query, after the mean is taken off.
        same_file: it is the query's file under another id.
    """

    row: int
    cosine: float
    same_file: bool = False


@dataclass(frozen=True)
class Gallery:
    """What ``look_at_neighbours`` makes.

    Attributes:
        queries: row of the catalogue, and its neighbours, nearest first.
        twins: ids of near-identical vectors of different files, with their cosine, the closest first.
        same_files: ids that share one file.
        twins_known: whether twins were looked for: only among stored vectors.
    """

    queries: tuple[tuple[int, tuple[Neighbour, ...]], ...]
    twins: tuple[tuple[str, str, float], ...]
    same_files: tuple[tuple[str, ...], ...]
    twins_known: bool


def look_at_neighbours(space: Space, vectors: Vectors | Missing, queries: int, neighbours: int, seed: int) -> Gallery:
    """Draw ``queries`` items at random and find their ``neighbours`` by exact search."""
    count = len(space)
    drawn_Q = np.sort(np.random.default_rng([seed, 3]).choice(count, min(queries, count), replace=False))
    directions_SD = space.directions()
    cosines_QS = directions_SD[drawn_Q] @ directions_SD.T
    shown = []
    for query, cosines_S in zip(drawn_Q.tolist(), cosines_QS, strict=True):
        order = [place for place in np.lexsort((np.arange(count), -cosines_S))[: neighbours + 1].tolist() if place != query]
        shown.append((int(space.rows_S[query]), tuple(_neighbour(space, query, place, cosines_S[place]) for place in order[:neighbours])))
    if isinstance(vectors, Missing):
        return Gallery(tuple(shown), (), (), twins_known=False)
    return Gallery(tuple(shown), vectors.health.near.examples, vectors.health.same.examples, twins_known=True)


def _neighbour(space: Space, query: int, place: int, cosine: float) -> Neighbour:
    same = bool(space.files) and space.files[query] == space.files[place]
    return Neighbour(int(space.rows_S[place]), float(cosine), same)
