"""The truth of the demo world: which clips exist, what they show, which of them are new at test time.

A category is a *look* (palette and pattern) times a *motion*. A look can be read off any single frame; a motion cannot: single frames of
all motions are alike, and only two frames tell left from right, or moving from still.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from ..settings import Settings


class Palette(StrEnum):
    """Colours of background and shapes."""

    EMBER = "ember"
    OCEAN = "ocean"
    MEADOW = "meadow"


class Pattern(StrEnum):
    """What moves."""

    DIAMONDS = "diamonds"
    NET = "net"


class Motion(StrEnum):
    """How it moves."""

    LEFT = "left"
    RIGHT = "right"
    RISE = "rise"
    FALL = "fall"
    STILL = "still"


OPPOSITES = ((Motion.LEFT, Motion.RIGHT), (Motion.RISE, Motion.FALL))
"""Pairs of motions that even the amount of change between frames does not tell apart, only its direction."""


class WorldConfig(Settings):
    """Size and habits of the demo world; the same configuration always makes the same world.

    Attributes:
        clips: clips of the catalogue; at least two per category.
        viewers: people with a watch history.
        seed: of everything random.
        palettes, patterns, motions: the factors; a category is one of each.
        cold_clips: share of clips that are published only at the end, so that nobody's training part holds them.
        cold_viewers: share of viewers whose last watched clip is such a new one.
        width, height: of the clips, pixels, even.
        fps: frames per second.
        seconds: length of a clip.
        history_min, history_max: watched clips per viewer.
        taste: categories a viewer likes at a time.
        stay: probability that the next clip is of the same category as the one before.
        drift: probability per clip that one liked category gives way to another one.
        noise: probability that a clip has nothing to do with taste.
    """

    clips: int = Field(300, ge=2, le=9999)
    viewers: int = Field(2000, ge=1)
    seed: int = Field(0, ge=0)
    palettes: tuple[Palette, ...] = Field(tuple(Palette), min_length=1)
    patterns: tuple[Pattern, ...] = Field(tuple(Pattern), min_length=1)
    motions: tuple[Motion, ...] = Field(tuple(Motion), min_length=1)
    cold_clips: float = Field(0.15, ge=0, le=0.5)
    cold_viewers: float = Field(0.3, ge=0, le=1)
    width: int = Field(108, ge=32, le=1080, multiple_of=2)
    height: int = Field(192, ge=32, le=1920, multiple_of=2)
    fps: int = Field(12, ge=1, le=60)
    seconds: float = Field(2.0, gt=0, le=60)
    history_min: int = Field(5, ge=3)
    history_max: int = Field(20, ge=3)
    taste: int = Field(3, ge=1)
    stay: float = Field(0.6, ge=0, le=1)
    drift: float = Field(0.08, ge=0, le=1)
    noise: float = Field(0.1, ge=0, le=1)

    @property
    def categories(self) -> int:
        """Number of categories."""
        return len(self.palettes) * len(self.patterns) * len(self.motions)

    @property
    def cold_count(self) -> int:
        """Number of clips that are new at test time."""
        return round(self.clips * self.cold_clips)

    @property
    def frames(self) -> int:
        """Frames of one clip, at least 1."""
        return max(1, round(self.fps * self.seconds))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.clips < 2 * self.categories:
            raise ValueError(
                f"{self.clips} clips are too few for {self.categories} categories; allowed: at least {2 * self.categories}. "
                "Raise clips or name fewer palettes, patterns or motions."
            )
        if not self.history_min <= self.history_max <= self.clips - self.cold_count:
            raise ValueError(
                f"history_min {self.history_min} and history_max {self.history_max} do not fit {self.clips - self.cold_count} clips that "
                "are not new; allowed: history_min <= history_max <= those clips, because nobody watches a clip twice. Lower history_max."
            )
        for name, factor in (("palettes", self.palettes), ("patterns", self.patterns), ("motions", self.motions)):
            if len(set(factor)) != len(factor):
                raise ValueError(f"{name} names a value twice: {', '.join(factor)}. Name each once.")
        return self


@dataclass(frozen=True)
class Category:
    """A kind of clip: what one frame shows (palette, pattern) and what only several frames show (motion)."""

    palette: Palette
    pattern: Pattern
    motion: Motion

    @property
    def appearance(self) -> str:
        """The part that one frame shows, for example ``"ocean diamonds"``."""
        return f"{self.palette} {self.pattern}"


@dataclass(frozen=True)
class WorldClip:
    """A clip of the world.

    Attributes:
        id: text id, for example ``"c0007"``; also the stem of its file.
        title: for people. It names the category, so titles must not be given to a model that is to prove it can see.
        category: the truth.
        cold: published only at the end.
        appeal: weight of this clip among those of its category.
    """

    id: str
    title: str
    category: Category
    cold: bool
    appeal: float


def categories_of(config: WorldConfig) -> tuple[Category, ...]:
    """All categories, motions fastest."""
    return tuple(Category(*factors) for factors in product(config.palettes, config.patterns, config.motions))


def clips_of(config: WorldConfig) -> tuple[WorldClip, ...]:
    """The catalogue: categories in equal parts and shuffled, new clips spread evenly over the categories."""
    rng = np.random.default_rng([config.seed, 1])
    categories = categories_of(config)
    takes = [(category, take) for take in range(-(-config.clips // len(categories))) for category in categories][: config.clips]
    cold = _spread_cold(config, rng)
    order = rng.permutation(config.clips)
    clips = []
    for number, row in enumerate(order.tolist()):
        category, take = takes[row]
        title = f"{category.appearance} {category.motion} #{take + 1}".capitalize()
        clips.append(WorldClip(f"c{number:04d}", title, category, bool(cold[row]), appeal=float((take + 1) ** -0.5)))
    return tuple(clips)


def _spread_cold(config: WorldConfig, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which rows of the unshuffled catalogue are new: every category gets one before any gets a second, and keeps one that is not."""
    count = config.categories
    rows = np.arange(config.clips)
    cold = np.zeros(config.clips, dtype=np.bool_)
    # Row r is of category r % count. A random number within each category orders its clips; rounds then take one per category.
    within = np.empty(config.clips, dtype=np.int64)
    for category in range(count):
        members = rows[rows % count == category]
        within[members] = rng.permutation(len(members))
    turn = rng.permutation(count)[rows % count]
    cold[np.lexsort((turn, within))[: config.cold_count]] = True
    return cold


@dataclass(frozen=True)
class World:
    """Clips, viewers and what they watched.

    Attributes:
        config: what it was made from.
        clips: the catalogue.
        histories: per viewer, rows of ``clips`` in the order watched.
        times_ms: per viewer, when, Unix milliseconds, strictly ascending.
    """

    config: WorldConfig
    clips: tuple[WorldClip, ...]
    histories: tuple[tuple[int, ...], ...]
    times_ms: tuple[tuple[int, ...], ...]

    @property
    def cold_ids(self) -> frozenset[str]:
        """Ids of the clips that are new at test time."""
        return frozenset(clip.id for clip in self.clips if clip.cold)

    @property
    def viewer_ids(self) -> tuple[str, ...]:
        """External ids of the viewers, parallel to ``histories``."""
        return tuple(f"v{number:05d}" for number in range(len(self.histories)))


@dataclass(frozen=True)
class WorldFiles:
    """Where the tables and clips of a world lie."""

    folder: Path

    @property
    def videos(self) -> Path:
        """Folder of the clips, one ``{id}.mp4`` each and nothing else."""
        return self.folder / "videos"

    @property
    def thumbnails(self) -> Path:
        """Small pictures of the clips, made when they are extracted."""
        return self.folder / "thumbnails"

    @property
    def pairs(self) -> Path:
        """Who watched what when: MicroLens CSV with the header ``user,item,timestamp``."""
        return self.folder / "demo_pairs.csv"

    @property
    def titles(self) -> Path:
        """MicroLens CSV with the header ``item,title``."""
        return self.folder / "titles.csv"

    @property
    def truth(self) -> Path:
        """The known truth: ``id,appearance,motion,cold``."""
        return self.folder / "truth.csv"

    @property
    def marker(self) -> Path:
        """Written last: what the world was made from."""
        return self.folder / "world.json"

    def video(self, id_: str) -> Path:
        """File of one clip."""
        return self.videos / f"{id_}.mp4"


def write_tables(world: World, files: WorldFiles) -> None:
    """Write interactions, titles and truth; the interactions of all viewers are interleaved in time, as a log would be."""
    events = [
        (time, user, world.clips[row].id)
        for user, history, times in zip(world.viewer_ids, world.histories, world.times_ms, strict=True)
        for row, time in zip(history, times, strict=True)
    ]
    _write_csv(files.pairs, ("user", "item", "timestamp"), ((user, item, time) for time, user, item in sorted(events)))
    _write_csv(files.titles, ("item", "title"), ((clip.id, clip.title) for clip in world.clips))
    truth = ((clip.id, clip.category.appearance, clip.category.motion, int(clip.cold)) for clip in world.clips)
    _write_csv(files.truth, ("id", "appearance", "motion", "cold"), truth)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
