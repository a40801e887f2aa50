"""From runs to a table and its pages."""

import json
import sys

import pytest
from vivim.errors import InputError
from vivim.suites.pages import write_table
from vivim.suites.table import table_of


@pytest.fixture(scope="module")
def out(suites):
    return suites.table_out


def results(run):
    return json.loads((run / "results.json").read_text())["splits"]


def test_the_table_holds_what_the_runs_measured(out):
    table = table_of(out)
    one = results(out / "idrec-cf-nfm/seed-1")
    line = table.lines[3]
    for split in ("validation", "test"):
        for metric in ("hit_rate@2", "ndcg@4"):
            assert line.cells[split, metric].estimate.as_dict() == pytest.approx(one[split]["metrics"][metric])
            assert line.cells[split, metric].sd is None
    values = [results(out / f"idrec-cf-dssm/seed-{n}")["test"]["metrics"]["ndcg@4"]["value"] for n in (1, 2)]
    cell = table.lines[2].cells["test", "ndcg@4"]
    assert cell.estimate.value == pytest.approx(sum(values) / 2)
    assert cell.sd == pytest.approx(abs(values[0] - values[1]) / 2**0.5)


def test_what_it_cost(out):
    """What DSSM trains is counted by hand: 80 users and 60 items, 8 numbers each."""
    lines = {line.row.name: line.cost for line in table_of(out).lines}
    counted = lines["popularity"]
    assert (counted.epochs, counted.parameters, counted.where) == (None, None, "cpu")
    assert counted.seconds > 0
    assert counted.memory_mb > 50
    assert lines["DSSM"].parameters == (80 + 60) * 8
    assert lines["DSSM"].epochs == 2
    log = [json.loads(line) for line in (out / "idrec-cf-nfm/seed-1/log.jsonl").read_text().splitlines()]
    assert lines["NFM"].seconds == pytest.approx(sum(entry["train_seconds"] + entry["validation_seconds"] for entry in log))
    best = json.loads((out / "idrec-cf-nfm/seed-1/run.json").read_text())["fit"]["best_epoch"]
    until = [entry["train_seconds"] + entry["validation_seconds"] for entry in log if entry["epoch"] <= best]
    assert lines["NFM"].seconds_to_best == pytest.approx(sum(until))
    assert 0 < lines["NFM"].seconds_to_best <= lines["NFM"].seconds
    assert counted.seconds_to_best is None
    assert lines["NFM"].seconds_of_all == lines["NFM"].seconds
    assert lines["DSSM"].seconds_of_all == pytest.approx(2 * lines["DSSM"].seconds)  # of two the median is the mean
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
    assert "## Printed for MicroLens-100K" in page
    assert "| 0.0480† | 0.0201† | 0.0361†‡ |" in page
    assert "DSSM: two tables" in page
    assert "the file has no times" in page
    assert "- Sum of training time: " in page
    assert "![chart](table.png)" in page
    assert "| GRU4Rec § |" in page
    assert "§ a training was ended by its budget" in page
    html = (out / "table.html").read_text()
    assert "<script" not in html
    assert 'src="data:image/png;base64,' in html
    assert "<h2>What the lists are like</h2>" in html


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
    one = suites.small(rows=suites.table_rows[:1], k=[2, 4])
    other = suites.small(rows=[suites.table_rows[0] | {"name": "also"}], k=[2, 4], config={"protocol": {"max_len": 3}})
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
