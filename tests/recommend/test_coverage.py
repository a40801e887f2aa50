"""Which interactions lose their clip, counted by hand."""

import numpy as np
from vivim.recommend.coverage import Part, cover
from vivim.recommend.sequences import Interactions, Sequences
from vivim.store import ItemIndex

# Watched: 007 once, 7 twice, 8 three times, 9 twice.
HISTORIES = [[0, 1, 2], [1, 2, 3], [2, 3]]


def interactions():
    offsets = np.cumsum([0, *map(len, HISTORIES)]).astype(np.int64)
    items = np.concatenate(HISTORIES).astype(np.int32)
    ids = ItemIndex(["007", "7", "8", "9"])
    return Interactions(ItemIndex(["u", "v", "w"]), ids, Sequences(offsets, items), None, "by hand", "0" * 64)


def test_every_item_is_in_one_part_the_most_watched_first():
    found = cover(interactions(), readable={"007", "8", "extra"}, unreadable={"9", "other"})
    assert (found.items, found.interactions, found.source) == (4, 8, "by hand")
    assert found.readable == Part(("8", "007"), 4)
    assert found.unreadable == Part(("9",), 2)
    assert found.missing == Part(("7",), 2)
    assert found.unwatched == ("extra", "other")


def test_no_clip_fits():
    found = cover(interactions(), readable={"07"}, unreadable=set())
    assert found.missing == Part(("8", "7", "9", "007"), 8)
    assert (found.readable, found.unreadable, found.unwatched) == (Part((), 0), Part((), 0), ("07",))
