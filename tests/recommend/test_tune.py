"""The search finds what is known to be better, keeps its table, goes on where it ended, and never asks the test questions."""

import csv
import itertools
import json
from types import SimpleNamespace

import pytest
import yaml
from vivim.errors import InputError, Interrupted, VivimError
from vivim.progress import SILENT, SilentProgress
from vivim.recommend import tune as module
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import RecommendConfig, TuneConfig
from vivim.recommend.training import Training
from vivim.recommend.tune import changed, tune

pytest.importorskip("optuna", reason="optuna is not installed (the extra tune)")

BASE = RecommendConfig.model_validate(
    {
        "model": {"d_model": 16, "layers": 1, "dropout": 0.0, "d_state": 4},
        "items": {"kind": "ids"},
        "train": {"batch": 16, "epochs": 3, "weight_decay": 0.0},
    }
)


def search(ring, out, space, trials, minutes=5.0, progress=SILENT, base=BASE):
    config = TuneConfig(minutes=minutes, trials=trials, space=space)
    where = {"path": "made by a test"}
    return tune(ring, None, base, config, out, seed=1, device="cpu", progress=progress, data_location=where)


def table(out):
    with (out / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_finds_the_learning_rate_that_learns(ring, tmp_path):
    found = search(ring, tmp_path, {"train.lr": [1e-9, 0.02]}, 5)
    assert found.best.chosen == {"train.lr": 0.02}
    rows = table(tmp_path)
    assert [row["trial"] for row in rows] == list("01234")
    assert {float(row["train.lr"]) for row in rows} == {1e-9, 0.02}
    assert all(row["state"] in ("complete", "pruned") for row in rows)
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == {"train": {"lr": 0.02}}
    assert not list(tmp_path.glob("**/ranks.parquet"))  # nothing was evaluated on the test questions


def test_it_goes_on_where_it_ended(ring, tmp_path):
    class StopInThird(SilentProgress):
        def advance(self, count=1, note=""):
            self.done = getattr(self, "done", 0) + 1
            if self.done == 2:
                raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        search(ring, tmp_path, {"train.lr": [0.01, 0.02]}, 6, progress=StopInThird())
    assert len(table(tmp_path)) == 2
    found = search(ring, tmp_path, {"train.lr": [0.01, 0.02]}, 2)
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3]


def test_the_metric_that_is_named_compares_trials(ring, tmp_path):
    by = {"train.metric": "hit_rate@10"}
    found = search(ring, tmp_path, {"train.lr": [0.005, 0.02]}, 2, base=changed(BASE, by))
    for trial, row in zip(found.trials, table(tmp_path), strict=True):
        lines = (tmp_path / f"trial-{trial.number:04d}" / "log.jsonl").read_text().splitlines()
        best = max(json.loads(line)["hit_rate_10"] for line in lines)
        assert trial.best == float(row["validation_hit_rate_10"]) == best
    assert found.best.best == max(trial.best for trial in found.trials)
    with pytest.raises(InputError, match=r"compares trials by hit_rate@10, not by ndcg@10. Set train.metric to hit_rate@10"):
        search(ring, tmp_path, {"train.lr": [0.005, 0.02]}, 1)


def test_a_trial_that_diverges_costs_itself_only(ring, tmp_path):
    found = search(ring, tmp_path, {"train.lr": [1e30, 0.01], "train.clip_norm": [0.0]}, 6)
    states = {trial.chosen["train.lr"]: trial.state for trial in found.trials}
    assert states[1e30] == "fail"
    assert found.best.chosen["train.lr"] == 0.01


def test_the_budget_ends_it(ring, tmp_path):
    """The trial that it ends has a validated model, and counts."""
    found = search(ring, tmp_path, {"train.lr": [0.01]}, 50, minutes=1e-4)
    (trial,) = found.trials
    assert (trial.state, trial.epochs) == ("complete", 1)
    assert found.best is trial
    assert trial.best > 0
    run = RunFolder.open(tmp_path / "trial-0000")
    assert run.info()["fit"]["stopped_by"] == "the end of tune.minutes"
    assert run.info()["fit"]["validation_ndcg_10"] == trial.best


def test_the_budget_ends_it_within_an_epoch(ring, tmp_path, monkeypatch):
    """The clock is looked at as the search begins, after the first epoch, and from then on at every step."""
    times = itertools.chain([0.0] * 3, itertools.repeat(1e9))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))
    steps = []
    monkeypatch.setattr(Training, "_step", lambda self, batch, step=Training._step: (steps.append(self.done.epoch), step(self, batch)))
    found = search(ring, tmp_path, {"train.lr": [0.01]}, 1)
    assert steps.count(2) == 1
    assert (found.best.state, found.best.epochs) == ("complete", 1)
    assert len(RunFolder.open(tmp_path / "trial-0000").read_log()) == 1


def test_a_search_in_which_all_diverge_names_its_table(ring, tmp_path):
    with pytest.raises(VivimError, match=r"no trial of 2 came through; see .*trials.csv"):
        search(ring, tmp_path, {"train.lr": [1e30], "train.clip_norm": [0.0]}, 2)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"train.learning_rate": [0.1]}, r"stage two has no option 'train.learning_rate'"),
        ({"model.dropout": [0.1, 1.5]}, r"model.dropout=1.5 is not allowed"),
        ({"lr": [0.1]}, r"stage two has no option 'lr'"),
        ({"train.metric": ["ndcg@10"]}, r"train.metric is what trials are compared by"),
    ],
)
def test_options_that_are_none_are_refused_before_any_training(ring, tmp_path, space, says):
    with pytest.raises(InputError, match=says):
        search(ring, tmp_path / "out", space, 3)
    assert not (tmp_path / "out").exists()


def test_choices_change_what_they_name_and_nothing_else():
    other = changed(BASE, {"train.lr": 0.5, "model.layers": 2})
    assert (other.train.lr, other.model.layers) == (0.5, 2)
    assert other.model_copy(update={"train": BASE.train, "model": BASE.model}) == BASE
