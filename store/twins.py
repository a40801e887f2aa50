"""Clips that nobody can tell apart by their vectors: one file under several ids, and files whose vectors hardly differ.

Legend: N rows, D embedding width, Q rows that are compared with all, B rows of a block.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .rows import Rows

EXACT_ROWS = 20_000
"""Up to so many rows each is compared with every other (some 10 s at D = 512 on two cores); of more, a sample is."""
SAMPLE_ROWS = 2_000
SAME_VECTOR = 0.01
"""Two vectors of one file may differ by this share of their length: bfloat16 as a whole is off float32 by up to .009 (random b0)."""
EXAMPLES = 10
_BLOCK_ROWS = 2048

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SameFiles:
    """Files that stand under more than one id.

    Attributes:
        files: how many.
        clips: ids of all of them together.
        examples: ids of some.
        conflicts: pairs of ids of one file whose vectors differ, and the distance as a share of the length: one of the two is wrong.
    """

    files: int
    clips: int
    examples: tuple[tuple[str, ...], ...]
    conflicts: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class NearTwins:
    """Clips whose vector is almost that of another file.

    Attributes:
        cosine: from which on two vectors are twins, after the mean of all vectors is taken off.
        rows: N.
        looked_at: rows that were compared with all others: N, or a random sample.
        found: how many of those have a twin.
        examples: the closest pairs of ids, with their cosine.
    """

    cosine: float
    rows: int
    looked_at: int
    found: int
    examples: tuple[tuple[str, str, float], ...]

    @property
    def share(self) -> float:
        """Of the rows that were looked at, how many have a twin."""
        return self.found / self.looked_at if self.looked_at else 0.0


def same_files(rows: Rows) -> SameFiles:
    """Which ids share one file, by the files' hashes; exact for any N."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, sha256 in enumerate(rows.sha256):
        rows_of[sha256].append(row)
    groups = [group for group in rows_of.values() if len(group) > 1]
    conflicts = []
    for group in groups:
        first, *others = rows.vectors_ND[group].astype(np.float64)
        apart = np.linalg.norm(np.array(others) - first, axis=1) / np.linalg.norm(first)
        conflicts += [(rows.ids[group[0]], rows.ids[row], float(d)) for row, d in zip(group[1:], apart, strict=True) if d > SAME_VECTOR]
    return SameFiles(
        files=len(groups),
        clips=sum(map(len, groups)),
        examples=tuple(tuple(rows.ids[row] for row in group[:EXAMPLES]) for group in groups[:EXAMPLES]),
        conflicts=tuple(conflicts),
    )


def near_twins(rows: Rows, mean_D: npt.NDArray[np.float64], *, cosine: float, seed: int) -> NearTwins:
    """Which rows have a twin that is another file.

    The mean is taken off first: a part that all vectors share, as random and untrained encoders have it, would make every cosine
    high. Time grows with Q x N x D and memory does not grow with N.

    Args:
        rows: all rows.
        mean_D: their mean.
        cosine: from which on two vectors are twins.
        seed: of the sample, where one is taken.
    """
    count = len(rows)
    everyone = count <= EXACT_ROWS
    looked_at = np.arange(count) if everyone else np.sort(np.random.default_rng(seed).choice(count, SAMPLE_ROWS, replace=False))
    file_of = _numbered(rows.sha256)
    queries_QD = _directions(rows.vectors_ND[looked_at], mean_D)
    has_twin_N = np.zeros(count, bool)
    closest: dict[tuple[int, int], float] = {}
    for start in range(0, count, _BLOCK_ROWS):
        directions_BD = _directions(rows.vectors_ND[start : start + _BLOCK_ROWS], mean_D)
        for first in range(0, len(looked_at), _BLOCK_ROWS):
            if everyone and first > start:
                break  # these were compared the other way round
            a, b, cosines = _pairs_above(queries_QD[first : first + _BLOCK_ROWS], directions_BD, cosine)
            a, b = looked_at[first + a], start + b
            other = file_of[a] != file_of[b]  # a row is its own file, too
            a, b, cosines = a[other], b[other], cosines[other]
            has_twin_N[a] = True
            if everyone:
                has_twin_N[b] = True
            closest |= {(min(i, j), max(i, j)): value for i, j, value in _closest(a, b, cosines)}
        closest = dict(sorted(closest.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES])
    return NearTwins(
        cosine=cosine,
        rows=count,
        looked_at=len(looked_at),
        found=int(has_twin_N[looked_at].sum()),
        examples=tuple((rows.ids[a], rows.ids[b], value) for (a, b), value in closest.items()),
    )


def _directions(vectors_BD: npt.NDArray[np.float32] | npt.NDArray[np.float16], mean_D: npt.NDArray[np.float64]) -> Floats:
    """(B, D) vectors of length one from the mean to the rows; a row that is the mean has no direction and gets zeros."""
    centred_BD = vectors_BD.astype(np.float64) - mean_D
    lengths_B = np.sqrt(np.einsum("bd,bd->b", centred_BD, centred_BD))
    nowhere_B = lengths_B <= 1e-9 * np.linalg.norm(mean_D)
    centred_BD *= (np.where(nowhere_B, 0.0, 1.0) / np.where(nowhere_B, 1.0, lengths_B))[:, None]
    return centred_BD.astype(np.float32)


def _pairs_above(queries_QD: Floats, directions_BD: Floats, cosine: float) -> tuple[Places, Places, Floats]:
    """Of all pairs whose cosine is that or more: row in the first, row in the second, cosine."""
    cosines_QB = queries_QD @ directions_BD.T
    if cosines_QB.max() < cosine:  # much quicker than looking for places, and the usual case
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    a, b = np.nonzero(cosines_QB >= cosine)
    return a, b, np.minimum(cosines_QB[a, b], 1.0)


def _closest(a: Places, b: Places, cosines: Floats) -> Iterator[tuple[int, int, float]]:
    most = min(2 * EXAMPLES, len(cosines))  # a pair may stand there from both sides
    for place in np.argpartition(-cosines, most - 1)[:most] if most else ():
        yield int(a[place]), int(b[place]), round(float(cosines[place]), 6)  # float32 knows no more, and ties go by row


def _numbered(texts: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """(N,) equal numbers for equal texts."""
    number: dict[str, int] = {}
    return np.fromiter((number.setdefault(text, len(number)) for text in texts), np.int64, len(texts))
