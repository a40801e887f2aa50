"""Models that know their users by id: the same as slow restatements, and able to learn what can only be learned from who watched what."""

import json

import numpy as np
import pytest
import torch
from vivim.errors import InputError
from vivim.recommend.batches import TrainBatch, train_batches
from vivim.recommend.build import resolved
from vivim.recommend.config import RecommendConfig
from vivim.recommend.learner import CollaborativeLearner
from vivim.recommend.losses import FullSoftmax, InBatchSoftmax
from vivim.recommend.models.collaborative import LightGcn, MatrixFactorisation
from vivim.recommend.recommender import Recommender
from vivim.recommend.sequences import SequenceBatch, Sequences

KINDS = ["dssm", "lightgcn"]


TRAIN = Sequences(np.array([0, 3, 4, 6, 6, 9]), np.array([0, 2, 1, 2, 3, 0, 1, 1, 4], np.int32))


def dense_light_gcn(train, items, tables, layers):
    """By loops over pairs, float64."""
    pairs = {(u, int(i)) for u, row in enumerate(train) for i in row}
    degree_u = [sum(a == u for a, _ in pairs) for u in range(len(train))]
    degree_i = [sum(b == i for _, b in pairs) for i in range(items)]
    users, vectors = tables.users.weight.double(), tables.items.weight.double()
    all_users, all_items = [users], [vectors]
    for _ in range(layers):
        next_users, next_items = torch.zeros_like(users), torch.zeros_like(vectors)
        for u, i in pairs:
            weight = (degree_u[u] * degree_i[i]) ** -0.5
            next_users[u] = next_users[u] + weight * vectors[i]
            next_items[i] = next_items[i] + weight * users[u]
        users, vectors = next_users, next_items
        all_users.append(users)
        all_items.append(vectors)
    return sum(all_users) / (layers + 1), sum(all_items) / (layers + 1)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_light_gcn_equals_loops_over_pairs_with_every_gradient(layers):
    torch.manual_seed(0)
    model = LightGcn(TRAIN, 6, 4, layers)
    probes = torch.randn(5, 4), torch.randn(6, 4)
    tables = list(model.parameters())
    for got, want in zip(model(), dense_light_gcn(TRAIN, 6, model.tables, layers), strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-7)

    def gradients(found):
        return torch.autograd.grad(sum((x * p).sum() for x, p in zip(found, probes, strict=True)), tables)

    for got, want in zip(gradients(model()), gradients(dense_light_gcn(TRAIN, 6, model.tables, layers)), strict=True):
        torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=1e-6)


def test_every_item_of_a_user_is_a_target_once_an_epoch_and_knows_whose_it_is():
    batches = list(train_batches(TRAIN, batch=2, max_len=10, seed=1, epoch=0, first_target=0))
    pairs = [(int(u), int(i)) for b in batches for u, i in zip(b.users_P, b.targets_P, strict=True)]
    assert sorted(pairs) == sorted((u, int(i)) for u, row in enumerate(TRAIN) for i in row)
    for batch in batches:
        assert batch.positions == len(batch.targets_P) == len(batch.place_P)
        assert torch.equal(batch.slots_M[batch.target_slots_P], batch.targets_P)


def test_in_batch_softmax_of_pairs_by_hand():
    """Candidates are all slots, one's own other items are left out, logits are corrected by log popularity."""
    batch = TrainBatch.pairs(SequenceBatch(torch.tensor([[0, 2], [1, 0]]), torch.tensor([2, 1]), torch.tensor([0, 1])))
    counts = torch.tensor([1.0, 2, 1])
    torch.manual_seed(0)
    model = MatrixFactorisation(2, 3, 4)
    users, items = model()
    logits = users @ items.T - torch.log(counts / 4)
    slots, owners, total = [0, 2, 1], [0, 0, 1], 0.0
    for place, (item, user) in enumerate(zip(slots, owners, strict=True)):
        rivals = [s for p, (s, o) in enumerate(zip(slots, owners, strict=True)) if p == place or o != user]
        total += torch.logsumexp(logits[user, rivals], 0) - logits[user, item]
    torch.testing.assert_close(CollaborativeLearner(model, InBatchSoftmax(counts))(batch), total / 3)


def config(kind, **train):
    sections = {"kind": kind, "d_model": 16, "layers": 2}
    return {
        "model": sections,
        "items": {"kind": "ids"},
        "train": {"lr": 0.02, "batch": 32, "epochs": 25, "patience": 25, "weight_decay": 0.0} | train,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_pairs_finds_the_group_of_its_users_and_nothing_where_there_is_none(tmp_path, kind, planted):
    """Of ten items of a group six are masked, so that knowing the group means the target is among four; chance is 4 of 54."""
    for name, shuffled in (("true", False), ("shuffled", True)):
        data = planted.blocks(shuffled)
        planted.fit(data, tmp_path / name, config(kind))
        rate = planted.hit_rate_of(tmp_path / name, data)
        assert rate < 0.2 if shuffled else rate > 0.9, (name, rate)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_answers_for_its_users_and_says_why_not_for_histories(tmp_path, kind, planted):
    data = planted.blocks()
    planted.fit(data, tmp_path / "run", config(kind, epochs=2))
    recommender = Recommender.open(tmp_path / "run")
    watched = [data.items.ids[row] for row in data.histories[3]]
    best = recommender.top_k(recommender.state(watched, user=3), 5)
    assert len(best) == 5 and not {id_ for id_, _ in best} & set(watched)
    with pytest.raises(InputError, match="knows the users it was trained on, by id"):
        recommender.top_k(recommender.state(watched), 5)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]


def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path, planted):
    data, conf = planted.blocks(), config("lightgcn", epochs=3)
    planted.fit(data, tmp_path / "whole", conf)

    def stop(log):
        if log.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(Exception, match="--resume"):
        planted.fit(data, tmp_path / "cut", conf, after_epoch=stop)
    planted.fit(data, tmp_path / "cut", conf, resume=True)
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"items": {"kind": "frozen"}}, "--items frozen is for models of histories"),
        ({"model": {"kind": "dssm", "similarity": "cosine"}}, r"leave model\.similarity at dot"),
    ],
)
def test_what_does_not_go_with_users_by_id_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        resolved(RecommendConfig.model_validate(config("dssm") | change), has_vectors=True)


def test_beginning_with_another_run_is_refused(tmp_path, planted):
    data = planted.blocks()
    planted.fit(data, tmp_path / "one", config("dssm", epochs=1))
    with pytest.raises(InputError, match="leave it out"):
        planted.fit(data, tmp_path / "two", config("dssm", epochs=1, init=str(tmp_path / "one")))


def test_full_softmax_of_pairs_counts_each_pair_once():
    batch = next(iter(train_batches(TRAIN, batch=5, max_len=10, seed=1, epoch=0, first_target=0)))
    torch.manual_seed(0)
    model = MatrixFactorisation(5, 6, 4)
    users, items = model()
    want = torch.nn.functional.cross_entropy(users[batch.users_P] @ items.T, batch.targets_P)
    torch.testing.assert_close(CollaborativeLearner(model, FullSoftmax())(batch), want)
