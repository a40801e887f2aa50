"""Answers that are kept in the repository: the table of a suite is made from them as from the runs."""

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from vivim.errors import InputError
from vivim.suites.suite import Suite
from vivim.suites.table import table_of


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    return importlib.import_module("answers")


@pytest.fixture
def kept(suites, answers, tmp_path):
    answers.keep(suites.table_out, tmp_path / "kept")
    return tmp_path / "kept"


def test_the_table_is_that_of_the_runs(suites, kept):
    before, after = table_of(suites.table_out), table_of(kept)
    assert [line.metrics_as_dict() for line in after.lines] == [line.metrics_as_dict() for line in before.lines]
    assert [line.beside for line in after.lines] == [line.beside for line in before.lines]
    assert [line.cost for line in after.lines] == [line.cost for line in before.lines]
    assert after.tested == before.tested
    assert after.notes() == before.notes()


def test_weights_paths_and_names_of_users_stay_behind(kept):
    files = [file for file in kept.rglob("*") if file.is_file()]
    assert {file.name for file in files} == {"suite.json", "results.json", "run.json", "log.jsonl", "ranks.parquet"}
    ranks = pl.read_parquet(next(kept.rglob("ranks.parquet")))
    assert ranks.columns == ["split", "rank"]
    assert ranks["rank"].max() == 5  # behind a list of four
    assert all("/" not in word[:1] for file in kept.rglob("*.json") for word in file.read_text().split('"'))


def test_rows_of_another_day_join_those_that_are_kept(suites, answers, kept, tmp_path):
    """Only NFM was run, at another commit; DSSM is configured otherwise since."""
    now = tmp_path / "now"
    shutil.copytree(suites.table_out / "idrec-cf-nfm", now / "idrec-cf-nfm")
    results = now / "idrec-cf-nfm" / "seed-1" / "results.json"
    told = json.loads(results.read_text())
    results.write_text(json.dumps(told | {"provenance": told["provenance"] | {"commit": "later"}}))
    suite = json.loads((suites.table_out / "suite.json").read_text())
    suite["rows"][2]["config"]["model"]["d_model"] = 16
    (now / "suite.json").write_text(json.dumps(suite))
    assert answers.keep(now, kept) == [
        "dropped idrec-cf-dssm, seed-1: the suite has configured it otherwise since",
        "dropped idrec-cf-dssm, seed-2: the suite has configured it otherwise since",
        "kept NFM, seed-1",
    ]
    table = table_of(kept)
    assert [line.row.name for line in table.lines] == ["popularity", "item-knn", "NFM", "Vivim-CF", "GRU4Rec"]
    measured = [note for note in table.notes() if note.startswith("Measured ")]
    assert len(measured) == 2
    assert sum(note.endswith(": NFM.") and "commit later" in note for note in measured) == 1


def test_a_run_of_a_suite_that_is_another_now_takes_nothing_newer_away(suites, answers, kept):
    """The folder is of yesterday's suite, what is kept of today's."""
    yesterday = Suite.model_validate_json((suites.table_out / "suite.json").read_text())
    changed = json.loads((kept / "suite.json").read_text())
    changed["rows"][2]["config"]["model"]["d_model"] = 16
    today = Suite.model_validate(changed)
    (kept / "suite.json").write_text(today.model_dump_json())
    was = (kept / "idrec-cf-dssm" / "seed-1" / "results.json").read_bytes()
    told = answers.keep(suites.table_out, kept, today)
    assert [line for line in told if not line.startswith("kept ")] == [
        "left DSSM, seed-1: the suite has configured it otherwise since",
        "left DSSM, seed-2: the suite has configured it otherwise since",
    ]
    assert (kept / "idrec-cf-dssm" / "seed-1" / "results.json").read_bytes() == was
    assert Suite.model_validate_json((kept / "suite.json").read_text()) == today
    assert (
        answers.keep(suites.table_out, kept, yesterday)[0] == "dropped idrec-cf-dssm, seed-1: the suite has configured it otherwise since"
    )


def test_another_protocol_is_refused(suites, answers, kept, tmp_path):
    now = tmp_path / "now"
    suites.train_here(Suite.model_validate(suites.small(rows=suites.table_rows[:1], k=[2, 4])), suites.data(tmp_path, users=70), now)
    with pytest.raises(InputError, match="different protocol cards"):
        answers.keep(now, kept)


def test_of_a_command_the_names_of_files_are_kept(answers):
    told = {"provenance": {"command": "vivim benchmark run x --interactions /data/a.tsv"}, "k": [10]}
    assert answers._without_paths(told) == {"provenance": {"command": "vivim benchmark run x --interactions a.tsv"}, "k": [10]}
