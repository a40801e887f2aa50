"""recommend --all and export as they are typed."""

import json
import shutil

import polars as pl
import pytest
from vivim import cli

FAST = ["--device", "cpu", "--set", "model.d_model=16", "model.layers=1", "model.dropout=0", "train.lr=0.01", "train.batch=16"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run over 40 viewers who watch 30 items round in a circle."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data").mkdir()
    lines = [f"{u + 1}\t{' '.join(str((u + i) % 30 + 1) for i in range(6 + u % 4))}" for u in range(40)]
    data = folder / "data" / "ring_pairs.tsv"
    data.write_text("\n".join(lines) + "\n")
    where = [f"runs={folder / 'runs'}", f"data.interactions={data}"]
    assert cli.main(["train-rec", "--model", "gru4rec", "--epochs", "2", *FAST, *where]) == 0
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch, capsys):
    """A copy as the working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    return tmp_path


def test_lists_of_everybody_are_those_of_each_user(here, capsys):
    assert cli.main(["recommend", "--all", "--k", "12", "--out", "recs.parquet", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("40 lists, 480 rows in recs.parquet\n")
    assert "users/s" in out
    assert "peak memory" in out
    table = pl.read_parquet("recs.parquet")
    for user in ("1", "17", "40"):
        assert cli.main(["recommend", "--user", user, "--k", "12", "--device", "cpu", "--json"]) == 0
        alone = json.loads(capsys.readouterr().out)["recommendations"]
        own = table.filter(pl.col("user") == user)
        assert own["item"].to_list() == [found["item"] for found in alone]
        assert own["score"].to_list() == pytest.approx([found["score"] for found in alone], abs=1e-5)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["recommend", "--all"], "say which: --out recs.parquet"),
        (["recommend", "--all", "--out", "r.parquet", "--user", "1"], "leave --user and --history out"),
        (["recommend", "--user", "1", "--index", "hnsw"], "belong to --all"),
        (["recommend", "--all", "--out", "r.parquet", "--k", "31"], "k = 31 is not between 1 and the 30"),
        (["recommend", "--all", "--out", "no/r.parquet"], "choose another --out"),
        (["export", "--out", "data"], "is there already"),
    ],
)
def test_orders_that_cannot_be_followed_are_bad_input(here, capsys, args, says):
    assert cli.main([*args, "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""
    assert not (here / "r.parquet").exists()


def test_export_writes_a_folder_and_says_how_close_it_is(here, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert cli.main(["export", "--out", "out", "--index", "hnsw", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["inputs"] == ["item", "state_0"]
    assert told["largest_difference"] < 1e-4
    assert (told["items"], told["width"], told["index"]) == (30, 16, "hnsw")
    assert (here / "out" / "user_model.onnx").stat().st_size == told["files"]["user_model.onnx"]


def test_without_the_extra_export_names_the_install_command(here, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert cli.main(["export", "--out", "out"]) == 2
    assert "pip install 'vivim[export]'" in capsys.readouterr().err
    assert not (here / "out").exists()
