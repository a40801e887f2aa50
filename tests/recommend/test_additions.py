"""Items that are added to a run: in order, atomically, and out of the way of its evaluation."""

import os
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from vivim.errors import InputError
from vivim.progress import SILENT
from vivim.recommend.additions import KEPT, Additions, add, all_additions, read_additions, remove
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.recommender import Recommender

CONFIG = {"model": {"kind": "gru4rec", "d_model": 8, "layers": 1}, "train": {"epochs": 1}}


@pytest.fixture(scope="module")
def trained(planted, ring, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    planted.fit(ring, out, CONFIG)
    return out


@pytest.fixture
def run(trained, tmp_path):
    """A copy that may be added to."""
    shutil.copytree(trained, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


def new(*ids, value=1.0):
    return Additions.now(ids, np.full((len(ids), 8), value, np.float32), [f"/clips/{id_}.mp4" for id_ in ids], ["f" * 64] * len(ids))


def test_items_are_appended_in_order_and_read_back(run):
    assert read_additions(run)[0] == ()
    add(run, new("b", "a"))
    add(run, new("007", value=2.0))
    ids, vectors_MD = read_additions(run)
    assert ids == ("b", "a", "007")
    assert vectors_MD.dtype == np.float32
    np.testing.assert_array_equal(vectors_MD[:, 0], [1, 1, 2])
    found = all_additions(run)
    assert found.files == ("/clips/b.mp4", "/clips/a.mp4", "/clips/007.mp4")
    recommender = Recommender.open(run.path)
    assert recommender.items.ids[30:] == ("b", "a", "007")
    assert recommender.items.row_of("007") == 32
    assert {id_ for id_, _ in recommender.top_k(recommender.state(["a", "i03"]), 33)} == set(recommender.items.ids) - {"a", "i03"}


def test_replacing_keeps_the_row_and_removing_closes_the_gap(run):
    add(run, new("a", "b", "c"))
    with pytest.raises(InputError, match=r"1 ids were added .* before, for example b; with --replace"):
        add(run, new("d", "b"))
    assert read_additions(run)[0] == ("a", "b", "c")
    add(run, new("d", "b", value=5.0), replace=True)
    ids, vectors_MD = read_additions(run)
    assert ids == ("a", "b", "c", "d")
    np.testing.assert_array_equal(vectors_MD[:, 0], [1, 5, 1, 5])
    with pytest.raises(InputError, match="'e' was not added"):
        remove(run, ["a", "e"])
    assert remove(run, ["a", "c"]).ids == ("b", "d")
    assert read_additions(run)[0] == ("b", "d")
    remove(run, ["b", "d"])
    assert read_additions(run)[0] == ()
    assert not (run.path / "additions.parquet").exists()


def test_a_clip_that_is_kept_in_the_run_goes_with_the_last_item_that_needs_it(run, tmp_path):
    kept, elsewhere = run.path / KEPT / "kept.mp4", tmp_path / "elsewhere.mp4"
    kept.parent.mkdir()
    for file in (kept, elsewhere):
        file.write_bytes(b"film")
    add(run, Additions.now("abc", np.ones((3, 8), np.float32), [str(kept), str(kept), str(elsewhere)]))
    remove(run, ["a", "c"])
    assert kept.exists()
    add(run, new("b"), replace=True)
    assert not kept.exists()
    assert elsewhere.exists()


def test_ids_of_the_trained_catalogue_and_useless_vectors_are_refused(run):
    for replace in (False, True):
        with pytest.raises(InputError, match=r"1 ids are in the catalogue .* for example i03"):
            add(run, new("x", "i03"), replace=replace)
    with pytest.raises(InputError, match="vector of 'x' holds NaN"):
        add(run, new("x", value=np.nan))
    with pytest.raises(InputError, match="occur more than once"):
        add(run, new("x", "x"))
    with pytest.raises(InputError, match=r"vectors of 7 numbers cannot be added to .* whose items have 8"):
        add(run, Additions.now(["x"], np.ones((1, 7), np.float32)))
    assert read_additions(run)[0] == ()


def test_a_model_without_item_vectors_takes_none(tmp_path, planted, ring):
    planted.fit(ring, tmp_path / "run", {"model": {"kind": "popularity"}})
    with pytest.raises(InputError, match="scores by no item vectors"):
        add(RunFolder.open(tmp_path / "run"), new("x"))


def test_evaluation_does_not_see_them(run, ring):
    def numbers():
        report = evaluate_run(run, ring, EvaluateConfig(k=(5,)), progress=SILENT).as_dict()
        return report["splits"], report["protocol_card"]

    before = numbers()
    add(run, new("a", "b", value=100.0))
    assert numbers() == before


def test_vectors_of_other_weights_and_damaged_tables_are_refused(run):
    add(run, new("a"))
    model = run.path / "model.safetensors"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="made with other weights"):
        read_additions(run)
    model.write_bytes(whole)
    assert read_additions(run)[0] == ("a",)
    table = run.path / "additions.parquet"
    good = pl.read_parquet(table)
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        read_additions(run)
    good.drop("file").write_parquet(table)
    with pytest.raises(InputError, match="has the columns id, file_sha256"):
        Recommender.open(run.path)


@pytest.mark.parametrize(("place", "there"), [("additions.synced", ("a",)), ("additions.renamed", ("a", "b"))])
def test_killed_while_adding_the_table_is_the_one_before_or_after(run, place, there):
    add(run, new("a"))
    code = """
import sys, pathlib, numpy as np
from vivim.recommend.additions import Additions, add
from vivim.recommend.checkpoint import RunFolder
add(RunFolder.open(pathlib.Path(sys.argv[1])), Additions.now(["b"], np.ones((1, 8), np.float32)))
"""
    env = os.environ | {"VIVIM_FAILPOINT": f"{place}:1"}
    done = subprocess.run([sys.executable, "-c", code, run.path], env=env, capture_output=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    assert read_additions(run)[0] == there
    add(run, new("c"))
    assert read_additions(run)[0] == (*there, "c")


def test_a_full_disk_leaves_the_table_as_it_was(run, monkeypatch):
    add(run, new("a"))
    monkeypatch.setenv("VIVIM_FAILPOINT", "additions.synced:1:ENOSPC")
    with pytest.raises(InputError, match="No space left"):
        add(run, new("b"))
    assert read_additions(run)[0] == ("a",)


def test_two_writers_take_turns(run):
    with run.locked(), pytest.raises(InputError, match="another run is writing"):
        add(run, new("a"))
