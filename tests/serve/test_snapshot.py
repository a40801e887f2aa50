"""A snapshot is what the run's folder holds, and says by hashes what that is."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from vivim.errors import InputError
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.export import write_index
from vivim.recommend.retrieval import FaissIndex
from vivim.serve.snapshot import Snapshot


def test_the_hash_of_the_model_is_that_of_its_file(snapshot_of, run_of):
    assert snapshot_of().model_hash == hashlib.sha256((run_of("mamba") / "model.safetensors").read_bytes()).hexdigest()


def test_the_hash_of_the_index_is_of_ids_and_vectors(snapshot_of):
    vector = np.ones((1, 16), np.float32)
    hashes = [
        snapshot_of(extra_ids=ids, extra=vectors).index_hash
        for ids, vectors in [((), None), (["a"], vector), (["b"], vector), (["a"], vector * 2)]
    ]
    assert len(set(hashes)) == 4
    assert hashes[1] == snapshot_of(extra_ids=["a"], extra=vector).index_hash


def test_a_new_item_is_recommended_at_once_and_the_model_is_the_same(snapshot_of):
    plain = snapshot_of()
    items = plain.recommender.scorer.items_ND
    # A clip exactly where the next one is, only more so.
    state = plain.recommender.state(["i10", "i11", "i12"])
    more = snapshot_of(extra_ids=["new"], extra=items[13:14].numpy() * 1.5)
    assert more.model_hash == plain.model_hash
    places = more.rank(state, 2, exclude_seen=True, search="exact").places
    assert [more.recommender.items.ids[place.row] for place in places] == ["new", "i13"]
    assert places[0].score == pytest.approx(places[1].score * 1.5, rel=1e-5)
    assert float(more.popularity_N[30]) == 0
    assert more.similar(30, 1).places[0].row == 13


def test_new_items_through_an_index_that_was_made_before_them(snapshot_of):
    plain = snapshot_of(ann="ivf")
    plain.ann.wait()
    more = snapshot_of(extra_ids=["new"], extra=plain.recommender.scorer.items_ND[13:14].numpy() * 1.5, ann="ivf", before=plain)
    assert more.ann is plain.ann
    state = more.recommender.state(["i10", "i11", "i12"])
    assert more.rank(state, 1, exclude_seen=True, search="ann").places[0].row == 30


def written_index(snapshot, path, kind="flat", tail=()):
    """What ``vivim export`` writes; ``tail``: vectors in it of items that had been added."""
    items = snapshot.recommender.scorer.items_ND
    vectors = torch.cat([items, *[vector[None] for vector in tail]])
    ids = (*snapshot.recommender.items.ids, *(f"added{row}" for row in range(len(tail))))
    write_index(path, FaissIndex(kind, vectors), ids, vectors.numpy(), snapshot.model_hash)
    return path


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_exported_index_is_there_at_once_and_items_that_came_later_are_as_they_are_now(snapshot_of, tmp_path, kind):
    """In the file an item that was added lies where everybody finds it; since then it has got another place."""
    plain = snapshot_of()
    items = plain.recommender.scorer.items_ND
    state = plain.recommender.state(["i10", "i11", "i12"])
    path = written_index(plain, tmp_path / "index.faiss", kind, tail=[100 * items[13]])
    served = snapshot_of(index=path)
    assert (served.searches, served.ann.ready) == (["exact", "ann"], True)
    more = snapshot_of(extra_ids=["added0"], extra=items[13:14].numpy() * 1.5, index=path, before=served)
    assert more.ann is served.ann
    for snapshot in (served, more):
        found, exact = (snapshot.rank(state, 5, exclude_seen=True, search=search).places for search in ("ann", "exact"))
        assert [place.row for place in found] == [place.row for place in exact]
        assert [place.score for place in found] == pytest.approx([place.score for place in exact], rel=1e-5)


@pytest.mark.parametrize("kind", ["mamba", "popularity"])
def test_an_index_of_another_model_is_refused_at_the_start_and_when_the_run_is_trained_again(snapshot_of, tmp_path, kind):
    before = snapshot_of()
    path = written_index(before, tmp_path / "index.faiss")
    with pytest.raises(InputError, match="made for another model"):
        snapshot_of(kind, seed=1, index=path, before=before)


def test_a_model_that_counts_has_no_index(snapshot_of):
    assert snapshot_of("popularity", ann="ivf").ann is None
    assert snapshot_of("popularity", ann="ivf").searches == ["exact"]


def test_nothing_new_gives_the_same_snapshot_back(snapshot_of):
    before = snapshot_of()
    assert snapshot_of(before=before) is before
    assert snapshot_of(seed=1, before=before) is not before
    assert snapshot_of(with_base=False, before=before) is not before


@pytest.mark.parametrize(
    ("kind", "ids", "shape", "why"),
    [
        ("mamba", ["i03"], (1, 16), "more than once: i03"),
        ("mamba", ["a"], (1, 8), r"shape \(1, 8\)"),
        ("item-knn", ["a"], (1, 16), "counts"),
    ],
)
def test_new_items_that_do_not_fit_are_refused(snapshot_of, kind, ids, shape, why):
    with pytest.raises(InputError, match=why):
        snapshot_of(kind, extra_ids=ids, extra=np.ones(shape, np.float32))


def test_a_damaged_run_is_refused(run_of, tmp_path):
    shutil.copytree(run_of("mamba"), tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match="is damaged"):
        Snapshot.load(RunFolder.open(tmp_path / "run"))
    weights.unlink()
    with pytest.raises(InputError, match=r"no readable model\.safetensors"):
        Snapshot.load(RunFolder.open(tmp_path / "run"))


def test_a_run_that_is_written_to_while_it_is_read_is_refused(run_of, tmp_path, monkeypatch):
    shutil.copytree(run_of("mamba"), tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    read = RunFolder.read_tensors

    def read_and_touch(self, name):
        tensors = read(self, name)
        weights = self.path / name
        weights.write_bytes(weights.read_bytes())
        return tensors

    monkeypatch.setattr(RunFolder, "read_tensors", read_and_touch)
    with pytest.raises(InputError, match="was written to while it was read"):
        Snapshot.load(run)
