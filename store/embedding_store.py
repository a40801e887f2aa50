"""Reading an embedding file: everything is checked, so that what is in memory can be trusted.

Shapes: N rows, D embedding width, T frames per clip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .hdf5_checks import check_group, open_checked, read_column, read_text
from .item_index import ItemIndex
from .recipe import AnyRecipe, read_recipe
from .rows import FailedClip, Rows, content_sha256, vector_faults

_In = TypeVar("_In")
_Out = TypeVar("_Out")

FORMAT_VERSION = "vivim embeddings 1"
COLUMNS = {"ids", "embeddings", "sha256", "times_seconds", "decoder", "short"}
FAILURE_COLUMNS = {"id", "kind", "message"}


@dataclass(frozen=True, eq=False)
class EmbeddingStore:
    """The vectors of a catalogue, by external id. Made by ``EmbeddingStore.open``.

    Attributes:
        path: where it was read from.
        ids: external id <-> row.
        vectors_ND: float32, read-only; row r belongs to ``ids.ids[r]``.
        rows: what is recorded with each row; its ``vectors_ND`` has the precision of the file.
        recipe: how the vectors were made.
        failures: clips that have no vector.
        sha256: hash of ids and vectors.
    """

    path: Path
    ids: ItemIndex
    vectors_ND: npt.NDArray[np.float32] = field(repr=False)
    rows: Rows = field(repr=False)
    recipe: AnyRecipe
    failures: tuple[FailedClip, ...]
    sha256: str

    @classmethod
    def open(cls, path: Path | str, *, allow_empty: bool = False) -> "EmbeddingStore":
        """Read and check a file.

        Args:
            path: the embedding file.
            allow_empty: accept a file without any row (every clip failed).

        Raises:
            InputError: the file is absent, damaged, hostile or not ours; ids are empty or occur twice; a vector holds NaN,
                infinity or only zeros; the content does not match its hash. The message names the file and the ids.
        """
        path = Path(path)
        with open_checked(path) as file:
            version = read_text(file, "format", path)
            if version != FORMAT_VERSION:
                raise InputError(f"{path} has the format {version!r}; this vivim reads {FORMAT_VERSION!r}. Extract again or update vivim.")
            check_group(file, COLUMNS | {"failures"}, path)
            recipe = _with_name(path, read_recipe, read_text(file, "recipe", path))
            rows = _read_rows(file, path)
            failures = _read_failures(file, path)
            sha256 = read_text(file, "sha256", path)
        ids = _with_name(path, ItemIndex, rows.ids)
        _check_vectors(rows, recipe, path)
        if not len(ids) and not allow_empty:
            raise InputError(f"{path} holds no vectors, only {len(failures)} failed clips; see why they failed and extract again.")
        if content_sha256(rows.ids, rows.vectors_ND) != sha256:
            raise InputError(
                f"{path}: ids and vectors do not match the hash stored with them; the file was changed or damaged. Extract again."
            )
        vectors_ND = rows.vectors_ND.astype(np.float32)
        vectors_ND.flags.writeable = False
        return cls(path, ids, vectors_ND, rows, recipe, failures, sha256)

    @property
    def dim(self) -> int:
        """D, width of the vectors."""
        return self.vectors_ND.shape[1]

    def __len__(self) -> int:
        return len(self.ids)

    def lookup(self, ids: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Vectors (len(ids), D) of any ids in the order asked, and a mask (len(ids),) of which are present; absent ids get zeros."""
        rows = self.ids.rows_of(ids)
        present = rows >= 0
        vectors = np.zeros((len(ids), self.dim), np.float32)
        vectors[present] = self.vectors_ND[rows[present]]
        return vectors, present


def _read_rows(file: h5py.File, path: Path) -> Rows:
    columns = {
        "ids": read_column(file, "ids", dtypes="S", ndim=1, path=path),
        "embeddings": read_column(file, "embeddings", dtypes="<f2 <f4", ndim=2, path=path),
        "sha256": read_column(file, "sha256", dtypes="S", ndim=1, path=path),
        "times_seconds": read_column(file, "times_seconds", dtypes="<f8", ndim=2, path=path),
        "decoder": read_column(file, "decoder", dtypes="S", ndim=1, path=path),
        "short": read_column(file, "short", dtypes="u1", ndim=1, path=path),
    }
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise InputError(f"{path}: the columns have different lengths {lengths}; the file is damaged. Extract again.")
    if columns["embeddings"].shape[1] == 0:
        raise InputError(f"{path}: the vectors have no dimensions (D = 0). Extract again.")
    return Rows(
        ids=_texts(columns["ids"], path),
        vectors_ND=columns["embeddings"],
        sha256=_texts(columns["sha256"], path),
        times_seconds_NT=columns["times_seconds"],
        decoder=_texts(columns["decoder"], path),
        short_N=columns["short"].astype(bool),
    )


def _read_failures(file: h5py.File, path: Path) -> tuple[FailedClip, ...]:
    group = file["failures"]
    if not isinstance(group, h5py.Group):
        raise InputError(f"{path}: 'failures' is not a group.")
    check_group(group, FAILURE_COLUMNS, path)
    ids, kinds, messages = (_texts(read_column(group, name, dtypes="S", ndim=1, path=path), path) for name in ("id", "kind", "message"))
    if not len(ids) == len(kinds) == len(messages):
        raise InputError(f"{path}: the columns of 'failures' have different lengths.")
    return tuple(FailedClip(*row) for row in zip(ids, kinds, messages, strict=True))


def _check_vectors(rows: Rows, recipe: AnyRecipe, path: Path) -> None:
    faults = vector_faults(rows.vectors_ND)
    if faults:
        first = "; ".join(f"the vector of {rows.ids[row]!r} {why}" for row, why in list(faults.items())[:5])
        raise InputError(f"{path}: {len(faults)} of {len(rows)} vectors cannot be used: {first}. Extract those clips again.")
    if rows.vectors_ND.dtype.name != recipe.dtype:
        raise InputError(f"{path}: the vectors are {rows.vectors_ND.dtype.name}, the recipe says {recipe.dtype}.")


def _texts(column: npt.NDArray[Any], path: Path) -> tuple[str, ...]:
    try:
        return tuple(value.decode("utf-8") for value in column.tolist())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a text column is not UTF-8: {error}.") from error


def _with_name(path: Path, make: Callable[[_In], _Out], value: _In) -> _Out:
    try:
        return make(value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
