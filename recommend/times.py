"""Time columns of any unit as Unix milliseconds."""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from .tables import Table

# Seconds stay below 1e11 until the year 5138, milliseconds are above it since 1973.
_UNITS = (("s", 0.0, 1e11, 1000.0), ("ms", 1e11, 1e14, 1.0), ("us", 1e14, 1e17, 1e-3), ("ns", 1e17, float("inf"), 1e-6))
_NUMBER = r"^\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*$"
_ISO_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S%.f")
_OFFSET = re.compile(r"(Z|[+-]\d\d:?\d\d)$")


class Times(NamedTuple):
    """``ms`` (R,) int64 Unix milliseconds and the ``unit`` they were written in: s, ms, us, ns, ISO 8601 or a Parquet type."""

    ms: npt.NDArray[np.int64]
    unit: str


def to_milliseconds(table: Table, column: str) -> Times:
    """Read a time column; its unit is found from its size or form.

    Raises:
        InputError: empty, unparsable or negative times, or two units in one column, with the first bad lines.
    """
    series = table.columns[column]
    if series.dtype in (pl.Datetime, pl.Date):
        _refuse(table, column, series, series.is_null().to_numpy(), "no time")
        return Times(series.cast(pl.Datetime("ms")).cast(pl.Int64).to_numpy().astype(np.int64), f"Parquet {series.dtype}")
    text = series.cast(pl.String)
    _refuse(table, column, text, (text.is_null() | (text.str.strip_chars() == "")).to_numpy(), "no time")
    numeric = text.str.contains(_NUMBER).to_numpy()
    # One broken cell must not turn a column of numbers into a column of dates.
    if numeric.mean() >= 0.5:
        _refuse(table, column, text, ~numeric, "not a number, unlike the rest of the column")
        return _from_numbers(table, column, text)
    return _from_iso(table, column, text)


def _from_numbers(table: Table, column: str, text: pl.Series) -> Times:
    stripped = text.str.strip_chars()
    whole = stripped.cast(pl.Int64, strict=False)
    values = stripped.cast(pl.Float64).to_numpy()
    _refuse(table, column, text, ~np.isfinite(values), "not finite")
    _refuse(table, column, text, values < 0, "negative (before 1970)")
    unit, low, high, factor = next(row for row in _UNITS if np.median(values) < row[2])
    _refuse(table, column, text, values >= high, f"too large for the unit of the column, which is {unit}; a column has one unit")
    _refuse(table, column, text, values < low, f"too small for the unit of the column, which is {unit}; a column has one unit")
    if factor == 1.0 and whole.null_count() == 0:
        return Times(whole.to_numpy().astype(np.int64), unit)
    return Times(np.rint(values * factor).astype(np.int64), unit)


def _from_iso(table: Table, column: str, text: pl.Series) -> Times:
    cells = text.str.strip_chars()
    first = str(cells[0])
    if _OFFSET.search(first) and len(first) > 10:
        cells = cells.str.replace(r"Z$", "+00:00")
        formats = [form + "%:z" for form in _ISO_FORMATS]
    else:
        formats = list(_ISO_FORMATS)
        if len(first) == 10:
            cells, formats = cells + "T00:00", ["%Y-%m-%dT%H:%M", "%Y/%m/%dT%H:%M"]
    tries = [cells.str.to_datetime(form, time_unit="ms", strict=False, time_zone="UTC" if "%:z" in form else None) for form in formats]
    best = min(tries, key=lambda parsed: parsed.null_count())
    wanted = "neither a number (Unix s, ms, us, ns) nor ISO 8601 as in the other rows; for example 2022-09-05T12:00:00"
    _refuse(table, column, text, best.is_null().to_numpy(), wanted)
    return Times(
        best.cast(pl.Int64).to_numpy().astype(np.int64), "ISO 8601" if "%:z" in formats[0] else "ISO 8601 without zone, taken as UTC"
    )


def _refuse(table: Table, column: str, text: pl.Series, bad: npt.NDArray[np.bool_], why: str) -> None:
    if bad.any():
        value = text[int(np.flatnonzero(bad)[0])]
        raise InputError(f"{table.path}: {table.where(bad)}: time column {column!r} holds {value!r}: {why}.")
