"""Tables of what serving, reporting and lists for everybody cost are the result files, and nothing else; what must hold, holds in them."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def serving_table(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serving_table

    return serving_table


@pytest.mark.parametrize("page", ["serve.md", "report.md", "recommend.md"])
def test_the_page_shows_what_the_result_files_say(serving_table, page):
    from doc_pages import between

    [text] = between("cost").findall((serving_table.ROOT / "docs" / page).read_text("utf-8"))
    assert text == "\n".join(serving_table.lines(page)), "run: python benchmarks/serving_table.py"


def test_what_must_hold_holds_in_the_results(serving_table):
    holds = {
        "serve_kills": lambda found: found["bad"] == [] and found["trials"]["kills"] >= 100 and found["concurrent"]["events"] == 10_000,
        "serve_soak": lambda found: found["flat"] and found["bad"] == found["faults_in_the_log"] == [] and found["minutes"] >= 15,
        "serving": lambda found: all(found["small"][kind]["not_served"] == 0 for kind in serving_table.ASKED),
        "report": lambda found: found["small"] and all(found[name]["size_bytes"] < 10e6 for name in serving_table.REPORTS),
        "recommend_all": lambda found: found["bounded"] and found["rows"][-1]["users"] >= 4 * found["rows"][0]["users"],
    }
    assert set(holds) == set(serving_table.PARTS) == {name for names in serving_table.PAGES.values() for name in names}
    for name, right in holds.items():
        file = serving_table.RESULTS / f"{name}.json"
        assert not file.exists() or right(json.loads(file.read_text("utf-8"))), name


def test_a_part_that_was_not_measured_is_not_shown(serving_table, tmp_path):
    assert all(serving_table.lines(page, tmp_path) == [] for page in serving_table.PAGES)


def test_a_kill_that_lost_an_event_is_shown(serving_table, tmp_path):
    found = {
        "trials": {"kills": 100, "starts killed": 21, "not acknowledged, kept": 7, "not acknowledged, not kept": 5},
        "acknowledged": {"events": 2000, "removals": 100},
        "concurrent": {"events": 10_000, "users": 100, "threads": 32, "sent": 10_523},
        "bad": ["k1-1 k1-1 7: lost", "k1-1: another list than the serial replay's"],
        "provenance": {"date": "2026-11-26T00:00:00", "commit": "abc", "hardware": "two cores", "command": "serve_kills.py"},
    }
    (tmp_path / "serve_kills.json").write_text(json.dumps(found))
    shown = serving_table.lines("serve.md", tmp_path)
    assert shown[2] == "| SIGKILL at a random instant; 21 times again in the new start | 100 | 1 | 0 | 1 |"
    assert "523 of them twice" in shown[4]
    assert shown[-2] == "2026-11-26, commit abc, two cores: `serve_kills.py`"


def test_a_soak_says_what_was_taken_back_and_how_far_states_drifted(serving_table):
    found = {
        "minutes": 15,
        "requests": 50_000,
        "bad": [],
        "rss_mib": {"begin": 400.0, "end": 410.0},
        "rise_mib": 1.0,
        "rise_share": 0.0025,
        "most_threads": {"first third": 17, "then": 17},
        "most_files": {"first third": 27, "then": 27},
        "counts": {"conflict 409": 1000, "reload 200": 55, "undo 200": 2600},
        "service": {
            "events new": 11_000.0,
            "events late": 1000.0,
            "events removed": 2300.0,
            "events replayed": 2400.0,
            "state_evictions": 7654.0,
            "state_checks": 300.0,
            "state_drift_max": 2.4e-6,
        },
        "provenance": {"date": "2026-11-26T00:00:00", "commit": "abc", "hardware": "two cores", "command": "serve_soak.py"},
    }
    assert serving_table.of_soak(found)[2] == (
        "12,000 events were kept, 2,300 of them taken back, 2,400 times one was sent or taken back again, 1,000 times with another item, "
        "and the run was loaded anew 55 times; the service counted what was acknowledged. 7,654 states made room for others; 300 kept ones "
        "were compared with the whole history, and no score differed by more than 2e-06."
    )


def test_a_report_is_a_row_in_megabytes(serving_table):
    row = {"items": 19_099, "questions": 50_000, "pictures": 0, "size_bytes": 4_712_345, "seconds": 22.4, "cpu_seconds": 20.6}
    row["load_average"] = 1.8
    where = {"date": "2026-11-26T00:00:00", "commit": "abc", "hardware": "two cores", "command": "report.py"}
    shown = serving_table.of_reports({"demo": row, "microlens-50k": row, "provenance": where})
    assert shown[3] == "| MicroLens-50K, ids + titles | 19,099 | 50,000 | 0 | 4.7 | 21 | 22 | 2 |"
