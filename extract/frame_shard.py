"""One shard of a frame cache: an immutable safetensors file, whose header says what it holds and whose every clip has a hash.

Legend: N clips of the shard, T frames of a clip, C = 3 channels, S side in pixels.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..settings import Settings
from ..store.durable import sync
from .clip import Clip
from .frame_format import DamageError, FrameFormat, Parts, checked, format_of
from .frame_recipe import FrameRecipe

_METADATA = "vivim"  # a single entry: safetensors writes several in an order that changes from run to run
_OPEN_SHARDS = 128


@dataclass(frozen=True)
class StoredClip:
    """A clip as it goes into a shard.

    Attributes:
        parts: its frames, encoded.
        frames_sha256: hash of the parts and their lengths.
    """

    id: str
    sha256: str
    decoder: str
    short: bool
    times_seconds: npt.NDArray[np.float64]
    shape: tuple[int, ...]
    parts: Parts
    frames_sha256: str

    @classmethod
    def of(cls, clip: Clip, format: FrameFormat) -> "StoredClip":
        """A clip, encoded."""
        parts = format.encode(clip.frames_TCHW)
        shape = clip.frames_TCHW.shape
        return cls(clip.id, clip.sha256, clip.decoder, clip.short, clip.times_seconds, shape, parts, _hash_parts(parts))

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


class _Header(Settings):
    """What stands in a shard's metadata; a list has an entry per clip."""

    format: Literal["vivim frames 1"] = "vivim frames 1"
    recipe: FrameRecipe
    stored: dict[str, JsonValue]
    ids: tuple[str, ...]
    source_sha256: tuple[str, ...]
    decoders: tuple[str, ...]
    short: tuple[bool, ...]
    frames_sha256: tuple[str, ...]
    sha256: str = ""

    def hashed(self, times_seconds_NT: npt.NDArray[np.float64]) -> str:
        """Hash of all that the shard says; the frames count through their own hashes."""
        digest = hashlib.sha256(json.dumps(self.model_dump(mode="json", exclude={"sha256"}), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(times_seconds_NT, "<f8").tobytes())
        return digest.hexdigest()


def write_shard(path: Path, recipe: FrameRecipe, format: FrameFormat, clips: Sequence[StoredClip]) -> None:
    """Write N clips of one shape: whole, forced to disk, opened like any shard, and only then under its name.

    Raises:
        OSError: the disk is full, or the place went away; nothing is left behind.
    """
    times_NT = np.stack([clip.times_seconds for clip in clips])
    header = _Header(
        recipe=recipe,
        stored=format.stored,
        ids=tuple(clip.id for clip in clips),
        source_sha256=tuple(clip.sha256 for clip in clips),
        decoders=tuple(clip.decoder for clip in clips),
        short=tuple(clip.short for clip in clips),
        frames_sha256=tuple(clip.frames_sha256 for clip in clips),
    )
    header = header.model_copy(update={"sha256": header.hashed(times_NT)})
    tensors = format.pack([clip.parts for clip in clips]) | {"times_seconds": times_NT}
    temporary = temporary_of(path)
    try:
        save_file(tensors, temporary, {_METADATA: header.model_dump_json()})
        sync(temporary)
        Shard(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except (SafetensorError, DamageError) as error:
        raise OSError(f"{path.name}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


class Shard:
    """A shard, open for reading. The file is mapped into memory: reading a clip touches its bytes and no others.

    Attributes:
        path: the file.
        recipe: how its frames were read, and stored if that lost something.
        ids: N external ids.
        source_sha256: N hashes of the clips' files.
        frames_sha256: N hashes of the stored frames.

    Raises:
        DamageError: no shard, cut off, or its header does not match its hash.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = _open_file(path)
            self._header = _Header.model_validate_json((self._file.metadata() or {}).get(_METADATA, ""))
        except (SafetensorError, OSError, UnicodeDecodeError) as error:
            raise DamageError(f"it cannot be opened ({error})") from error
        except ValidationError as error:
            raise DamageError(f"its header is none of ours ({error.errors()[0]['msg']})") from error
        self.recipe = self._header.recipe
        self.ids = self._header.ids
        self.source_sha256 = self._header.source_sha256
        self.frames_sha256 = self._header.frames_sha256
        self._times_NT = checked(self._file, "times_seconds", "F64")[:]
        self._check()
        self._format = format_of(self._header.stored)
        self._fetch = self._format.open(self._file, *self._times_NT.shape)
        self.row_of = {id_: row for row, id_ in enumerate(self.ids)}

    def read(self, row: int) -> Clip:
        """One clip; its bytes are checked against their hash.

        Raises:
            DamageError: they are not what was written.
        """
        frames_TCHW = self._format.decode(self._checked_parts(row))
        header, times_T = self._header, self._times_NT[row].copy()
        return Clip(self.ids[row], frames_TCHW, times_T, header.decoders[row], self.source_sha256[row], header.short[row])

    def damaged_rows(self) -> list[int]:
        """Rows whose stored frames do not match their hash; reads the whole shard."""
        return [row for row in range(len(self.ids)) if self._fault(row)]

    def _check(self) -> None:
        header, count = self._header, len(self.ids)
        lengths = {len(column) for column in (header.source_sha256, header.decoders, header.short, header.frames_sha256, self._times_NT)}
        if lengths != {count} or self._times_NT.ndim != 2 or len(set(self.ids)) != count or not count:
            raise DamageError("the columns of its header do not fit each other")
        if header.hashed(self._times_NT) != header.sha256:
            raise DamageError("its header does not match its hash")

    def _fault(self, row: int) -> bool:
        try:
            self._checked_parts(row)
        except DamageError:
            return True
        return False

    def _checked_parts(self, row: int) -> Parts:
        parts = self._fetch(row)
        if _hash_parts(parts) != self.frames_sha256[row]:
            raise DamageError(f"the frames of {self.ids[row]!r} do not match their hash")
        return parts


def open_shard(path: Path) -> Shard:
    """A shard, kept open in this process for the next clip; opened anew when the file was replaced.

    Raises:
        DamageError: as of ``Shard``.
        OSError: the file is not there.
    """
    status = path.stat()
    return _open(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=_OPEN_SHARDS)
def _open(path: Path, *_version: int) -> Shard:
    return Shard(path)


def _open_file(path: Path) -> Any:
    return safe_open(path, "np")


def temporary_of(path: Path) -> Path:
    """Where a shard is written before it has its name."""
    return path.with_name(f".{path.name}.tmp")


def _hash_parts(parts: Parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.nbytes.to_bytes(8, "little"))
        digest.update(part.data)
    return digest.hexdigest()
