"""The items of all runs that are served: their numbers, titles, and a search for them.

Legend: N numbers that were ever given.

A number is given to an id once, and stays: addresses of clips and thumbnails are made of it. The first run's items have the numbers of
its rows.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from .errors import UnknownItem
from .text_search import TextSearch


class ItemInfo(NamedTuple):
    """An item: its id, its number, its title, which may be empty."""

    item: str
    row: int
    title: str


class ItemCatalogue:
    """Items by id and by number. Used from any number of threads.

    Args:
        titles: by id; ids without one are items too.
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self._ids: list[str] = []
        self._row_of: dict[str, int] = {}
        self._lock = threading.Lock()
        self._texts: tuple[TextSearch, pl.Series] = TextSearch(), pl.Series([], dtype=pl.Boolean)

    def show(self, catalogues: Sequence[Sequence[str]]) -> None:
        """Let a search find the items of these catalogues, and no others; new ids get numbers."""
        with self._lock:
            fresh = list(dict.fromkeys(id_ for ids in catalogues for id_ in ids if id_ not in self._row_of))
            for row, id_ in enumerate(fresh, len(self._ids)):
                self._ids.append(id_)
                self._row_of[id_] = row
            shown_N = np.zeros(len(self._ids), bool)
            for ids in catalogues:
                shown_N[[self._row_of[id_] for id_ in ids]] = True
            self._texts = self._texts[0].extended(fresh, [self.title(id_) for id_ in fresh]), pl.Series(shown_N)

    def __len__(self) -> int:
        """Numbers that were ever given."""
        return len(self._ids)

    def info(self, id_: str) -> ItemInfo:
        """An item by its id.

        Raises:
            UnknownItem: no run ever had it.
        """
        row = self._row_of.get(id_)
        if row is None:
            raise UnknownItem(f"unknown item {id_!r}; GET /v1/items lists those that are known.")
        return ItemInfo(id_, row, self.title(id_))

    def title(self, id_: str) -> str:
        """Empty where there is none."""
        return self._titles.get(id_, "")

    def id_at(self, row: int) -> str:
        """The id with a number.

        Raises:
            UnknownItem: the number was never given.
        """
        if not 0 <= row < len(self._ids):
            raise UnknownItem(f"unknown item number {row}; {len(self._ids)} are known.")
        return self._ids[row]

    def search(self, query: str, offset: int, limit: int) -> tuple[int, list[ItemInfo]]:
        """Items whose id begins with ``query`` or whose title holds it, whatever the case: how many, and some of them by number."""
        texts, shown = self._texts
        places = texts.places(query, shown)
        return len(places), [self.info(self._ids[place]) for place in places.slice(offset, limit)]
