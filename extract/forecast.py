"""How long a catalogue will take to embed, and how much disk, from a sample that was timed.

Shapes: n clips of the sample, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .config import ExtractConfig
from .decode_pool import usable_cores
from .headers import Header
from .timing import Sample

_RESAMPLES = 2000


@dataclass(frozen=True)
class Forecast:
    """How fast a catalogue will be embedded.

    Attributes:
        workers: decoding processes.
        decode_clips_per_second: all of them together, when nothing else works.
        encode_clips_per_second: when nothing else works.
        seconds: the whole extraction, without its start.
        low_seconds, high_seconds: 95 % interval over the choice of the sample; equal where all clips were in it.
    """

    workers: int
    decode_clips_per_second: float
    encode_clips_per_second: float
    seconds: float
    low_seconds: float
    high_seconds: float

    @property
    def bound(self) -> str:
        """What limits the speed: ``decode-bound`` or ``encode-bound``."""
        return "decode-bound" if self.decode_clips_per_second <= self.encode_clips_per_second else "encode-bound"


def forecast(headers: Sequence[Header], sample: Sample, config: ExtractConfig, device: str, seed: int) -> Forecast | None:
    """What the sample says about all readable clips; None if nothing of it could be read.

    Seconds of decoding are taken to grow with the bytes of a file: the sample's seconds per byte times the bytes of the catalogue.
    The encoder takes the same time for every clip. On a GPU the two work at once, and the slower one decides. On a CPU they share
    the cores, and their work adds up.

    Args:
        headers: all readable clips.
        sample: of these.
        config: of the extraction.
        device: ``cuda``, or ``cpu`` where the encoder computes beside the decoding processes.
        seed: of the bootstrap over the sample.
    """
    if sample.encode_seconds is None:
        return None
    cores = usable_cores()
    workers = min(config.workers or cores, len(headers))
    encode = len(headers) * sample.encode_seconds
    size_n, seconds_n = np.array(sample.size_bytes, np.float64), np.array(sample.decode_seconds)
    rest_bytes = max(sum(header.size_bytes for header in headers) - size_n.sum(), 0.0)
    picks_Rn = np.random.default_rng(seed).integers(0, len(size_n), (_RESAMPLES, len(size_n)))
    per_byte_R = np.append(seconds_n[picks_Rn].sum(1) / size_n[picks_Rn].sum(1), seconds_n.sum() / size_n.sum())
    decode_R = seconds_n.sum() + rest_bytes * per_byte_R
    together_R = np.maximum(decode_R / workers, encode + (decode_R / max(workers, cores) if device == "cpu" else 0.0))
    low, high = np.quantile(together_R[:-1], (0.025, 0.975))
    return Forecast(
        workers=workers,
        decode_clips_per_second=float(len(headers) * workers / decode_R[-1]),
        encode_clips_per_second=1 / sample.encode_seconds,
        seconds=float(together_R[-1]),
        low_seconds=float(low),
        high_seconds=float(high),
    )


def embedding_file_bytes(ids: Sequence[str], dim: int, config: ExtractConfig) -> int:
    """About the size of the embedding file: vectors of width ``dim``, ids, times, hashes, decoders and marks, without compression."""
    id_bytes = max((len(id_.encode("utf-8", "surrogateescape")) for id_ in ids), default=1)  # all take as much as the longest
    vector_bytes = dim * np.dtype(config.dtype).itemsize
    return len(ids) * (id_bytes + vector_bytes + 64 + 8 * config.frames.count + len("decord") + 1)


def frame_cache_bytes(clips: int, config: ExtractConfig) -> int:
    """The frames of so many clips as the encoder sees them, uint8, without compression."""
    return clips * config.frames.count * config.image_size**2 * 3
