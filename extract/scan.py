"""A whole catalogue looked at, header by header, before any of it is decoded."""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from ..progress import Progress
from .clip import ClipRef, Failure
from .clips import Catalogue
from .config import ExtractConfig
from .decode_pool import DecodePool
from .headers import Header, HeaderReader
from .sampling import make_sampler

RESOLUTIONS = ((240, "240p"), (360, "360p"), (480, "480p"), (720, "720p"), (1080, "1080p"), (1440, "1440p"), (2160, "2160p"))
"""Pixels that the shorter side must have at least, and the name of the class."""

DURATIONS = ((1, "1 s"), (5, "5 s"), (15, "15 s"), (30, "30 s"), (60, "1 min"), (180, "3 min"), (600, "10 min"))
"""Where the buckets of the histogram begin, in seconds."""

QUANTILES = {"min": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}


class Named(Protocol):
    """What a pool can carry: something that says which clip it is about."""

    @property
    def id(self) -> str: ...


_Found = TypeVar("_Found", bound=Named)


@dataclass(frozen=True)
class Scan:
    """What a catalogue's headers say.

    Attributes:
        headers: of the clips that can be read, sorted by id.
        failures: clips that cannot be read, sorted by id.
    """

    headers: tuple[Header, ...]
    failures: tuple[Failure, ...]

    def __len__(self) -> int:
        """Clips of the catalogue."""
        return len(self.headers) + len(self.failures)

    @property
    def size_bytes(self) -> int:
        """Of the files that can be read."""
        return sum(header.size_bytes for header in self.headers)

    @property
    def seconds(self) -> float:
        """Footage that can be read."""
        return float(sum(header.seconds for header in self.headers))

    def without(self, failures: Sequence[Failure]) -> "Scan":
        """The same after these clips turned out to be unreadable."""
        failed = {failure.id for failure in failures}
        return Scan(tuple(header for header in self.headers if header.id not in failed), _by_id((*self.failures, *failures)))

    def durations(self) -> dict[str, float]:
        """Seconds at each of ``QUANTILES``; empty without clips."""
        seconds = [header.seconds for header in self.headers]
        return {name: float(np.quantile(seconds, share)) for name, share in QUANTILES.items()} if seconds else {}

    def frequent_sizes(self, most: int) -> list[tuple[str, int]]:
        """The most frequent picture sizes as players show them, ``640x480``, with their numbers of clips."""
        return Counter(f"{header.width}x{header.height}" for header in self.headers).most_common(most)

    def counts(self) -> dict[str, dict[str, int]]:
        """Property -> value -> clips, without values that no clip has; classes ascending, other values by frequency."""

        def ascending(borders: Sequence[tuple[int, str]], values: Sequence[float]) -> dict[str, int]:
            counted = Counter(class_of(borders, value) for value in values)
            names = dict.fromkeys(class_of(borders, value) for value in (-1.0, *(float(border) for border, _ in borders)))
            return {name: counted[name] for name in names if counted[name]}

        headers = self.headers
        traits = {
            "variable frame rate": sum(header.variable for header in headers),
            "rotation": sum(header.rotation != 0 for header in headers),
            "more than 8 bits": sum(header.bits > 8 for header in headers),
            "HDR": sum(header.hdr for header in headers),
            "repeated frames": sum(header.short for header in headers),
        }
        return {
            "container": dict(Counter(header.container for header in headers).most_common()),
            "codec": dict(Counter(header.codec for header in headers).most_common()),
            "shorter side": ascending(RESOLUTIONS, [min(header.width, header.height) for header in headers]),
            "picture": dict(Counter(_picture(header) for header in headers).most_common()),
            "duration": ascending(DURATIONS, [header.seconds for header in headers]),
            "clips with": {name: count for name, count in traits.items() if count},
        }


def scan_catalogue(catalogue: Catalogue, config: ExtractConfig, progress: Progress) -> Scan:
    """Look at every clip, in child processes with the deadline that ``config`` sets, decoding nothing.

    Raises:
        VivimError: child processes cannot be started.
    """
    headers: list[Header] = []
    failures = list(catalogue.failures)
    progress.start("scan", len(catalogue), "clips")
    try:
        progress.advance(len(failures))
        with closing(through_pool(HeaderReader(make_sampler(config.frames)), catalogue.refs, config)) as results:
            for result in results:
                if isinstance(result, Failure):
                    failures.append(result)
                else:
                    headers.append(result)
                progress.advance(1, f"{len(failures)} unreadable" if failures else "")
    finally:
        progress.finish()
    return Scan(tuple(sorted(headers, key=lambda header: header.id)), _by_id(failures))


def through_pool(
    reader: Callable[[ClipRef, str | None], _Found], refs: Sequence[ClipRef], config: ExtractConfig
) -> Generator[_Found | Failure, None, None]:
    """What a reader finds in each clip, as they finish, from ``DecodePool``.

    The pool's own types speak of clips that are decoded; it carries whatever its reader gives.
    """
    pool = DecodePool(cast(Any, reader), config.workers, config.timeout_seconds)
    return cast(Generator[_Found | Failure, None, None], pool.decode(refs))


def class_of(borders: Sequence[tuple[int, str]], value: float) -> str:
    """The class a value falls into: ``below 240p``, ``240p`` up to the next border, ``2160p and more``."""
    reached = [name for border, name in borders if value >= border]
    if not reached:
        return f"below {borders[0][1]}"
    return f"{reached[-1]} and more" if len(reached) == len(borders) else f"{reached[-1]} to {borders[len(reached)][1]}"


def _picture(header: Header) -> str:
    if header.width == header.height:
        return "square"
    return "landscape" if header.width > header.height else "portrait"


def _by_id(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    return tuple(sorted(failures, key=lambda failure: failure.id))
