"""Vectors that others have made to an embedding file.

Shapes: B rows taken at once, D width of the vectors.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..progress import Progress
from ..store import EmbeddingFile, FailedClip, ImportedRecipe, ItemIndex, Rows
from .item_ids import ItemIds
from .vector_files import VectorFile

_CHUNK = 4096


@dataclass(frozen=True)
class Imported:
    """What became of a file of vectors.

    Attributes:
        rows: vectors that were taken.
        dim: D.
        dtype: they are stored in.
        failures: rows that cannot be used: NaN, infinite, or all zero.
        sha256: content hash of the embedding file.
    """

    rows: int
    dim: int
    dtype: str
    failures: tuple[FailedClip, ...]
    sha256: str


def import_vectors(vectors: VectorFile, ids: ItemIds, out: Path, name: str, progress: Progress) -> Imported:
    """Write the vectors of a file into an embedding file, under ids.

    Args:
        vectors: the file.
        ids: of its rows, in their order.
        out: the embedding file.
        name: what the vectors are, for people and the recipe.
        progress: is told.

    Raises:
        InputError: numbers of ids and rows differ, an id is bad or occurs twice, no row can be used, a bad place.
        RecipeMismatch: ``out`` holds other vectors.
        VivimError: the disk is full.
    """
    count, dim = vectors.values_ND.shape
    if len(ids.ids) != count:
        raise InputError(f"{vectors.path} has {count:,} rows and there are {len(ids.ids):,} ids; every row needs its own, in its order.")
    try:
        ItemIndex(ids.ids)
    except InputError as error:
        raise InputError(f"{vectors.path}: {error}") from error
    told = {"source": name, "file": vectors.path.name, "sha256": vectors.sha256}
    file = EmbeddingFile(out, ImportedRecipe(vectors=told, ids=ids.told, dtype=vectors.dtype), dim)
    failures: list[FailedClip] = []
    progress.start("import", count, "vectors")
    for start, values_BD in vectors.blocks(_CHUNK):
        hashes = [hashlib.sha256(vector.tobytes()).hexdigest() for vector in values_BD]
        failures += file.add(Rows.without_frames(ids.ids[start : start + len(values_BD)], values_BD, hashes))
        progress.advance(len(values_BD))
    progress.finish()
    if len(failures) == count:
        raise InputError(f"{vectors.path}: no row can be used: {failures[0].message}. Look at how the file was made.")
    return Imported(count - len(failures), dim, vectors.dtype, tuple(failures), file.commit())
