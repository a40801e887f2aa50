"""An exported run answers without vivim what it answers with it, and an index serves no other model than its own."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from vivim.errors import InputError
from vivim.recommend.additions import Additions, add, read_additions
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.export import export_run, load_index, write_index
from vivim.recommend.recommender import Recommender
from vivim.recommend.retrieval import FaissIndex
from vivim.store import content_sha256

ADDED = "späť/1"


def trained(planted, ring, out, kind):
    planted.fit(ring, out, {"model": {"kind": kind, "d_model": 16, "layers": 1, "d_state": 8}, "train": {"epochs": 2, "lr": 0.02}})
    return RunFolder.open(out)


@pytest.fixture(scope="module")
def exported(planted, ring, tmp_path_factory):
    """(run over the ring with one item added, what was exported of it)"""
    folder = tmp_path_factory.mktemp("exported")
    run = trained(planted, ring, folder / "run", "mamba")
    add(run, Additions.now([ADDED], run.read_tensors("model.safetensors")["items"][4:5].numpy()))
    (folder / "out").mkdir()  # an empty folder may be there
    return run, export_run(run, folder / "out")


def test_the_readme_in_the_folder_answers_as_the_run_does(exported):
    run, done = exported
    assert done.step.largest_difference < 1e-5
    code = re.search(r"```python\n(.*?)```", (done.folder / "README.md").read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 14
    history = ["i07", ADDED, "i09"]
    code = code.replace('history = ["i00", "i01", "i02"]', f"history = {history}")
    assert ADDED in code
    said = subprocess.run([sys.executable, "-c", code], cwd=done.folder, capture_output=True, text=True, timeout=120, check=True)
    recommender = Recommender.open(run.path)
    want = recommender.top_k(recommender.state(history), 10)
    found = eval(said.stdout)
    assert [id_ for id_, _ in found] == [id_ for id_, _ in want]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in want], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spoil", ["index.faiss", "index.json"])
def test_the_readme_in_the_folder_answers_with_no_other_index(folder, spoil):
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    path = folder / spoil
    if spoil == "index.json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": "0" * 64}))
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    said = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert (said.returncode, said.stdout) == (1, "")
    assert "index.faiss is of another model than user_model.onnx, or was changed" in said.stderr


def test_files_hold_vectors_and_ids_in_the_order_of_the_rows(exported, ring):
    run, done = exported
    assert set(done.files) == {
        "README.md", "export.json", "index.faiss", "index.json", "item_ids.json", "item_vectors.npy", "items.parquet", "user_model.onnx",
    }  # fmt: skip
    trained_ND = run.read_tensors("model.safetensors")["items"].numpy()
    vectors = np.concatenate([trained_ND, trained_ND[4:5]])
    np.testing.assert_array_equal(np.load(done.folder / "item_vectors.npy"), vectors)
    ids = [*ring.items.ids, ADDED]
    assert json.loads((done.folder / "item_ids.json").read_text()) == ids
    table = pl.read_parquet(done.folder / "items.parquet")
    assert table["item"].to_list() == ids
    np.testing.assert_array_equal(table["vector"].to_numpy(), vectors)
    told = json.loads((done.folder / "export.json").read_text())
    assert told["model_sha256"] == run.model_sha256()
    assert told["user_model"]["inputs"] == ["item", "state_0", "state_1"]


@pytest.mark.parametrize(("kind", "says"), [("sasrec", "grows"), ("popularity", "no step"), ("dssm", "no step")])
def test_models_without_a_step_of_one_size_are_refused(tmp_path, planted, ring, kind, says):
    run = trained(planted, ring, tmp_path / "run", kind)
    with pytest.raises(InputError, match=says) as told:
        export_run(run, tmp_path / "out")
    assert "gru4rec" in str(told.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_what_is_there_is_not_written_over(exported, tmp_path):
    run, done = exported
    for out in (done.folder, run.path / "run.json"):
        with pytest.raises(InputError, match="is there already"):
            export_run(run, out)
    with pytest.raises(InputError, match="no folder that may be written to"):
        export_run(run, tmp_path / "absent" / "out")


def test_an_export_for_which_there_is_no_room_is_told_and_leaves_nothing(exported, tmp_path, no_file_beyond):
    run, done = exported
    with no_file_beyond(done.files["index.faiss"] - 1), pytest.raises(InputError, match=r"out cannot be written: .* Make room there"):
        export_run(run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(exported, tmp_path):
    """A copy that may be spoilt."""
    return shutil.copytree(exported[1].folder, tmp_path / "out")


def test_an_index_serves_its_own_model_and_items_only(exported, folder, ring):
    run, _ = exported
    path, model = folder / "index.faiss", run.model_sha256()
    recommender = Recommender.open(run.path)
    vectors = recommender.scorer.items_ND
    index = load_index(path, model, content_sha256(recommender.items.ids, vectors.numpy()))
    assert (index.kind, index.num_items) == ("flat", 31)
    scores, rows = index.search(vectors[3:4], 31)
    np.testing.assert_allclose(scores[0], (vectors[3:4] @ vectors[rows[0]].T).numpy()[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"made for another model \(sha256"):
        load_index(path, "0" * 64)
    with pytest.raises(InputError, match="holds other items"):
        load_index(path, model, content_sha256(ring.items.ids, vectors[:30].numpy()))
    assert read_additions(run)[0] == (ADDED,)


@pytest.mark.parametrize("lacks_bytes", [1, 100, 5000, 20_000])
def test_an_index_for_which_there_is_no_room_leaves_the_one_that_was_there(folder, no_file_beyond, lacks_bytes):
    import torch

    vectors = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    ids = tuple(map(str, range(400)))
    path = folder / "other.faiss"
    write_index(path, FaissIndex("flat", torch.from_numpy(vectors)), ids, vectors, "a" * 64)
    there, size_bytes = {file.name: file.read_bytes() for file in folder.iterdir()}, path.stat().st_size
    with no_file_beyond(size_bytes - lacks_bytes), pytest.raises(OSError, match="File too large"):
        write_index(path, FaissIndex("flat", torch.from_numpy(-vectors)), ids, -vectors, "b" * 64)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == there
    assert load_index(path, "a" * 64).num_items == 400


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_approximate_index_is_read_back_with_its_settings(folder, kind):
    vectors = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    ids = tuple(map(str, range(400)))
    import torch

    made = FaissIndex(kind, torch.from_numpy(vectors))
    write_index(folder / "other.faiss", made, ids, vectors, "a" * 64)
    read = load_index(folder / "other.faiss", "a" * 64)
    assert read.kind == kind
    for ours, theirs in zip(made.search(torch.from_numpy(vectors[:9]), 20), read.search(torch.from_numpy(vectors[:9]), 20), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_of_an_index_the_items_of_training_can_be_searched_alone(folder, kind):
    """The fifty best of all are the fifty vectors that were added: three times as long."""
    import torch

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(450, 16)).astype(np.float32)
    vectors[400:] = 3 * vectors[:50]
    ids = tuple(map(str, range(450)))
    write_index(folder / "other.faiss", FaissIndex(kind, torch.from_numpy(vectors)), ids, vectors, "a" * 64)
    index = load_index(folder / "other.faiss", "a" * 64, shape=(400, 16))
    assert index.num_items == 400
    _, rows = index.search(torch.from_numpy(vectors[:50]), 5)
    assert rows.max() < 400
    assert (rows[:, 0] == np.arange(50)).mean() > 0.8
    for shape in ((451, 16), (400, 8)):
        with pytest.raises(InputError, match=r"holds 450 vectors of 16 numbers, the run"):
            load_index(folder / "other.faiss", "a" * 64, shape=shape)


def test_a_spoilt_index_is_refused_before_it_is_opened(exported, folder):
    model, path = exported[0].model_sha256(), folder / "index.faiss"
    whole = path.read_bytes()
    for bad in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:50], b""):
        path.write_bytes(bad)
        with pytest.raises(InputError, match="not the file that was written"):
            load_index(path, model)
    path.unlink()
    with pytest.raises(InputError, match="cannot be used as an index"):
        load_index(path, model)
    for text in ("[]", "{}", "no"):
        (folder / "index.json").write_text(text)
        with pytest.raises(InputError, match="cannot be used as an index"):
            load_index(path, model)
