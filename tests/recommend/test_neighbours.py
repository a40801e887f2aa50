"""Items that nobody watched are placed amid watched items of similar content; everything else is as it was without that."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from vivim.errors import InputError
from vivim.recommend import build
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import RecommendConfig
from vivim.recommend.content import CatalogueVectors
from vivim.recommend.item_encoders import Standardisation
from vivim.recommend.neighbours import Neighbours, Placing
from vivim.recommend.new_items import NewItems, _neighbours
from vivim.recommend.sequences import Sequences
from vivim.store import EmbeddingStore

FAST = {"epochs": 1, "batch": 32, "schedule": "constant", "warmup": 0.0}
AS_IT_IS = Standardisation(torch.zeros(2), torch.ones(2))


def two(sharpness=2.0):
    """One item that was watched once and one that was watched four times."""
    content, vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
    return Neighbours(AS_IT_IS, content, vectors, torch.tensor([1.0, 4.0]), sharpness, 3.0)


def test_by_hand():
    # Cosines 1 and 3/5; powers 1 and 9/25 over views: 1 and 9/100, times vectors of length 1 and 5.
    expected = torch.tensor([1.0, 0.45, 0.0])
    torch.testing.assert_close(two().new(torch.tensor([[7.0, 0.0]])), 3 * (expected / expected.norm())[None])


def test_what_is_like_nothing_is_a_vector_of_zeros():
    assert two().new(torch.tensor([[-1.0, -0.5], [0.0, 0.0]])).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_high_powers_of_small_cosines_still_tell_who_is_nearest():
    """0.01 to the power of 32 is no float32."""
    content = torch.tensor([[0.01, -((1 - 1e-4) ** 0.5)], [0.005, -((1 - 25e-6) ** 0.5)]])
    near = replace(two(32.0), content_RV=content, length=1.0).new(torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(near, torch.tensor([[1.0, 0.0, 0.0]]), rtol=0, atol=1e-6)


def fitted(content, vectors, views=None, users=None):
    torch.manual_seed(1)
    views = torch.ones(len(content)) if views is None else views
    users = torch.randn(50, vectors.shape[1]) if users is None else users
    return Neighbours.fit(Standardisation(torch.zeros(1), torch.ones(1)), F.normalize(content, dim=1), vectors, views, users)


def test_the_sharpness_is_high_where_looks_are_told_apart_and_low_where_many_together_know_more():
    """Forty looks, four items of each. Either an item learned what its look is; or all learned where theirs lies on a circle, and much
    noise."""
    torch.manual_seed(0)
    angles = torch.linspace(0, 6.2, 160)
    looks, circle = torch.randn(40, 8).repeat(4, 1), torch.stack([angles.cos(), angles.sin()], 1)
    exact = fitted(looks + torch.randn(160, 8) * 0.01, torch.randn(40, 6).repeat(4, 1))
    noisy = fitted(circle, torch.cat([circle, torch.zeros(160, 6)], 1) + torch.randn(160, 8))
    assert exact.sharpness > noisy.sharpness


def test_the_length_is_their_own_where_content_tells_everything():
    torch.manual_seed(0)
    looks, vectors = torch.randn(40, 8).repeat(4, 1), F.normalize(torch.randn(40, 6), dim=1).repeat(4, 1)
    assert fitted(looks, vectors * 2.5).length == pytest.approx(2.5)


def test_a_direction_that_all_users_like_is_made_short_until_it_is_as_loud_as_its_own():
    """Items are mostly noise that is each one's own, which no user looks at, and a little of what all users like. Their mean is all of what
    is liked: as long as they are it would be louder by far."""
    torch.manual_seed(0)
    liked = torch.zeros(400, 32)
    liked[:, 0] = 1.0
    vectors = 0.5 * liked + torch.cat([torch.zeros(400, 1), torch.randn(400, 31)], 1) / 5.5
    users = torch.zeros(64, 32)
    users[:, 0] = 6.0
    found = fitted(torch.randn(400, 4).abs(), vectors, users=users)
    assert vectors.norm(dim=1).mean() > 1.1
    assert found.length == pytest.approx(0.55, rel=0.1)


def test_who_is_rare_says_how_long():
    """Those watched most are ten times as long."""
    torch.manual_seed(0)
    looks, vectors = torch.randn(40, 8).repeat(4, 1), F.normalize(torch.randn(40, 6), dim=1).repeat(4, 1)
    views = torch.cat([torch.ones(40), torch.full((120,), 50.0)])
    assert fitted(looks, vectors * torch.where(views > 1, 10.0, 1.0)[:, None], views).length == pytest.approx(1.0, rel=0.06)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_items_or_all_alike_are_neighbours_all_the_same(count):
    found = fitted(torch.ones(count, 3), torch.ones(count, 2))
    torch.testing.assert_close(F.normalize(found.place(torch.ones(1, 3) / 3**0.5), dim=1), torch.full((1, 2), 0.5**0.5))


def test_of_very_many_watched_items_fewer_judge(monkeypatch):
    """One alone is always told best, so that the first sharpness is taken."""
    torch.manual_seed(0)
    looks, vectors = torch.randn(40, 8).repeat(4, 1), torch.randn(40, 6).repeat(4, 1)
    assert fitted(looks, vectors).sharpness > 2
    monkeypatch.setattr("vivim.recommend.neighbours._JUDGED", 100)
    assert fitted(looks, vectors).sharpness == 2


def test_places_do_not_know_in_how_many_parts_they_were_found(monkeypatch):
    torch.manual_seed(0)
    content, vectors, views = torch.randn(100, 5), torch.randn(100, 3), torch.randint(1, 9, (100,)).float()
    whole = fitted(content, vectors, views)
    there = whole.place(F.normalize(content, dim=1))
    monkeypatch.setattr("vivim.recommend.neighbours._NUMBERS", 700)
    parts = fitted(content, vectors, views)
    assert (parts.sharpness, parts.length) == (whole.sharpness, whole.length)
    torch.testing.assert_close(parts.place(F.normalize(content, dim=1)), there)
    assert whole.place(torch.zeros(0, 5)).shape == (0, 3)


def placing(views, present=None, stored=None):
    count = len(views)
    stored = torch.randn(count, 6) if stored is None else stored
    present = torch.ones(count, dtype=torch.bool) if present is None else present
    train = Sequences(np.array([0, 0, 3, 5]), np.array([0, 1, 2, 1, 0], np.int32))
    return Placing(CatalogueVectors(stored, present, ""), torch.tensor(views), train, 2)


def test_only_what_training_never_saw_moves_and_only_where_it_has_content():
    torch.manual_seed(0)
    present = torch.tensor([True, True, True, True, False, False])
    found, items, users = placing([3, 1, 2, 0, 0, 4], present), torch.randn(6, 4), torch.randn(2, 4)
    placed = found(items, users)
    assert ((placed != items).any(1)).tolist() == [False, False, False, True, False, False]
    assert found.neighbours is not None and len(found.neighbours.vectors_RD) == 3
    stored = torch.randn(6, 6)
    assert torch.equal(found.neighbours.new(stored), found.neighbours.place(F.normalize(found.neighbours.standard(stored), dim=1)))


def test_without_a_watched_item_with_content_all_stay():
    found, items = placing([3, 1, 0], torch.tensor([False, False, True])), torch.randn(3, 4)
    assert torch.equal(found(items, torch.randn(2, 4)), items)
    assert found.neighbours is None


def test_users_are_read_by_their_newest_items_and_those_of_no_item_are_left_out():
    users = placing([1, 1, 1]).users
    read = {int(user): items[:length].tolist() for user, items, length in zip(users.users_B, users.items_BL, users.lengths_B, strict=True)}
    assert read == {1: [1, 2], 2: [1, 0]}


def test_of_very_many_watched_items_some_are_neighbours_always_the_same(monkeypatch):
    monkeypatch.setattr("vivim.recommend.neighbours._MOST", 10)
    first, again = placing([1] * 40 + [0] * 3), placing([1] * 40 + [0] * 3)
    assert len(first.rows_R) == 10
    assert torch.equal(first.rows_R, again.rows_R)
    assert first(torch.randn(43, 4), torch.randn(2, 4)).shape == (43, 4)


def test_it_holds_no_weights_and_nothing_of_it_is_in_a_checkpoint():
    found = placing([1, 1, 0])
    assert not found.state_dict()
    assert not list(found.parameters())


def test_a_file_keeps_them_whole():
    torch.manual_seed(0)
    found = fitted(torch.randn(9, 4), torch.randn(9, 3), torch.randint(1, 5, (9,)).float())
    found = replace(found, standard=Standardisation(torch.randn(4), torch.rand(4) + 1))
    again, stored = Neighbours.from_tensors(found.tensors() | {"table": torch.zeros(1)}), torch.randn(5, 4)
    assert torch.equal(again.new(stored), found.new(stored))


@pytest.fixture
def world(planted, write_vectors, tmp_path):
    """Users watch items that look alike; forty of 140 come last in a history and are never seen by training."""
    data, vectors = planted.taste()
    write_vectors(tmp_path / "v.h5", data.items.ids, vectors=vectors)
    return data, EmbeddingStore.open(tmp_path / "v.h5")


def trained(planted, data, store, out, model, items):
    torch.manual_seed(0)
    model = {"d_model": 16, "layers": 1} | model
    return planted.fit(data, out, {"model": model, "items": items, "loss": {"kind": "in-batch"}, "train": FAST}, store)


def vectors_of(folder):
    return load_file(folder / "model.safetensors")["items"]


MAP = {"kind": "ids+frozen", "fusion": "map"}
AMID = {"kind": "ids+frozen", "new": "neighbours"}


@pytest.mark.parametrize(
    ("model", "items", "without"),
    [
        ({"kind": "dssm"}, MAP, {"kind": "ids"}),
        ({"kind": "lightgcn"}, MAP, {"kind": "ids"}),
        ({"kind": "mamba"}, MAP, {"kind": "ids"}),
        ({"kind": "gru4rec", "similarity": "cosine"}, MAP, {"kind": "ids"}),
        ({"kind": "mamba"}, AMID, {"kind": "ids+frozen"}),
        ({"kind": "sasrec", "similarity": "cosine"}, AMID, {"kind": "ids+frozen"}),
        ({"kind": "lightgcn"}, AMID, {"kind": "ids+frozen"}),
        ({"kind": "youtube"}, AMID | {"fusion": "concat"}, {"kind": "ids+frozen", "fusion": "concat"}),
    ],
)
def test_what_training_saw_is_as_without_and_the_rest_is_amid_it(model, items, without, world, planted, tmp_path):
    data, store = world
    trained(planted, data, store if "frozen" in without["kind"] else None, tmp_path / "without", model, without)
    split = trained(planted, data, store, tmp_path / "amid", model, items).split
    before, after = vectors_of(tmp_path / "without"), vectors_of(tmp_path / "amid")
    seen = build.train_counts(split) > 0
    assert 0 < (~seen).sum() < len(seen) / 2
    assert torch.equal(before[seen], after[seen])
    stored, present = store.lookup(split.items.ids)
    assert present.all()
    again = NewItems.open(RunFolder.open(tmp_path / "amid")).encode(stored)
    torch.testing.assert_close(after[~seen], again[~seen])
    assert not torch.allclose(again[seen], after[seen])
    assert (after[~seen] - before[~seen]).abs().max() > 1e-3
    if model.get("similarity") != "cosine":  # there the users' temperature decides
        assert after[~seen].norm(dim=1).mean() < 2.01 * after[seen].norm(dim=1).mean()


def test_a_run_of_ids_is_begun_with(world, planted, tmp_path, capsys):
    data, store = world
    trained(planted, data, None, tmp_path / "ids", {"kind": "dssm"}, {"kind": "ids"})
    config = RecommendConfig.model_validate(
        {"model": {"kind": "dssm", "d_model": 16, "layers": 1}, "items": MAP, "loss": {"kind": "in-batch"}}
    )
    from vivim.recommend.content import lay_out
    from vivim.recommend.initial import begin_with

    split = build.protocol_of(config.protocol).split(data)
    learner = build.learner(config, split, lay_out(store, split.items, 0.9), 2)
    run = RunFolder.open(tmp_path / "ids")
    lines = list(begin_with(learner, run, run.info()["catalogue_sha256"]))
    assert "begins with 1 of 1 tensors of the item encoder" in lines[1]
    assert torch.equal(learner.encoder.all().detach(), load_file(tmp_path / "ids" / "items.safetensors")["table"])


@pytest.mark.parametrize("option", [{"fusion": "map"}, {"new": "neighbours"}])
@pytest.mark.parametrize(
    ("model", "items"), [("mmgcn", "ids+frozen"), ("nfm", "ids+frozen"), ("dssm", "ids+adapter"), ("mamba", "ids+end-to-end")]
)
def test_it_is_refused_where_it_means_nothing(model, items, option):
    config = RecommendConfig.model_validate({"model": {"kind": model}, "items": {"kind": items} | option})
    with pytest.raises(InputError, match=rf"items\.(fusion map|new neighbours) places .* this is {model} with {items.replace('+', '.')}"):
        build.resolved(config, has_vectors=True)


def test_the_configuration_of_a_run_says_that_there_are_neighbours():
    config = RecommendConfig.model_validate({"items": MAP})
    assert config.items.new == "content"
    assert build.resolved(config, has_vectors=True).items.new == "neighbours"


def test_neighbours_of_ids_alone_or_of_content_alone_are_refused():
    for kind in ("ids", "frozen"):
        config = RecommendConfig.model_validate({"items": {"kind": kind, "new": "neighbours"}})
        with pytest.raises(InputError, match=rf"items\.new neighbours .* this is mamba with {kind}"):
            build.resolved(config, has_vectors=True)


def test_a_run_that_kept_no_neighbours_says_so(world, planted, tmp_path):
    data, store = world
    trained(planted, data, store, tmp_path / "run", {"kind": "dssm"}, MAP)
    run = RunFolder.open(tmp_path / "run")
    tensors = run.read_tensors("items.safetensors")
    del tensors["neighbours.views"]
    with pytest.raises(InputError, match=r"does not hold the neighbours of new items .*views.* train it again"):
        _neighbours(run, tensors)


@pytest.mark.parametrize(("kind", "items"), [("dssm", MAP), ("lightgcn", MAP), ("mamba", MAP), ("mamba", AMID), ("gru4rec", AMID)])
def test_clips_that_nobody_watched_are_found_by_their_looks_and_not_where_those_were_shuffled(
    tmp_path, planted, write_vectors, kind, items
):
    for name, shuffled in (("true", False), ("shuffled", True)):
        data, vectors = planted.taste(shuffled)
        write_vectors(tmp_path / f"{name}.h5", data.items.ids, vectors=vectors)
        conf = {"model": {"kind": kind, "d_model": 32, "layers": 1}, "items": items}
        conf |= {"train": {"lr": 0.02, "batch": 32, "epochs": 8, "weight_decay": 0.0}}
        planted.fit(data, tmp_path / name, conf, EmbeddingStore.open(tmp_path / f"{name}.h5"))
        rate = planted.hit_rate_of(tmp_path / name, data)
        assert rate < 0.2 if shuffled else rate > 0.8, (name, rate)
