"""Where vectors go: the seam between the extraction loop and the file."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ..store import EmbeddingFile, FailedClip, Rows
from .clip import EmbeddingBatch, Failure


class EmbeddingWriter(Protocol):
    """What takes the vectors."""

    @property
    def hashes(self) -> Mapping[str, str]:
        """Hash of the file behind every row that exists already, by id."""

    def add(self, batch: EmbeddingBatch) -> Sequence[Failure]:
        """Take vectors in; those that cannot be stored come back as failures."""

    def fail(self, failure: Failure) -> None:
        """Note a clip without a vector."""


class FileWriter:
    """Writes to an ``EmbeddingFile``."""

    def __init__(self, file: EmbeddingFile) -> None:
        self.file = file

    @property
    def hashes(self) -> Mapping[str, str]:
        return self.file.hashes

    def add(self, batch: EmbeddingBatch) -> Sequence[Failure]:
        clips = batch.clips
        rows = Rows(
            ids=tuple(clip.id for clip in clips),
            vectors_ND=batch.vectors_BD,
            sha256=tuple(clip.sha256 for clip in clips),
            times_seconds_NT=np.stack([clip.times_seconds for clip in clips]),
            decoder=tuple(clip.decoder for clip in clips),
            short_N=np.array([clip.short for clip in clips]),
        )
        return [Failure(*failed) for failed in self.file.add(rows)]

    def fail(self, failure: Failure) -> None:
        self.file.fail(FailedClip(failure.id, failure.kind, failure.message))
