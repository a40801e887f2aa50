"""Writing a frame cache, see ``frame_cache``."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from ..errors import InputError, VivimError
from .clip import Clip
from .clips import check_ids
from .frame_cache import scan, shards_of
from .frame_format import FrameFormat, Raw
from .frame_recipe import FrameRecipe, check_same
from .frame_shard import StoredClip, write_shard

SHARD_BYTES = 128 << 20
"""A shard is written when the clips that wait for it have so many bytes."""

_LOCK = ".writing"


class FrameCacheWriter:
    """Adds clips to a cache, which it makes if needed. As a context manager it commits at the end, whatever ends it.

    Clips that wait for their shard to fill are lost with the process; those of a written shard are not, whatever happens. Start
    again with the same clips, and only those that are lacking are written.

    Args:
        folder: where the shards go.
        recipe: how the frames that will be added are read; ``FrameRecipe.of`` an embedding file's recipe.
        format: how they are stored.
        verify: read every byte that is there, so that clips whose bytes changed are written again.
        shard_bytes: a shard is written when the clips that wait for it have so many bytes.

    Raises:
        RecipeMismatch: the folder holds frames that were read or stored another way; the message lists every field.
        InputError: another process writes there, or the place cannot be written.
    """

    def __init__(
        self,
        folder: Path | str,
        recipe: FrameRecipe,
        format: FrameFormat | None = None,
        *,
        verify: bool = False,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder = Path(folder)
        self.format = format or Raw()
        self.recipe = self.format.described(recipe)
        self._shard_bytes = shard_bytes
        self._waiting: dict[str, StoredClip] = {}
        self._waiting_bytes = 0
        self._lock: int | None = _take_lock(self.folder)
        try:
            for stray in self.folder.glob(".frames-*.tmp"):
                stray.unlink()
            found = scan(self.folder, verify)
            if found.recipe is not None:
                advice = "Use the same settings, or cache in another folder."
                where = f"{self.folder} holds frames of another recipe"
                check_same(found.recipe, self.recipe, where=where, old_is="in the cache", new_is="now", advice=advice)
        except BaseException:
            self.close()
            raise
        self.damaged = found.damaged
        self._hashes = {id_: place.source_sha256 for id_, place in found.places.items()}
        self._next = 1 + max((number for number, _ in shards_of(self.folder)), default=0)

    @property
    def hashes(self) -> Mapping[str, str]:
        """Hash of the file of every clip that is cached or waits to be: one that still has it need not be decoded again."""
        return {**self._hashes, **{id_: clip.sha256 for id_, clip in self._waiting.items()}}

    def __len__(self) -> int:
        return len(self._hashes.keys() | self._waiting.keys())

    def add(self, clip: Clip) -> bool:
        """Take a clip in; a clip of the same id is replaced. False: it is there already, made of the same file.

        Raises:
            InputError: an id that no file can hold.
            VivimError: a full shard cannot be written. It stays to be written by the next call.
        """
        check_ids([clip.id])
        waiting = self._waiting.get(clip.id)
        if (waiting.sha256 if waiting else self._hashes.get(clip.id)) == clip.sha256:
            return False
        stored = StoredClip.of(clip, self.format)
        first = next(iter(self._waiting.values()), stored)
        assert first.shape == stored.shape, (first.id, first.shape, stored.id, stored.shape)
        self._waiting_bytes += stored.size_bytes - (waiting.size_bytes if waiting else 0)
        self._waiting[clip.id] = stored
        if self._waiting_bytes >= self._shard_bytes:
            self.commit()
        return True

    def commit(self) -> None:
        """Write all clips that wait. What is written when this returns survives the process and the machine's power.

        Raises:
            VivimError: the disk is full or the place went away; the clips still wait, and shards that exist are untouched.
        """
        if not self._waiting:
            return
        path = self.folder / f"frames-{self._next:06d}.safetensors"
        try:
            write_shard(path, self.recipe, self.format, list(self._waiting.values()))
        except OSError as error:
            raise VivimError(
                f"frames of {len(self._waiting)} clips could not be written to {self.folder}: {error}. "
                f"About {self._waiting_bytes} bytes are needed. What was there before is untouched."
            ) from error
        self._next += 1
        self._hashes.update((id_, clip.sha256) for id_, clip in self._waiting.items())
        self._waiting, self._waiting_bytes = {}, 0

    def close(self) -> None:
        """Let another process write. Clips that wait are forgotten."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "FrameCacheWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.commit()
        finally:
            self.close()


def _take_lock(folder: Path) -> int:
    """A descriptor that holds the right to write; the kernel gives it back when the process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"frames cannot be cached in {folder}: {error}. Choose another place.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise InputError(f"another process is caching frames in {folder}; wait for it, or choose another folder.") from error
    return descriptor
