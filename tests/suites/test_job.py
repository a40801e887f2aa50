"""One training of a suite: its budget, and what its lists are looked at in."""

import dataclasses
import json

import pytest
from vivim.progress import SILENT
from vivim.recommend.epochs import Enough, EpochLog
from vivim.suites.job import Budget, spent_seconds, train_and_measure
from vivim.suites.sheets import sheets
from vivim.suites.table import table_of


def epoch(number, train_seconds, validation_seconds):
    return EpochLog(number, 1.0, 0.1, 0.1, train_seconds, validation_seconds, 10)


def test_the_epoch_in_which_the_budget_is_used_up_is_the_last():
    budget = Budget(10.0, spent=2.0)
    budget(epoch(1, 4.0, 1.0))
    budget(epoch(2, 2.0, 0.5))
    with pytest.raises(Enough, match="budget"):
        budget(epoch(3, 0.4, 0.1))


def test_a_training_that_its_budget_ends_is_a_finished_run_and_goes_on_with_more(suites, tmp_path):
    data, out = suites.data(tmp_path), tmp_path / "out"
    row = suites.rows[2] | {"config": suites.rows[2]["config"] | {"train": {"epochs": 4, "patience": 4}}}

    def job(minutes):
        of = suites.run(suites.small(rows=[row | {"budget_minutes": minutes}]), data, out)
        return of.job_of(of.suite.rows[0], 1)

    train_and_measure(job(1e-9), SILENT)
    run = job(1e-9).folder
    info = json.loads((run / "run.json").read_text())
    assert info["finished"]
    assert (info["fit"]["stopped_by"], info["fit"]["epochs"], info["fit"]["best_epoch"]) == ("budget", 1, 1)
    assert info["fit"]["seconds"] == pytest.approx(spent_seconds(run))
    assert (run / "results.json").is_file()
    train_and_measure(job(60), SILENT)
    info = json.loads((run / "run.json").read_text())
    assert (info["fit"]["stopped_by"], info["fit"]["epochs"]) == ("", 4)


def test_nothing_is_spent_without_a_log(tmp_path):
    assert spent_seconds(tmp_path) == 0.0


def test_rows_without_vectors_are_looked_at_in_the_one_file_that_the_suite_has(suites, tmp_path, write_vectors):
    data = suites.data(tmp_path)
    for name in ("one", "two"):
        write_vectors(tmp_path / f"{name}.h5", data.interactions().items.ids)
    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    named = suites.small(rows=suites.rows[:2], diversity_in="two")
    plain = suites.small(rows=suites.rows[:2])
    for suite, vectors, expected in (
        (plain, {}, None),
        (plain, {"one": one}, one),
        (plain, {"one": one, "two": two}, None),
        (named, {"one": one, "two": two}, two),
        (named, {"one": one}, None),
    ):
        assert dataclasses.replace(data, vectors=vectors).space_of(suite) == expected
    suites.train_here(plain, dataclasses.replace(data, vectors={"": one}), tmp_path / "out")
    told = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*/seed-*/results.json"))]
    assert len(told) == 3
    assert {result["diversity_in"][:6] for result in told} == {"one.h5"}
    assert all(0 < result["splits"]["test"]["diversity"]["4"] < 2 for result in told)
    (sheet,) = [sheet for sheet in sheets(table_of(tmp_path / "out")) if sheet.key == "lists"]
    assert sheet.header[-1] == f"diversity@4 in {told[0]['diversity_in']}"
    assert [row[1] for row in sheet.rows] == ["popularity", "DSSM"] and "-" not in [row[-1] for row in sheet.rows]
