"""Items that nobody watched are placed where watched items of similar content lie; everything else is as with ids alone."""

import pytest
import torch
from safetensors.torch import load_file
from vivim.errors import InputError
from vivim.recommend import build
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import RecommendConfig
from vivim.recommend.content_map import LinearMap, _Moments
from vivim.recommend.new_items import NewItems
from vivim.store import EmbeddingStore

FAST = {"epochs": 1, "batch": 32, "schedule": "constant", "warmup": 0.0}


def test_the_map_is_the_one_that_made_the_vectors():
    torch.manual_seed(0)
    stored, weight, offset = torch.randn(400, 6), torch.randn(6, 3), torch.randn(3)
    found = LinearMap.fit(stored, stored @ weight + offset, torch.randint(1, 50, (400,)))
    torch.testing.assert_close(found.weight_VD, weight, rtol=0.02, atol=0.02)
    torch.testing.assert_close(found.offset_D, offset, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_a_strength_is_weighted_ridge_regression_by_least_squares(strength):
    """Rows times the root of their share, and below them the root of the strength for every weight but the constant's."""
    torch.manual_seed(0)
    stored, vectors = torch.randn(60, 4).double(), torch.randn(60, 3).double()
    views = torch.randint(1, 9, (60,))
    root = (views.double() / views.sum()).sqrt()[:, None]
    above = torch.cat([stored, torch.ones(60, 1)], 1) * root
    below = torch.cat([torch.eye(4), torch.zeros(4, 1)], 1).double() * strength**0.5
    expected = torch.linalg.lstsq(torch.cat([above, below]), torch.cat([vectors * root, torch.zeros(4, 3).double()])).solution
    found = _Moments.of(stored.float(), vectors.float(), views).solve(strength)
    torch.testing.assert_close(found.weight_VD, expected[:4].float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.offset_D, expected[4].float(), rtol=1e-4, atol=1e-5)


def test_content_that_tells_nothing_leaves_the_mean_as_long_as_rare_items_are():
    torch.manual_seed(0)
    stored, views = torch.randn(2000, 4), torch.randint(1, 9, (2000,))
    vectors = torch.randn(2000, 3) + torch.tensor([2.0, 0.0, -1.0])
    found = LinearMap.fit(stored, vectors, views)
    mean = (vectors * views[:, None]).sum(0) / views.sum()
    rare = vectors[views <= views.double().quantile(0.25)].norm(dim=1).mean()
    torch.testing.assert_close(found(torch.zeros(1, 4))[0], mean * rare / mean.norm(), rtol=0.05, atol=0.05)
    assert found.weight_VD.norm() < 0.1 * found.offset_D.norm()


def test_the_map_does_not_know_in_how_many_parts_it_read(monkeypatch):
    torch.manual_seed(0)
    stored, vectors, views = torch.randn(100, 5), torch.randn(100, 3), torch.randint(1, 9, (100,))
    whole = LinearMap.fit(stored, vectors, views)
    monkeypatch.setattr("vivim.recommend.content_map._ROWS", 7)
    parts = LinearMap.fit(stored, vectors, views)
    torch.testing.assert_close(parts.weight_VD, whole.weight_VD)
    torch.testing.assert_close(parts.offset_D, whole.offset_D)


def test_what_is_held_out_follows_no_order_of_the_rows():
    """Ten kinds of items in turn, each with a place of its own: were every tenth row held out, no map could be learned for that kind."""
    kinds = torch.arange(400) % 10
    stored, vectors = torch.eye(10)[kinds] + torch.randn(400, 10) * 0.01, torch.randn(10, 6)[kinds]
    found = LinearMap.fit(stored, vectors, torch.ones(400, dtype=torch.int64))
    torch.testing.assert_close(found(stored), vectors, rtol=0.1, atol=0.1)


def test_few_items_or_all_alike_give_a_map_all_the_same():
    for count in (2, 5):
        found = LinearMap.fit(torch.ones(count, 3), torch.ones(count, 2), torch.ones(count, dtype=torch.int64))
        torch.testing.assert_close(found(torch.ones(1, 3)), torch.ones(1, 2))


@pytest.fixture
def world(planted, write_vectors, tmp_path):
    """Users watch items that look alike; forty of 140 come last in a history and are never seen by training."""
    data, vectors = planted.taste()
    write_vectors(tmp_path / "v.h5", data.items.ids, vectors=vectors)
    return data, EmbeddingStore.open(tmp_path / "v.h5")


def trained(planted, data, store, out, kind, items):
    torch.manual_seed(0)
    conf = {"model": {"kind": kind, "d_model": 16, "layers": 1}, "items": items, "loss": {"kind": "in-batch"}, "train": FAST}
    return planted.fit(data, out, conf, store)


@pytest.mark.parametrize("kind", ["dssm", "lightgcn"])
def test_what_training_saw_is_as_with_ids_alone_and_the_rest_is_from_its_content(kind, world, planted, tmp_path):
    data, store = world
    trained(planted, data, None, tmp_path / "ids", kind, {"kind": "ids"})
    done = trained(planted, data, store, tmp_path / "map", kind, {"kind": "ids+frozen", "fusion": "map"})
    ids, mapped = (load_file(tmp_path / name / "model.safetensors") for name in ("ids", "map"))
    split = done.split
    seen = build.train_counts(split) > 0
    assert 0 < (~seen).sum() < len(seen) / 2
    assert torch.equal(ids["users"], mapped["users"])
    assert torch.equal(ids["items"][seen], mapped["items"][seen])
    stored, present = store.lookup(split.items.ids)
    assert present.all()
    again = NewItems.open(RunFolder.open(tmp_path / "map")).encode(stored)
    torch.testing.assert_close(mapped["items"][~seen], again[~seen])
    assert not torch.allclose(again[seen], mapped["items"][seen])
    assert (mapped["items"][~seen] - ids["items"][~seen]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("model", "items"), [("mamba", "ids+frozen"), ("mmgcn", "ids+frozen"), ("nfm", "ids+frozen"), ("dssm", "ids+adapter")]
)
def test_it_is_refused_where_it_means_nothing(model, items):
    config = RecommendConfig.model_validate({"model": {"kind": model}, "items": {"kind": items, "fusion": "map"}})
    with pytest.raises(InputError, match=r"items\.fusion map is of models that answer by a table"):
        build.resolved(config, has_vectors=True)


@pytest.mark.parametrize("kind", ["dssm", "lightgcn"])
def test_clips_that_nobody_watched_are_found_by_their_looks_and_not_where_those_were_shuffled(tmp_path, planted, write_vectors, kind):
    for name, shuffled in (("true", False), ("shuffled", True)):
        data, vectors = planted.taste(shuffled)
        write_vectors(tmp_path / f"{name}.h5", data.items.ids, vectors=vectors)
        conf = {"model": {"kind": kind, "d_model": 32, "layers": 1}, "items": {"kind": "ids+frozen", "fusion": "map"}}
        conf |= {"train": {"lr": 0.02, "batch": 32, "epochs": 8, "weight_decay": 0.0}}
        planted.fit(data, tmp_path / name, conf, EmbeddingStore.open(tmp_path / f"{name}.h5"))
        rate = planted.hit_rate_of(tmp_path / name, data)
        assert rate < 0.2 if shuffled else rate > 0.8, (name, rate)
