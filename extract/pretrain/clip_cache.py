"""The frames of all clips, decoded once: decoding is slower than training, and every epoch needs them.

    frames.u8     uint8 RGB, (M, F, 3, S, S), M clips that were tried
    frames.json   what it was made of, written last: without it the frames count as absent

Legend: M clips tried, N clips that could be read, F frames of each, S side in pixels.
"""

import hashlib
import json
import os
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...progress import Progress
from ..clip import Clip, ClipRef, Failure
from ..clips import find_clips
from ..decode_pool import DecodePool, Result
from ..frame_cache import CachedReader, FrameCache, shards_of
from ..reader import ClipReader, Unchanged
from ..resize import resize
from ..sampling import Uniform
from ..sources import Source
from .selfsup_config import SelfSupConfig

FORMAT = 1


@dataclass(frozen=True)
class ClipCache:
    """Decoded frames of the clips that could be read.

    Attributes:
        ids: (N) in the order of the catalogue.
        failures: clips that were left out, and why.
        sha256: hash over ids, files and how the frames were read; the same data gives the same hash.
        tried_MFCHW: the memory-mapped file.
        rows_N: which of its rows hold a clip.
    """

    ids: tuple[str, ...]
    failures: tuple[Failure, ...]
    sha256: str
    tried_MFCHW: npt.NDArray[np.uint8]
    rows_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def frames(self, clips_B: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(B, F, 3, S, S) of clips 0..N-1, copied into memory."""
        return np.asarray(self.tried_MFCHW[self.rows_N[clips_B]])


@dataclass(frozen=True)
class SmallerFrames:
    """Reads what extraction kept (``--cache-frames``), made smaller.

    Attributes:
        size: side of the frames, pixels.
    """

    size: int

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        """As ``CachedReader``."""
        clip = CachedReader()(ref, known_sha256)
        if isinstance(clip, Unchanged):
            return clip
        frames_TCHW = np.stack([resize(frame_CHW.transpose(1, 2, 0), self.size, "squash") for frame_CHW in clip.frames_TCHW])
        return replace(clip, frames_TCHW=frames_TCHW)


def source_of(videos: Path, manifest: Path | None, config: SelfSupConfig, progress: Progress) -> Source:
    """A folder of clips, or of the frames that ``vivim extract --cache-frames`` kept of them.

    Raises:
        InputError: no clips; or kept frames that are too few, too small or not spread over the clip.
    """
    if manifest is not None or not shards_of(videos):
        return Source(
            find_clips(videos, manifest), ClipReader(Uniform(config.cached_frames), config.cached_size, config.resize, config.decoder)
        )
    cache = FrameCache.open(videos)
    for line in cache.damaged:
        progress.say(line)
    count, sampler = cache.recipe.frames.get("count"), cache.recipe.frames.get("sampler")
    size = cache.recipe.preprocessing.get("image_size")
    if sampler != "uniform" or count != config.cached_frames:
        raise InputError(
            f"{videos} holds {count} frames ({sampler}) of each clip; wanted are {config.cached_frames}, uniform. "
            f"Keep them with `vivim extract --cache-frames DIR --frames {config.cached_frames}`, or set selfsup.cached_frames."
        )
    if not isinstance(size, int) or size < config.image_size:
        raise InputError(f"{videos} holds frames of {size} pixels; views of {config.image_size} are wanted. Set a smaller --pixels.")
    return Source(cache.catalogue(), SmallerFrames(config.cached_size), cache.recipe)


def open_cache(source: Source, folder: Path, config: SelfSupConfig, progress: Progress) -> ClipCache:
    """The frames of all clips of a source: those in ``folder`` if they are of the same files read the same way, else decoded.

    Clips that cannot be read, or have fewer distinct frames than a view (``config.frames``), are left out and named.

    Raises:
        InputError: fewer than two clips are left, or the folder cannot be written.
    """
    catalogue = source.catalogue
    wanted = _key(source, config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = _read_index(folder)
        if found is None or found["key"] != wanted:
            found = _decode(source, folder, config, wanted, progress)
        shape = (len(catalogue.refs), config.cached_frames, 3, config.cached_size, config.cached_size)
        tried = np.memmap(folder / "frames.u8", np.uint8, "r", shape=shape) if catalogue.refs else np.empty(shape, np.uint8)
    except (OSError, ValueError) as error:
        raise InputError(f"the decoded frames cannot be kept in {folder} ({error}). Make room there, or name another folder.") from error
    failures = [*catalogue.failures, *(Failure(**failure) for failure in found["failures"])]
    for failure in failures:
        progress.say(f"left out: {failure.id}: {failure.kind}: {failure.message}")
    rows = np.array(found["rows"], np.int64)
    ids = tuple(catalogue.refs[row].id for row in rows)
    if len(ids) < 2:
        why = f"; {failures[0].id}: {failures[0].message}" if failures else ""
        raise InputError(
            f"{len(ids)} of {len(catalogue)} clips can be learned from{why}. Pretraining compares clips with each other: "
            "bring at least two, better hundreds."
        )
    digest = hashlib.sha256(json.dumps([wanted["reader"], list(zip(ids, found["sha256"], strict=True))]).encode()).hexdigest()
    return ClipCache(ids, tuple(failures), digest, tried, rows)


def _key(source: Source, config: SelfSupConfig) -> dict[str, Any]:
    """All that decides what the frames are, with a file's size and time standing for its content."""
    reader: dict[str, Any] = {
        "format": FORMAT,
        "frames": config.frames,
        "cached_frames": config.cached_frames,
        "size": config.cached_size,
        "resize": config.resize,
        "decoder": config.decoder,
    }
    if source.frames is not None:
        reader["kept"] = source.frames.model_dump(mode="json")
    stats = [(ref, ref.path.stat()) for ref in source.catalogue.refs]
    return {"reader": reader, "files": [[ref.id, str(ref.path.resolve()), stat.st_size, stat.st_mtime_ns] for ref, stat in stats]}


def _read_index(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "frames.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and {"key", "rows", "sha256", "failures"} <= found.keys() else None


def _decode(source: Source, folder: Path, config: SelfSupConfig, key: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Decode all clips into ``frames.u8``; the content of ``frames.json``."""
    (folder / "frames.json").unlink(missing_ok=True)
    refs = source.catalogue.refs
    pool = DecodePool(source.reader, config.workers, config.timeout_seconds)
    row_of = {ref.id: row for row, ref in enumerate(refs)}
    hashes: dict[int, str] = {}
    failures: list[Failure] = []
    shape = (len(refs), config.cached_frames, 3, config.cached_size, config.cached_size)
    frames = np.memmap(folder / "frames.u8", np.uint8, "w+", shape=shape) if refs else np.empty(shape, np.uint8)
    progress.start("decode", len(refs), "clips")
    with closing(pool.decode(refs)) as results:
        for result in results:
            good = _checked(result, config.frames)
            if isinstance(good, Clip):
                frames[row_of[good.id]] = good.frames_TCHW
                hashes[row_of[good.id]] = good.sha256
            else:
                failures.append(good)
            progress.advance(1, f"{len(failures)} failed" if failures else "")
    progress.finish()
    if isinstance(frames, np.memmap):
        frames.flush()
    rows = sorted(hashes)
    failed = [asdict(failure) for failure in sorted(failures, key=lambda failure: row_of[failure.id])]
    index = {"key": key, "rows": rows, "sha256": [hashes[row] for row in rows], "failures": failed}
    part = folder / "frames.json.tmp"
    part.write_text(json.dumps(index) + "\n", encoding="utf-8")
    os.replace(part, folder / "frames.json")
    return index


def _checked(result: Result, frames: int) -> Clip | Failure:
    """The clip, if a view of it can have ``frames`` different frames."""
    assert isinstance(result, Clip | Failure), result
    if isinstance(result, Clip):
        distinct = len(np.unique(result.times_seconds))
        if distinct < frames:
            return Failure(result.id, "too_short", f"{distinct} frames, a view needs {frames}")
    return result
