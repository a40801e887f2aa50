"""What stage one made of the clips: which failed and why, what was read of the others, where the time went.

Shapes: N rows of the embedding file, T frames per clip.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...store import FailedClip, Recipe
from .evidence import Evidence, Missing

STAGES = ("decode", "encode", "write", "other")


@dataclass(frozen=True)
class TimeSplit:
    """Where the time of one run of stage one went.

    Attributes:
        date: UTC, ISO 8601.
        clips: embedded in it.
        seconds: wall time.
        shares: stage (``STAGES``; decode: waiting for frames) -> share of the time; empty where the work was done elsewhere.
        words: what limited it.
    """

    date: str
    clips: int
    seconds: float
    shares: dict[str, float]
    words: str


@dataclass(frozen=True)
class Extraction:
    """What ``look_at_extraction`` finds.

    Attributes:
        path: the embedding file.
        embedded: clips with a vector.
        failures: the others, in the order of the file.
        kinds: kind of failure, how often, what it means; the most frequent first.
        decoders: clips by the decoder that read them.
        short: clips with fewer distinct frames than were wanted.
        spans_N: (N,) seconds from the first to the last frame that was read; NaN where frames have no times.
        frames: T.
        reading: how frames are read, in words.
        times: of the runs that were noted.
        sheet: rows whose frames are shown, drawn at random.
        missing_times: why there are no times; None: there are.
    """

    path: str
    embedded: int
    failures: tuple[FailedClip, ...]
    kinds: tuple[tuple[str, int, str], ...]
    decoders: dict[str, int]
    short: int
    spans_N: npt.NDArray[np.float64]
    frames: int
    reading: str
    times: tuple[TimeSplit, ...]
    sheet: tuple[str, ...]
    missing_times: Missing | None


def look_at_extraction(evidence: Evidence, sheet: int, seed: int) -> Extraction | Missing:
    """Describe the embedding file of a run; ``sheet`` ids of it are drawn for the contact sheet."""
    store = evidence.store
    if store is None:
        return no_vectors(evidence)
    if not isinstance(store.recipe, Recipe):
        what = f"The vectors of this run were made from {store.recipe.made_from}; no clip was read for them."
        return Missing(what, "vivim extract --videos DIR")
    counted = Counter(failure.kind for failure in store.failures)
    meaning = evidence.failure_kinds or {}
    drawn = np.random.default_rng([seed, 1]).choice(len(store), min(sheet, len(store)), replace=False)
    times = tuple(time_split(line) for line in evidence.extractions)
    return Extraction(
        path=str(store.path),
        embedded=len(store),
        failures=store.failures,
        kinds=tuple((kind, count, meaning.get(kind, "")) for kind, count in counted.most_common()),
        decoders=dict(Counter(store.rows.decoder).most_common()),
        short=int(store.rows.short_N.sum()),
        spans_N=store.rows.times_seconds_NT[:, -1] - store.rows.times_seconds_NT[:, 0],
        frames=store.rows.times_seconds_NT.shape[1],
        reading=_reading(store.recipe),
        times=times,
        sheet=tuple(store.ids.ids[row] for row in sorted(drawn)),
        missing_times=None if times else Missing("How long stage one took was not noted beside the file.", "vivim extract"),
    )


def no_vectors(evidence: Evidence) -> Missing:
    """Why a run has no stored vectors, and what brings them."""
    known, kind = evidence.info.get("embeddings"), evidence.config.items.kind
    if known and "frames" in known:
        return Missing(f"This run encoded clips as it was trained (items: {kind}) and looks at no stored vectors.")
    if known:
        what = f"The vectors this run was trained on, {known['path']}, are gone or are others now."
        return Missing(what, "vivim report --embeddings FILE.h5")
    what = f"This run looks at no stored vectors (items: {kind})."
    return Missing(what, "vivim extract --videos DIR && vivim train-rec --items ids+frozen")


def time_split(line: Mapping[str, Any]) -> TimeSplit:
    """Of what one run of stage one noted."""
    verdict = line.get("verdict") or {}
    shares = {name: float(verdict[f"{name}_share"]) for name in STAGES if f"{name}_share" in verdict}
    return TimeSplit(str(line["date"]), int(line["embedded"]), float(line["seconds"]), shares, str(verdict.get("words", "")))


def _reading(recipe: Recipe) -> str:
    frames, how = recipe.frames, recipe.preprocessing
    said = ", ".join(f"{name} {value}" for name, value in frames.items())
    return f"{said}; {how.get('resize', '')} to {how.get('image_size', '')} pixels; {recipe.origin_words}"
