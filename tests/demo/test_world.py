"""The world's truth: who watched what, and which clips nobody could have learned about."""

import csv
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from vivim.demo.viewers import DAY_MS, EPOCH_MS, PREMIERE_DAYS, build_world
from vivim.demo.world import Motion, Palette, Pattern, World, WorldConfig, WorldFiles, write_tables


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(WorldConfig())


def test_the_default_world_has_the_promised_size(world: World) -> None:
    assert len(world.clips) == 300
    assert len(world.histories) == len(world.times_ms) == len(set(world.viewer_ids)) == 2000
    assert len({clip.id for clip in world.clips}) == 300
    # 3 palettes x 2 patterns x 5 motions, ten clips each
    assert set(Counter(clip.category for clip in world.clips).values()) == {10}
    assert world.config.categories == 30


def test_cold_clips_are_spread_over_all_categories(world: World) -> None:
    cold = Counter(clip.category for clip in world.clips if clip.cold)
    assert sum(cold.values()) == len(world.cold_ids) == 45
    assert len(cold) == 30
    assert set(cold.values()) == {1, 2}


def test_nobody_watches_a_clip_twice_and_histories_are_5_to_20_long(world: World) -> None:
    lengths = [len(history) for history in world.histories]
    assert min(lengths) == 5
    assert max(lengths) == 20
    assert all(len(set(history)) == len(history) for history in world.histories)


def test_cold_clips_are_only_ever_the_last_thing_watched(world: World) -> None:
    # Leave-one-out: the last event is the test, the one before it validation, the rest training.
    before_last = {world.clips[row].id for history in world.histories for row in history[:-1]}
    last = [world.clips[history[-1]].id for history in world.histories]
    assert not before_last & world.cold_ids
    asked = sum(id_ in world.cold_ids for id_ in last)
    assert 0.27 * 2000 < asked < 0.33 * 2000  # 30 %, three standard errors either way
    assert before_last == {clip.id for clip in world.clips} - world.cold_ids
    assert world.cold_ids <= set(last)


def test_times_ascend_and_cold_clips_come_after_everything_else(world: World) -> None:
    premiere = EPOCH_MS + PREMIERE_DAYS * DAY_MS
    for times in world.times_ms:
        assert all(earlier < later for earlier, later in pairwise(times))
        assert times[-2] < premiere <= times[-1]


def test_the_next_clip_mostly_shares_look_or_motion_with_the_one_before(world: World) -> None:
    kin = same = total = 0
    for history in world.histories:
        for a, b in pairwise(history):
            before, after = world.clips[a].category, world.clips[b].category
            same += before == after
            kin += before.appearance == after.appearance or before.motion == after.motion
            total += 1
    # By chance: 1 of 30, and (6 + 5 - 1) of 30.
    assert same / total > 0.4
    assert kin / total > 0.75


def test_taste_drifts(world: World) -> None:
    """In long histories the last clips are less like the first than the middle ones are like their neighbours."""
    first = last = total = 0
    for history in world.histories:
        if len(history) >= 15:
            categories = [world.clips[row].category for row in history]
            first += sum(category in categories[:4] for category in categories[4:7])
            last += sum(category in categories[:4] for category in categories[-4:-1])
            total += 3
    assert first / total > last / total + 0.1


def test_popularity_is_skewed_within_a_category(world: World) -> None:
    counts = np.bincount(np.concatenate([history[:-1] for history in world.histories]), minlength=300)
    first = np.mean([counts[row] for row, clip in enumerate(world.clips) if not clip.cold and clip.title.endswith("#1")])
    tenth = np.mean([counts[row] for row, clip in enumerate(world.clips) if not clip.cold and clip.title.endswith("#10")])
    assert 1.3 < first / tenth < 10**0.5  # the ratio of appeals, softened because nobody watches twice


def test_a_seed_makes_one_world() -> None:
    config = WorldConfig(clips=60, viewers=20, seed=3)
    assert build_world(config) == build_world(config)
    assert build_world(config).histories != build_world(WorldConfig(clips=60, viewers=20, seed=4)).histories
    # A viewer does not depend on how many others there are.
    assert build_world(config).histories == build_world(WorldConfig(clips=60, viewers=40, seed=3)).histories[:20]


def test_the_smallest_world_works() -> None:
    config = WorldConfig(
        clips=4,
        viewers=3,
        palettes=(Palette.EMBER,),
        patterns=(Pattern.DIAMONDS,),
        motions=(Motion.LEFT, Motion.RIGHT),
        cold_clips=0.25,
        cold_viewers=1,
        history_min=3,
        history_max=3,
    )
    world = build_world(config)
    assert [len(history) for history in world.histories] == [3, 3, 3]
    assert all(world.clips[history[-1]].cold for history in world.histories)


def test_a_world_without_cold_clips_has_none() -> None:
    world = build_world(WorldConfig(clips=60, viewers=30, cold_clips=0))
    assert world.cold_ids == frozenset()
    assert len(world.histories) == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 59}, "59 clips are too few for 30 categories; allowed: at least 60"),
        ({"history_min": 9, "history_max": 8}, "history_min 9 and history_max 8"),
        ({"clips": 60, "history_max": 60}, "do not fit 51 clips"),
        ({"palettes": ("ember", "ember")}, "palettes names a value twice"),
        ({"width": 33}, "multiple of 2"),
        ({"wiewers": 3}, "wiewers"),
    ],
)
def test_impossible_worlds_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WorldConfig.model_validate(options)


def test_tables_say_what_the_world_is(tmp_path: Path) -> None:
    world = build_world(WorldConfig(clips=60, viewers=30))
    files = WorldFiles(tmp_path)
    write_tables(world, files)
    with files.pairs.open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file))
    assert list(pairs[0]) == ["user", "item", "timestamp"]
    assert [int(row["timestamp"]) for row in pairs] == sorted(int(row["timestamp"]) for row in pairs)
    for user, history in zip(world.viewer_ids, world.histories, strict=True):
        assert [row["item"] for row in pairs if row["user"] == user] == [world.clips[row].id for row in history]
    with files.truth.open(encoding="utf-8", newline="") as file:
        truth = list(csv.DictReader(file))
    assert [tuple(row.values()) for row in truth] == [
        (clip.id, f"{clip.category.palette} {clip.category.pattern}", str(clip.category.motion), str(int(clip.cold)))
        for clip in world.clips
    ]
    with files.titles.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[:2] == [["item", "title"], ["c0000", world.clips[0].title]]
