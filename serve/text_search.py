"""Finding ids and titles by what people type."""

from collections.abc import Sequence

import polars as pl


class TextSearch:
    """Places of entries whose id begins with a text, or whose title holds it, whatever the case. It never changes.

    A search looks at every entry, in compiled code that lets other threads go on: a tenth of a second for a million.

    Args:
        ids: one for each entry.
        titles: the same; None: there are none.
    """

    def __init__(self, ids: Sequence[str] = (), titles: Sequence[str] | None = None) -> None:
        self._ids = _folded(ids)
        self._titles = _folded([""] * len(ids) if titles is None else titles)

    def __len__(self) -> int:
        return len(self._ids)

    def extended(self, ids: Sequence[str], titles: Sequence[str]) -> "TextSearch":
        """The same with more entries after those it has."""
        other = TextSearch(ids, titles)
        other._ids, other._titles = pl.concat([self._ids, other._ids]), pl.concat([self._titles, other._titles])
        return other

    def places(self, query: str, among: pl.Series | None = None) -> pl.Series:
        """Places of what was found, ascending; of everything for an empty query.

        Args:
            among: bool for each entry, those that may be found; None: all.
        """
        text = _fold(query)
        found = self._ids.str.starts_with(text)
        if text:
            found = found | self._titles.str.contains(text, literal=True)
        return (found if among is None else found & among).arg_true()


def _folded(texts: Sequence[str]) -> pl.Series:
    return pl.Series([_fold(text) for text in texts], dtype=pl.String)


def _fold(text: str) -> str:
    """Without case, and as text that can be written, which an id from a file may not be."""
    return text.casefold().encode("utf-8", "replace").decode()
