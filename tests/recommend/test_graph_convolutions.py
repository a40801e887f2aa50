"""MMGCN and GRCN: the same as loops over pairs in float64, and blind to all but the training pairs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from vivim.errors import InputError
from vivim.recommend import build
from vivim.recommend.config import ProtocolConfig, RecommendConfig
from vivim.recommend.item_encoders import ContentAndIdItems, FrozenItems, IdItems
from vivim.recommend.models.collaborative import LightGcn
from vivim.recommend.models.grcn import Grcn
from vivim.recommend.models.mmgcn import Mmgcn
from vivim.recommend.new_share import NewShare
from vivim.recommend.protocol import MicroLensProtocol
from vivim.recommend.sequences import Interactions, Sequences

# User 4 has item 1 twice, user 3 has nothing, nobody has item 5.
TRAIN = Sequences(np.array([0, 3, 4, 6, 6, 9]), np.array([0, 2, 1, 2, 3, 0, 1, 1, 4], np.int32))
ONCE = Sequences(np.array([0, 3, 4, 6, 6, 8]), np.array([0, 2, 1, 2, 3, 0, 1, 4], np.int32))
OF_USER = [[0, 1, 2], [2], [0, 3], [], [1, 4]]
OF_ITEM = [[0, 2], [0, 4], [0, 1], [2], [4], []]

MODELS = {
    "mmgcn": lambda train: Mmgcn(train, 6, 4, layers=3),
    "grcn": lambda train: Grcn(train, 6, 4, layers=2, rounds=3),
}


def make_encoder(kind):
    frozen = FrozenItems(torch.randn(6, 5), torch.tensor([True] * 4 + [False, True]), 4)
    both = ContentAndIdItems(frozen, 4)
    torch.nn.init.normal_(both.delta.table)
    return {"ids": IdItems(6, 4, std=1.0), "frozen": frozen, "ids+frozen": both}[kind]


def make(model, kind, train=TRAIN):
    """In float64, with trust in some node that prunes its pairs."""
    torch.manual_seed(0)
    made, encoder = MODELS[model](train).double(), make_encoder(kind).double()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.startswith("trust"):
                parameter.normal_()
    return made, encoder


def slow_mmgcn(model, encoder):
    parts = encoder.parts()
    users, items = list(model.preferences.weight), list(parts.content_NC)
    item_ids = [0] * 6 if parts.ids_NC is None else list(parts.ids_NC)
    for layer in model.layers:

        def node(own, neighbours, id_, layer=layer):
            heard = [layer.hear.weight @ v for v in neighbours] or [layer.hear.weight @ own]
            heard = F.leaky_relu(sum(heard) / len(heard))
            return F.leaky_relu(layer.combine.weight @ heard + F.leaky_relu(layer.keep.weight @ own) + id_)

        users, items = (
            [node(users[u], [items[i] for i in OF_USER[u]], model.users.weight[u]) for u in range(5)],
            [node(items[i], [users[u] for u in OF_ITEM[i]], item_ids[i]) for i in range(6)],
        )
    return torch.stack(users), torch.stack(items)


def weighted(weights, vectors, own):
    return sum((w * v for w, v in zip(weights, vectors, strict=True)), start=torch.zeros(4).double()) if len(vectors) else own


def softmax(scores):
    return [s.exp() / sum(other.exp() for other in scores) for s in scores]


def slow_grcn(model, encoder):
    parts = encoder.parts()
    content = [c / c.norm() for c in parts.content_NC]
    prototypes = [p / p.norm() for p in model.prototypes.weight]
    for _ in range(model.rounds):
        for u in range(5):
            near = [content[i] for i in OF_USER[u]]
            p = prototypes[u] + weighted(softmax([prototypes[u] @ c for c in near]), near, prototypes[u])
            prototypes[u] = p / p.norm()
    of_user = [softmax([prototypes[u] @ content[i] for i in OF_USER[u]]) for u in range(5)]
    of_item = [softmax([prototypes[u] @ content[i] for u in OF_ITEM[i]]) for i in range(6)]
    seen = [prototypes[u] + F.leaky_relu(weighted(of_user[u], [content[i] for i in OF_USER[u]], prototypes[u])) for u in range(5)]
    shown = [content[i] + F.leaky_relu(weighted(of_item[i], [prototypes[u] for u in OF_ITEM[i]], content[i])) for i in range(6)]
    to_user = [[F.relu(w * model.trust_N[i]) for w, i in zip(of_user[u], OF_USER[u], strict=True)] for u in range(5)]
    to_item = [[F.relu(w * model.trust_U[u]) for w, u in zip(of_item[i], OF_ITEM[i], strict=True)] for i in range(6)]
    users, items = list(model.users.weight), list(parts.content_NC if parts.ids_NC is None else parts.ids_NC)
    all_users, all_items = [users], [items]
    for _ in range(model.layers):
        users, items = (
            [weighted(to_user[u], [items[i] for i in OF_USER[u]], users[u]) for u in range(5)],
            [weighted(to_item[i], [users[u] for u in OF_ITEM[i]], items[i]) for i in range(6)],
        )
        all_users.append(users)
        all_items.append(items)
    whole_users = [torch.cat([sum(level[u] for level in all_users), seen[u]]) for u in range(5)]
    whole_items = [torch.cat([sum(level[i] for level in all_items), shown[i]]) for i in range(6)]
    return torch.stack(whole_users), torch.stack(whole_items)


SLOW = {"mmgcn": slow_mmgcn, "grcn": slow_grcn}
KINDS = ["ids", "frozen", "ids+frozen"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(MODELS))
def test_values_and_every_gradient_equal_loops_over_pairs(name, kind):
    model, encoder = make(name, kind)
    found, want = model(encoder, None), SLOW[name](model, encoder)
    probes = [torch.randn_like(vectors) for vectors in found]
    weights = dict([*model.named_parameters(), *encoder.named_parameters()])
    gradients = []
    for vectors in (found, want):
        total = sum((v * p).sum() for v, p in zip(vectors, probes, strict=True))
        gradients.append(torch.autograd.grad(total, list(weights.values())))
    for one, other in zip(found, want, strict=True):
        torch.testing.assert_close(one, other)
    for which, one, other in zip(weights, *gradients, strict=True):
        torch.testing.assert_close(one, other, msg=lambda text, which=which: f"{which}: {text}")
        assert one.abs().max() > 0, which


@pytest.mark.parametrize("name", list(MODELS))
def test_a_pair_that_occurs_twice_counts_once_and_rows_are_rows_of_all(name):
    (model, encoder), (once, _) = make(name, "ids+frozen"), make(name, "ids+frozen", ONCE)
    users, items = model(encoder, None)
    for one, other in zip((users, items), once(encoder, None), strict=True):
        assert torch.equal(one, other)
    rows = torch.tensor([1, 5])
    assert torch.equal(model(encoder, rows)[1], items[rows])


@pytest.mark.parametrize("name", ["lightgcn", *MODELS])
def test_a_step_takes_some_items_for_new_and_an_answer_none(name):
    """An item of two is drawn: the step is one of a model over the rest of the pairs, whose items have no delta."""
    torch.manual_seed(0)
    made = {"lightgcn": lambda train: LightGcn(train, 6, 4, layers=2)} | MODELS
    model, encoder = made[name](TRAIN).eval(), make_encoder("ids+frozen").eval()
    answer = model(encoder, None)
    model.new_share = NewShare(0.5)
    for one, other in zip(model(encoder, None), answer, strict=True):
        assert torch.equal(one, other)
    torch.manual_seed(5)
    new = set((torch.rand(6) < 0.5).nonzero()[:, 0].tolist())
    assert 0 < len(new - {5}) < 5
    torch.manual_seed(5)
    step = model.train()(encoder.train(), None)
    rows = [[item for item in row if item not in new] for row in TRAIN]
    other = made[name](Sequences(np.cumsum([0, *map(len, rows)]), np.array([item for row in rows for item in row], np.int32)))
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        encoder.delta.table[list(new)] = 0
    for one, two in zip(step, other(encoder, None), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("kind", ["lightgcn", "mmgcn", "grcn"])
def test_the_items_that_questions_ask_for_are_in_no_graph(kind, planted):
    """Every user's validation and test item change places with those of another: nothing of a fresh model changes."""
    data = planted.blocks()
    items = data.histories.items.copy()
    lasts = np.stack([data.histories.offsets[1:] - 2, data.histories.offsets[1:] - 1], 1)
    items[lasts] = np.roll(items[lasts], 1, axis=0)
    other = Interactions(data.users, data.items, Sequences(data.histories.offsets, items), None, "made by a test", "1" * 64)
    config = RecommendConfig.model_validate(
        {"model": {"kind": kind, "d_model": 8, "layers": 2}, "items": {"kind": "ids"}, "loss": {"kind": "full"}}
    )
    found = []
    for which in (data, other):
        split = MicroLensProtocol(ProtocolConfig()).split(which)
        torch.manual_seed(0)
        scorer = build.learner(config, split, None, 1).scorer()
        found.append((split, scorer))
    (split, scorer), (other_split, other_scorer) = found
    assert (split.test.targets != other_split.test.targets).mean() > 0.5
    assert torch.equal(scorer.users_UD, other_scorer.users_UD) and torch.equal(scorer.items_ND, other_scorer.items_ND)


@pytest.mark.parametrize("name", ["mmgcn", "grcn"])
def test_side_by_side_is_refused_where_the_model_joins_itself(name):
    conf = {"model": {"kind": name}, "items": {"kind": "ids+frozen", "fusion": "concat"}}
    with pytest.raises(InputError, match="joins content and ids in its own way"):
        build.resolved(RecommendConfig.model_validate(conf), has_vectors=True)
