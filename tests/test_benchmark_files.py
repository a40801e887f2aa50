"""Result files that are measured in parts: what was measured before stays, with its own provenance."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

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
        monkeypatch.setattr(train, "one", lambda options, kind, name, seed: row | {"model": kind, "seed": seed})
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
        assert part["provenance"]["date"] == str(seconds)
        assert [(row["model"], row["seconds_per_epoch"]) for row in part["rows"]] == [(kind, seconds) for kind in train.OURS]


@pytest.mark.parametrize(("whole", "expected"), [([], ["ml-100k"]), (["--whole-sets", "microlens-50k"], ["microlens-50k"])])
def test_recbole_is_trained_whole_where_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[str], expected: list[str]
) -> None:
    train, asked = script("train"), []
    for name, (file, _, _) in train.SETS.items():
        path = tmp_path / file
        path.parent.mkdir()
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
        return {"model": model}

    monkeypatch.setattr(train, "one", lambda options, kind, name, seed: {"model": kind})
    monkeypatch.setattr(train, "recbole", recbole)
    monkeypatch.setattr(train, "keep_freed_memory", lambda: None)
    command = ["train.py", "--data", str(tmp_path), "--work", str(tmp_path / "work"), "--recbole", "python", "--whole", "GRU4Rec", *whole]
    monkeypatch.setattr(sys, "argv", command)
    train.main()
    assert asked == [(name, "GRU4Rec", False) for name in expected]


def test_the_ladder_of_the_docs_is_the_result_file() -> None:
    lines = script("ladder").table(json.loads((BENCHMARKS / "results" / "ladder.json").read_text()))
    assert len(lines) == 6
    assert "\n".join(lines) in (BENCHMARKS.parent / "docs" / "recommend.md").read_text()
