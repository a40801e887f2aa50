"""Reading one clip: hash, probe, choose frames, decode, resize. Only ever called inside a decoding process.

Shapes: T frames, H, W of a decoded frame, S side of the square the encoder sees.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from . import decord_frames, pyav_frames
from .clip import Clip, ClipRef
from .failures import ClipError
from .probe import Limits, Probe, counted_times, probe_clip
from .resize import resize
from .sampling import FrameSampler, Indices, is_short, make_sampler, nearest_keyframes
from .sniff import HEAD_BYTES, check_size, container_of
from .thumbnails import thumbnail_webp

if TYPE_CHECKING:
    from .config import ExtractConfig

Picture = npt.NDArray[np.uint8]

RULES = 2
"""Raised when the same file, read by the same libraries, gives other frames than before: who reads what, and how frames become RGB.

1 (not recorded): decord read also clips in which it returns neighbours of the frames it is asked for.
"""


@dataclass(frozen=True)
class Unchanged:
    """The clip's file is byte for byte the one that already has a row; it was not decoded."""

    id: str


@dataclass(frozen=True)
class ClipReader:
    """Turns a clip's file into T square RGB frames. Small and picklable, so that it can be sent to decoding processes.

    Attributes:
        sampler: which frames.
        image_size: S, in pixels.
        resize: ``crop`` or ``squash``, see ``resize.resize``.
        decoder: ``auto``: decord reads, PyAV rescues; ``pyav``: PyAV reads all.
        limits: what is refused.
        seek: ``exact``: the wanted frames; ``keyframe``: for each the nearest keyframe, which costs decoding one frame instead of
            its group of pictures. Exact also where frames have no timestamps, or no keyframe is shown.
        strict: refuse what PyAV's decoders, told to look for every error they know, call damaged.
        thumbnails: make one of each clip, while the frame in the middle of those that are read is at hand.
    """

    sampler: FrameSampler
    image_size: int = 224
    resize: Literal["crop", "squash"] = "crop"
    decoder: Literal["auto", "pyav"] = "auto"
    limits: Limits = field(default_factory=Limits)
    seek: Literal["exact", "keyframe"] = "exact"
    strict: bool = False
    thumbnails: bool = False

    @property
    def frame_bytes(self) -> int:
        """Of the frames of every clip."""
        return self.sampler.count * 3 * self.image_size**2

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        """Read one clip.

        Args:
            ref: its id and file.
            known_sha256: hash of the file that already has a row; if the file is still that one, nothing is decoded.

        Raises:
            ClipError: the clip cannot be read; any kind but those of the pool (timeout, crash) and of the encoder.
        """
        before = regular_file(ref.path)
        sha256, head = _hash(ref.path)
        if sha256 == known_sha256:
            return Unchanged(ref.id)
        container = container_of(head)
        check_size(ref.path, container, before.st_size)
        probe = probe_clip(ref.path, container, self.limits)
        thumbnail = Thumbnail() if self.thumbnails else None
        pictures, times_T, short, decoder = self._read(ref.path, probe, thumbnail)
        after = regular_file(ref.path)
        if _version(after) != _version(before):
            raise ClipError("changed", "the file was replaced or written to while it was read")
        return Clip(ref.id, pictures, times_T, decoder, sha256, short, thumbnail.webp if thumbnail else b"")

    def _read(self, path: Path, probe: Probe, thumbnail: "Thumbnail | None") -> tuple[Picture, npt.NDArray[np.float64], bool, str]:
        if not probe.timed:
            return self._read_counted(path, probe, thumbnail)
        indices_T = self.sampler.pick(probe.times_seconds, probe.end_seconds)
        keyframes_K = np.flatnonzero(np.isin(probe.pts, probe.keyframe_pts))
        if self.seek == "keyframe" and len(keyframes_K):
            indices_T = nearest_keyframes(indices_T, keyframes_K, probe.times_seconds)
        wanted = {int(k) for k in indices_T}
        squares, decoder = None, "decord"
        if _who_reads(self.decoder, self.seek, self.strict) == "auto":
            with suppress(decord_frames.DoubtError):  # PyAV reads what decord may have got wrong
                squares = self._squares(decord_frames.read_frames(path, probe, wanted), probe, indices_T, thumbnail)
        if squares is None:
            decoder = "pyav"
            squares = self._squares(pyav_frames.read_timed(path, probe, wanted, strict=self.strict), probe, indices_T, thumbnail)
        return _stack(squares, indices_T), probe.times_seconds[indices_T], is_short(indices_T), decoder

    def _read_counted(self, path: Path, probe: Probe, thumbnail: "Thumbnail | None") -> tuple[Picture, npt.NDArray[np.float64], bool, str]:
        """A stream without timestamps: its real length is known only after decoding, so choosing may take a second try."""
        times, end = probe.times_seconds, probe.end_seconds
        interval = end / len(times)
        for _ in range(2):
            indices_T = self.sampler.pick(times, end)
            found, count = pyav_frames.read_counted(path, probe, {int(k) for k in indices_T}, strict=self.strict)
            if count == len(times):
                squares = self._squares(found.items(), probe, indices_T, thumbnail)
                return _stack(squares, indices_T), times[indices_T], is_short(indices_T), "pyav"
            times, end = counted_times(count, interval), count * interval
        raise ClipError("decode_error", "the number of frames differs each time it is read")

    def _squares(
        self, pictures: Iterable[tuple[int, Picture]], probe: Probe, indices_T: Indices, thumbnail: "Thumbnail | None"
    ) -> dict[int, Picture]:
        """Each picture resized as soon as it is there, so that full-size frames do not pile up."""
        squares = {}
        for k, picture in pictures:
            aspect = _shown_aspect(picture, probe)
            squares[k] = resize(picture, self.image_size, self.resize, aspect)
            if thumbnail is not None and k == int(indices_T[len(indices_T) // 2]):
                thumbnail.webp = thumbnail_webp(picture, aspect)
        return squares


@dataclass
class Thumbnail:
    """Where a clip's thumbnail is put while its frames are read."""

    webp: bytes = b""


def make_reader(config: "ExtractConfig") -> ClipReader:
    """The reader that a configuration asks for."""
    return ClipReader(
        make_sampler(config.frames),
        config.image_size,
        config.resize,
        config.decoder,
        seek=config.seek,
        strict=config.strict,
        thumbnails=config.thumbnails is not None,
    )


def decoder_versions(
    policy: Literal["auto", "pyav"], seek: Literal["exact", "keyframe"] = "exact", *, strict: bool = False
) -> dict[str, str | bool | int]:
    """What the recipe records about decoding: who reads, by which rules, versions of the libraries, ``strict`` where it is asked for.

    Raises:
        InputError: the policy needs decord, which is not installed; PyAV alone would be a quiet slow path.
    """
    reads = _who_reads(policy, seek, strict)
    versions: dict[str, str | bool | int] = {"policy": reads, "rules": RULES, "av": version("av")}
    if reads == "auto":
        decord = next(_installed("decord2", "decord"), None)
        if decord is None:
            raise InputError("decord is not installed. Install it with: pip install decord2, or read with PyAV: --set extract.decoder=pyav")
        versions["decord"] = decord
    return versions | {"strict": True} if strict else versions


def _who_reads(policy: Literal["auto", "pyav"], seek: str, strict: bool) -> Literal["auto", "pyav"]:
    """decord neither stops at damage nor decodes a keyframe alone."""
    return "pyav" if strict or seek == "keyframe" else policy


def _installed(*names: str) -> Iterator[str]:
    for name in names:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def _shown_aspect(picture: Picture, probe: Probe) -> float:
    """Pixel aspect after rotation: a quarter turn swaps the sides, and pixels with them."""
    turned = picture.shape[:2] == (probe.width, probe.height) and probe.width != probe.height
    return 1 / probe.pixel_aspect if turned else probe.pixel_aspect


def _stack(squares: dict[int, Picture], indices_T: Indices) -> Picture:
    return np.stack([squares[int(k)] for k in indices_T])


def regular_file(path: Path) -> os.stat_result:
    """Size and times of a file that may be opened.

    Raises:
        ClipError: missing, empty, or not_video for a folder, a pipe or a device.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ClipError("missing", f"{error.strerror}: {path}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ClipError("not_video", f"{path} is not a regular file")
    if status.st_size == 0:
        raise ClipError("empty", "the file has 0 bytes")
    return status


def _version(status: os.stat_result) -> tuple[int, ...]:
    """What differs when a file is written to, or another one is put in its place."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _hash(path: Path) -> tuple[str, bytes]:
    """Hash of the whole file, and its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest(), head
    except OSError as error:
        raise ClipError("missing", f"{error.strerror}: {path}") from error
