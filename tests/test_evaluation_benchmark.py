"""benchmarks/evaluation.py at a small size; RecBole's side needs an interpreter of its own and is stood in for."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "evaluation.py"


@pytest.fixture(scope="module")
def script():
    """The script as a module; what it sets for its own process is undone."""
    threads, spin = (torch.get_num_threads(), faiss.omp_get_max_threads()), os.environ.get("GOMP_SPINCOUNT")
    spec = importlib.util.spec_from_file_location("evaluation_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    torch.set_num_threads(threads[0])
    faiss.omp_set_num_threads(threads[1])
    if spin is None:
        os.environ.pop("GOMP_SPINCOUNT", None)


# What RecBole's process does, with numpy alone: hits at 10 and 20 of the masked scores.
STAND_IN = """
import json, sys, time
from pathlib import Path
import numpy as np
load = {path.stem: np.load(path) for path in Path(sys.argv[2]).glob("*.npy")}
scores = load["users"] @ load["items"].T
for user in range(len(scores)):
    scores[user, load["seen_items"][load["seen_offsets"][user] : load["seen_offsets"][user + 1]]] = -np.inf
rank = 1 + (scores > scores[np.arange(len(scores)), load["targets"]][:, None]).sum(1)
print(json.dumps({"seconds": 2.0, "metrics": {f"hit@{k}": float((rank <= k).mean()) + BIAS for k in (10, 20)}}))
"""


def measured(script, tmp_path, monkeypatch, bias):
    """Run the whole of it with a stand-in for RecBole whose hits are wrong by ``bias``."""
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!{sys.executable}\n{STAND_IN.replace('BIAS', str(bias))}")
    stand_in.chmod(0o755)
    sizes = ["--users", "300", "--items", "200", "--width", "16", "--threads", "1", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["evaluation.py", *sizes, "--recbole", str(stand_in), "--out", str(tmp_path / "found.json")])
    script.main()
    return json.loads((tmp_path / "found.json").read_text())


def test_what_is_measured_is_written_and_the_two_agree(script, tmp_path, monkeypatch, capsys):
    found = measured(script, tmp_path, monkeypatch, bias=0)
    assert set(found["seconds"]) == {"floor", "ranks", "metrics", "both", "flat", "beside", "diversity", "recbole", "recbole with lists"}
    accurate = found["seconds"]["ranks"] + found["seconds"]["metrics"]
    assert found["ratios"]["recbole over ranks and metrics"] == pytest.approx(2 / accurate, abs=1e-3)
    assert found["flat_equals_exact"] == 1
    assert 0.05 < found["metrics"]["hit@10"] < 1
    assert found["sizes"] == {"users": 300, "items": 200, "width": 16, "batch": 512, "threads": 1}
    printed = capsys.readouterr().out
    assert "| RecBole: Hit, NDCG, MRR | 2.00 | " in printed
    assert "\n".join(script.table(found)) in printed


def test_the_table_of_the_docs_is_the_result_file(script):
    found = json.loads((SCRIPT.parent / "results" / "evaluation.json").read_text())
    lines = script.table(found)
    assert len(lines) == 2 + len(script.LINES) + 2, "every line was measured, RecBole's too"
    assert "\n".join(lines) in (SCRIPT.parents[1] / "docs" / "benchmark.md").read_text()


def test_numbers_that_differ_stop_it(script, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"recbole and ours do not agree: .*hit@10"):
        measured(script, tmp_path, monkeypatch, bias=0.01)
    assert not (tmp_path / "found.json").exists()


def test_no_target_is_masked_and_a_tenth_of_them_are_hits_at_full_size(script):
    world = script.made(500, 19_220, 128)
    assert not np.isin(-1, world.questions.seen.items)
    owner = np.repeat(np.arange(500), world.questions.seen.lengths)
    assert not (world.questions.seen.items == world.questions.targets[owner]).any()
    found = script.ours(world, 512)
    assert found["metrics"]["hit@10"] == pytest.approx(0.1, abs=0.05)
