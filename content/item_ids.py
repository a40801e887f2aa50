"""Which item each row of a file of vectors belongs to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ..errors import InputError
from ..recommend.readers import SYNONYMS
from ..recommend.tables import DELIMITERS, first_lines, header_of, load_bytes, read_parquet, read_table
from ..store import ItemIndex

ID_NAMES = (*SYNONYMS["item"], "id")
"""What a column of item ids is called."""


@dataclass(frozen=True)
class ItemIds:
    """Ids in the order of the rows.

    Attributes:
        ids: external ids, each once.
        told: for the recipe, how rows got them.
    """

    ids: tuple[str, ...]
    told: dict[str, Any]

    @classmethod
    def counted(cls, count: int, first: int = 1) -> "ItemIds":
        """Consecutive numbers from ``first``; row r of MicroLens's own features is item r + 1.

        Raises:
            InputError: a negative number.
        """
        if first < 0:
            raise InputError(f"--first-id {first} is negative; give the number of the first row's item, 0 or more.")
        return cls(tuple(map(str, range(first, first + count))), {"first": first})

    @classmethod
    def read(cls, path: Path) -> "ItemIds":
        """One id per line, or the column of items of a CSV, TSV or Parquet file.

        Raises:
            InputError: no such file, no column of ids, a blank line, an id that occurs twice.
        """
        data, sha256 = load_bytes(path)
        if data.startswith(b"PAR1"):
            frame = read_parquet(path, data)
            ids = as_text(path, frame[id_column(path, frame.columns)])
        elif any(delimiter in first_lines(data, 1)[0] for delimiter in DELIMITERS):
            names, delimiter, kind = header_of(path, first_lines(data, 1)[0])
            column = id_column(path, names)
            ids = [value or "" for value in read_table(path, data, names, delimiter, kind, [column]).columns[column].to_list()]
        else:
            ids = _lines(path, data)
        try:
            return cls(ItemIndex(ids).ids, {"file": path.name, "sha256": sha256})
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def id_column(path: Path, names: list[str]) -> str:
    """The column of item ids, by its name; of one column only, that one.

    Raises:
        InputError: none or more than one fits.
    """
    found = [name for name in names if name.lower() in ID_NAMES]
    if len(names) == 1:
        return names[0]
    if len(found) != 1:
        fits = f"{' and '.join(map(repr, found))} could each be the item" if found else f"none is called {', '.join(ID_NAMES[:3])}"
        raise InputError(f"{path}: found columns {', '.join(map(repr, names))}; {fits}. Keep one column, or rename them.")
    return found[0]


def as_text(path: Path, column: pl.Series) -> list[str]:
    """The ids of a Parquet column; one that is absent is empty, and refused where ids are checked.

    Raises:
        InputError: neither text nor whole numbers: a number with a fraction has no one way to be written.
    """
    if not (column.dtype.is_integer() or column.dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise InputError(f"{path}: the column {column.name!r} holds {column.dtype}; ids are text or whole numbers. Convert it.")
    return column.cast(pl.String).fill_null("").to_list()


def _lines(path: Path, data: bytes) -> list[str]:
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({error}); convert it, for example with iconv.") from error
    while lines and not lines[-1].strip():
        lines.pop()
    blank = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    if blank is not None:
        raise InputError(f"{path}: line {blank} is blank; every row of the vectors needs its id.")
    start = 1 if lines[0].strip().lower() in ID_NAMES else 0
    return [line.strip() for line in lines[start:]]
