"""Tables of the README and of docs/benchmark.md are the result files, and nothing else."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from vivim.recommend.metrics import arithmetic_check

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def result_table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location("result_table", ROOT / "benchmarks" / "result_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Those that read an order; YouTube_ID takes the mean of a history.
SEQUENCE_MODELS = {"NextItNet", "GRU4Rec", "SASRec", "Mamba-ID"}


def between_markers(page: Path, what: str = "results") -> str:
    found = re.search(rf"<!-- {what}:begin -->\n(.*?)<!-- {what}:end -->", page.read_text(), re.DOTALL)
    assert found, page
    return found.group(1)


def test_pages_show_what_the_result_files_say(result_table: ModuleType) -> None:
    for page, suites, lines_of in (
        (ROOT / "README.md", result_table.README_SUITES, result_table.short),
        (ROOT / "docs" / "benchmark.md", result_table.DOCS_SUITES, result_table.whole),
    ):
        text = between_markers(page)
        files = [result_table.RESULTS / f"{name}.json" for name in suites]
        for file in files:
            if file.exists():
                lines = "\n".join(lines_of(json.loads(file.read_text())))
                assert lines in text, "run: python benchmarks/result_table.py write"
        assert text.count("**microlens") + text.count("**demo**") == sum(file.exists() for file in files)


def test_what_is_printed_stands_whole_in_the_docs(result_table: ModuleType) -> None:
    text = between_markers(ROOT / "docs" / "benchmark.md", "printed")
    assert text.splitlines() == result_table.printed(), "run: python benchmarks/result_table.py write"
    assert len(text.splitlines()) == 2 + 22
    assert text.count("| proposed |") == 4


def measured_on_microlens(result_table: ModuleType) -> dict[str, dict[str, dict[str, float]]]:
    rows = json.loads((result_table.RESULTS / "microlens-50k-id.json").read_text())["rows"]
    return {row["model"]: row["metrics"] for row in rows}


def test_every_learned_sequence_model_is_above_item_knn_on_microlens(result_table: ModuleType) -> None:
    found = measured_on_microlens(result_table)
    models = SEQUENCE_MODELS & found.keys()
    assert {"SASRec", "Mamba-ID"} <= models
    for name in models:
        for metric in ("test hit_rate@10", "test ndcg@10"):
            assert found[name][metric]["low"] > found["item-knn"][metric]["value"], (name, metric)


def test_mamba_is_not_below_the_interval_of_sasrec_on_microlens(result_table: ModuleType) -> None:
    found = measured_on_microlens(result_table)
    for metric in ("hit_rate@10", "ndcg@10", "hit_rate@20", "ndcg@20"):
        assert found["Mamba-ID"][f"test {metric}"]["value"] >= found["SASRec"][f"test {metric}"]["low"], metric


def test_every_recorded_result_passes_the_arithmetic_check(result_table: ModuleType) -> None:
    for name in result_table.DOCS_SUITES:
        file = result_table.RESULTS / f"{name}.json"
        for row in json.loads(file.read_text())["rows"] if file.exists() else []:
            for split in ("validation", "test"):
                numbers = [row["metrics"][f"{split} {metric}"]["value"] for metric in ("hit_rate@10", "ndcg@10", "hit_rate@20", "ndcg@20")]
                arithmetic_check(*numbers, 10, 20, rank_step=0.5)


def test_a_row_of_the_readme_says_what_was_measured(result_table: ModuleType) -> None:
    def cell(value: float, sd: float | None = None) -> dict[str, float | None]:
        return {"value": value, "low": value - 0.001, "high": value + 0.001, "sd": sd}

    metrics = {f"{split} {name}": cell(0.05) for split in ("validation", "test") for name in ("hit_rate@10", "ndcg@10", "hit_rate@20")}
    metrics["test hit_rate@10"] = cell(0.0728, 0.0011)
    cost = {"seconds_per_epoch": 41.6, "epochs": 12, "best_epoch": 11, "seconds_to_best": 571.0, "peak_memory_mb": 1234.4}
    row = {"model": "Mamba-ID", "ours": True, "seeds": 3, "metrics": metrics, "cost": cost}
    counted = {"model": "popularity", "ours": False, "seeds": 1, "metrics": metrics, "cost": dict.fromkeys(cost)}
    card = {"protocol": "microlens", "users": 50000, "items": 19099, "keep_last": 13, "max_len": 10}
    provenance = {"date": "2026-11-26T00:00:00", "commit": "abc", "hardware": "two cores", "command": "vivim benchmark run x"}
    lines = result_table.short({"suite": {"name": "x"}, "rows": [row, counted], "protocol_card": card, "provenance": provenance})
    assert lines[2] == (
        "| **Mamba-ID** | 3 | .0500 / .0500 | .0728 [.0718, .0738] ±.0011 | .0500 [.0490, .0510] | .0500 [.0490, .0510] "
        "| 11 of 12 in 10 min | 1,234 MiB |"
    )
    assert lines[3].endswith("| - | - |")
    assert "2026-11-26, commit abc, two cores: `vivim benchmark run x`" in lines[-1]
    for file in ("x", "tried.yaml"):  # a copy of the suite is nobody's but its maker's
        provenance["command"] = f"vivim benchmark run {file} --rows SASRec Mamba-ID --jobs 1"
        lines = result_table.short({"suite": {"name": "x"}, "rows": [row], "protocol_card": card, "provenance": provenance})
        assert "Newest row: 2026-11-26, commit abc, two cores. All of them: `vivim benchmark run x --jobs 1`" in lines[-1]


def test_the_page_of_a_result_shows_every_table_but_what_is_printed(result_table: ModuleType) -> None:
    pages = {"table": [["model"], ["A"]], "printed": [["model"], ["P"]], "compared": [["x"]], "lists": [["model"], ["L"]], "notes": ["n"]}
    provenance = {"date": "2026-11-26T00:00:00", "commit": "abc", "hardware": "two cores", "command": "vivim benchmark run x"}
    lines = result_table.whole(
        {"suite": {"name": "no chart"}, "pages": pages, "titles": {"lists": "What the lists are like"}, "provenance": provenance}
    )
    assert lines[:3] == ["| model |", "|---|", "| A |"]
    assert lines[4:9] == ["What the lists are like:", "", "| model |", "|---|", "| L |"]
    assert lines[-3:-1] == ["- n", ""]
    assert "| P |" not in lines


def test_what_is_otherwise_since_stands_above_a_result_until_it_is_measured_anew(
    result_table: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, commit in result_table.CHANGED_SINCE:
        found = json.loads((result_table.RESULTS / f"{name}.json").read_text("utf-8"))["provenance"]["commit"]
        assert found == commit, f"{name} was measured anew: take its remark out of CHANGED_SINCE"
    monkeypatch.setattr(result_table, "CHANGED_SINCE", {("demo", "3e7c1bbd1131"): "Half of it is otherwise."})
    provenance = {"date": "2026-11-26T00:00:00", "hardware": "two cores", "command": "vivim benchmark run demo"}
    older, newer = (
        result_table.whole({"suite": {"name": "demo"}, "pages": {"notes": []}, "provenance": provenance | {"commit": commit}})
        for commit in ("3e7c1bbd1131", "abc")
    )
    assert older[0] == "**Half of it is otherwise.**" and older[2:-1] == newer[:-1]
