"""A few of the deaths of ``benchmarks/kills.py``; all of them stand in docs/extract.md."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"


@pytest.mark.slow
def test_killed_or_out_of_space_anywhere_the_next_run_makes_the_same_file(tmp_path):
    out = tmp_path / "kills.json"
    command = [sys.executable, str(SCRIPT), "--work", str(tmp_path / "work"), "--clips", "6", "--kills", "3", "--repeated", "1"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert (found["rows"], found["failed"], found["bad"]) == (5, 1, [])
    assert found["trials"]["named"] == found["trials"]["full"] == sum(found["failpoints"].values()) >= 20
    assert {"file.renamed", "ledger.committed"} <= found["failpoints"].keys()
