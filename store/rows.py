"""What an embedding file holds: rows of vectors with what is recorded per row, and the clips that failed.

Shapes: N rows, D embedding width, T frames per clip.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .item_index import ItemIndex

MIN_NORM, MAX_NORM = 1e-12, 1e12
"""Outside of these a vector's norm says that something broke, and its square or inverse leaves float32."""


class FailedClip(NamedTuple):
    """A clip without a vector: its id, the class of the failure, one line for people."""

    id: str
    kind: str
    message: str


@dataclass(frozen=True)
class Rows:
    """Vectors and what is recorded with each.

    Attributes:
        ids: N external ids.
        vectors_ND: float16 or float32.
        sha256: N hashes of the clip files' bytes, hexadecimal.
        times_seconds_NT: float64, when the frames were shown.
        decoder: N names of the decoder that read the clip.
        short_N: bool, frames repeat because the clip has too few.
    """

    ids: tuple[str, ...]
    vectors_ND: npt.NDArray[np.float32] | npt.NDArray[np.float16]
    sha256: tuple[str, ...]
    times_seconds_NT: npt.NDArray[np.float64]
    decoder: tuple[str, ...]
    short_N: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        count = len(self.ids)
        assert (self.vectors_ND.ndim, self.times_seconds_NT.ndim) == (2, 2), (self.vectors_ND.shape, self.times_seconds_NT.shape)
        lengths = [len(x) for x in (self.vectors_ND, self.sha256, self.times_seconds_NT, self.decoder, self.short_N)]
        assert lengths == [count] * 5, (count, lengths)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> "Rows":
        """The rows with these numbers, in this order."""
        index = np.asarray(rows, dtype=np.int64)
        return Rows(
            ids=tuple(self.ids[row] for row in rows),
            vectors_ND=self.vectors_ND[index],
            sha256=tuple(self.sha256[row] for row in rows),
            times_seconds_NT=self.times_seconds_NT[index],
            decoder=tuple(self.decoder[row] for row in rows),
            short_N=self.short_N[index],
        )

    @classmethod
    def join(cls, parts: Sequence["Rows"]) -> "Rows":
        """All parts one after another; their D and T must agree."""
        return cls(
            ids=tuple(id_ for part in parts for id_ in part.ids),
            vectors_ND=np.concatenate([part.vectors_ND for part in parts]),
            sha256=tuple(sha for part in parts for sha in part.sha256),
            times_seconds_NT=np.concatenate([part.times_seconds_NT for part in parts]),
            decoder=tuple(name for part in parts for name in part.decoder),
            short_N=np.concatenate([part.short_N for part in parts]),
        )

    @classmethod
    def without_frames(
        cls, ids: Sequence[str], vectors_ND: npt.NDArray[np.float32] | npt.NDArray[np.float16], sha256: Sequence[str]
    ) -> "Rows":
        """Rows that were made from no frames: nobody decoded, and the one time of each is NaN."""
        count = len(ids)
        return cls(tuple(ids), vectors_ND, tuple(sha256), np.full((count, 1), np.nan), ("",) * count, np.zeros(count, bool))

    @classmethod
    def empty(cls, dim: int, frames: int) -> "Rows":
        """No rows, of width D = ``dim`` and T = ``frames``."""
        return cls((), np.zeros((0, dim), np.float32), (), np.zeros((0, frames)), (), np.zeros(0, bool))


class RowsById:
    """Rows and failures that come in piece by piece; what comes later about a clip replaces what was known of it."""

    def __init__(self) -> None:
        self._failures: dict[str, FailedClip] = {}
        self._parts: list[Rows] = []
        self._place_of: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._place_of)

    def add(self, rows: Rows) -> None:
        if not len(rows):
            return
        self._parts.append(rows)
        for row, id_ in enumerate(rows.ids):
            self._place_of[id_] = (len(self._parts) - 1, row)
            self._failures.pop(id_, None)

    def fail(self, failure: FailedClip) -> None:
        self._place_of.pop(failure.id, None)
        self._failures[failure.id] = failure

    @property
    def hashes(self) -> dict[str, str]:
        """Hash of the clip file behind every row, by id."""
        return {id_: self._parts[part].sha256[row] for id_, (part, row) in self._place_of.items()}

    @property
    def failures(self) -> list[FailedClip]:
        """Sorted by id."""
        return [self._failures[id_] for id_ in sorted(self._failures)]

    def rows(self, dim: int) -> Rows:
        """All rows, sorted by id; ``dim`` is D of no rows at all."""
        if not self._parts:
            return Rows.empty(dim, 1)
        joined = Rows.join(self._parts)
        starts = np.cumsum([0, *(len(part) for part in self._parts)])
        return joined.take([int(starts[part]) + row for part, row in (self._place_of[id_] for id_ in sorted(self._place_of))])


def vector_faults(vectors_ND: npt.NDArray[np.float32] | npt.NDArray[np.float16]) -> dict[int, str]:
    """Rows that cannot be used and why: NaN or infinite values, all zero, or a norm no healthy encoder gives."""
    finite = np.asarray(np.isfinite(vectors_ND).all(axis=1))
    norms = np.zeros(len(vectors_ND))
    norms[finite] = np.sqrt(np.einsum("nd,nd->n", vectors_ND[finite], vectors_ND[finite], dtype=np.float64))
    faults = {}
    for row in np.flatnonzero(~finite | (norms < MIN_NORM) | (norms > MAX_NORM)):
        if not finite[row]:
            faults[int(row)] = "holds NaN or infinite values"
        else:
            faults[int(row)] = "is all zero" if norms[row] == 0 else f"has the norm {norms[row]:.1e}"
    return faults


def content_sha256(ids: Sequence[str], vectors_ND: npt.NDArray[np.float32] | npt.NDArray[np.float16]) -> str:
    """Hash of ids and vectors in row order: files with one hash say the same thing about the same clips."""
    digest = hashlib.sha256(ItemIndex(ids).sha256.encode())
    digest.update(f"{vectors_ND.dtype.name} {vectors_ND.shape}".encode())
    digest.update(np.ascontiguousarray(vectors_ND, dtype=vectors_ND.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
