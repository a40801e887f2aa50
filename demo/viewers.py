"""The viewers of the demo world: what they like, how that drifts, what they therefore watch.

A viewer likes a few categories that share a look or a motion. The next clip is mostly of the category of the one before, sometimes of
another liked one, now and then of any. A liked category may give way to a new one that shares a look or a motion with the current one.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .world import Category, World, WorldClip, WorldConfig, categories_of, clips_of

EPOCH_MS = 1_704_067_200_000  # 2024-01-01 00:00 UTC
DAY_MS = 86_400_000
PREMIERE_DAYS = 27  # from this day on the new clips are there, and everybody watches one last clip
WORLD_DAYS = 30


def build_world(config: WorldConfig) -> World:
    """The world of a configuration. Needs no rendering; takes about a second for 2,000 viewers."""
    clips = clips_of(config)
    shelf = _Shelf.of(categories_of(config), clips)
    histories = []
    times = []
    for viewer in range(config.viewers):
        rng = np.random.default_rng([config.seed, 2, viewer])
        histories.append(_watch(config, shelf, rng))
        times.append(_times(len(histories[-1]), rng))
    return World(config, clips, tuple(histories), tuple(times))


@dataclass(frozen=True)
class _Shelf:
    """The catalogue as viewers see it: per category, rows of clips and their appeal.

    Attributes:
        warm, cold: rows of clips per category.
        appeal: per clip.
        related: per category, the other categories that share its look, and those that share its motion.
    """

    warm: tuple[npt.NDArray[np.int64], ...]
    cold: tuple[npt.NDArray[np.int64], ...]
    appeal: npt.NDArray[np.float64]
    related: tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], ...]

    @staticmethod
    def of(categories: tuple[Category, ...], clips: tuple[WorldClip, ...]) -> "_Shelf":
        def rows(category: Category, cold: bool) -> npt.NDArray[np.int64]:
            return np.array([row for row, clip in enumerate(clips) if clip.category == category and clip.cold == cold], dtype=np.int64)

        def related(category: Category) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
            others = [(number, other) for number, other in enumerate(categories) if other != category]
            look = [number for number, other in others if other.appearance == category.appearance]
            motion = [number for number, other in others if other.motion == category.motion]
            return np.array(look, dtype=np.int64), np.array(motion, dtype=np.int64)

        return _Shelf(
            warm=tuple(rows(category, False) for category in categories),
            cold=tuple(rows(category, True) for category in categories),
            appeal=np.array([clip.appeal for clip in clips]),
            related=tuple(related(category) for category in categories),
        )

    def pick(self, rows: npt.NDArray[np.int64], seen: set[int], rng: np.random.Generator) -> int | None:
        """One of ``rows`` that was not seen, by appeal; None if all were."""
        unseen = [row for row in rows.tolist() if row not in seen]
        if not unseen:
            return None
        weights = self.appeal[unseen].cumsum()
        return int(unseen[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))])


@dataclass
class _Taste:
    """What one viewer likes at the moment; ``liked`` is ordered from the oldest liking to the newest."""

    config: WorldConfig
    shelf: _Shelf
    rng: np.random.Generator
    liked: list[int] = field(default_factory=list)
    current: int = 0

    def __post_init__(self) -> None:
        self.current = int(self.rng.integers(len(self.shelf.warm)))
        self.liked = [self.current]
        kind = self.rng.integers(2)  # likes one look, or one motion
        line = self.rng.permutation(self.shelf.related[self.current][kind])
        self.liked += line[: self.config.taste - 1].tolist()

    def step(self) -> int:
        """Category of the next clip."""
        if self.rng.random() < self.config.drift:
            self._drift()
        if self.rng.random() >= self.config.stay:
            self.current = int(self.rng.choice(self.liked))
        return self.current

    def _drift(self) -> None:
        line = self.shelf.related[self.current][self.rng.integers(2)]
        fresh = [category for category in line.tolist() if category not in self.liked]
        if fresh:
            self.liked = [*self.liked[1:], int(self.rng.choice(fresh))]


def _watch(config: WorldConfig, shelf: _Shelf, rng: np.random.Generator) -> tuple[int, ...]:
    """Rows of the clips that one viewer watches, oldest first, none twice; only the last one may be a new clip."""
    # Beta(1, 2): short histories are common, long ones rare, as on real platforms.
    length = config.history_min + int((config.history_max - config.history_min + 1) * rng.beta(1.0, 2.0))
    taste = _Taste(config, shelf, rng)
    seen: dict[int, None] = {}  # a set that keeps its order
    for _ in range(length - 1):
        seen[_next_warm(config, shelf, taste, set(seen), rng)] = None
    last = _next_cold(shelf, taste, rng) if rng.random() < config.cold_viewers else None
    seen[_next_warm(config, shelf, taste, set(seen), rng) if last is None else last] = None
    return tuple(seen)


def _next_warm(config: WorldConfig, shelf: _Shelf, taste: _Taste, seen: set[int], rng: np.random.Generator) -> int:
    category = taste.step()
    if rng.random() >= config.noise:
        for wanted in (category, *taste.liked):
            row = shelf.pick(shelf.warm[wanted], seen, rng)
            if row is not None:
                return row
    row = shelf.pick(np.concatenate(shelf.warm), seen, rng)
    assert row is not None, "the configuration guarantees more clips than a history is long"
    return row


def _next_cold(shelf: _Shelf, taste: _Taste, rng: np.random.Generator) -> int | None:
    """A new clip of the current category, else of a liked one, else any; None if the world has none."""
    category = taste.step()
    for wanted in (category, *taste.liked):
        row = shelf.pick(shelf.cold[wanted], set(), rng)
        if row is not None:
            return row
    return shelf.pick(np.concatenate(shelf.cold), set(), rng)


def _times(count: int, rng: np.random.Generator) -> tuple[int, ...]:
    """``count`` strictly ascending moments, all but the last before the new clips are published."""
    before = np.sort(rng.integers(0, PREMIERE_DAYS * DAY_MS - count, count - 1)) + np.arange(count - 1)
    last = rng.integers(PREMIERE_DAYS * DAY_MS, WORLD_DAYS * DAY_MS)
    return tuple((EPOCH_MS + np.append(before, last)).tolist())
