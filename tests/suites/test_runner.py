"""Running a suite: each training in a process of its own, whatever becomes of it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vivim.errors import InputError
from vivim.progress import SilentProgress
from vivim.suites.data import SuiteData, check_counts
from vivim.suites.job import train_and_measure
from vivim.suites.runner import measured

ENDLESS = {"name": "endless", "kind": "x", "config": {"model": {"kind": "sasrec", "d_model": 8, "layers": 1}}}
FOR_EVER = {"items": {"kind": "ids"}, "train": {"epochs": 10**6, "patience": 10**6, "batch": 32}}
_LONG_SECONDS = 300
CONTENT = {"name": "A", "kind": "x", "config": {"model": {"kind": "content-mean"}}}


class Heard(SilentProgress):
    """Keeps what was said, and does something at a line."""

    def __init__(self, at="", do=None):
        self.lines, self.at, self.do = [], at, do

    def say(self, line):
        self.lines.append(line)
        if self.do is not None and self.at in line:
            do, self.do = self.do, None
            do()


def processes_of(parent):
    """Ids of the processes of rows that a process has started."""
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in task.read_text().split():
            if b"row_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def wait_for(true):
    """Until it is; fails after so long that a busy machine is not the reason."""
    deadline = time.monotonic() + _LONG_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_rows_are_trained_once_and_the_rest_goes_on(suites, tmp_path):
    data, out = suites.data(tmp_path), tmp_path / "out"
    first = suites.small(rows=suites.rows[:2])
    suites.train_here(first, data, out)
    made = {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}
    assert len(made) == 3
    heard = Heard()
    outcomes = suites.run(suites.small(), data, out, heard).run()
    assert [(o.row.name, o.seed, o.done) for o in outcomes] == [
        ("popularity", 1, "before"),
        ("DSSM", 1, "before"),
        ("DSSM", 2, "before"),
        ("SASRec", 1, "now"),
    ]
    assert all(path.stat().st_mtime_ns == made[path] for path in made)
    assert [(row.name, len(runs)) for row, runs in measured(suites.small(), out)] == [("popularity", 1), ("DSSM", 2), ("SASRec", 1)]
    assert json.loads((out / "suite.json").read_text())["name"] == "small"
    assert any(line.startswith("SASRec, seed 1: epoch 2: loss") for line in heard.lines)
    assert not (out / "idrec-sr-sasrec/seed-1.log").exists()
    info = json.loads((out / "idrec-sr-sasrec/seed-1/run.json").read_text())
    assert info["fit"]["parameters"] > 0
    assert info["fit"]["device"] == "cpu"
    assert info["provenance"]["command"].endswith(shlex.join(sys.argv[1:]))


@pytest.mark.slow
def test_a_process_that_is_killed_costs_its_row_alone_and_two_run_side_by_side(suites, tmp_path):
    """The one that would train for ever is killed as the kernel does when memory runs out; the one beside it is finished."""
    rows = [ENDLESS | {"config": ENDLESS["config"] | {"train": FOR_EVER["train"]}}, suites.rows[2]]
    seen = []

    def kill():
        seen.extend(processes_of(os.getpid()))
        endless = next(pid for pid in seen if environment(pid)["VIVIM_TEST"] == "endless")
        os.kill(endless, signal.SIGKILL)

    def environment(pid):
        # Both have the same command; the first that was started is the first row's.
        return {"VIVIM_TEST": "endless" if pid == min(seen) else "other"}

    heard = Heard("endless, seed 1: epoch 2", kill)
    outcomes = suites.run(suites.small(rows=rows), suites.data(tmp_path), tmp_path / "out", heard, jobs=2).run()
    assert len(seen) == 2
    assert [outcome.done for outcome in outcomes] == ["failed", "now"]
    assert "its process ended: SIGKILL (the kernel does this when memory runs out)" in outcomes[0].error
    assert processes_of(os.getpid()) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_real_suite_that_is_ended_takes_its_processes_along(suites, tmp_path, how):
    suites.data(tmp_path)
    (tmp_path / "mine.yaml").write_text(json.dumps({"name": "mine", "rows": [ENDLESS], "config": FOR_EVER}))
    # Whoever runs these tests may ignore Ctrl-C, as a shell does for what it puts into the background; a program inherits that.
    heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = f"{heeds}import sys; from vivim.cli import main; sys.exit(main())"
    command = ["benchmark", "run", "mine.yaml", "--interactions", "made_pairs.tsv", "--out", "out", "--device", "cpu"]
    log = tmp_path / "out/x-endless/seed-1/log.jsonl"
    with subprocess.Popen([sys.executable, "-c", code, *command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        try:
            wait_for(lambda: log.is_file() or program.poll() is not None)
            (child,) = processes_of(program.pid)
            program.send_signal(how)
            _, told = program.communicate(timeout=_LONG_SECONDS)
        finally:
            program.kill()
    assert (b"Run the same command again to go on." in told) == (how != signal.SIGKILL)
    assert program.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split(")")[1])


def test_a_row_that_fails_is_told_and_does_not_stop_the_others(suites, tmp_path):
    data = suites.data(tmp_path)
    suites.train_here(suites.small(rows=suites.rows[:1]), data, tmp_path / "out")
    rows = [CONTENT, CONTENT | {"name": "B", "vectors": "titles"}, ENDLESS | {"name": "C", "init": "A"}, suites.rows[0]]
    heard = Heard()
    outcomes = suites.run(suites.small(rows=rows), data, tmp_path / "out", heard).run()
    assert [outcome.done for outcome in outcomes] == ["failed", "failed", "failed", "before"]
    assert "looks at stored vectors" in outcomes[0].error
    assert "give --embeddings titles=FILE.h5" in outcomes[1].error
    assert outcomes[2].error == "it begins with A, seed 1, which failed"
    assert heard.lines[-1] == "popularity, seed 1: before"


def test_only_the_rows_that_are_chosen(suites, tmp_path):
    data, out = suites.data(tmp_path), tmp_path / "out"
    suites.train_here(suites.small(rows=suites.rows[:1]), data, out)
    outcomes = suites.run(suites.small(), data, out, rows=("popularity",)).run()
    assert [(outcome.row.name, outcome.done) for outcome in outcomes] == [("popularity", "before")]
    assert len(json.loads((out / "suite.json").read_text())["rows"]) == 3
    with pytest.raises(InputError, match="no row SASrec; its rows are: popularity, DSSM, SASRec"):
        suites.run(suites.small(), data, out, rows=("SASrec",)).run()


def test_a_row_that_was_trained_otherwise_and_over_other_interactions_is_not_taken_for_this_one(suites, tmp_path):
    data, out = suites.data(tmp_path), tmp_path / "out"
    suites.train_here(suites.small(rows=suites.rows[2:]), data, out)
    changed = suites.rows[2] | {"config": {"model": {"kind": "sasrec", "d_model": 16, "layers": 1}}}
    (outcome,) = suites.run(suites.small(rows=[changed]), suites.data(tmp_path, seed=1), out).run()
    assert outcome.done == "failed"
    assert "another interactions file" in outcome.error
    assert "model.d_model 8 (now 16)" in outcome.error


def test_a_row_begins_with_the_run_of_another_of_its_seed(suites, tmp_path):
    rows = [suites.rows[2] | {"seeds": 2}, suites.rows[2] | {"name": "on", "seeds": 3, "init": "SASRec"}]
    of = suites.run(suites.small(rows=rows), suites.data(tmp_path), tmp_path / "out")
    begins = [of.job_of(of.suite.rows[1], seed).config.train.init for seed in (1, 2, 3)]
    assert begins == [(tmp_path / "out/idrec-sr-sasrec" / name).resolve() for name in ("seed-1", "seed-2", "seed-2")]
    train_and_measure(of.job_of(of.suite.rows[0], 1), SilentProgress())
    heard = Heard()
    train_and_measure(of.job_of(of.suite.rows[1], 1), heard)
    assert any(line.startswith("begins with") and "tensors of the user model" in line for line in heard.lines)


def test_interactions_that_the_suite_was_not_made_for_are_refused(suites, tmp_path):
    data = suites.data(tmp_path)
    found = data.interactions()
    right = {"users": len(found.users), "items": len(found.items), "interactions": len(found)}
    check_counts(suites.small(expect=right), found)
    with pytest.raises(InputError, match=r"made for: 60 users in the place of 50,000\. Load the file again"):
        suites.run(suites.small(expect=right | {"users": 50_000}), data, tmp_path / "out").run()


def test_vectors_by_name(suites, tmp_path):
    data = SuiteData({"path": "x"}, {"": Path("a.h5"), "titles": Path("b.h5")})
    rows = suites.small(rows=[CONTENT, CONTENT | {"name": "B", "vectors": "titles"}]).rows
    assert [data.vectors_of(row) for row in rows] == [Path("a.h5"), Path("b.h5")]
    assert SuiteData({"path": "x"}).vectors_of(rows[0]) is None
