"""Writing an embedding file: whole or not at all.

The file is written under a temporary name beside its place, forced to disk, opened and checked like any file, and only
then renamed. Whoever reads sees the old file or the new one.

Shapes: N rows, D embedding width, T frames per clip.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import InputError, RecipeMismatch, VivimError
from .durable import free_bytes, sync
from .embedding_store import FORMAT_VERSION, EmbeddingStore
from .failpoints import failpoint
from .hdf5_checks import text_attribute
from .item_index import ItemIndex
from .recipe import AnyRecipe, differences
from .rows import FailedClip, Rows, RowsById, content_sha256, vector_faults

MAX_ID_BYTES = 1024
_MESSAGE_BYTES = 300
_VECTORS_PER_CHUNK = 64
_CELLS_PER_CHUNK = 1024


class EmbeddingFile:
    """An embedding file that grows: rows and failures are collected and written by ``commit``.

    When the file exists, its rows are kept; a row that is added again replaces the old one, a clip that fails now loses its
    old row, and failures of the earlier run are forgotten. Opening it changes nothing on disk.

    Args:
        path: the file; its folder is made if needed.
        recipe: how the vectors that will be added are made.
        dim: D, width of the vectors.

    Raises:
        RecipeMismatch: the file exists and was made by another recipe or width; the message lists every field.
        InputError: the file exists and is damaged, or the place cannot be written.
    """

    def __init__(self, path: Path | str, recipe: AnyRecipe, dim: int) -> None:
        self.path = Path(path)
        self.recipe = recipe
        self.dim = dim
        _check_place(self.path)
        self._content = RowsById()
        if self.path.exists():
            store = EmbeddingStore.open(self.path, allow_empty=True)
            check_recipe(store, recipe, dim)
            self._content.add(store.rows)

    def __len__(self) -> int:
        """Number of rows that ``commit`` would write."""
        return len(self._content)

    @property
    def hashes(self) -> dict[str, str]:
        """Hash of the clip file behind every row, by id: a clip with the same hash need not be computed again."""
        return self._content.hashes

    def add(self, rows: Rows) -> list[FailedClip]:
        """Take rows in, rounded to the recipe's dtype; rows that cannot be stored come back as failures, and are noted as such.

        A vector is refused when it holds NaN or infinity (also after rounding to float16), is all zero, or has an absurd norm.

        Raises:
            InputError: an id that a file cannot hold: empty, control characters, not UTF-8, too long, or twice in one call.
        """
        assert rows.vectors_ND.shape[1] == self.dim, (rows.vectors_ND.shape, self.dim)
        _encode_ids(ItemIndex(rows.ids).ids)
        with np.errstate(over="ignore"):
            stored_ND = rows.vectors_ND.astype(self.recipe.dtype)
        rows = Rows(rows.ids, stored_ND, rows.sha256, rows.times_seconds_NT, rows.decoder, rows.short_N)
        faults = vector_faults(stored_ND)
        failed = [FailedClip(rows.ids[row], "nan_output", f"the vector {why} as {self.recipe.dtype}") for row, why in faults.items()]
        for failure in failed:
            self.fail(failure)
        self._content.add(rows.take([row for row in range(len(rows)) if row not in faults]))
        return failed

    def fail(self, failure: FailedClip) -> None:
        """Note that a clip has no vector; a row it had is dropped, because the clip is no longer what the row was made of."""
        self._content.fail(failure)

    def commit(self) -> str:
        """Write everything, atomically, and return the content hash. May be called again after more rows came in.

        Raises:
            VivimError: the disk is full or the place went away; the earlier file is untouched.
        """
        return write_embeddings(self.path, self.recipe, self._content.rows(self.dim), self._content.failures)


def write_embeddings(path: Path, recipe: AnyRecipe, rows: Rows, failures: Sequence[FailedClip]) -> str:
    """Write a whole embedding file atomically and return its content hash.

    Raises:
        VivimError: writing failed (disk full, folder gone, permission); nothing was changed at ``path``.
        InputError: ids that a file cannot hold, or vectors that may not be stored.
    """
    rows = Rows(rows.ids, rows.vectors_ND.astype(recipe.dtype), rows.sha256, rows.times_seconds_NT, rows.decoder, rows.short_N)
    sha256 = content_sha256(rows.ids, rows.vectors_ND)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        failpoint("file.before_write")
        _write(temporary, recipe, rows, failures, sha256)
        failpoint("file.written")
        sync(temporary)
        failpoint("file.synced")
        if EmbeddingStore.open(temporary, allow_empty=True).sha256 != sha256:
            raise VivimError(f"{path} was not written: the new file reads back differently. Check the disk; nothing was changed.")
        failpoint("file.checked")
        os.replace(temporary, path)
        failpoint("file.renamed")
        sync(path.parent)
        failpoint("file.folder_synced")
    except (OSError, RuntimeError) as error:  # HDF5's way to say that a disk is full
        needed_bytes = rows.vectors_ND.nbytes + rows.times_seconds_NT.nbytes + 256 * len(rows)
        raise VivimError(
            f"{path} could not be written: {_in_words(error)}. About {needed_bytes} bytes are needed, {free_bytes(path.parent)} are free. "
            "What was there before is untouched."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return sha256


def _in_words(error: OSError | RuntimeError) -> str:
    return str(error) if isinstance(error, OSError) else f"HDF5 could not finish it ({error})"


def _write(path: Path, recipe: AnyRecipe, rows: Rows, failures: Sequence[FailedClip], sha256: str) -> None:
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs["format"] = text_attribute(FORMAT_VERSION)
        file.attrs["recipe"] = text_attribute(recipe.to_json())
        file.attrs["sha256"] = text_attribute(sha256)
        _column(file, "ids", _encode_ids(rows.ids))
        _column(file, "embeddings", rows.vectors_ND.astype(rows.vectors_ND.dtype.newbyteorder("<")))
        _column(file, "sha256", _encode(rows.sha256))
        _column(file, "times_seconds", rows.times_seconds_NT.astype("<f8"))
        _column(file, "decoder", _encode(rows.decoder))
        _column(file, "short", rows.short_N.astype("u1"))
        group = file.create_group("failures")
        _column(group, "id", _encode_ids([failure.id for failure in failures]))
        _column(group, "kind", _encode([failure.kind for failure in failures]))
        _column(group, "message", _encode([failure.message for failure in failures]))
        file.flush()


def _column(group: h5py.Group, name: str, values: npt.NDArray[np.generic]) -> None:
    """A dataset with checksums. It may grow in principle, because HDF5 allows chunks larger than a fixed shape no other way."""
    if values.dtype.kind == "S":
        values = values.astype(h5py.string_dtype("utf-8", values.dtype.itemsize))
    chunk_rows = min(_CELLS_PER_CHUNK if values.ndim == 1 else _VECTORS_PER_CHUNK, max(len(values), 1))
    group.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=(chunk_rows, *values.shape[1:]), fletcher32=True)


def _encode_ids(ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    for id_ in ids:
        try:
            size_bytes = len(id_.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise InputError(f"the id {id_!r} is not valid UTF-8 text; rename the file or give the clip an id in a manifest.") from error
        if size_bytes > MAX_ID_BYTES:
            raise InputError(f"the id {id_[:40]!r}... has {size_bytes} bytes; at most {MAX_ID_BYTES} are allowed.")
    return _encode(ids, max_bytes=MAX_ID_BYTES)


def _encode(texts: Sequence[str], max_bytes: int = _MESSAGE_BYTES) -> npt.NDArray[np.bytes_]:
    """Fixed-length UTF-8; longer texts are cut between characters, NUL and lone surrogates are escaped."""
    encoded = [text.replace("\0", "\\0").encode("utf-8", "backslashreplace") for text in texts]
    cut = [raw if len(raw) <= max_bytes else raw[:max_bytes].decode("utf-8", "ignore").encode() for raw in encoded]
    return np.array(cut, dtype=f"S{max((len(raw) for raw in cut), default=1) or 1}")


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; the embedding file needs a file name, for example {path / 'embeddings.h5'}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"the embedding file cannot be written into {path.parent}: {error}. Choose another place.") from error


def check_recipe(store: EmbeddingStore, recipe: AnyRecipe, dim: int) -> None:
    """Refuse to mix vectors that were made in different ways.

    Raises:
        RecipeMismatch: with every field that differs.
    """
    fields = [f"  {name}: {_short(old)} in the file, {_short(new)} now" for name, old, new in differences(store.recipe, recipe)]
    if store.recipe.made_from != recipe.made_from:  # then no field is the same, and naming each says nothing
        fields = [f"  made from: {store.recipe.made_from} in the file, {recipe.made_from} now"]
    if store.dim != dim:
        fields.append(f"  vector width: {store.dim} in the file, {dim} now")
    if fields:
        raise RecipeMismatch(
            "\n".join([f"{store.path} was made by another recipe:", *fields, "Use the same settings, or write to another file with --out."])
        )


def _short(value: object) -> str:
    """A hash by its first characters: enough to tell two apart, and to read."""
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
