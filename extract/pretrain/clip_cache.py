"""The frames of all clips, decoded once: decoding is slower than training, and every epoch needs them.

    frames.u8     uint8 RGB, (M, F, 3, S, S), M clips that were tried
    frames.json   what it was made of, written last: without it the frames count as absent

Legend: M clips tried, N clips that could be read, F frames of each, S side in pixels.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...progress import Progress
from ..clip import Clip, ClipRef, Failure
from ..clips import Catalogue
from ..decode_pool import DecodePool, Result
from ..reader import ClipReader
from ..sampling import Uniform
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


def open_cache(catalogue: Catalogue, folder: Path, config: SelfSupConfig, progress: Progress) -> ClipCache:
    """The frames of all clips of ``catalogue``: those in ``folder`` if they are of the same files read the same way, else decoded.

    Clips that cannot be read, or have fewer distinct frames than a view (``config.frames``), are left out and named.

    Raises:
        InputError: fewer than two clips are left, or the folder cannot be written.
    """
    wanted = _key(catalogue.refs, config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = _read_index(folder)
        if found is None or found["key"] != wanted:
            found = _decode(catalogue.refs, folder, config, wanted, progress)
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


def _key(refs: Sequence[ClipRef], config: SelfSupConfig) -> dict[str, Any]:
    """All that decides what the frames are, with a file's size and time standing for its content."""
    reader = {
        "format": FORMAT,
        "frames": config.frames,
        "cached_frames": config.cached_frames,
        "size": config.cached_size,
        "resize": config.resize,
        "decoder": config.decoder,
    }
    stats = [(ref, ref.path.stat()) for ref in refs]
    return {"reader": reader, "files": [[ref.id, str(ref.path.resolve()), stat.st_size, stat.st_mtime_ns] for ref, stat in stats]}


def _read_index(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "frames.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and {"key", "rows", "sha256", "failures"} <= found.keys() else None


def _decode(refs: Sequence[ClipRef], folder: Path, config: SelfSupConfig, key: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Decode all clips into ``frames.u8``; the content of ``frames.json``."""
    (folder / "frames.json").unlink(missing_ok=True)
    reader = ClipReader(Uniform(config.cached_frames), config.cached_size, config.resize, config.decoder)
    pool = DecodePool(reader, config.workers, config.timeout_seconds)
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
