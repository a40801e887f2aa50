"""Viewers of the ring, whose next item is known."""

import polars as pl
import pytest
from vivim.serve.report.viewers import ask_viewers


def test_item_knn_finds_the_next_of_everybody(counted):
    viewers = ask_viewers(counted, 40, 3, seed=1)
    assert len({viewer.user for viewer in viewers}) == 40
    for viewer in viewers:
        number = int(viewer.user[1:])
        last = number + 6 + number % 4 - 1
        assert viewer.target == last % 30
        assert viewer.history == tuple((number + i) % 30 for i in range(6 + number % 4 - 1))
        assert viewer.rank == 1
        assert viewer.hit
        assert [place.hit for place in viewer.recommended] == [True, False, False]
        assert viewer.views == counted.counts_N[viewer.target]


def test_ranks_are_those_of_the_evaluation(looking):
    ranks = pl.read_parquet(looking.run.path / "ranks.parquet").filter(pl.col("split") == "test")
    known = dict(zip(ranks["user"], ranks["rank"], strict=True))
    viewers = ask_viewers(looking, 12, 10, seed=3)
    assert {viewer.user: viewer.rank for viewer in viewers} == pytest.approx({viewer.user: known[viewer.user] for viewer in viewers})
    assert viewers == ask_viewers(looking, 12, 10, seed=3)
    assert [v.user for v in viewers] != [v.user for v in ask_viewers(looking, 12, 10, seed=4)]
    assert all(not set(viewer.history) & {place.row for place in viewer.recommended} for viewer in viewers)
    assert ask_viewers(looking, 0, 10, seed=3) == ()
