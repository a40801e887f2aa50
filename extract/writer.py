"""Where vectors go: the seam between the extraction loop and the shards."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import VivimError
from ..store import EmbeddingFile, FailedClip, Recipe, Rows
from .clip import Clip, EmbeddingBatch, Failure
from .frame_writer import FrameCacheWriter
from .ledger import Stat
from .parts import Parts
from .thumbnails import write_thumbnail


class EmbeddingWriter(Protocol):
    """What takes the vectors."""

    @property
    def hashes(self) -> Mapping[str, str]:
        """Hash of the file behind every row that exists already, by id."""

    def add(self, batch: EmbeddingBatch) -> Sequence[Failure]:
        """Take vectors in; those that cannot be stored come back as failures."""

    def fail(self, failure: Failure) -> None:
        """Note a clip without a vector."""

    def same(self, id_: str) -> None:
        """Note that a clip's file was read and is the one its row was made of."""

    def idle(self) -> None:
        """Nothing comes at the moment: time to write what must not wait for ever."""


def _write_thumbnail(folder: Path, clip: Clip) -> None:
    try:
        write_thumbnail(folder, clip.id, clip.thumbnail)
    except OSError as error:
        raise VivimError(f"thumbnails cannot be written to {folder}: {error}. Make room, or leave out --thumbnails.") from error


def rows_of(batch: EmbeddingBatch) -> Rows:
    """A batch as rows, vectors as they are."""
    clips = batch.clips
    return Rows(
        ids=tuple(clip.id for clip in clips),
        vectors_ND=batch.vectors_BD,
        sha256=tuple(clip.sha256 for clip in clips),
        times_seconds_NT=np.stack([clip.times_seconds for clip in clips]),
        decoder=tuple(clip.decoder for clip in clips),
        short_N=np.array([clip.short for clip in clips]),
    )


class ShardWriter:
    """Collects rows and writes them as shards, each on disk and in the ledger before the next begins.

    Args:
        parts: where shards lie.
        recipe: how the vectors are made.
        dim: D, width of the vectors.
        hashes: of files whose vectors may be outdated, by id.
        stats: size and time of the files, for the ledger.
        clips: rows and failures of a shard.
        seconds: a shard that is not full is written after so long, so that no more work than that is ever lost.
        keep: where the frames go.
        thumbnails: folder for those that clips bring along.
    """

    def __init__(
        self,
        parts: Parts,
        recipe: Recipe,
        dim: int,
        *,
        hashes: Mapping[str, str],
        stats: Mapping[str, Stat | None],
        clips: int = 256,
        seconds: float = 60.0,
        keep: FrameCacheWriter | None = None,
        thumbnails: Path | None = None,
    ) -> None:
        self.parts = parts
        self.recipe = recipe
        self.dim = dim
        self.hashes = hashes
        self.stats = stats
        self.clips = clips
        self.seconds = seconds
        self.keep = keep
        self.thumbnails = thumbnails
        self.write_seconds = 0.0
        self._file: EmbeddingFile | None = None
        self._failures: list[Failure] = []
        self._since = 0.0

    def add(self, batch: EmbeddingBatch) -> Sequence[Failure]:
        for clip in batch.clips:
            if self.keep is not None:
                self.keep.add(clip)
            if self.thumbnails is not None and clip.thumbnail:
                _write_thumbnail(self.thumbnails, clip)
        return self.add_rows(rows_of(batch))

    def add_rows(self, rows: Rows) -> Sequence[Failure]:
        """``add`` for vectors from elsewhere, in float32."""
        refused = [Failure(*failed) for failed in self._open().add(rows)]
        self._failures += refused
        self._commit_if_due()
        return refused

    def fail(self, failure: Failure) -> None:
        self._open().fail(FailedClip(failure.id, failure.kind, failure.message))
        self._failures.append(failure)
        self._commit_if_due()

    def same(self, id_: str) -> None:
        if stat := self.stats.get(id_):
            self.parts.ledger.touch({id_: stat})

    def idle(self) -> None:
        if self._file is not None:
            self._commit_if_due()

    def commit(self) -> None:
        """Write what has come in since the shard before; nothing happens if nothing has.

        Raises:
            VivimError: no space, or the place is gone; shards written before are untouched, and what is collected is kept for another try.
        """
        if self._file is None:
            return
        started = time.monotonic()
        if self.keep is not None:
            self.keep.commit()
        sha256 = self._file.commit()
        self.parts.check()
        done = self._file.hashes
        self.parts.ledger.book(self._file.path.name, sha256, done.items(), self._failures, self.stats)
        self._file, self._failures = None, []
        self.write_seconds += time.monotonic() - started

    def _open(self) -> EmbeddingFile:
        if self._file is None:
            self._file = EmbeddingFile(self.parts.next_shard(), self.recipe, self.dim)
            self._since = time.monotonic()
        return self._file

    def _commit_if_due(self) -> None:
        assert self._file is not None
        if len(self._file) + len(self._failures) >= self.clips or time.monotonic() - self._since > self.seconds:
            self.commit()
