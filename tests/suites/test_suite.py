"""Suites: what may stand in one, and running it row by row, also after it was cut short."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from vivim.cli import main
from vivim.errors import InputError, Interrupted
from vivim.progress import SILENT, SilentProgress
from vivim.strict_yaml import read
from vivim.suites.runner import SuiteRun, measured
from vivim.suites.suite import place_of, shipped, suite_of
from vivim.suites.table import table_of, write_table

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
    return SuiteRun(which, data, None, out, "cpu", progress, {"path": "made by a test"}).run()


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


def test_rows_over_other_interactions_are_not_taken_for_these(planted, tmp_path):
    data = planted.blocks(users=60)
    run(suite(rows=SMALL["rows"][:2]), data, tmp_path)
    outcomes = run(suite(rows=SMALL["rows"][:2]), replace(data, sha256="1" * 64), tmp_path)
    assert {outcome.done for outcome in outcomes} == {"failed"}
    assert all("another interactions file" in outcome.error for outcome in outcomes)


def test_a_row_that_was_trained_otherwise_is_not_taken_for_this_one(planted, tmp_path):
    data = planted.blocks(users=60)
    run(suite(rows=SMALL["rows"][2:]), data, tmp_path)
    changed = {"name": "SASRec", "kind": "IDRec (SR)", "config": {"model": {"kind": "sasrec", "d_model": 16, "layers": 1}}}
    (outcome,) = run(suite(rows=[changed]), data, tmp_path)
    assert outcome.done == "failed"
    assert "model.d_model 8 (now 16)" in outcome.error


def evaluated(rows, data, out):
    which = suite(rows=rows, k=[2, 4])
    run(which, data, out)
    return which


ROWS = [
    {"name": "popularity", "kind": "no learning", "config": {"model": {"kind": "popularity"}}},
    {"name": "DSSM", "kind": "IDRec (CF)", "note": "two tables", "seeds": 2, "config": {"model": {"kind": "dssm", "d_model": 8}}},
    {"name": "NFM", "kind": "IDRec (CF)", "config": {"model": {"kind": "nfm", "d_model": 8}}},
    {"name": "Vivim-CF", "kind": "IDRec (CF)", "ours": True, "config": {"model": {"kind": "lightgcn", "d_model": 8, "layers": 1}}},
]


def test_the_table_holds_what_the_runs_measured(planted, tmp_path):
    data = planted.blocks(users=80)
    evaluated(ROWS, data, tmp_path)
    table = write_table(tmp_path)
    one = json.loads((tmp_path / "idrec-cf-nfm/seed-1/results.json").read_text())["splits"]
    line = table.lines[2]
    for split in ("validation", "test"):
        for metric in ("hit_rate@2", "ndcg@4"):
            assert line.cells[split, metric].estimate.as_dict() == pytest.approx(one[split]["metrics"][metric])
            assert line.cells[split, metric].sd is None
    seeds = [json.loads((tmp_path / f"idrec-cf-dssm/seed-{n}/results.json").read_text())["splits"] for n in (1, 2)]
    values = [found["test"]["metrics"]["ndcg@4"]["value"] for found in seeds]
    cell = table.lines[1].cells["test", "ndcg@4"]
    assert cell.estimate.value == pytest.approx(sum(values) / 2)
    assert cell.sd == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    # Ours against the baseline that is best in validation, on the same users.
    best = max(table.lines[1:3], key=lambda line: line.cells["validation", "ndcg@4"].estimate.value)
    (hits, gain) = table.tested
    assert (gain.row, gain.baseline, gain.metric) == ("Vivim-CF", best.row.name, "ndcg@2")
    assert hits.found.difference == pytest.approx(table.lines[3].gains["hit_rate@2"].mean() - best.gains["hit_rate@2"].mean())
    page = (tmp_path / "table.md").read_text()
    assert "| 0.0361†‡ |" in page and "| 0.0313† |" in page and "DSSM: two tables" in page
    assert "<script" not in (tmp_path / "table.html").read_text()
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 2 * 4


def test_rows_under_different_protocols_are_not_put_in_one_table(planted, tmp_path):
    data = planted.blocks(users=80)
    which = evaluated(ROWS[:1], data, tmp_path)
    other = suite_of(SMALL | {"k": [2, 4], "config": {"protocol": {"max_len": 3}}, "rows": ROWS[1:2]}, "other")
    run(other, data, tmp_path)
    both = which.model_copy(update={"rows": (*which.rows, *other.rows)})
    (tmp_path / "suite.json").write_text(both.model_dump_json())
    with pytest.raises(InputError, match="different protocol cards"):
        table_of(tmp_path)


def test_a_folder_without_a_suite_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no suite"):
        table_of(tmp_path)
    run(suite(rows=[{"name": "A", "kind": "x", "config": {"model": {"kind": "content-mean"}}}]), None, tmp_path)
    with pytest.raises(InputError, match="nothing of the suite"):
        table_of(tmp_path)


def test_a_suite_as_it_is_typed(planted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = planted.blocks(users=60)
    lines = [f"{u + 1}\t{' '.join(str(item + 1) for item in row)}" for u, row in enumerate(data.histories)]
    Path("pairs.tsv").write_text("\n".join(lines) + "\n")
    rows = [*ROWS[:1], {"name": "A", "kind": "x", "config": {"model": {"kind": "content-mean"}}}]
    Path("mine.yaml").write_text(json.dumps(SMALL | {"rows": rows}))  # JSON is YAML
    command = ["benchmark", "run", "mine.yaml", "--interactions", "pairs.tsv", "--out", "done", "--device", "cpu"]
    assert main(command) == 1  # a row failed
    said = capsys.readouterr().out
    assert "1 trainings of small done, 0 were there, 1 failed" in said
    assert main(["benchmark", "table", "done"]) == 0
    assert "1 of 2 rows are measured" in capsys.readouterr().out
    assert main(["benchmark", "run", "nothing", "--interactions", "pairs.tsv"]) == 2
