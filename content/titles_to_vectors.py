"""Titles of items to an embedding file.

Shapes: B titles encoded at once, D width of their vectors.
"""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..errors import InputError, Interrupted
from ..progress import Progress
from ..recommend.titles import Titles, read_titles
from ..store import AnyRecipe, EmbeddingFile, EmbeddingStore, FailedClip, Rows, TextRecipe
from ..store.recipe import Dtype
from .config import TextConfig

EMPTY = "empty_title"
_CHUNK = 512
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class TitlesDone:
    """What became of a file of titles.

    Attributes:
        total: items in it.
        embedded: titles encoded by this run.
        unchanged: titles whose vector was there already.
        kept: vectors in the file of items that the titles do not name.
        failures: items without a vector, and why.
        repeated: items with a second title, of which the first was taken.
        seconds: this run took.
        sha256: content hash of the embedding file.
    """

    total: int
    embedded: int
    unchanged: int
    kept: int
    failures: tuple[FailedClip, ...]
    repeated: tuple[str, ...]
    seconds: float
    sha256: str


def read_item_titles(path: Path) -> Titles:
    """The titles of a file, which must look like titles.

    Raises:
        InputError: as ``read_titles``, or there is no title in it, or most have no letter: then it is some other file.
    """
    titles = read_titles(path)
    written = [title for title in titles.by_id.values() if title]
    if not written:
        raise InputError(f"{path} holds {len(titles.by_id)} items and no title; expected lines of item,title.")
    wordless = [title for title in written if not _LETTER.search(title)]
    if 2 * len(wordless) > len(written):
        raise InputError(
            f"{path}: {len(wordless)} of {len(written)} titles hold no letter, as {wordless[0][:40]!r}: this is no file of titles. "
            "Expected lines of item,title."
        )
    return titles


class TextEncoder(Protocol):
    """What turns texts into vectors; ``TextModel`` does."""

    dim: int

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """(B, D) vectors of B texts."""

    def recipe(self, dtype: Dtype) -> TextRecipe:
        """How its vectors come about."""


def embed_titles(titles: Titles, model: TextEncoder, out: Path, config: TextConfig, progress: Progress) -> TitlesDone:
    """Encode what ``out`` does not hold yet, and write it whole or not at all.

    A row records the hash of its title: a title that is in the file, made by the same recipe, is not encoded again. What an interrupted
    run has done lies in ``OUT.part`` until the file is written.

    Args:
        titles: of items.
        model: the encoder.
        out: embedding file; one that is there is added to.
        config: ``dtype``, ``keep_minutes``.
        progress: is told.

    Raises:
        RecipeMismatch: the file, or its part, was made by another recipe.
        InputError: a bad place, a damaged file, ids that a file cannot hold.
        Interrupted: by Ctrl-C; what is done is kept.
        VivimError: the disk is full.
    """
    began = time.monotonic()
    recipe = model.recipe(config.dtype)
    file = EmbeddingFile(out, recipe, model.dim)
    before = file.hashes
    part = _Part(out.with_name(out.name + ".part"), recipe, model.dim, every_seconds=60 * config.keep_minutes)
    hashes = {id_: hashlib.sha256(title.encode()).hexdigest() for id_, title in titles.by_id.items() if title}
    part.give(file, hashes)
    there = file.hashes
    todo = [id_ for id_, sha256 in hashes.items() if there.get(id_) != sha256]
    failures = [FailedClip(id_, EMPTY, "the title is empty") for id_, title in titles.by_id.items() if not title]
    for failure in failures:
        file.fail(failure)
    progress.start("encode", len(todo), "titles")
    try:
        for ids in _alike_in_length(todo, titles):
            rows = Rows.without_frames(ids, model.encode([titles.by_id[id_] for id_ in ids]), [hashes[id_] for id_ in ids])
            failures += file.add(rows)
            part.add(rows)
            progress.advance(len(ids))
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {part.keep():,} titles are kept in {part.path}. Run the same command again to go on.") from None
    progress.finish()
    sha256 = file.commit()
    part.path.unlink(missing_ok=True)
    return TitlesDone(
        total=len(titles.by_id),
        embedded=len(todo) - sum(failure.kind != EMPTY for failure in failures),
        unchanged=len(hashes) - len(todo),
        kept=len(set(before) - set(titles.by_id)),
        failures=tuple(failures),
        repeated=titles.repeated,
        seconds=time.monotonic() - began,
        sha256=sha256,
    )


def _alike_in_length(ids: Sequence[str], titles: Titles) -> Iterator[Sequence[str]]:
    """Pieces of the work; titles of one length waste no padding on each other. The longest come first, so that time is foretold in full."""
    by_length = sorted(ids, key=lambda id_: -len(titles.by_id[id_]))
    return (by_length[start : start + _CHUNK] for start in range(0, len(by_length), _CHUNK))


class _Part:
    """What a run has done so far, kept beside the file it will become, as a file of the same kind.

    Raises:
        RecipeMismatch: an interrupted run with another recipe has left one.
    """

    def __init__(self, path: Path, recipe: AnyRecipe, dim: int, every_seconds: float) -> None:
        self.path, self._every_seconds = path, every_seconds
        self._file = EmbeddingFile(path, recipe, dim)
        self._kept_at, self._took = time.monotonic(), 0.0

    def give(self, file: EmbeddingFile, hashes: Mapping[str, str]) -> None:
        """To the file, what an interrupted run has left of the titles with these hashes."""
        if self.path.exists():
            rows = EmbeddingStore.open(self.path, allow_empty=True).rows
            file.add(rows.take([row for row, id_ in enumerate(rows.ids) if hashes.get(id_) == rows.sha256[row]]))

    def add(self, rows: Rows) -> None:
        """Take rows in, and keep all once in a while; that takes at most a tenth of the time."""
        self._file.add(rows)
        if time.monotonic() - self._kept_at > max(self._every_seconds, 10 * self._took):
            self.keep()

    def keep(self) -> int:
        """Write what there is; how many rows that is."""
        began = time.monotonic()
        self._file.commit()
        self._kept_at = time.monotonic()
        self._took = self._kept_at - began
        return len(self._file)
