"""One training of a suite: its budget."""

import json

import pytest
from vivim.progress import SILENT
from vivim.recommend.training import Enough, EpochLog
from vivim.suites.job import Budget, spent_seconds, train_and_measure


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
