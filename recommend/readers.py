"""Watch histories from files: MicroLens pairs, any table with named columns, RecBole's atomic format.

The format is found from the content, not from the file's name. Ids are opaque text. The result does not depend on the
order of the lines unless times are equal or absent: then the order of the file decides.
"""

import io
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from ..store.item_index import ItemIndex
from .sequences import Interactions, Sequences
from .tables import TYPED_NAME, Table, first_lines, header_of, load_bytes, read_parquet, read_table
from .times import to_milliseconds

SYNONYMS = {
    "user": ("user", "user_id", "userid", "uid"),
    "item": ("item", "item_id", "itemid", "iid", "video", "video_id", "videoid", "vid"),
    "time": ("timestamp", "time", "ts", "datetime", "timestamp_ms", "time_ms"),
}
NO_TIME = "none"
"""Value of ``time_column`` that takes the order of the lines as time."""

_PAIR = re.compile(r"^[^\t]+\t *\S+( +\S+)+ *$")
_DATA = re.compile(r"^\s*(-?\d+(\.\d+)?\s*$|\d{4}-\d\d-\d\d)")  # numbers and dates: what no header holds


def read_interactions(
    path: Path | str, *, user_column: str | None = None, item_column: str | None = None, time_column: str | None = None
) -> Interactions:
    """Read who watched what, in time order.

    Understands MicroLens ``*_pairs.tsv`` (no header; user, tab, items oldest first), RecBole ``.inter``, and CSV, TSV
    or Parquet with named columns (``user,item,timestamp`` and common synonyms are found without being named).
    Gzip is opened. Times may be Unix s, ms, us, ns or ISO 8601; ``source`` says which was found.

    Args:
        path: the file.
        user_column: name of the column of user ids.
        item_column: name of the column of item ids.
        time_column: name of the column of times; ``"none"`` takes the order of the lines.

    Raises:
        InputError: unreadable or ambiguous, with the first bad lines and the option that helps.
    """
    path = Path(path)
    data, sha256 = load_bytes(path)
    asked = {"user": user_column, "item": item_column, "time": time_column}
    if data.startswith(b"PAR1"):
        frame = read_parquet(path, data)
        columns = _columns(path, frame.columns, asked)
        return _from_table(_parquet_table(path, frame, columns), columns, sha256)
    lines = first_lines(data, 200)
    if set(asked.values()) <= {None, NO_TIME} and _is_pairs(lines):
        return _from_pairs(path, data, sha256)
    names, delimiter, kind = header_of(path, lines[0])
    columns = _columns(path, names, asked)
    return _from_table(read_table(path, data, names, delimiter, kind, list(columns.values())), columns, sha256)


def _is_pairs(lines: list[str]) -> bool:
    lines = [line for line in lines if line.strip()]
    return sum(bool(_PAIR.match(line)) for line in lines) * 2 >= len(lines) and not _known_header(lines[0].split("\t"))


def _known_header(fields: list[str]) -> bool:
    names = {field.strip().lower() for field in fields}
    return all(TYPED_NAME.match(field) for field in fields) or all(names & set(SYNONYMS[role]) for role in ("user", "item"))


def _columns(path: Path, names: list[str], asked: dict[str, str | None]) -> dict[str, str]:
    """Role -> header name; ``time`` is absent if there is none."""
    flags = " ".join(f"--set data.{role}_column=NAME" for role in ("user", "item", "time"))
    found = f"{path}: found columns {', '.join(map(repr, names))}"
    result: dict[str, str] = {}
    for role, wanted in asked.items():
        matches = [name for name in names if name.lower() in SYNONYMS[role]]
        if wanted is not None and wanted in names:
            result[role] = wanted
        elif role == "time" and wanted == NO_TIME:
            continue
        elif wanted is not None:
            raise InputError(f"{found}, but not {wanted!r}, which data.{role}_column asks for.")
        elif len(matches) == 1:
            result[role] = matches[0]
        elif matches:
            raise InputError(
                f"{found}: {' and '.join(map(repr, matches))} could each be the {role}; choose with --set data.{role}_column=NAME"
            )
    missing = [role for role in ("user", "item") if role not in result]
    if missing and any(_DATA.match(name) for name in names):
        raise InputError(
            f"{path}: line 1 ({', '.join(map(repr, names))}) looks like data, not a header."
            " Put a header such as user,item,timestamp on top; only MicroLens pairs (user, tab, items separated by spaces) go without one."
        )
    if missing:
        expected = " or ".join(SYNONYMS[missing[0]][:4])
        raise InputError(f"{found}; no {missing[0]} column (expected {expected}). Name the columns: {flags}")
    if "time" not in result and asked["time"] is None and len(names) > 2:
        raise InputError(
            f"{found}; none is known as a time (expected {', '.join(SYNONYMS['time'][:3])}). Name it with --set data.time_column=NAME,"
            f" or take the order of the lines with --set data.time_column={NO_TIME}"
        )
    if len(set(result.values())) != len(result):
        raise InputError(f"{found}: one column cannot be two of user, item and time: {result}.")
    return result


def _parquet_table(path: Path, frame: pl.DataFrame, columns: dict[str, str]) -> Table:
    for role in ("user", "item"):
        name = columns[role]
        if not (frame[name].dtype.is_integer() or frame[name].dtype in (pl.String, pl.Categorical, pl.Enum)):
            raise InputError(f"{path}: column {name!r} holds {frame[name].dtype}; ids must be text or whole numbers.")
        frame = frame.with_columns(pl.col(name).cast(pl.String))
    rows = np.arange(frame.height, dtype=np.int64)
    return Table(path, "parquet", frame.select(list(columns.values())), rows, np.zeros_like(rows))


def _from_table(table: Table, columns: dict[str, str], sha256: str) -> Interactions:
    if table.columns.height == 0:
        raise InputError(f"{table.path} has a header but no rows.")
    _check_ids(table, columns)
    users, items = table.columns[columns["user"]], table.columns[columns["item"]]
    times = to_milliseconds(table, columns["time"]) if "time" in columns else None
    how = f"time in {times.unit}" if times else "time is the order of the lines"
    source = f"{table.path} ({table.kind}; columns {', '.join(columns.values())}; {how})"
    return _build(users, items, times.ms if times else None, source, sha256)


def _check_ids(table: Table, columns: dict[str, str]) -> None:
    for role in ("user", "item"):
        name = columns[role]
        cells = table.columns[name]
        checks = {
            "is empty or missing": cells.is_null() | (cells == ""),
            "has spaces around it": cells != cells.str.strip_chars(),
            "holds a control character": cells.str.contains(r"[\x00-\x1f\x7f]"),
            "repeats the header": cells == name,
        }
        for why, mask in checks.items():
            bad = mask.fill_null(False).to_numpy()
            if bad.any():
                row = dict(zip(table.columns.columns, table.columns.row(int(np.flatnonzero(bad)[0])), strict=True))
                raise InputError(
                    f"{table.path}: {table.where(bad)}: the {role} id in column {name!r} {why}; the first such row reads {row}."
                )


def _from_pairs(path: Path, data: bytes, sha256: str) -> Interactions:
    try:
        # One column: a byte that no text holds as separator, so that the whole line comes back.
        lines = pl.read_csv(io.BytesIO(b"line\n" + data), schema={"line": pl.String}, separator="\x1f", quote_char=None)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path} is not a MicroLens pairs file in UTF-8: {str(error).splitlines()[0]}") from error
    rows = np.flatnonzero(lines["line"].fill_null("").str.strip_chars().ne("").to_numpy())
    cells = lines["line"].gather(rows).str.split_exact("\t", 2).struct.unnest()
    frame = pl.DataFrame({"user": cells["field_0"], "items": cells["field_1"].str.extract_all(r"\S+")})
    # The header counts as line 1 in a Table; here there is none.
    table = Table(path, "tsv", frame, rows - 1, np.zeros(len(rows), np.int64))
    wrong = (cells["field_1"].is_null() | cells["field_2"].is_not_null() | (frame["items"].list.len() == 0)).fill_null(True).to_numpy()
    if wrong.any():
        raise InputError(f"{path}: {table.where(wrong)}: expected user, tab, items separated by spaces, as in the other lines.")
    if frame["user"][0].lower() in SYNONYMS["user"]:
        raise InputError(f"{path}: line 1 ({lines['line'][0]!r}) looks like a header; a pairs file has none. Delete that line.")
    twice = frame["user"].is_duplicated().to_numpy()
    if twice.any():
        raise InputError(f"{path}: {table.where(twice)}: the same user on several lines; a pairs file has one line per user.")
    _check_ids(table, {"user": "user", "item": "user"})
    flat = frame.explode("items")
    return _build(flat["user"], flat["items"], None, f"{path} (MicroLens pairs; time is the order of the items)", sha256)


def _build(users: pl.Series, items: pl.Series, times_ms: npt.NDArray[np.int64] | None, source: str, sha256: str) -> Interactions:
    user_index, user_rows = _encode(users)
    item_index, item_rows = _encode(items)
    order = np.argsort(user_rows, kind="stable") if times_ms is None else np.lexsort((times_ms, user_rows))
    counts = np.bincount(user_rows, minlength=len(user_index))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    histories = Sequences(offsets, item_rows[order])
    return Interactions(user_index, item_index, histories, None if times_ms is None else times_ms[order], source, sha256)


def _encode(ids: pl.Series) -> tuple[ItemIndex, npt.NDArray[np.int32]]:
    """An index in an order that depends on the ids alone (numbers by size, other text by code point), and the row of each cell."""
    unique = ids.unique().to_list()
    if all(id_.isascii() and id_.isdigit() for id_ in unique):
        unique.sort(key=lambda id_: (int(id_), id_))
    else:
        unique.sort()
    rows = ids.replace_strict(pl.Series(unique, dtype=pl.String), pl.Series(np.arange(len(unique), dtype=np.int32)), return_dtype=pl.Int32)
    return ItemIndex(unique), rows.to_numpy().astype(np.int32)
