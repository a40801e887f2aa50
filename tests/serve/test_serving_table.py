"""The tables of docs/serve.md under "What it costs" are the result files, and nothing else; what must hold, holds in them."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def serving_table(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serving_table

    return serving_table


def test_the_page_shows_what_the_result_files_say(serving_table):
    [text] = serving_table.MARKED.findall(serving_table.PAGE.read_text("utf-8"))
    assert text == "\n".join(serving_table.lines()), "run: python benchmarks/serving_table.py"


def test_what_must_hold_holds_in_the_results(serving_table):
    holds = {
        "serve_kills": lambda found: found["bad"] == [] and found["trials"]["kills"] >= 100 and found["concurrent"]["events"] == 10_000,
        "serve_soak": lambda found: found["flat"] and found["bad"] == found["faults_in_the_log"] == [] and found["minutes"] >= 15,
        "serving": lambda found: all(found["small"][kind]["not_served"] == 0 for kind in serving_table.ASKED),
    }
    assert set(holds) == set(serving_table.PARTS)
    for name, right in holds.items():
        file = serving_table.RESULTS / f"{name}.json"
        assert not file.exists() or right(json.loads(file.read_text("utf-8"))), name


def test_a_part_that_was_not_measured_is_not_shown(serving_table, tmp_path):
    assert serving_table.lines(tmp_path) == []


def test_a_kill_that_lost_an_event_is_shown(serving_table, tmp_path):
    found = {
        "trials": {"kills": 100, "starts killed": 21, "not acknowledged, kept": 7, "not acknowledged, not kept": 5},
        "acknowledged": {"events": 2000, "removals": 100},
        "concurrent": {"events": 10_000, "users": 100, "threads": 32, "sent": 10_523},
        "bad": ["k1-1 k1-1 7: lost", "k1-1: another list than the serial replay's"],
        "provenance": {"date": "2026-11-26T00:00:00", "commit": "abc", "hardware": "two cores", "command": "serve_kills.py"},
    }
    (tmp_path / "serve_kills.json").write_text(json.dumps(found))
    shown = serving_table.lines(tmp_path)
    assert shown[2] == "| SIGKILL at a random instant; 21 times again in the new start | 100 | 1 | 0 | 1 |"
    assert "523 of them twice" in shown[4]
    assert shown[-2] == "2026-11-26, commit abc, two cores: `serve_kills.py`"
