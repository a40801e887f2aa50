"""Buckets and lists, as results.json of several seeds tells them."""

import pytest
from vivim.recommend.metrics import Estimate
from vivim.suites.beside import beside_of


def told(value, **changes):
    metric = {"value": value, "low": value - 0.1, "high": value + 0.1}
    test = {
        "groups": {"0": {"questions": 3, "hit_rate@10": metric}, "20+": {"questions": 5, "hit_rate@10": metric}},
        "history_groups": {"3-5": {"questions": 8, "hit_rate@10": metric}},
        "coverage": {"10": value, "20": 2 * value},
        "gini": {"10": 0.5},
        "mean_popularity": {"10": 30.0},
        "diversity": None,
    }
    return {"splits": {"test": test | changes}}


def told_in(space, value):
    return told(0.2, diversity={"10": value}) | ({} if space is None else {"diversity_in": space})


def test_means_over_seeds():
    found = beside_of([told(0.2), told(0.4)])
    buckets = found.buckets["test"]
    assert [(b.title, b.questions) for b in buckets] == [("seen 0 times", 3), ("seen 20+ times", 5), ("after 3-5 items", 8)]
    assert buckets[0].metrics == {"hit_rate@10": Estimate(*(pytest.approx(x) for x in (0.3, 0.2, 0.4)))}
    assert found.lists == {
        ("test", "coverage", 10): pytest.approx(0.3),
        ("test", "coverage", 20): pytest.approx(0.6),
        ("test", "gini", 10): 0.5,
        ("test", "mean_popularity", 10): 30.0,
    }


def test_for_json():
    found = beside_of([told(0.5)]).as_dict()
    assert found["lists"]["test coverage@20"] == 1.0
    assert found["buckets"]["test, seen 20+ times"] == {"questions": 5, "hit_rate@10": {"value": 0.5, "low": 0.4, "high": 0.6}}


def test_results_of_before_a_number_was_measured_do_without_it():
    old = told(0.2)
    del old["splits"]["test"]["history_groups"], old["splits"]["test"]["gini"]
    found = beside_of([old, told(0.4)])
    assert [bucket.of for bucket in found.buckets["test"]] == ["seen", "seen"]
    assert ("test", "gini", 10) not in found.lists


def test_diversity_is_of_one_space():
    """Results of before there was a name for it are in own vectors; seeds of several spaces have no mean."""
    for spaces, expected in (((None, "own vectors"), "own vectors"), (("a.h5 1", "a.h5 1"), "a.h5 1")):
        found = beside_of([told_in(space, value) for space, value in zip(spaces, (0.4, 0.6), strict=True)])
        assert (found.space, found.lists["test", "diversity", 10]) == (expected, pytest.approx(0.5))
        assert found.as_dict()["diversity_in"] == expected
    mixed = beside_of([told_in(None, 0.4), told_in("a.h5 1", 0.6)])
    assert mixed.space == "a.h5 1 and own vectors"
    assert ("test", "diversity", 10) not in mixed.lists and ("test", "gini", 10) in mixed.lists
