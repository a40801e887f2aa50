"""A cache of decoded frames: another encoder, pretraining or end-to-end training then needs no decoding.

    frames-000001.safetensors   some clips: frames, times, header; written once, never changed
    frames-000002.safetensors   ... where a clip stands in several, the last one counts

Safetensors because it is a checked header and plain arrays: it can be memory-mapped, holds nothing executable, and any tool
reads it. Any number of processes may read while one writes.

Legend: T frames of a clip, C = 3 channels, S side in pixels.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .clip import Clip, ClipRef
from .clips import Catalogue, sorted_catalogue
from .failures import ClipError
from .frame_format import DamageError
from .frame_recipe import FrameRecipe, check_same
from .frame_shard import Shard, open_shard
from .reader import Unchanged

_NAME = re.compile(r"frames-(\d{6,})\.safetensors")


@dataclass(frozen=True)
class Place:
    """Where a clip's frames stand, and the hashes of its file and of what is stored."""

    shard: Path
    row: int
    source_sha256: str
    frames_sha256: str


@dataclass(frozen=True)
class Contents:
    """What the shards of a folder hold.

    Attributes:
        recipe: None without a whole shard.
        places: by id.
        damaged: see ``FrameCache``.
        size_bytes: of all shards.
    """

    recipe: FrameRecipe | None
    places: dict[str, Place]
    damaged: tuple[str, ...]
    size_bytes: int


class FrameCache:
    """The frames of a folder, by id. Small enough to be sent to other processes.

    Attributes:
        folder: where the shards are.
        recipe: how all frames were read, and stored if that lost something.
        ids: of all clips, sorted.
        damaged: a line for each damaged shard, naming it. What is damaged counts as absent, so that a clip's older version counts
            where there is one.
        size_bytes: of all shards, with clips that were replaced since.
    """

    def __init__(self, folder: Path, recipe: FrameRecipe, contents: Contents) -> None:
        self.folder = folder
        self.recipe = recipe
        self._places = contents.places
        self.ids = tuple(sorted(contents.places))
        self.damaged = contents.damaged
        self.size_bytes = contents.size_bytes

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = False) -> "FrameCache":
        """The cache that stands in a folder.

        Args:
            verify: read every byte and count clips whose frames changed as absent; without it such a clip is refused when it is
                read. Cut off files and damaged headers are found either way.

        Raises:
            InputError: no folder, or no whole shard in it.
            RecipeMismatch: its shards were made by different recipes; the message lists every field.
        """
        contents = scan(Path(folder), verify)
        if contents.recipe is None or not contents.places:
            why = f": {'; '.join(contents.damaged)}" if contents.damaged else ""
            raise InputError(f"{folder} holds no cached frames{why}. Give a folder that frames were cached in.")
        return cls(Path(folder), contents.recipe, contents)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._places

    @property
    def hashes(self) -> dict[str, str]:
        """Hash of each clip's file, by id."""
        return {id_: place.source_sha256 for id_, place in self._places.items()}

    @property
    def sha256(self) -> str:
        """Hash over recipe, ids, files and stored frames; the same, whichever shards hold them."""
        clips = [[id_, self._places[id_].source_sha256, self._places[id_].frames_sha256] for id_ in self.ids]
        return hashlib.sha256(json.dumps([self.recipe.model_dump(mode="json"), clips], sort_keys=True).encode()).hexdigest()

    def read(self, id_: str) -> Clip:
        """One clip; its bytes are checked against their hash.

        Raises:
            InputError: unknown id, or the clip is damaged.
        """
        place = self._places.get(id_)
        if place is None:
            raise InputError(
                f"{self.folder} holds no frames of {id_!r}; it holds {len(self)} clips, for example {', '.join(self.ids[:3])}."
            )
        try:
            return open_shard(place.shard).read(place.row)
        except (DamageError, OSError) as error:
            raise InputError(f"{place.shard}: {error}. Delete it and cache its clips again, or restore it.") from error

    def catalogue(self) -> Catalogue:
        """All clips, for ``run_shard`` with a ``CachedReader``: a clip's path is its shard."""
        return sorted_catalogue([ClipRef(id_, place.shard) for id_, place in self._places.items()], [])

    def check_recipe(self, wanted: FrameRecipe) -> None:
        """Refuse to be used where other frames are wanted.

        The decoder's version and what storing lost are not compared: nothing will be decoded, and ``recipe`` tells of them.

        Raises:
            RecipeMismatch: frames or preprocessing differ; the message lists every field.
        """
        stored = self.recipe.preprocessing.get("stored")
        preprocessing = wanted.preprocessing | ({} if stored is None else {"stored": stored})
        expected = wanted.model_copy(update={"preprocessing": preprocessing, "decoder": self.recipe.decoder})
        advice = "Use the settings of the cache, or cache frames with yours in another folder."
        where = f"{self.folder} holds other frames than are wanted"
        check_same(self.recipe, expected, where=where, old_is="in the cache", new_is="wanted", advice=advice)


@dataclass(frozen=True)
class CachedReader:
    """Reads clips of a ``FrameCache.catalogue()`` in decoding processes, as ``ClipReader`` reads files.

    Attributes:
        frame_bytes: of the frames of every clip, where they are known to be alike; 0: not known.
    """

    frame_bytes: int = 0

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        """One clip from its shard.

        Args:
            ref: its id, and its shard as the path.
            known_sha256: hash of the clip's file, as it was when it was cached, for which there is a row already.

        Raises:
            ClipError: missing or decode_error.
        """
        try:
            shard = open_shard(ref.path)
            row = shard.row_of.get(ref.id)
            if row is None:
                raise ClipError("missing", f"{ref.path} holds no frames of it")
            return Unchanged(ref.id) if shard.source_sha256[row] == known_sha256 else shard.read(row)
        except OSError as error:
            raise ClipError("missing", f"{ref.path}: {error.strerror}") from error
        except DamageError as error:
            raise ClipError("decode_error", f"{ref.path}: {error}") from error


def shards_of(folder: Path) -> list[tuple[int, Path]]:
    """All shards with their numbers, oldest first."""
    if not folder.is_dir():
        return []
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def scan(folder: Path, verify: bool) -> Contents:
    """What stands in a folder, which need not be there.

    Raises:
        RecipeMismatch: shards were made by different recipes.
    """
    places: dict[str, Place] = {}
    damaged: list[str] = []
    first: Shard | None = None
    size_bytes = 0
    for _, path in shards_of(folder):
        size_bytes += path.stat().st_size
        try:
            shard = Shard(path)
        except DamageError as error:
            damaged.append(f"{path.name}: {error}")
            continue
        if first is not None:
            advice = "Move one of them to another folder."
            where = f"{folder}: {first.path.name} and {path.name} hold frames of different recipes"
            check_same(first.recipe, shard.recipe, where=where, old_is="in the first", new_is="in the second", advice=advice)
        first = first or shard
        lost = set(shard.damaged_rows()) if verify else set()
        if lost:
            names = ", ".join(shard.ids[row] for row in sorted(lost)[:5])
            damaged.append(f"{path.name}: {len(lost)} of {len(shard.ids)} clips do not match their hash: {names}")
        for row, id_ in enumerate(shard.ids):
            if row not in lost:
                places[id_] = Place(path, row, shard.source_sha256[row], shard.frames_sha256[row])
    return Contents(first.recipe if first else None, places, tuple(damaged), size_bytes)
