"""Suites: what may stand in one, and running it row by row, also after it was cut short."""

import json

import pytest
from vivim.errors import InputError, Interrupted
from vivim.progress import SILENT, SilentProgress
from vivim.strict_yaml import read
from vivim.suites.runner import measured, run_suite
from vivim.suites.suite import place_of, shipped, suite_of

SMALL = {
    "name": "small",
    "k": [4],
    "config": {"items": {"kind": "ids"}, "train": {"epochs": 2, "lr": 0.02, "batch": 32}},
    "rows": [
        {"name": "popularity", "kind": "no learning", "config": {"model": {"kind": "popularity"}}},
        {"name": "DSSM", "kind": "IDRec (CF)", "seeds": 2, "config": {"model": {"kind": "dssm", "d_model": 8}}},
        {"name": "SASRec", "kind": "IDRec (SR)", "config": {"model": {"kind": "sasrec", "d_model": 8, "layers": 1}}},
    ],
}


def suite(**changes):
    return suite_of(SMALL | changes, "small.yaml")


def run(which, data, out, progress=SILENT):
    return run_suite(which, data, None, out, device="cpu", progress=progress, data_location={"path": "made by a test"})


@pytest.mark.parametrize("name", shipped())
def test_every_suite_that_comes_along_can_be_read(name):
    found = suite_of(read(place_of(name)), name)
    assert found.name == name
    assert any(row.ours for row in found.rows)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"name": "A", "kind": "x", "config": {"model": {"kind": "sasrek"}}}], r"row A of the suite small: model\.kind"),
        ([{"name": "A", "kind": "x", "config": {"protocol": {"keep_last": 5}}}], "row A .* has a protocol of its own"),
        ([{"name": "A", "kind": "x"}, {"name": "A", "kind": "x"}], "two rows of class x that are called A"),
        ([], r"small\.yaml is no suite: rows"),
        ([{"kind": "x"}], r"small\.yaml is no suite: rows\.0\.name"),
    ],
)
def test_what_is_no_suite_is_refused_in_words(rows, says):
    with pytest.raises(InputError, match=says):
        suite(rows=rows)


@pytest.mark.parametrize("name", ["nothing", "nothing.yaml"])
def test_a_suite_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(InputError, match="microlens-50k-id"):
        place_of(name)


def test_rows_are_trained_once_and_the_rest_goes_on(planted, tmp_path):
    data = planted.blocks(users=60)

    class StopAtSasRec(SilentProgress):
        def say(self, line):
            if line.startswith("DSSM, seed 2"):
                raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        run(suite(), data, tmp_path, StopAtSasRec())
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    assert len(made) == 3
    outcomes = run(suite(), data, tmp_path)
    assert [(o.row.name, o.seed, o.done) for o in outcomes] == [
        ("popularity", 1, "before"),
        ("DSSM", 1, "before"),
        ("DSSM", 2, "before"),
        ("SASRec", 1, "now"),
    ]
    assert all(path.stat().st_mtime_ns == made[path] for path in made)
    assert [(row.name, len(runs)) for row, runs in measured(suite(), tmp_path)] == [("popularity", 1), ("DSSM", 2), ("SASRec", 1)]
    assert json.loads((tmp_path / "suite.json").read_text())["name"] == "small"


def test_a_row_that_fails_is_told_and_the_others_are_run(planted, tmp_path):
    rows = [{"name": "A", "kind": "x", "config": {"model": {"kind": "content-mean"}}}, SMALL["rows"][0]]
    outcomes = run(suite(rows=rows), planted.blocks(users=60), tmp_path)
    assert [outcome.done for outcome in outcomes] == ["failed", "now"]
    assert "looks at stored vectors" in outcomes[0].error


def test_a_row_that_was_trained_otherwise_is_not_taken_for_this_one(planted, tmp_path):
    data = planted.blocks(users=60)
    run(suite(rows=SMALL["rows"][2:]), data, tmp_path)
    changed = {"name": "SASRec", "kind": "IDRec (SR)", "config": {"model": {"kind": "sasrec", "d_model": 16, "layers": 1}}}
    (outcome,) = run(suite(rows=[changed]), data, tmp_path)
    assert outcome.done == "failed"
    assert "model.d_model 8 (now 16)" in outcome.error
