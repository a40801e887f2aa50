"""External text ids and their rows."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InputError


class ItemIndex:
    """A one-to-one map between external ids (opaque text) and rows 0..N-1, in a fixed order.

    Ids are never parsed: ``"007"``, ``"7"``, ``"1e3"`` and ``"NaN"`` are four ids. Rows count from 0; models that
    want a padding row keep it to themselves.

    Raises:
        InputError: an id is empty, holds a control character, or occurs twice.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids: tuple[str, ...] = tuple(ids)
        self._row_of = {id_: row for row, id_ in enumerate(self.ids)}
        bad = [id_ for id_ in self.ids if not id_ or any(ord(c) < 32 or ord(c) == 127 for c in id_)]
        if bad:
            raise InputError(
                f"{len(bad)} ids are empty or hold control characters, the first is {bad[0]!r}; clean the ids in the source file."
            )
        if len(self._row_of) != len(self.ids):
            seen: set[str] = set()
            twice = sorted({id_ for id_ in self.ids if id_ in seen or seen.add(id_)})  # type: ignore[func-returns-value]
            raise InputError(f"{len(twice)} ids occur more than once: {', '.join(twice[:5])}. Every id must be unique.")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._row_of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ItemIndex) and self.ids == other.ids

    def __hash__(self) -> int:
        return hash(self.ids)

    def row_of(self, id_: str) -> int:
        """Row of one id.

        Raises:
            InputError: the id is unknown.
        """
        row = self._row_of.get(id_)
        if row is None:
            raise InputError(f"unknown id {id_!r}; {len(self)} ids are known, for example {', '.join(self.ids[:3])}.")
        return row

    def rows_of(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Rows of many ids, (len(ids),); -1 where an id is unknown."""
        return np.fromiter((self._row_of.get(id_, -1) for id_ in ids), dtype=np.int64, count=len(ids))

    @property
    def sha256(self) -> str:
        """Hash of the ids in order: two indexes with one hash map every id to the same row."""
        digest = hashlib.sha256()
        for id_ in self.ids:
            encoded = id_.encode("utf-8", "surrogateescape")
            digest.update(len(encoded).to_bytes(4, "little"))
            digest.update(encoded)
        return digest.hexdigest()
