"""The funnel, lengths and popularity of a ring, counted by hand."""

import numpy as np
from vivim.recommend.config import ProtocolConfig
from vivim.recommend.protocol import MicroLensProtocol
from vivim.recommend.sequences import Interactions
from vivim.serve.report.histories import look_at_histories


def test_the_funnel_of_the_ring(counted):
    """Lengths are 6, 7, 8, 9 ten times each: 300 interactions, of which two of each of 40 viewers are asked."""
    found = look_at_histories(counted)
    assert [(stage.name, stage.users, stage.interactions) for stage in found.funnel] == [
        ("in the file", 40, 300),
        ("users with 3 or more", 40, 300),
        ("the newest 13 of each", 40, 300),
        ("trained on", 40, 220),
        ("validation questions", 40, 40),
        ("test questions", 40, 40),
    ]
    assert {stage.items for stage in found.funnel[:4]} == {30}
    assert sorted(found.lengths_U.tolist()) == sorted([6, 7, 8, 9] * 10)
    assert found.repeated == 0
    assert "no times" in found.leakage


def test_users_with_little_history_leave_the_funnel(counted, planted, ring):
    from dataclasses import replace

    from vivim.store import ItemIndex

    short = planted.sequences_of([0, 1], [1, 2, 3, 4], [2], [2, 3, 4, 5, 6])
    data = Interactions(ItemIndex("abcd"), ItemIndex("pqrstuv"), short, None, "made", "0" * 64)
    split = MicroLensProtocol(ProtocolConfig(keep_last=4)).split(data)
    found = look_at_histories(replace(counted, interactions=data, split=split, counts_N=np.array([3, 2, 0, 1, 0, 0])))
    assert [(s.users, s.items, s.interactions) for s in found.funnel] == [
        (4, 7, 12), (2, 6, 9), (2, 6, 8), (2, 4, 4), (2, 2, 2), (2, 2, 2),
    ]  # fmt: skip
    assert found.never == 3
    assert found.heads == {0.01: 0.5, 0.1: 0.5}  # the most watched item has 3 of 6
    assert (found.places_C.tolist(), found.views_C.tolist()) == ([1, 2, 3, 4, 5, 6], [3, 2, 1, 0, 0, 0])
