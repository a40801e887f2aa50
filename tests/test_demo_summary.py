"""``vivim demo --serve``: the demo, its table, then the page on what it made."""

from pathlib import Path

from vivim import cli, demo_summary
from vivim.demo.run import ROWS, run_name
from vivim.terminal import Summary


def test_the_demo_is_served_with_its_own_data_after_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    served = []

    def run_serve(pipeline, progress, options):
        served.append((capsys.readouterr().out, pipeline, options))
        return Summary("stopped", exit_code=130)

    monkeypatch.setattr(demo_summary, "run_demo", lambda pipeline, progress, **_: Summary("the demo's table"))
    monkeypatch.setattr("vivim.stage_serve.run_serve", run_serve)
    assert cli.main(["demo", "--serve", "--out", "world", "--port", "0", "--set", "data.videos=mine"]) == 130
    [(shown, pipeline, options)] = served
    assert shown == "the demo's table\n"
    assert [str(run) for run in options.runs] == ["world/runs/ids+video", "world/runs/frozenvideo", "world/runs/ids"]
    assert pipeline.serve.http.port == 0
    assert pipeline.data.videos is None
    assert capsys.readouterr().out == "stopped\n"


def test_the_runs_that_are_served_are_made_by_the_demo():
    made = {run_name(row) for row in ROWS}
    assert {run.name for run in demo_summary.served_runs(Path("out"))} <= made
