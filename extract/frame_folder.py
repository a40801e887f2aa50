"""Frames that stand as JPEG files in a folder or a zip, as MicroLens publishes them: ``{item}-{1..5}.jpg``.

A zip is read in place, never unpacked. The name says it all: the id is what stands before the last dash, whatever it is (``007``
stays ``007``), the number behind it the frame's place. An item's frames are numbered without a gap from 1, or from 0.

Of an item's n frames, T are read: those at the centres of T equal spans of the row of n. So n = T reads each once, n > T leaves
some out evenly, and n < T repeats some and sets ``short``. When they were shown is not known: in the place of seconds stands the
number in the file's name.

Legend: n frames of an item, T frames wanted, S side of the square the encoder sees.
"""

import hashlib
import re
import stat
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import InputError
from .clip import Clip, ClipRef, Failure
from .clips import Catalogue, check_ids, sorted_catalogue, walk_files
from .failures import ClipError
from .frame_recipe import FrameRecipe
from .jpeg import DamagedJpeg, decode_jpegs, jpeg_size
from .probe import Limits
from .reader import Unchanged
from .resize import resize
from .sampling import Uniform, is_short
from .zip_files import ZipFiles

_FRAME = re.compile(r"(?P<id>.+)-(?P<number>[0-9]{1,6})\.jpe?g", re.IGNORECASE | re.DOTALL)
_MAX_FILE_BYTES = 32 << 20
_MAX_FRAMES = 1024

Numbered = Mapping[int, str]
"""An item's frames: number -> name of the file."""


def find_frames(source: Path, frames_per_item: int | None = None) -> Catalogue:
    """The items whose frames stand in a folder, with all folders below it, or in a zip. Other files are passed over.

    Args:
        source: the folder or the zip; becomes the path of every ``ClipRef``.
        frames_per_item: n that every item must have: with fewer it fails as ``too_short``, with more as ``too_long``. None: any.

    Items fail before any is opened also when a number is left out (``missing``), or when two files are the same frame
    (``duplicate_id``).

    Raises:
        InputError: the source is not there, cannot be read, or holds no frames; a zip with names that lead out of it, or with too
            many files; an id that no file can hold.
    """
    index = _index(source)
    faults = {id_: fault for id_, frames in index.frames.items() if (fault := _fault(frames, frames_per_item))}
    failures = {id_: Failure(id_, *fault) for id_, fault in faults.items()} | index.doubtful
    return sorted_catalogue([ClipRef(id_, source) for id_ in index.frames if id_ not in failures], list(failures.values()))


@dataclass(frozen=True)
class FrameFileReader:
    """Turns an item's JPEG files into T square RGB frames, as ``ClipReader`` does with a video. Small and picklable.

    Attributes:
        count: T.
        image_size: S, in pixels.
        resize: ``crop`` or ``squash``, see ``resize.resize``.
        limits: of the size of a picture.
    """

    count: int
    image_size: int = 224
    resize: Literal["crop", "squash"] = "crop"
    limits: Limits = field(default_factory=Limits)

    @property
    def frame_bytes(self) -> int:
        """Of the frames of every item."""
        return self.count * 3 * self.image_size**2

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        """Read one item; its hash is over all its n files and their lengths.

        Args:
            ref: the item, from ``find_frames``.
            known_sha256: hash of the files that already have a row; if they are still those, nothing is decoded.

        Raises:
            ClipError: missing, empty, not_video (no JPEG), decode_error, too_large, too_long or unsupported_codec.
        """
        index = _index_in_child(ref.path)
        names = index.frames.get(ref.id)
        if names is None:
            raise ClipError("missing", f"{ref.path} holds no frames of it")
        numbers = sorted(names)
        files = [index.files.read(names[number], _MAX_FILE_BYTES) for number in numbers]
        sha256 = _hash(files)
        if sha256 == known_sha256:
            return Unchanged(ref.id)
        n = len(numbers)
        indices_T = Uniform(self.count).pick(np.arange(n, dtype=np.float64), n)
        squares = {k: self._square(files[k], names[numbers[k]]) for k in sorted({int(k) for k in indices_T})}
        times_T = np.array(numbers, np.float64)[indices_T]
        frames_TCHW = np.stack([squares[int(k)] for k in indices_T])
        return Clip(ref.id, frames_TCHW, times_T, "pyav", sha256, is_short(indices_T))

    @property
    def recipe(self) -> FrameRecipe:
        """How these frames are read."""
        return FrameRecipe(
            frames={"sampler": "files", "count": self.count, "times": "numbers in the names of the files"},
            preprocessing={"image_size": self.image_size, "resize": self.resize},
            decoder={"policy": "jpeg", "av": version("av")},
        )

    def _square(self, data: bytes, name: str) -> np.ndarray:
        if not data:
            raise ClipError("empty", f"{name} has 0 bytes")
        if not data.startswith(b"\xff\xd8"):
            raise ClipError("not_video", f"{name} is no JPEG, it begins {data[:8].hex(' ')}")
        try:
            width, height = jpeg_size(data)
            if max(width, height) > self.limits.max_side_pixels or width * height > self.limits.max_pixels:
                allowed = f"a side may have {self.limits.max_side_pixels} pixels, all {self.limits.max_pixels}"
                raise ClipError("too_large", f"{name} declares {width}x{height}; {allowed}")
            return resize(decode_jpegs([data])[0], self.image_size, self.resize)
        except DamagedJpeg as error:
            raise ClipError("decode_error", f"{name}: {error}") from error


@dataclass(frozen=True)
class _FolderFiles:
    """The files of a folder, by their paths below it."""

    root: Path

    def names(self) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in walk_files(self.root)]

    def read(self, name: str, max_bytes: int) -> bytes:
        path = self.root / name
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ClipError("not_video", f"{name} is not a regular file")
            if status.st_size > max_bytes:
                raise ClipError("too_large", f"{name} has {status.st_size} bytes; at most {max_bytes} are allowed")
            with path.open("rb") as file:
                return file.read(max_bytes)
        except OSError as error:
            raise ClipError("missing", f"{name}: {error.strerror}") from error


@dataclass(frozen=True)
class _Index:
    files: _FolderFiles | ZipFiles
    frames: Mapping[str, Numbered]
    doubtful: dict[str, Failure]


def _index(source: Path) -> _Index:
    """Which frames there are, from the names alone."""
    if not source.exists():
        raise InputError(f"{source} is not there; give the folder or the zip that holds the frames.")
    files = _FolderFiles(source) if source.is_dir() else ZipFiles(source)
    frames: dict[str, dict[int, str]] = defaultdict(dict)
    doubtful: dict[str, Failure] = {}
    for name in files.names():
        match = _FRAME.fullmatch(name.rpartition("/")[2])
        if not match:
            continue
        id_, number = match["id"], int(match["number"])
        other = frames[id_].setdefault(number, name)
        if other != name:
            doubtful.setdefault(id_, Failure(id_, "duplicate_id", f"{other} and {name} are both its frame {number}"))
    if not frames:
        raise InputError(f"{source} holds no frames; looked for files named ID-NUMBER.jpg, for example 17-1.jpg.")
    check_ids(frames)
    return _Index(files, dict(frames), doubtful)


def _index_in_child(source: Path) -> _Index:
    """The index, made once in a process."""
    try:
        status = source.stat()
        return _kept_index(source, status.st_ino, status.st_mtime_ns)
    except OSError as error:
        raise ClipError("missing", f"{source}: {error.strerror}") from error
    except InputError as error:
        raise ClipError("missing", str(error)) from error


@lru_cache(maxsize=2)
def _kept_index(source: Path, *_version: int) -> _Index:
    return _index(source)


def _fault(frames: Numbered, frames_per_item: int | None) -> tuple[str, str] | None:
    """Why an item cannot be used, from the numbers of its frames: kind and message."""
    first = 0 if 0 in frames else 1
    absent = next((number for number in range(first, first + len(frames)) if number not in frames), None)
    if absent is not None:
        return "missing", f"frame {absent} is not there, {max(frames)} is"
    if len(frames) > _MAX_FRAMES:
        return "too_long", f"{len(frames)} frames; at most {_MAX_FRAMES} are allowed"
    if frames_per_item is not None and len(frames) != frames_per_item:
        return "too_short" if len(frames) < frames_per_item else "too_long", f"{len(frames)} frames; every item must have {frames_per_item}"
    return None


def _hash(files: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for data in files:
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
