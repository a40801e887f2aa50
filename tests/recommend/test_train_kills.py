"""A few of the deaths of ``benchmarks/train_kills.py``; all of them stand in docs/recommend.md."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "train_kills.py"


@pytest.mark.slow
def test_killed_anywhere_a_resumed_training_ends_with_the_same_bytes(tmp_path):
    out = tmp_path / "kills.json"
    command = [sys.executable, str(SCRIPT), "--work", str(tmp_path / "work"), "--kills", "3", "--frozen", "2", "--repeated", "1"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["bad"] == []
    assert [found["trials"][name] for name in ("named", "random", "frozen", "repeated")] == [12, 3, 2, 1]
