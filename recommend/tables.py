"""Delimited and Parquet files as columns of text, with the line number of every row.

Everything is read as text: an id ``007`` stays ``007``, ``NaN`` stays ``NaN``. What a row cannot mean is refused with
the file and the first bad lines.
"""

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError

DELIMITERS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "|"}
TYPED_NAME = re.compile(r"^(.+):(token|float|token_seq|float_seq)$")
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Table:
    """Some columns of a file.

    Attributes:
        path: where it was read.
        kind: ``csv``, ``tsv``, ``recbole`` or ``parquet``.
        columns: text (Utf8) columns by header name, blank lines left out; Parquet keeps its own types.
        rows: (R,) int64 index of each row among all rows of the file, blank ones included.
        newlines: (R,) int64 line breaks inside quoted cells up to the start of each row.
    """

    path: Path
    kind: str
    columns: pl.DataFrame
    rows: npt.NDArray[np.int64]
    newlines: npt.NDArray[np.int64]

    def where(self, bad: npt.NDArray[np.bool_], at_most: int = 5) -> str:
        """The first lines that are ``bad`` (R,), for a message: ``line 3, 17 (2 in all)``."""
        found = np.flatnonzero(bad)
        first = found[:at_most]
        # Parquet has no lines; text has a header and counts from 1.
        lines = self.rows[first] + (1 if self.kind == "parquet" else 2) + self.newlines[first]
        word = ("row" if self.kind == "parquet" else "line") + ("s" if len(found) > 1 else "")
        return f"{word} {', '.join(str(int(n)) for n in lines)}" + (f" ({len(found):,} in all)" if len(found) > len(first) else "")


def load_bytes(path: Path) -> tuple[bytes, str]:
    """The content of a file, unzipped if gzip, and the SHA-256 of the file as it lies on disk.

    Raises:
        InputError: no such file, empty, an archive, or text in UTF-16.
    """
    if not path.is_file():
        what = "is a folder; name the file inside it" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}.")
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is a damaged gzip file ({error}); fetch or compress it again.") from error
    if not data.strip():
        raise InputError(f"{path} is empty.")
    if data.startswith(b"PK\x03\x04"):
        raise InputError(f"{path} is a zip archive; unpack it and name the file inside.")
    if data.startswith(_UTF16_BOMS):
        raise InputError(
            f"{path} is text in UTF-16; only UTF-8 is read. Convert it: iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}"
        )
    if not data.startswith(b"PAR1") and b"\x00" in data[:65536]:
        raise InputError(f"{path} holds NUL bytes: it is binary, or text in UTF-16 without a mark. Expected UTF-8 text or Parquet.")
    return data.removeprefix(b"\xef\xbb\xbf"), sha256


def first_lines(data: bytes, count: int) -> list[str]:
    """At most ``count`` whole lines from the start, without line ends."""
    head = data[: 1 << 18]
    lines = head.decode("utf-8", "replace").split("\n")
    if len(data) > len(head):
        lines = lines[:-1] or lines
    return [line.rstrip("\r") for line in lines[:count]]


def header_of(path: Path, line: str) -> tuple[list[str], str, str]:
    """Names, delimiter and kind of a table from its first line; RecBole's ``name:type`` loses the type.

    Raises:
        InputError: blank, one column only, or the same name twice.
    """
    delimiter = max(DELIMITERS, key=line.count)
    if line.count(delimiter) == 0:
        allowed = ", ".join(DELIMITERS.values())
        raise InputError(f"{path}: line 1 is {line[:80]!r}: no columns found. Expected a header with columns separated by {allowed}.")
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    typed = [TYPED_NAME.match(name) for name in names]
    kind = "tsv" if delimiter == "\t" else "csv"
    if delimiter == "\t" and all(typed):
        names, kind = [match[1] for match in typed if match], "recbole"
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: the header names {', '.join(map(repr, twice))} more than once; every column needs its own name.")
    return names, delimiter, kind


def read_table(path: Path, data: bytes, names: list[str], delimiter: str, kind: str, wanted: list[str]) -> Table:
    """The ``wanted`` columns of delimited text whose first line is the header ``names``.

    Raises:
        InputError: invalid UTF-8, a row with too many fields, an unclosed quote.
    """
    # Polars compares a schema with the header it finds, so it is given one whose names hold nothing special.
    header = [f"c{n}" for n in range(len(names))]
    body = data[data.find(b"\n") + 1 :] if b"\n" in data else b""
    try:
        frame = pl.read_csv(
            io.BytesIO(delimiter.join(header).encode() + b"\n" + body),
            schema=dict.fromkeys(header, pl.String),
            separator=delimiter,
            quote_char=None if kind == "recbole" else '"',
            raise_if_empty=False,
        ).rename(dict(zip(header, names, strict=True)))
    except pl.exceptions.PolarsError as error:
        raise InputError(_why_unreadable(path, data, delimiter, len(names), quoted=kind != "recbole")) from error
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series().to_numpy()
    breaks = np.zeros(frame.height, np.int64)
    if kind != "recbole" and b'"' in data:
        inside = frame.select(pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True).fill_null(0))).to_series().to_numpy()
        breaks[1:] = np.cumsum(inside.astype(np.int64))[:-1]
    kept = np.flatnonzero(~blank)
    return Table(path, kind, frame.select(wanted).filter(pl.Series(~blank)), kept, breaks[kept])


def read_parquet(path: Path, data: bytes) -> pl.DataFrame:
    """All columns of a Parquet file in their own types.

    Raises:
        InputError: damaged.
    """
    try:
        return pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:  # a panic is no Exception
        why = str(error).partition("\n")[0]
        raise InputError(f"{path} is not a readable Parquet file: {why}") from error


def _why_unreadable(path: Path, data: bytes, delimiter: str, width: int, *, quoted: bool) -> str:
    """Slow second look at a file that the fast parser refused: which line, and what is wrong with it."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return f"{path}: line {line} is not UTF-8 (byte 0x{data[error.start]:02x}). Convert the file to UTF-8, for example with iconv."
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True
    )
    bad: list[str] = []
    try:
        for fields in reader:
            if len(fields) > width and len(bad) < 5:
                bad.append(f"line {reader.line_num} has {len(fields)}")
    except csv.Error as error:
        return f"{path}: line {reader.line_num}: {error}; a quote is not closed or stands inside a cell."
    if bad:
        header = f"the header has {width} columns ({DELIMITERS[delimiter]} separated)"
        return f"{path}: {header}, but {', '.join(bad)}. Quote cells that contain the separator."
    return f'{path}: a quote (") stands inside an unquoted cell. Quote such cells and double the quotes in them.'


def read_own(path: Path, types: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """A Parquet file that vivim wrote, with these columns and no others.

    Raises:
        InputError: it is not there, damaged, has other columns, or gaps.
    """
    try:
        table = read_parquet(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if set(table.columns) != set(types):
        raise InputError(f"{path} has the columns {', '.join(table.columns)}; expected {', '.join(types)}.")
    odd = [name for name, kind in types.items() if table.schema[name].base_type() != kind or table[name].null_count()]
    if odd:
        raise InputError(f"{path}: the columns {', '.join(odd)} hold something else than was written.")
    return table
