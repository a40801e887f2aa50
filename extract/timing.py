"""Some clips really read and encoded, with a watch.

Shapes: n clips of the sample.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..progress import SILENT, Progress
from .clip import Clip, ClipRef, Failure
from .config import ExtractConfig
from .headers import Header
from .scan import through_pool
from .shard_loop import ClipEncoder, encode
from .sources import make_reader
from .timed_reader import TimedReader, Timing

ENCODE_SECONDS = 5.0
"""About how long the encoder is timed."""


@dataclass(frozen=True)
class Sample:
    """What reading and encoding some clips took.

    Attributes:
        size_bytes: of each of n files, without those that brought down their process, whose time is not known.
        decode_seconds: that one process took for each, while as many worked as will work later.
        encode_seconds: that the encoder alone took for one clip; None if no clip could be read.
        failures: clips of the sample that cannot be read.
    """

    size_bytes: tuple[int, ...]
    decode_seconds: tuple[float, ...]
    encode_seconds: float | None
    failures: tuple[Failure, ...]


def draw(headers: Sequence[Header], count: int, seed: int) -> list[Header]:
    """``count`` clips, or all: one at random from each of ``count`` groups of files of like size; the largest first."""
    ordered = sorted(headers, key=lambda header: (-header.size_bytes, header.id))
    count = min(count, len(ordered))
    random = np.random.default_rng(seed)
    borders = [len(ordered) * group // count for group in range(count + 1)] if count else []
    return [ordered[int(random.integers(first, last))] for first, last in pairwise(borders)]


def time_sample(
    headers: Sequence[Header], refs: Mapping[str, ClipRef], config: ExtractConfig, encoder: ClipEncoder, progress: Progress
) -> Sample:
    """Read these clips as extraction would, then encode some of them, one after the other: each has the machine to itself.

    Args:
        headers: the sample.
        refs: by id, at least those of the sample.
        config: how extraction would read.
        encoder: on its device.

    Raises:
        VivimError: child processes cannot be started.
    """
    reader = TimedReader(make_reader(config))
    sizes = {header.id: header.size_bytes for header in headers}
    taken: dict[str, float] = {}
    clips: list[Clip] = []
    failures: list[Failure] = []
    progress.start("time", len(headers), "clips")
    try:
        with closing(through_pool(reader, [refs[header.id] for header in headers], config)) as results:
            for result in results:
                outcome = result.outcome if isinstance(result, Timing) else result
                if isinstance(result, Timing):
                    taken[result.id] = result.seconds
                elif result.kind == "timeout":
                    taken[result.id] = config.timeout_seconds
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                elif len(clips) < config.batch_clips:  # more are not kept: they may be large, and all cost the encoder the same
                    clips.append(outcome)
                progress.advance(1, f"{len(failures)} unreadable" if failures else "")
    finally:
        progress.finish()
    return Sample(
        size_bytes=tuple(sizes[id_] for id_ in taken),
        decode_seconds=tuple(taken.values()),
        encode_seconds=_encode_seconds(clips, encoder) if clips else None,
        failures=tuple(failures),
    )


def _encode_seconds(clips: Sequence[Clip], encoder: ClipEncoder) -> float:
    """Per clip, in batches of as many as given or as there is time for; the first pass of a batch only warms up."""
    _encode(clips[:1], encoder)
    alone = _encode(clips[:1], encoder)
    clips = clips[: max(1, int(ENCODE_SECONDS / alone))]
    if len(clips) == 1:
        return alone
    passes = [_encode(clips, encoder)]
    while len(passes) < 4 and sum(passes) < ENCODE_SECONDS:
        passes.append(_encode(clips, encoder))
    measured = passes[1:] or passes
    return sum(measured) / len(measured) / len(clips)


def _encode(clips: Sequence[Clip], encoder: ClipEncoder) -> float:
    """Seconds from frames at hand to vectors at hand, as extraction does it."""
    begin = time.perf_counter()
    encode(clips, encoder, SILENT)
    return time.perf_counter() - begin
