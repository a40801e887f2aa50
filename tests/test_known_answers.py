"""Known answers, as docs/benchmark.md shows them, are the result file and nothing else, and lie where they are known to lie."""

import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def known_table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import known_answers_table

    return known_answers_table


def test_the_page_shows_what_the_result_file_says(known_table: ModuleType) -> None:
    from doc_pages import between

    [text] = between("known").findall(known_table.PAGE.read_text("utf-8"))
    result = json.loads(known_table.RESULT.read_text("utf-8"))
    assert text == "\n".join(known_table.lines(result)), "run: python benchmarks/known_answers_table.py"


def test_a_model_is_a_row_with_each_seed_and_what_is_known_of_it(known_table: ModuleType) -> None:
    def metric(*each: float) -> dict[str, object]:
        return {"mean": sum(each) / len(each), "each": list(each)}

    known = {"hit_rate@10": 0.11, "ndcg@10": 0.05, "source": "a page"}
    gru = {"model": "gru4rec", "seeds": 2, "test hit_rate@10": metric(0.12, 0.14), "test ndcg@10": metric(0.05, 0.07), "published": known}
    mamba = gru | {"model": "mamba", "published": None}
    origin = {"date": "2026-01-02T03:04:05", "commit": "abc", "hardware": "a processor", "command": "known_answers.py"}
    _, _, first, second, _, told, _ = known_table.lines({"ml-100k": [gru, mamba], "microlens-50k": [], "provenance": origin})
    assert first == "| ml-100k | `gru4rec` | 2 | 0.1300 | 0.1200, 0.1400 | 0.0600 | 0.0500, 0.0700 | 0.1100 / 0.0500 | a page |"
    assert second.endswith("| - | - |")
    assert told == "2026-01-02, commit abc, a processor: `known_answers.py`."
