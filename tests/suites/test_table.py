"""From runs to a table and its pages."""

import csv
import json
import sys

import pytest
from vivim.errors import InputError
from vivim.suites.pages import write_table
from vivim.suites.table import table_of

ROWS = [
    {"name": "popularity", "kind": "no learning", "config": {"model": {"kind": "popularity"}}},
    {"name": "DSSM", "kind": "IDRec (CF)", "note": "two tables", "seeds": 2, "config": {"model": {"kind": "dssm", "d_model": 8}}},
    {"name": "NFM", "kind": "IDRec (CF)", "config": {"model": {"kind": "nfm", "d_model": 8}}},
    {"name": "Vivim-CF", "kind": "IDRec (CF)", "ours": True, "config": {"model": {"kind": "lightgcn", "d_model": 8, "layers": 1}}},
    {
        "name": "GRU4Rec",
        "kind": "IDRec (SR)",
        "against": "NFM",
        "budget_minutes": 1e-9,
        "config": {"model": {"kind": "gru4rec", "d_model": 8, "layers": 1}},
    },
]


@pytest.fixture(scope="module")
def out(suites, tmp_path_factory):
    """Where a suite of ``ROWS`` was run."""
    folder = tmp_path_factory.mktemp("suite")
    suites.train_here(suites.small(rows=ROWS, k=[2, 4]), suites.data(folder, users=80), folder / "out")
    return folder / "out"


def results(run):
    return json.loads((run / "results.json").read_text())["splits"]


def test_the_table_holds_what_the_runs_measured(out):
    table = table_of(out)
    one = results(out / "idrec-cf-nfm/seed-1")
    line = table.lines[2]
    for split in ("validation", "test"):
        for metric in ("hit_rate@2", "ndcg@4"):
            assert line.cells[split, metric].estimate.as_dict() == pytest.approx(one[split]["metrics"][metric])
            assert line.cells[split, metric].sd is None
    values = [results(out / f"idrec-cf-dssm/seed-{n}")["test"]["metrics"]["ndcg@4"]["value"] for n in (1, 2)]
    cell = table.lines[1].cells["test", "ndcg@4"]
    assert cell.estimate.value == pytest.approx(sum(values) / 2)
    assert cell.sd == pytest.approx(abs(values[0] - values[1]) / 2**0.5)


def test_ours_is_compared_with_the_best_baseline_in_validation_and_a_row_with_the_one_it_names(out):
    table = table_of(out)
    best = max(table.lines[1:3], key=lambda line: line.cells["validation", "ndcg@4"].estimate.value)
    ours_hits, named_hits, ours_gain, named_gain = table.tested
    assert (ours_gain.row, ours_gain.baseline, ours_gain.metric) == ("Vivim-CF", best.row.name, "ndcg@2")
    assert ours_hits.found.difference == pytest.approx(table.lines[3].gains["hit_rate@2"].mean() - best.gains["hit_rate@2"].mean())
    assert (named_gain.row, named_gain.baseline) == ("GRU4Rec", "NFM")
    assert named_hits.found.difference == pytest.approx(
        table.lines[4].gains["hit_rate@2"].mean() - table.lines[2].gains["hit_rate@2"].mean()
    )


def test_what_it_cost(out):
    """What DSSM trains is counted by hand: 80 users and 60 items, 8 numbers each."""
    lines = {line.row.name: line.cost for line in table_of(out).lines}
    assert lines["popularity"].epochs is None
    assert lines["DSSM"].parameters == (80 + 60) * 8
    assert lines["DSSM"].epochs == 2
    log = [json.loads(line) for line in (out / "idrec-cf-nfm/seed-1/log.jsonl").read_text().splitlines()]
    assert lines["NFM"].seconds == pytest.approx(sum(entry["train_seconds"] + entry["validation_seconds"] for entry in log))
    assert lines["NFM"].where == "cpu, 32-true"
    assert (lines["NFM"].stopped, lines["GRU4Rec"].stopped, lines["GRU4Rec"].epochs) == (0, 1, 1)
    peak = json.loads((out / "idrec-cf-nfm/seed-1/run.json").read_text())["peak_memory_mb"]
    assert lines["NFM"].memory_mb == peak > 50


def test_a_peak_that_was_of_several_trainings_is_not_shown(out, tmp_path):
    from vivim.suites.cost import cost_of

    result = json.loads((out / "idrec-cf-nfm/seed-1/results.json").read_text())
    del result["run"]["fit"]["parameters"]
    assert cost_of([out / "idrec-cf-nfm/seed-1"], [result]).memory_mb is None


def test_the_pages(out):
    pytest.importorskip("matplotlib")
    written = write_table(out)
    assert written.files == ("table.md", "table.csv", "table.html", "table.png")
    assert not written.note
    page = (out / "table.md").read_text()
    assert "| 0.0361†‡ |" in page
    assert "| 0.0313† |" in page
    assert "DSSM: two tables" in page
    assert "![chart](table.png)" in page
    assert "| GRU4Rec § |" in page
    assert "§ a training was ended by its budget" in page
    html = (out / "table.html").read_text()
    assert "<script" not in html
    assert 'src="data:image/png;base64,' in html
    lines = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert len([line for line in lines if line["split"] != "cost"]) == 5 * 2 * 4
    (parameters,) = [line["value"] for line in lines if (line["model"], line["metric"]) == ("DSSM", "parameters")]
    assert parameters == "1120"


def test_without_matplotlib_the_table_is_written_and_the_command_to_install_it_named(out, monkeypatch):
    (out / "table.png").write_bytes(b"of an older table")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    written = write_table(out)
    assert written.files == ("table.md", "table.csv", "table.html")
    assert "pip install 'vivim[viz]'" in written.note
    assert not (out / "table.png").exists()
    assert "![chart]" not in (out / "table.md").read_text()


def test_rows_under_different_protocols_are_not_put_in_one_table(suites, tmp_path):
    data = suites.data(tmp_path, users=80)
    one = suites.small(rows=ROWS[:1], k=[2, 4])
    other = suites.small(rows=[ROWS[0] | {"name": "also"}], k=[2, 4], config={"protocol": {"max_len": 3}})
    for which in (one, other):
        suites.train_here(which, data, tmp_path / "out")
    both = one.model_copy(update={"rows": (*one.rows, *other.rows)})
    (tmp_path / "out/suite.json").write_text(both.model_dump_json())
    with pytest.raises(InputError, match="different protocol cards"):
        table_of(tmp_path / "out")


def test_a_folder_without_a_suite_is_refused(suites, tmp_path):
    with pytest.raises(InputError, match="holds no suite"):
        table_of(tmp_path)
    (tmp_path / "suite.json").write_text(suites.small().model_dump_json())
    with pytest.raises(InputError, match="nothing of the suite"):
        table_of(tmp_path)
