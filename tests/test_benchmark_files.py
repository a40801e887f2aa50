"""Result files that are measured in parts: what was measured before stays, with its own provenance."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.readers import read_interactions

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script sets for its own process is there already, and undone."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")


def rung(name: str, seed: int, hit_rate: float) -> dict[str, object]:
    numbers = {"hit_rate@10": hit_rate, "cold hit_rate@10": 0.25, "seconds_per_epoch": 1.0, "seconds": 2.0, "peak_mb": 3}
    return {"rung": name, "seed": seed} | numbers


def test_a_rung_that_is_measured_anew_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    ladder, out = script("ladder"), tmp_path / "ladder.json"
    first = ladder.Results(out, {"date": "monday"})
    for name, seed, value in (("ids", 1, 0.1), ("ids", 2, 0.3), ("frozen", 1, 0.5), ("adapter", 1, 0.7)):
        first.add(rung(name, seed, value))
    ladder.Results(out, {"date": "friday"}).add(rung("frozen", 1, 0.6))
    found = json.loads(out.read_text())
    days = [found["provenance"][row["provenance"]]["date"] for row in found["rows"]]
    assert [(row["rung"], row["seed"], row["hit_rate@10"]) for row in found["rows"]] == [
        ("ids", 1, 0.1),
        ("ids", 2, 0.3),
        ("frozen", 1, 0.6),
        ("adapter", 1, 0.7),
    ]
    assert days == ["monday", "monday", "friday", "monday"]
    assert [record["date"] for record in found["provenance"]] == ["monday", "friday"]
    assert found["summary"]["ids"]["hit_rate@10"] == {"mean": 0.2, "low": 0.1, "high": 0.3}
    assert found["summary"]["frozen"]["hit_rate@10"]["mean"] == 0.6


def test_a_set_that_is_measured_anew_leaves_the_others_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, out = script("train"), tmp_path / "train.json"

    def measure(*options: str, seconds: float) -> dict[str, object]:
        row = {"seconds_per_epoch": seconds, "curve": []}
        monkeypatch.setattr(train, "one", lambda options, kind, name, seed, _: row | {"model": kind, "seed": seed})
        monkeypatch.setattr(train, "provenance", lambda: {"date": str(seconds)})
        monkeypatch.setattr(train, "keep_freed_memory", lambda: None)
        monkeypatch.setattr(sys, "argv", ["train.py", "--data", "none", "--work", str(tmp_path / "work"), "--out", str(out), *options])
        train.main()
        found: dict[str, object] = json.loads(out.read_text())["sets"]
        return found

    first = measure("--sets", "ml-100k", "microlens-50k", seconds=1.0)
    second = measure("--sets", "ml-100k", seconds=2.0)
    assert second["microlens-50k"] == first["microlens-50k"]
    for name, found, seconds in (("ml-100k", first, 1.0), ("ml-100k", second, 2.0), ("microlens-50k", second, 1.0)):
        part = found[name]
        assert isinstance(part, dict)
        assert [record["date"] for record in part["provenance"]] == [str(seconds)]
        assert [(row["model"], row["seconds_per_epoch"]) for row in part["rows"]] == [(kind, seconds) for kind in train.OURS]
    third = measure("--sets", "ml-100k", "--seeds", "2", "--resume", seconds=3.0)
    part = third["ml-100k"]
    assert isinstance(part, dict)
    rows = [(row["model"], row["seed"], row["seconds_per_epoch"], part["provenance"][row["provenance"]]["date"]) for row in part["rows"]]
    assert rows == [*((kind, 1, 2.0, "2.0") for kind in train.OURS), ("mamba", 2, 3.0, "3.0"), ("sasrec", 2, 3.0, "3.0")]


@pytest.mark.parametrize(("whole", "expected"), [([], ["ml-100k"]), (["--whole-sets", "microlens-50k"], ["microlens-50k"])])
def test_recbole_is_trained_whole_where_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[str], expected: list[str]
) -> None:
    train, asked = script("train"), []
    for name, (file, _, _) in train.SETS.items():
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        histories = [[f"{(user + place) % 9}" for place in range(6)] for user in range(12)]
        if name == "ml-100k":
            lines = [f"{user}\t{item}\t{place}" for user, history in enumerate(histories) for place, item in enumerate(history)]
            path.write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n")
        else:
            path.write_text("".join(f"{user}\t{' '.join(history)}\n" for user, history in enumerate(histories)))

    def recbole(options: object, file: Path, model: str, name: str, *, anomaly: bool, evaluate: bool) -> dict[str, object]:
        assert file.exists()
        if evaluate:
            asked.append((name, model, anomaly))
        return {"model": train.recbole_name(model, anomaly=anomaly)}

    monkeypatch.setattr(train, "one", lambda options, kind, name, seed, _: {"model": kind, "seed": seed})
    monkeypatch.setattr(train, "recbole", recbole)
    monkeypatch.setattr(train, "keep_freed_memory", lambda: None)
    command = ["train.py", "--data", str(tmp_path), "--work", str(tmp_path / "work"), "--recbole", "python", "--whole", "GRU4Rec", *whole]
    monkeypatch.setattr(sys, "argv", command)
    train.main()
    assert asked == [(name, "GRU4Rec", False) for name in expected]


def test_the_ladder_of_the_docs_is_the_result_file() -> None:
    lines = script("ladder").table(json.loads((BENCHMARKS / "results" / "ladder.json").read_text()))
    assert len(lines) == 8
    assert "\n".join(lines) in (BENCHMARKS.parent / "docs" / "recommend.md").read_text()


def hits(*ranks: list[float], items: str = "ids", model: str = "mamba", **options: float) -> SimpleNamespace:
    config = {"model": {"kind": model}, "items": {"kind": items, "fusion": "sum", "delta_dropout": 0.1} | options}
    info = {"config": config, "provenance": {"date": "2026-11-26T10:00:00", "commit": "abc"}}
    return script("buckets").Hits([SimpleNamespace(info=lambda: info)] * len(ranks), [np.array(rank, float) for rank in ranks])


VIEWS, BEFORE = np.array([0, 0, 1, 4, 4, 4, 2, 20]), np.array([2, 2, 2, 2, 3, 3, 3, 12])


def test_buckets_are_compared_user_by_user_with_seeds_averaged_first() -> None:
    """Of targets seen 1 to 4 times the row finds 1, 2, 1, 0 and 1 in its two seeds; ids find none: four of five users are better."""
    buckets = script("buckets")
    ids = hits([11, 11, 11, 11, 11, 11, 11, 1])
    row = hits([11, 1, 1, 1, 1, 11, 11, 1], [11, 1, 11, 10, 11, 11, 10, 11], items="ids+frozen", delta_dropout_views=10.0)
    found = buckets.row_of(row, ids, {"by_views": VIEWS, "by_history": BEFORE}, "some")
    assert {name: b["questions"] for name, b in found["by_views"].items()} == {"0": 2, "1-4": 5, "20+": 1}
    assert {name: b["questions"] for name, b in found["by_history"].items()} == {"1-2": 4, "3-5": 3, "10-19": 1}
    few = found["by_views"]["1-4"]
    assert (few["value"], few["sd"]) == (0.5, round(0.2 / 2**0.5, 5))  # 3 of 5 and 2 of 5
    against = few["against_ids"]
    assert (against["difference"], against["better"], against["worse"]) == (0.5, 4, 0)
    # All four signs alike: 2 of 16. One user of each other bucket changed, which says nothing: p is 1. Holm: three buckets.
    assert against["p"] == pytest.approx(0.125, abs=0.015)
    assert against["p_holm"] == pytest.approx(3 * against["p"], abs=1e-4)
    assert [found["by_views"][name]["against_ids"]["p_holm"] for name in ("0", "20+")] == [1, 1]
    assert found["delta_dropout_views"] == 10.0
    assert "against_ids" not in buckets.row_of(ids, None, {"by_views": VIEWS, "by_history": BEFORE}, "ids")["all"]


def test_a_row_of_runs_has_the_numbers_of_their_results(tmp_path: Path, planted: SimpleNamespace) -> None:
    """Two seeds of a row and one of another, through files: their mean HR@10 and buckets are those that the runs tell of themselves."""
    rng = np.random.default_rng(0)
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{user}\t{' '.join(map(str, rng.permutation(30)[: 4 + user % 9]))}\n" for user in range(60)))
    data = read_interactions(path)
    for name, model, seed in (("row", "dssm", 1), ("row", "dssm", 2), ("other", "lightgcn", 1)):
        conf = {"model": {"kind": model, "d_model": 8, "layers": 1}, "train": {"epochs": 1}}
        folder = tmp_path / name / f"seed-{seed}"
        planted.fit(data, folder, conf, seed=seed, data_location={"path": str(path)})
        evaluate_run(RunFolder.open(folder), data, EvaluateConfig(k=(10,)), progress=SILENT)
    row, other = script("buckets").measure([tmp_path / "row", tmp_path / "other" / "seed-1"])
    assert (row["seeds"], row["folder"], other["seeds"], other["folder"]) == (2, "row", 1, "other/seed-1")
    tests = [json.loads((tmp_path / "row" / f"seed-{seed}" / "results.json").read_text())["splits"]["test"] for seed in (1, 2)]
    assert row["all"]["value"] == pytest.approx(np.mean([t["metrics"]["hit_rate@10"]["value"] for t in tests]), abs=1e-5)
    for kind, key in (("by_views", "groups"), ("by_history", "history_groups")):
        assert list(row[kind]) == list(tests[0][key])
        for name, bucket in row[kind].items():
            assert bucket["questions"] == tests[0][key][name]["questions"]
            assert bucket["value"] == pytest.approx(np.mean([t[key][name]["hit_rate@10"]["value"] for t in tests]), abs=1e-5)
    assert "against_ids" not in other["all"]  # of another model


def test_rows_of_a_result_that_are_not_measured_now_stay_with_their_provenance() -> None:
    merged, key = script("buckets").merged, {"model": "mamba", "items": "ids+frozen", "fusion": "sum", "delta_dropout": 0.5}
    old = {"rows": [key | {"all": 1}, key | {"model": "sasrec", "all": 2}], "provenance": {"date": "monday"}}
    new = merged(old, [key | {"delta_dropout_views": 0.0, "all": 3}], {"date": "friday"})
    assert [(row["model"], row["all"], new["provenance"][row["provenance"]]["date"]) for row in new["rows"]] == [
        ("mamba", 3, "friday"),
        ("sasrec", 2, "monday"),
    ]
    other = merged(new, [key | {"delta_dropout_views": 10.0, "all": 4}, key | {"model": "sasrec", "all": 5}], {"date": "sunday"})
    assert [(row["all"], other["provenance"][row["provenance"]]["date"]) for row in other["rows"]] == [
        (4, "sunday"),
        (5, "sunday"),
        (3, "friday"),
    ]
    assert [record["date"] for record in other["provenance"]] == ["friday", "sunday"]
    assert len(merged(other, [key | {"new": "content", "all": 6}, key | {"new": "neighbours", "all": 7}], {})["rows"]) == 4
    # Of ids alone nothing is left out, whatever the option says.
    ids = merged(
        {"rows": [key | {"items": "ids", "all": 6}], "provenance": {}}, [key | {"items": "ids", "delta_dropout": 0.1, "all": 7}], {}
    )
    assert [row["all"] for row in ids["rows"]] == [7]


def test_the_buckets_of_the_docs_are_the_result_file() -> None:
    lines = script("buckets").table(json.loads((BENCHMARKS / "results" / "microlens-50k-fusion.json").read_text()))
    assert len(lines) == 10
    assert "\n".join(lines) in (BENCHMARKS.parent / "docs" / "recommend.md").read_text()


def test_a_row_beside_itself_has_changed_in_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of the demo suite, compared with what is kept of it; rows among each other as its own table compares them."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    longer = script("longer")
    found = longer.measure([BENCHMARKS / "answers" / "demo"])
    assert len(found["rows"]) > 30
    for row in found["rows"]:
        assert row["longer"] == row["usual"]
        assert row["hit_rate@10"] == {"difference": 0.0, "better": 0, "worse": 0, "p": 1.0}
    (mamba,) = (pair["hit_rate@10"] for pair in found["among"] if pair["row"] == "Mamba-ID")
    compared = json.loads((BENCHMARKS / "results" / "demo.json").read_text())["pages"]["compared"]
    (told,) = (row for row in compared if row[:3] == ["Mamba-ID", "SASRec", "HR@10"])
    assert [f"{mamba['difference']:+.4f}", str(mamba["better"]), str(mamba["worse"])] == told[3:6]


def test_what_longer_schedules_change_in_the_docs_is_the_result_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    content = json.loads((BENCHMARKS / "results" / "microlens-50k-24-epochs.json").read_text())
    page = (BENCHMARKS.parent / "docs" / "benchmark.md").read_text()
    assert "\n".join(script("longer").table(content)) in page
    said = " ".join(page.split())
    more = {row["row"]: f"{row['hit_rate@10']['difference']:.4f}".removeprefix("0") for row in content["among"]}
    assert f"Mamba-ID is above SASRec by {more['Mamba-ID']}, SASRec with titles above SASRec by {more['SASRec_ID+T']}" in said
    assert f"Mamba-ID by {more['Mamba-ID+T']} and YouTube_ID by {more['YouTube_ID+T']}, all by more than chance" in said
    assert max(row["hit_rate@10"]["p"] for row in content["among"]) < 0.05
