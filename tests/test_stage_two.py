"""train-rec, evaluate and recommend as they are typed, on a small file with a known answer."""

import json

import h5py
import numpy as np
import pytest
from vivim import cli

FAST = ["--device", "cpu", "--set", "model.d_model=16", "model.layers=1", "model.dropout=0", "train.lr=0.01", "train.batch=16"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory whose data/ holds 40 viewers who watch 30 items round in a circle."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    lines = [f"{u + 1}\t{' '.join(str((u + i) % 30 + 1) for i in range(6 + u % 4))}" for u in range(40)]
    (data / "ring_pairs.tsv").write_text("\n".join(lines) + "\n")
    (data / "ring_titles.csv").write_text("item,title\n" + "\n".join(f'{i},"clip, number {i}"' for i in range(1, 31)) + "\n")
    return tmp_path


def run(capsys, *args):
    code = cli.main([str(a) for a in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_three_commands_follow_each_other_without_arguments(here, capsys):
    code, out, _ = run(capsys, "train-rec", "--epochs", 20, *FAST)
    assert code == 0
    assert out.startswith("mamba over ids: best epoch")
    code, out, _ = run(capsys, "evaluate", "--k", 1, 5, "--device", "cpu", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["k"] == [1, 5]
    assert result["splits"]["test"]["metrics"]["hit_rate@1"]["value"] > 0.8
    assert result["splits"]["test"]["index_agreement"] == {"1": 1.0, "5": 1.0}
    code, out, _ = run(capsys, "recommend", "--user", 1, "--k", 3, "--device", "cpu", "--json")
    assert code == 0
    recommended = json.loads(out)["recommendations"]
    assert recommended[0]["item"] == "7"  # viewer 1 watched 1 to 6
    code, out, _ = run(capsys, "recommend", "--history", "28,29,30", "--k", 1, "--device", "cpu")
    assert code == 0
    assert "clip, number 1" in out


def test_a_run_of_counts_is_looked_at_in_a_file_that_is_named(here, capsys, write_vectors):
    assert run(capsys, "train-rec", "--model", "popularity")[0] == 0
    write_vectors(here / "looks.h5", [str(i) for i in range(1, 31)])
    code, out, _ = run(capsys, "evaluate", "--k", 5, "--device", "cpu", "--json")
    own = json.loads(out)
    assert (code, own["diversity_in"], own["splits"]["test"]["diversity"]) == (0, "own vectors", None)
    code, out, _ = run(capsys, "evaluate", "--k", 5, "--embeddings", "looks.h5", "--device", "cpu", "--json")
    told = json.loads(out)
    assert code == 0 and told["diversity_in"].startswith("looks.h5 ")
    assert 0.5 < told["splits"]["test"]["diversity"]["5"] < 1.5  # random vectors: near 1
    assert told["splits"]["test"]["metrics"] == own["splits"]["test"]["metrics"]
    code, out, _ = run(capsys, "evaluate", "--k", 5, "--embeddings", "looks.h5", "--device", "cpu")
    assert "diversity in looks.h5" in " ".join(out.split())


def test_tensorboard_shows_the_epochs_that_the_log_holds(here, capsys):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed (extra viz)"
    )
    code, _, _ = run(capsys, "train-rec", "--epochs", 3, "--out", "shown", *FAST, "--set", "tensorboard=true")
    assert code == 0
    shown = reader.EventAccumulator(str(here / "shown" / "tensorboard"))
    shown.Reload()
    lines = [json.loads(line) for line in (here / "shown" / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    for name in ("loss", "ndcg_10", "hit_rate_10"):
        told = [(event.step, event.value) for event in shown.Scalars(name)]
        assert told == [(line["epoch"], pytest.approx(line[name], rel=1e-6)) for line in lines]


def test_a_list_that_ends_early_says_why(here, capsys):
    assert run(capsys, "train-rec", "--model", "popularity")[0] == 0
    code, out, _ = run(capsys, "recommend", "--user", 1, "--k", 30, "--device", "cpu")
    assert code == 0
    assert out.startswith("24 items for user 1, 6 watched")
    assert "fewer than 30: the other 6 of the 30 items of the catalogue were watched" in out


def test_titles_are_those_beside_the_interactions(here, capsys, monkeypatch):
    assert run(capsys, "train-rec", "--model", "popularity")[0] == 0
    (here / "elsewhere" / "data").mkdir(parents=True)
    (here / "elsewhere" / "data" / "other_titles.csv").write_text("item,title\n" + "".join(f"{i},wrong {i}\n" for i in range(1, 31)))
    latest = (here / "runs" / "latest").read_text().strip()
    monkeypatch.chdir(here / "elsewhere")
    code, out, _ = run(capsys, "recommend", "--run", here / "runs" / latest, "--user", 1, "--k", 3, "--device", "cpu")
    assert code == 0
    assert "clip, number" in out
    assert "wrong" not in out


def test_vectors_are_used_where_there_are_any(here, capsys, write_vectors):
    write_vectors(here / "v.h5", [str(i) for i in range(1, 29)])
    code, out, err = run(capsys, "train-rec", "--embeddings", "v.h5", "--epochs", 2, *FAST)
    assert code == 0
    assert out.startswith("mamba over ids+frozen")
    assert "93.3% of the items have a vector" in out
    assert "2 of 30 items have no vector" in err
    code, out, _ = run(capsys, "evaluate", "--k", 3, "--split", "test", "--device", "cpu", "--json")
    assert code == 0
    assert list(json.loads(out)["splits"]) == ["test"]


@pytest.mark.parametrize("model", ["popularity", "item-knn", "sasrec"])
@pytest.mark.parametrize("loss", ["full", "in-batch"])
def test_every_model_trains_and_evaluates(here, capsys, model, loss):
    assert run(capsys, "train-rec", "--model", model, "--loss", loss, "--epochs", 1, *FAST)[0] == 0
    code, out, _ = run(capsys, "evaluate", "--k", 10, "--device", "cpu")
    assert code == 0
    assert "HR@10" in out
    assert "protocol microlens" in out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["recommend", "--user", "nobody"], "unknown id 'nobody'"),
        (["recommend", "--history", "1,999"], "unknown id '999'"),
        (["recommend", "--user", "1", "--k", "31"], "k = 31 is not between 1 and the 30 items"),
        (["recommend"], "give either --user ID"),
        (["evaluate", "--k", "31"], "k = 31 is larger than the catalogue of 30 items"),
        (["evaluate", "--k", "0"], "evaluate.k"),
        (["evaluate", "--run", "nowhere"], "is not a run"),
        (["train-rec", "--items", "frozen"], "no embedding file is remembered"),
        (["train-rec", "--interactions", "absent.tsv"], "absent.tsv"),
        (["train-rec", "--set", "train.epoch=3"], "train.epochs"),
        (["train-rec", "--set", "model.d_model=15", "--model", "sasrec"], "must divide by model.heads"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(here, capsys, args, says):
    assert run(capsys, "train-rec", "--model", "item-knn")[0] == 0
    code, out, err = run(capsys, *args, "--device", "cpu")
    assert code == 2
    assert says in err
    assert "Traceback" not in err
    assert out == ""


def test_a_command_before_its_stage_says_what_to_run_first(here, capsys):
    code, _, err = run(capsys, "evaluate", "--device", "cpu")
    assert code == 2
    assert "run 'vivim train-rec' first" in err


@pytest.mark.parametrize("damage", ["truncated", "nan", "lacks all", "not hdf5"])
def test_a_bad_embedding_file_is_refused(here, capsys, write_vectors, damage):
    path = here / "v.h5"
    write_vectors(path, [str(i) for i in range(1, 31)] if damage != "lacks all" else [f"x{i}" for i in range(30)])
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "nan":
        with h5py.File(path, "r+") as file:
            file["embeddings"][3] = np.nan
    elif damage == "not hdf5":
        path.write_text("no")
    code, _, err = run(capsys, "train-rec", "--embeddings", path, "--epochs", 1, *FAST)
    assert code == 2
    assert "v.h5" in err
    if damage == "lacks all":
        assert "30 of 30 items" in err


def test_another_interactions_file_is_refused_by_its_catalogue(here, capsys):
    assert run(capsys, "train-rec", "--model", "popularity")[0] == 0
    text = (here / "data" / "ring_pairs.tsv").read_text().replace("\t1 ", "\t77 ")
    (here / "other_pairs.tsv").write_text(text)
    code, _, err = run(capsys, "evaluate", "--k", 5, "--set", "data.interactions=other_pairs.tsv", "--device", "cpu")
    assert code == 2
    assert "another catalogue" in err


def test_an_interrupted_training_resumes_with_the_same_command(here, capsys, monkeypatch):
    from vivim.terminal import TerminalProgress

    original = TerminalProgress.start

    def press_ctrl_c(self, what, total, unit):
        if what == "epoch 2":
            raise KeyboardInterrupt
        return original(self, what, total, unit)

    monkeypatch.setattr(TerminalProgress, "start", press_ctrl_c)
    code, _, err = run(capsys, "train-rec", "--epochs", 3, "--out", "runs/r", *FAST)
    assert code == 130
    assert "--resume" in err
    monkeypatch.setattr(TerminalProgress, "start", original)
    code, out, _ = run(capsys, "train-rec", "--epochs", 3, "--out", "runs/r", "--resume", *FAST)
    assert code == 0
    assert "of 3" in out


def test_resume_without_a_name_takes_the_run_interrupted_last(here, capsys, monkeypatch):
    from vivim.terminal import TerminalProgress

    code, _, err = run(capsys, "train-rec", "--resume", *FAST)
    assert code == 2
    assert "holds no interrupted run" in err
    assert run(capsys, "train-rec", "--epochs", 1, *FAST)[0] == 0
    finished = (here / "runs" / "latest").read_text()
    original = TerminalProgress.start

    def press_ctrl_c(self, what, total, unit):
        if what == "epoch 2":
            raise KeyboardInterrupt
        return original(self, what, total, unit)

    monkeypatch.setattr(TerminalProgress, "start", press_ctrl_c)
    assert run(capsys, "train-rec", "--epochs", 3, *FAST)[0] == 130
    assert (here / "runs" / "latest").read_text() == finished  # evaluate still means a whole run
    monkeypatch.setattr(TerminalProgress, "start", original)
    code, out, _ = run(capsys, "train-rec", "--epochs", 3, "--resume", *FAST)
    assert code == 0
    assert "of 3" in out
    assert (here / "runs" / "latest").read_text() != finished


def test_a_refused_run_leaves_no_folder(here, capsys, write_vectors):
    write_vectors(here / "v.h5", [f"x{i}" for i in range(30)])
    assert run(capsys, "train-rec", "--embeddings", "v.h5", *FAST)[0] == 2
    assert [path for path in (here / "runs").iterdir() if path.is_dir()] == []


@pytest.fixture
def dated(here):
    """The ring with times: viewer u begins 40 s after the one before, so that some come after others have gone."""
    rows = [f"{u},{(u + i) % 30},{1_600_000_000 + 40 * u + 100 * i}" for u in range(40) for i in range(9)]
    (here / "dated.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    return here / "dated.csv"


def test_leave_one_out_is_warned_of_and_temporal_is_the_way_out(dated, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(capsys, "train-rec", "--interactions", dated, "--model", "item-knn", "--set", "protocol.name=leave-one-out")
    assert code == 0
    leaks = [line for line in out.splitlines() if line.startswith("leakage: ")]
    assert len(leaks) == 1 and "protocol.name: temporal" in leaks[0]
    code, out, _ = run(capsys, "evaluate", "--device", "cpu")
    assert code == 0
    assert out.splitlines().count(leaks[0]) == 1
    code, out, _ = run(capsys, "check-data", "--interactions", dated)
    assert code == 0
    assert "trained on later" in out
    code, out, _ = run(
        capsys, "train-rec", "--interactions", dated, "--model", "dssm", *FAST, "--epochs", 1, "--set", "protocol.name=temporal"
    )
    assert code == 0
    assert "leakage" not in out
    code, out, _ = run(capsys, "evaluate", "--device", "cpu")
    assert code == 0
    assert "protocol temporal: training before 2020-09-13T" in out
    assert "leakage" not in out
    tables = [line for line in out.splitlines() if line.startswith(" ")]
    assert max(map(len, tables)) <= 80
    assert any(line.split()[:2] == ["past", "3-5"] for line in tables)
    code, out, _ = run(capsys, "recommend", "--user", 39, "--k", 3, "--device", "cpu", "--json")
    assert code == 0  # who came after training, too
    assert len(json.loads(out)["recommendations"]) == 3


def test_a_protocol_that_cannot_divide_says_why(here, capsys):
    for command in ("train-rec", "check-data"):
        code, _, err = run(capsys, command, "--set", "protocol.name=temporal")
        assert code == 2
        assert "has no times" in err
    code, _, err = run(capsys, "train-rec", "--set", "protocol.name=leave-one-out", "protocol.keep_last=50")
    assert code == 2
    assert "protocol.keep_last = 50 is an option of protocol.name microlens" in err
