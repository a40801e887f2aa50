"""Files of vectors that others have made: NumPy, JSON, Parquet. Nothing in them is run, and a NumPy file stays on disk.

Shapes: N rows, D width of the vectors, B rows read at once.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from ..recommend.tables import load_bytes, read_parquet
from ..store import file_sha256
from ..store.recipe import Dtype
from .item_ids import ItemIds, as_text, id_column

_ALLOWED = 'Expected a .npy of (items, numbers), a .json of {"item": [numbers]}, or Parquet with a column of lists.'
_JSON_SPACE = " \t\r\n"


@dataclass(frozen=True)
class VectorFile:
    """Vectors of a file, read when they are asked for.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        values_ND: floating-point numbers, memory-mapped where the file is a NumPy array.
        ids: those that stand in the file itself; None if rows have no names.
    """

    path: Path
    sha256: str
    values_ND: npt.NDArray[Any]
    ids: ItemIds | None

    def __post_init__(self) -> None:
        count, dim = self.values_ND.shape
        if not count or not dim:
            raise InputError(f"{self.path} holds no numbers: its shape is ({count}, {dim}).")

    @property
    def dtype(self) -> Dtype:
        """What the vectors are stored in: float16 if they are, else float32."""
        return "float16" if self.values_ND.dtype == np.float16 else "float32"

    def blocks(self, size: int) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(first row, (B, D) values), in order; what float32 cannot hold becomes infinite."""
        for start in range(0, len(self.values_ND), size):
            with np.errstate(over="ignore"):
                yield start, np.asarray(self.values_ND[start : start + size], np.float32)


def open_vectors(path: Path) -> VectorFile:
    """Open a file of vectors; what it is, its content says.

    Raises:
        InputError: no such file, damaged, pickled, of another format or shape, or not of numbers.
    """
    if not path.is_file():
        raise InputError(f"{path} {'is a folder; name the file inside it' if path.is_dir() else 'does not exist'}.")
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"\x93NUMPY"):
        return _numpy(path)
    if head.startswith(b"PAR1"):
        return _parquet(path)
    if head.lstrip(b"\xef\xbb\xbf" + _JSON_SPACE.encode()).startswith(b"{"):
        return _json(path)
    if head.startswith(b"PK"):
        raise InputError(f"{path} is a zip archive, as .npz is; unpack it and name the .npy inside.")
    raise InputError(f"{path} is no file of vectors. {_ALLOWED}")


def _numpy(path: Path) -> VectorFile:
    try:
        values = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, TypeError) as error:  # objects, which are pickles, are among the first
        raise InputError(f"{path} cannot be read as an array of numbers: {' '.join(str(error).split())}. {_ALLOWED}") from error
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise InputError(f"{path} holds {values.dtype}; float16, float32 or float64 is read.")
    if values.ndim != 2:
        raise InputError(f"{path} has the shape {values.shape}; expected (items, numbers), a row for each item.")
    return VectorFile(path, file_sha256(path), values, None)


def _parquet(path: Path) -> VectorFile:
    data, sha256 = load_bytes(path)
    frame = read_parquet(path, data)
    if not frame.height:
        raise InputError(f"{path} holds no rows.")
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
    if len(lists) != 1:
        raise InputError(f"{path}: the columns {', '.join(map(repr, lists)) or 'none'} hold lists; expected one, the vectors.")
    vectors = frame[lists[0]]
    others = [name for name in frame.columns if name != lists[0]]
    ids = None
    if others:
        column = id_column(path, others)
        ids = ItemIds(tuple(as_text(path, frame[column])), {"file": path.name, "column": column})
    lengths = vectors.list.len() if isinstance(vectors.dtype, pl.List) else vectors.arr.len()
    odd = lengths.ne_missing(lengths[0]).arg_true()
    if lengths[0] is None or len(odd):
        row = int(odd[0]) if len(odd) else 0
        raise InputError(
            f"{path}: row {row + 1} holds {lengths[row] or 'no'} numbers, the first {lengths[0] or 'none'}; all must have as many."
        )
    numbers = vectors.explode()
    if not numbers.dtype.is_float():
        raise InputError(f"{path}: the column {lists[0]!r} holds lists of {numbers.dtype}; expected floating-point numbers.")
    return VectorFile(path, sha256, numbers.to_numpy().reshape(frame.height, -1), ids)


def _json(path: Path) -> VectorFile:
    data, sha256 = load_bytes(path)
    try:
        named = list(_members(data.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path} is not JSON of {{"item": [numbers]}}: {error}.') from error
    width = len(named[0][1]) if named else 0
    for id_, vector in named:
        if len(vector) != width:
            raise InputError(f"{path}: item {id_!r} has {len(vector)} numbers, the first {width}; all must have as many.")
    values = np.array([vector for _, vector in named], np.float32).reshape(len(named), width)
    return VectorFile(path, sha256, values, ItemIds(tuple(id_ for id_, _ in named), {"file": path.name}))


def _members(text: str) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """(item, (D,) vector) one after another: Python's numbers take eight times the memory, so only one list of them exists at a time.

    Raises:
        ValueError: not JSON, or something else than lists of numbers.
    """
    decoder = json.JSONDecoder()
    at = _skip(text, _skip(text, 0, ""), "{")
    while text[at : at + 1] != "}":
        id_, at = decoder.raw_decode(text, at)
        vector, at = decoder.raw_decode(text, _skip(text, at, ":"))
        if not isinstance(id_, str) or not isinstance(vector, list) or not all(type(number) in (int, float) for number in vector):
            raise ValueError(f"item {id_!r} has something else than a list of numbers")
        try:
            with np.errstate(over="ignore"):
                yield id_, np.array(vector, np.float64).astype(np.float32)
        except OverflowError as error:
            raise ValueError(f"item {id_!r}: {error}") from error
        at = _skip(text, at, "")
        if text[at : at + 1] != "}":
            at = _skip(text, at, ",")
            if text[at : at + 1] == "}":
                raise ValueError("a comma stands before the last brace")
    if text[at + 1 :].strip(_JSON_SPACE):
        raise ValueError("something follows the last brace")


def _skip(text: str, at: int, expected: str) -> int:
    """Past white space, ``expected``, and white space."""
    while text[at : at + 1] and text[at] in _JSON_SPACE:
        at += 1
    if not text.startswith(expected, at):
        raise ValueError(f"expected {expected!r} at character {at}, found {text[at : at + 20]!r}")
    at += len(expected)
    while text[at : at + 1] and text[at] in _JSON_SPACE:
        at += 1
    return at
