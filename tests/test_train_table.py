"""Training beside RecBole's, as docs/recommend.md shows it, is the result file and nothing else."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def train_table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import train_table

    return train_table


@pytest.fixture
def sets(train_table: ModuleType) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((train_table.RESULTS / "train.json").read_text("utf-8"))["sets"]
    return found


def test_the_page_shows_what_the_result_file_says(train_table: ModuleType, sets: dict[str, Any]) -> None:
    from doc_pages import between

    [text] = between("training").findall(train_table.PAGE.read_text("utf-8"))
    assert text == "\n".join(train_table.lines(sets)), "run: python benchmarks/train_table.py"


def test_every_row_says_where_it_is_from(train_table: ModuleType, sets: dict[str, Any]) -> None:
    for of_set in sets.values():
        assert {row["provenance"] for row in of_set["rows"]} <= set(range(len(of_set["provenance"])))
        told = " ".join(train_table._origins(of_set))
        assert all(row["model"] in told for row in of_set["rows"])


def test_a_model_of_several_seeds_is_one_row_and_what_was_not_trained_says_so(train_table: ModuleType) -> None:
    one = {"model": "mamba", "seed": 1, "seconds_per_epoch": 4.0, "best_epoch": 3, "peak_mb": 900, "seconds_to_common_ndcg": [0.05, 10.0]}
    one |= {"validation": {"ndcg@10": 0.06}, "test": {"hit_rate@10": 0.1, "ndcg@10": 0.05}}
    other = one | {"seed": 2, "best_epoch": 5, "peak_mb": 950, "seconds_to_common_ndcg": [0.05, 14.0], "validation": {"ndcg@10": 0.08}}
    timed = {"model": "RecBole SASRec", "seconds_per_epoch": 100.0, "best_epoch": None, "peak_mb": 3000, "validation": None, "test": None}
    header, ours, theirs = train_table.quality([one, other, timed])
    assert header[5] == "s to 0.05"
    assert ours == ["`mamba`", "32-true", "2", "4.0", "3, 5", "12", "0.0700", "0.1000 / 0.0500; 0.1000 / 0.0500", "950"]
    assert theirs[6] == "not trained to its best"


def test_speed_is_told_against_the_floor_and_against_recbole(train_table: ModuleType) -> None:
    ours = {"model": "mamba", "precision": "bf16-mixed", "seconds_per_epoch": 10.0, "interactions_per_second": 20000, "peak_mb": 900}
    ours |= {"floor_seconds": 6.0, "of_floor": 0.6}
    theirs = {"model": "RecBole SASRec", "seconds_per_epoch": 150.0, "interactions_per_second": 1300, "peak_mb": 2000}
    _, first, second = train_table.speed([ours, theirs])
    assert first == ["`mamba`", "bf16-mixed", "10.0", "20,000", "60% of 6.0 s", "15.0", "900"]
    assert second[4:6] == ["-", "1.0"]
