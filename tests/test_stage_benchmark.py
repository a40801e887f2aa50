"""``vivim benchmark`` as it is typed."""

import json
from pathlib import Path

import pytest
from vivim.cli import main
from vivim.stage_benchmark import SuiteOptions, named_vectors, run_suite, side_by_side
from vivim.suites.suite import shipped

ROWS = [
    {"name": "popularity", "kind": "no learning", "config": {"model": {"kind": "popularity"}}},
    {"name": "A", "kind": "x", "config": {"model": {"kind": "content-mean"}}},
]


@pytest.fixture
def typed(planted, tmp_path, monkeypatch, capsys):
    """Types a command in a folder that holds histories and a suite; gives its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{user}\t{' '.join(map(str, items))}" for user, items in enumerate(planted.blocks(users=60).histories)]
    Path("pairs.tsv").write_text("\n".join(lines) + "\n")
    Path("mine.yaml").write_text(json.dumps({"name": "mine", "k": [4], "rows": ROWS}))  # JSON is YAML

    def command(*args):
        code = main(["benchmark", *args])
        said = capsys.readouterr()
        return code, said.out + said.err

    return command


@pytest.mark.parametrize("args", [("list",), ("run",)])
def test_the_suites_that_come_along(typed, args):
    code, said = typed(*args)
    assert code == 0
    assert all(name in said for name in shipped())
    assert "run one: vivim benchmark run demo" in said


def test_a_suite_is_run_and_its_table_shown(typed):
    code, said = typed("run", "mine.yaml", "--interactions", "pairs.tsv", "--out", "done", "--device", "cpu")
    assert code == 1  # a row failed
    assert "1 trainings of mine done, 0 were there, 1 failed" in said
    code, said = typed("table", "done")
    assert code == 0
    assert "1 of 2 rows are measured" in said
    (leakage,) = [line for line in said.splitlines() if line.startswith("leakage: ")]
    assert "all trainings together: " in said
    assert "not measured" in leakage  # a note, as long as it is
    assert max(len(line) for line in said.splitlines() if line != leakage) <= 80


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("run", "nothing", "--interactions", "pairs.tsv"), "there is no suite nothing; give one of demo, microlens"),
        (("run", "mine.yaml", "--rows", "B", "--interactions", "pairs.tsv"), "no row B; its rows are: popularity, A"),
        (("run", "demo", "--interactions", "pairs.tsv"), "the suite demo makes its own data"),
        (("run", "microlens-50k-id", "--interactions", "pairs.tsv"), "60 users in the place of 50,000"),
    ],
)
def test_what_is_refused(typed, args, says):
    code, said = typed(*args)
    assert code == 2
    assert says in said


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--set", "protocol.name=leave-one-out"), "protocol.name (--set) belongs to the suite mine"),
        (
            ("--set", "protocol.name=microlens"),
            "protocol.name (--set) belongs to the suite mine",
        ),  # the default, but it may not be the suite's
        (
            ("--set", "train.lr=0.1", "model.kind=sasrec", "loss.kind=full"),
            "train.lr (--set), model.kind (--set), loss.kind (--set) belongs",
        ),
        (("--seed", "3"), "seed (--seed) belongs to the suite"),
        (("--set", "items.end_to_end.stages=1"), "items.end_to_end.stages (--set) belongs to the suite"),
    ],
)
def test_options_that_a_suite_decides_are_refused_and_not_ignored(typed, args, says):
    code, said = typed("run", "mine.yaml", "--interactions", "pairs.tsv", "--out", "done", *args)
    assert code == 2
    assert says in said
    assert "what can be set is device, runs, data.interactions" in said
    assert not Path("done").exists()


@pytest.mark.parametrize(
    ("device", "cores", "gib", "jobs"),
    [
        ("cpu", 1, 64, 1),
        ("cpu", 2, 64, 1),
        ("cpu", 8, 64, 4),
        ("cpu", 8, 9, 2),
        ("cpu", 8, 1, 1),
        ("cpu", 5, None, 2),
        ("cuda", 64, 999, 1),
    ],
)
def test_trainings_side_by_side_have_two_cores_and_four_gib_each(device, cores, gib, jobs):
    assert side_by_side(device, cores, None if gib is None else gib * 2**30) == jobs


def test_a_world_that_is_made_takes_no_encoder(typed):
    code, said = typed("run", "demo", "--size", "b0")
    assert code == 2
    assert "makes its own data; leave" in said


def test_a_configuration_file_is_for_other_commands_and_that_is_said(typed):
    Path("pipeline.yaml").write_text("seed: 3\ntrain: {epochs: 3}\nmodel: {kind: sasrec}\n")
    code, said = typed("run", "mine.yaml", "--interactions", "pairs.tsv", "--out", "done", "--rows", "popularity", "--device", "cpu")
    assert code == 0
    assert "not read: seed, model, train of the configuration file" in said


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [("titles=t.h5", "titles", "t.h5"), ("t.h5", "", "t.h5"), ("./a=b.h5", "", "./a=b.h5"), ("levels=a=b.h5", "levels", "a=b.h5")],
)
def test_vectors_with_and_without_a_name(text, name, path):
    assert named_vectors(text) == (name, Path(path))


@pytest.mark.slow
def test_the_demo_suite_makes_its_world_and_runs_a_row_that_trains_the_encoder(tmp_path, monkeypatch):
    """On a smaller world: its clips are rendered, embedded twice and kept as frames; a second run finds all of it."""
    from vivim.pipeline import load_pipeline
    from vivim.progress import SILENT
    from vivim.strict_yaml import dump, read
    from vivim.suites.suite import place_of

    monkeypatch.chdir(tmp_path)
    content = read(place_of("demo")) | {"world": {"clips": 60, "viewers": 40, "seed": 7}}
    content["config"]["train"] |= {"epochs": 1, "patience": 1}
    for row in content["rows"]:
        row.get("config", {}).pop("train", None)
    Path("small.yaml").write_text(dump(content))
    pipeline = load_pipeline(None, ["device=cpu"], [])
    options = SuiteOptions(rows=("content-mean", "Mamba-V"), jobs=2, out=Path("done"))
    done = run_suite(pipeline, SILENT, "small.yaml", options)
    assert done.data["counts"] == {"now": 3, "before": 0, "failed": 0}
    assert [row["model"] for row in done.data["rows"]] == ["content-mean", "Mamba-V frozen", "Mamba-V"]
    assert run_suite(pipeline, SILENT, "small.yaml", options).data["counts"] == {"now": 0, "before": 3, "failed": 0}
