"""Suites: what may stand in one."""

import pytest
from vivim.errors import InputError
from vivim.recommend import build
from vivim.strict_yaml import read
from vivim.suites.suite import place_of, shipped, suite_of


@pytest.mark.parametrize("name", shipped())
def test_every_suite_that_comes_along_can_be_read(name):
    found = suite_of(read(place_of(name)), name)
    assert found.name == name
    assert found.about
    assert any(row.ours for row in found.rows)
    for row in found.rows:
        config = found.config_of(row)
        build.resolved(config, has_vectors=row.vectors is not None)
        assert build.needs_vectors(config.items) == (row.vectors is not None), row.name


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"name": "A", "kind": "x", "config": {"model": {"kind": "sasrek"}}}], r"row A of the suite small: model\.kind"),
        ([{"name": "A", "kind": "x", "config": {"protocol": {"keep_last": 5}}}], "row A .* has a protocol of its own"),
        ([{"name": "A", "kind": "x"}, {"name": "A", "kind": "x"}], "two rows of class x that are called A"),
        ([{"name": "A", "kind": "x", "init": "B"}, {"name": "B", "kind": "x"}], "row A .* begins with B; that must be one row"),
        ([{"name": "B", "kind": k} for k in "xy"] + [{"name": "A", "kind": "x", "init": "B"}], "begins with B; that must be one row"),
        ([{"name": "A", "kind": "x", "vectors": "my file"}], r"rows\.0\.vectors"),
        ([], r"small\.yaml is no suite: rows"),
        ([{"kind": "x"}], r"small\.yaml is no suite: rows\.0\.name"),
    ],
)
def test_what_is_no_suite_is_refused_in_words(suites, rows, says):
    with pytest.raises(InputError, match=says):
        suites.small(rows=rows)


@pytest.mark.parametrize("name", ["nothing", "nothing.yaml"])
def test_a_suite_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(InputError, match="microlens-50k-id"):
        place_of(name)


def test_chosen_rows_come_with_what_they_begin_with_in_the_suites_order(suites):
    rows = [{"name": name, "kind": "x"} for name in "AB"]
    rows += [{"name": "C", "kind": "x", "init": "A"}, {"name": "D", "kind": "x", "init": "C"}, {"name": "B", "kind": "y"}]
    found = suites.small(rows=rows)
    assert [row.name for row in found.chosen(["D"])] == ["A", "C", "D"]
    assert [(row.kind, row.name) for row in found.chosen(["B"])] == [("x", "B"), ("y", "B")]
    assert found.chosen([]) == found.rows
    with pytest.raises(InputError, match="no row E; its rows are: A, B, C, D, B"):
        found.chosen(["A", "E"])


def test_the_budget_of_a_row_comes_before_the_suites(suites):
    found = suites.small(budget_minutes=2, rows=[{"name": "A", "kind": "x"}, {"name": "B", "kind": "x", "budget_minutes": 0.5}])
    assert [found.budget_of(row) for row in found.rows] == [120, 30]
    small = suites.small()
    assert small.budget_of(small.rows[0]) is None
