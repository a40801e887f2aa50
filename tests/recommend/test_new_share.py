"""Which items a step takes for new: how often each is drawn, in every place where training draws."""

import json

import numpy as np
import pytest
import torch
from vivim.recommend import build
from vivim.recommend.config import ProtocolConfig, RecommendConfig
from vivim.recommend.content import CatalogueVectors
from vivim.recommend.item_encoders import ContentAndIdItems, FrozenItems
from vivim.recommend.new_share import NewShare
from vivim.recommend.protocol import MicroLensProtocol
from vivim.recommend.sequences import Interactions, Sequences
from vivim.store import EmbeddingStore, ItemIndex

VIEWS = torch.tensor([0, 1, 4, 10, 30, 1000])
# p = 0.4, h = 10: by hand.
EXPECTED = torch.tensor([0.0, 0.4 / 11, 1.6 / 14, 0.2, 0.3, 400 / 1010], dtype=torch.float64)
DRAWS = 4000


def within_chance(counted: torch.Tensor, draws: int) -> bool:
    """Four standard deviations of a share that is drawn so often."""
    return bool(((counted / draws - EXPECTED).abs() <= 4 * (EXPECTED * (1 - EXPECTED) / draws).sqrt()).all())


def test_the_share_grows_with_the_views_of_an_item():
    torch.manual_seed(0)
    new, items = NewShare(0.4, VIEWS, 10), torch.arange(6).repeat(DRAWS, 1)
    assert within_chance(sum(new.of_all(6, torch.device("cpu")).double() for _ in range(DRAWS)), DRAWS)
    assert within_chance(new.of_rows(items).double().sum(0), DRAWS)
    # Rows have the share of their item, not of their place.
    assert within_chance(new.of_rows(items.flip(1)).double().sum(0).flip(0), DRAWS)
    assert not within_chance(NewShare(0.4).of_rows(items).double().sum(0), DRAWS)


@pytest.mark.parametrize("views", [None, VIEWS])
def test_without_half_views_the_draws_are_those_of_one_share(views):
    new, rows = NewShare(0.4, views), torch.tensor([[3, 3, 0], [5, 1, 2]])
    torch.manual_seed(7)
    expected = torch.rand(6) < 0.4, torch.rand(2, 3) < 0.4
    torch.manual_seed(7)
    assert torch.equal(new.of_all(6, torch.device("cpu")), expected[0])
    assert torch.equal(new.of_rows(rows), expected[1])
    assert not new.state_dict() and not NewShare(0.4, VIEWS, 10).state_dict()


def test_a_delta_is_left_out_as_often_as_its_item_is_new():
    torch.manual_seed(0)
    both = ContentAndIdItems(FrozenItems(torch.randn(6, 3), torch.ones(6, dtype=torch.bool), 2), 2, NewShare(0.4, VIEWS, 10)).train()
    torch.nn.init.ones_(both.delta.table)
    with torch.no_grad():
        looks = both.content.all()
        by_rows = (both(torch.arange(6).repeat(DRAWS, 1)) - looks < 0.5).all(-1).double().sum(0)
        by_all, by_parts = torch.zeros(6), torch.zeros(6)
        for _ in range(DRAWS):
            by_all += (both.all() - looks < 0.5).all(-1)
            by_parts += (both.parts().ids_NC == 0).all(-1)
        assert within_chance(by_rows, DRAWS) and within_chance(by_all, DRAWS) and within_chance(by_parts, DRAWS)
        assert (both.eval().all() - looks > 0.5).all()


def world() -> Interactions:
    """Item i is watched in training by as many of 1,000 users as VIEWS says; the two last of every user, 6 and 0, are asked for."""
    histories = [[item for item in range(6) if user < VIEWS[item]] + [6, 0] for user in range(1000)]
    offsets = np.cumsum([0, *map(len, histories)])
    sequences = Sequences(offsets, np.array([item for history in histories for item in history], np.int32))
    users, items = (ItemIndex([str(n) for n in range(count)]) for count in (1000, 7))
    return Interactions(users, items, sequences, None, "made by a test", "1" * 64)


def made(kind, items="ids+frozen", **options):
    split = MicroLensProtocol(ProtocolConfig()).split(world())
    assert build.train_counts(split).tolist() == [*VIEWS.tolist(), 0]
    content = CatalogueVectors(torch.randn(7, 3), torch.ones(7, dtype=torch.bool), "0" * 64)
    conf = {"model": {"kind": kind, "d_model": 4, "layers": 1}, "items": {"kind": items} | options, "loss": {"kind": "full"}}
    return build.learner(RecommendConfig.model_validate(conf), split, content, 1).train()


@pytest.mark.parametrize(("kind", "items"), [("lightgcn", "ids+frozen"), ("mmgcn", "ids+frozen"), ("grcn", "frozen")])
def test_graphs_take_items_for_new_as_often(kind, items):
    """Counted in what steps are given: items without a pair are new, and their id beside the content is 0."""
    torch.manual_seed(0)
    learner = made(kind, items, delta_dropout=0.4, delta_dropout_views=10.0)
    draws, missing = 1000, torch.zeros(6)
    if items == "ids+frozen":
        torch.nn.init.ones_(learner.encoder.delta.table)
    with torch.no_grad():
        for _ in range(draws):
            graph, parts = learner.model.graph_and_parts(learner.encoder)
            there = torch.bincount(graph.items_E, minlength=7) > 0
            missing[1:] += ~there[1:6]
            assert parts.ids_NC is None or torch.equal(parts.ids_NC.eq(0).all(1)[1:6], ~there[1:6])
    assert within_chance(missing, draws)


@pytest.mark.parametrize(("kind", "items"), [("mamba", "ids+frozen"), ("dssm", "ids+frozen"), ("nfm", "ids+frozen")])
def test_every_kind_of_model_trains_with_it(kind, items):
    encoder = made(kind, items, delta_dropout=0.4, delta_dropout_views=10.0).encoder
    torch.testing.assert_close(encoder.new_share.share_N[:6].double(), EXPECTED)
    assert encoder.new_share.share_N[6:].eq(0).all()
    assert made(kind, items, delta_dropout=0.4).encoder.new_share.share_N is None


def test_a_run_is_the_same_bytes_with_one_share_and_with_none_where_no_item_reaches_it(tmp_path, planted, write_vectors):
    """At h = 1e12 every share is next to 0, as with ``delta_dropout`` 0; h = 0 is the same as no h."""
    data, vectors = planted.taste()
    write_vectors(tmp_path / "v.h5", data.items.ids, vectors=vectors)
    store, found = EmbeddingStore.open(tmp_path / "v.h5"), {}
    for name, options in {
        "none": {"delta_dropout": 0.0},
        "far": {"delta_dropout": 0.5, "delta_dropout_views": 1e12},
        "all": {"delta_dropout": 0.5},
        "zero": {"delta_dropout": 0.5, "delta_dropout_views": 0.0},
    }.items():
        conf = {"model": {"kind": "gru4rec", "d_model": 8, "layers": 1, "dropout": 0.0}, "train": {"epochs": 1, "batch": 64}}
        planted.fit(data, tmp_path / name, conf | {"items": {"kind": "ids+frozen"} | options}, store)
        found[name] = (tmp_path / name / "model.safetensors").read_bytes()
        assert json.loads((tmp_path / name / "run.json").read_text())["config"]["items"]["delta_dropout"] == options["delta_dropout"]
    assert found["none"] == found["far"] != found["all"] == found["zero"]
