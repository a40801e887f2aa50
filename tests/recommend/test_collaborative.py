"""Models that know their users by id: the same as slow restatements, and able to learn what can only be learned from who watched what."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from vivim.errors import InputError
from vivim.progress import SILENT
from vivim.recommend import build
from vivim.recommend.batches import TrainBatch, train_batches
from vivim.recommend.build import resolved
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, ProtocolConfig, RecommendConfig
from vivim.recommend.content import CatalogueVectors
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.item_encoders import ContentAndIdItems, FrozenItems, IdItems
from vivim.recommend.learner import CollaborativeLearner
from vivim.recommend.losses import FullSoftmax, InBatchSoftmax
from vivim.recommend.models.collaborative import LightGcn, MatrixFactorisation
from vivim.recommend.protocol import MicroLensProtocol
from vivim.recommend.recommender import Recommender
from vivim.recommend.sequences import SequenceBatch, Sequences
from vivim.store import EmbeddingStore

KINDS = ["dssm", "lightgcn", "mmgcn", "grcn"]


TRAIN = Sequences(np.array([0, 3, 4, 6, 6, 9]), np.array([0, 2, 1, 2, 3, 0, 1, 1, 4], np.int32))


def dense_light_gcn(train, items, users, vectors, layers):
    """By loops over pairs, float64; who has no neighbour stays where it is."""
    pairs = {(u, int(i)) for u, row in enumerate(train) for i in row}
    degree_u = [sum(a == u for a, _ in pairs) for u in range(len(train))]
    degree_i = [sum(b == i for _, b in pairs) for i in range(items)]
    users, vectors = users.double(), vectors.double()
    all_users, all_items = [users], [vectors]
    for _ in range(layers):
        next_users = [users[u] * (degree == 0) for u, degree in enumerate(degree_u)]
        next_items = [vectors[i] * (degree == 0) for i, degree in enumerate(degree_i)]
        for u, i in pairs:
            weight = (degree_u[u] * degree_i[i]) ** -0.5
            next_users[u] = next_users[u] + weight * vectors[i]
            next_items[i] = next_items[i] + weight * users[u]
        users, vectors = torch.stack(next_users), torch.stack(next_items)
        all_users.append(users)
        all_items.append(vectors)
    return sum(all_users) / (layers + 1), sum(all_items) / (layers + 1)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_light_gcn_equals_loops_over_pairs_with_every_gradient(layers):
    torch.manual_seed(0)
    model, encoder = LightGcn(TRAIN, 6, 4, layers), IdItems(6, 4)
    probes = torch.randn(5, 4), torch.randn(6, 4)
    tables = [model.users.weight, encoder.table]
    for got, want in zip(model(encoder, None), dense_light_gcn(TRAIN, 6, *tables, layers), strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-7)

    def gradients(found):
        return torch.autograd.grad(sum((x * p).sum() for x, p in zip(found, probes, strict=True)), tables)

    for got, want in zip(gradients(model(encoder, None)), gradients(dense_light_gcn(TRAIN, 6, *tables, layers)), strict=True):
        torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=1e-6)


def test_a_clip_that_nobody_watched_has_the_place_that_its_content_gives_it():
    """LightGCN over content and ids (Vivim-CF): whatever the ids of the others are."""
    torch.manual_seed(0)
    encoder = ContentAndIdItems(FrozenItems(torch.randn(6, 5), torch.ones(6, dtype=torch.bool), 4), 4)
    torch.nn.init.normal_(encoder.delta.table[:5])
    _, items = LightGcn(TRAIN, 6, 4, layers=2)(encoder, None)
    torch.testing.assert_close(items[5], encoder.content.all()[5])
    assert not torch.allclose(items[:5], encoder.all()[:5])


def test_rows_that_are_asked_for_are_rows_of_all():
    torch.manual_seed(0)
    encoder, rows = IdItems(6, 4), torch.tensor([1, 5])
    for model in (MatrixFactorisation(5, 4), LightGcn(TRAIN, 6, 4, 2)):
        torch.testing.assert_close(model(encoder, rows)[1], model(encoder, None)[1][rows])


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
    model, encoder = MatrixFactorisation(2, 4), IdItems(3, 4)
    users, items = model(encoder, None)
    logits = users @ items.T - torch.log(counts / 4)
    slots, owners, total = [0, 2, 1], [0, 0, 1], 0.0
    for place, (item, user) in enumerate(zip(slots, owners, strict=True)):
        rivals = [s for p, (s, o) in enumerate(zip(slots, owners, strict=True)) if p == place or o != user]
        total += torch.logsumexp(logits[user, rivals], 0) - logits[user, item]
    torch.testing.assert_close(CollaborativeLearner(encoder, model, InBatchSoftmax(counts))(batch), total / 3)


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


LOOKS = [(kind, items) for kind in KINDS for items in ({"kind": "frozen"}, {"kind": "ids+frozen"})]
LOOKS.append(("dssm", {"kind": "ids+frozen", "fusion": "concat"}))


@pytest.mark.parametrize(("kind", "items"), LOOKS, ids=lambda value: value if isinstance(value, str) else "-".join(value.values()))
def test_a_clip_that_nobody_watched_is_found_by_its_looks(tmp_path, kind, items, planted, write_vectors):
    """Two of a cluster are not masked, so that knowing it means the target is among four; chance among all unwatched is 4 of 40."""
    looks = {"model": {"kind": kind, "d_model": 32, "layers": 1}, "items": items}
    for name, shuffled in (("true", False), ("shuffled", True)):
        data, vectors = planted.taste(shuffled)
        write_vectors(tmp_path / f"{name}.h5", data.items.ids, vectors=vectors)
        store = EmbeddingStore.open(tmp_path / f"{name}.h5")
        pace = {"epochs": 12, "lr": 0.01} if kind == "mmgcn" else {"epochs": 8}
        planted.fit(data, tmp_path / name, config(kind, **pace) | looks, store)
        rate = planted.hit_rate_of(tmp_path / name, data)
        assert rate < 0.2 if shuffled else rate > 0.9, (name, rate)


@pytest.mark.parametrize("items", ["ids", "frozen", "ids+frozen"])
@pytest.mark.parametrize("kind", ["lightgcn", "mmgcn", "grcn"])
def test_clips_that_nobody_watched_do_not_push_out_what_is_watched(tmp_path, kind, items, planted, write_vectors):
    """Validation asks for a watched clip: but for what is masked it is the last of its cluster, beside two that nobody watched. Ids alone
    put it first, so that with content it must be among the three that look alike, before every other clip that nobody watched."""
    data, vectors = planted.taste()
    write_vectors(tmp_path / "v.h5", data.items.ids, vectors=vectors)
    conf = config(kind, epochs=12, lr=0.01) | {"model": {"kind": kind, "d_model": 32, "layers": 1}, "items": {"kind": items}}
    planted.fit(data, tmp_path / "run", conf, EmbeddingStore.open(tmp_path / "v.h5"))
    splits = evaluate_run(RunFolder.open(tmp_path / "run"), data, EvaluateConfig(k=(3,)), progress=SILENT).splits
    watched, new = (split.metrics["hit_rate@3"].value for split in splits)
    assert watched > 0.97, watched
    assert new < 0.2 if items == "ids" else new > 0.9, new


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_trained_by_them_and_unwatched_items_are_no_negatives(kind, planted):
    data, _ = planted.taste()
    split = MicroLensProtocol(ProtocolConfig()).split(data)
    torch.manual_seed(0)
    spans = CatalogueVectors(torch.randn(140, 8 * 3), torch.ones(140, dtype=torch.bool), "0" * 64, spans=8)
    conf = {"model": {"kind": kind, "d_model": 8, "layers": 1}, "items": {"kind": "adapter"}, "loss": {"kind": "full"}}
    learner = build.learner(RecommendConfig.model_validate(conf), split, spans, 1)
    batch = next(iter(train_batches(split.train, batch=16, max_len=10, seed=1, epoch=0, first_target=0)))
    assert learner.loss.rows(batch).tolist() == list(range(100))
    learner(batch).backward()
    assert all(parameter.grad.abs().max() > 0 for name, parameter in learner.encoder.named_parameters() if name != "unknown_D")


@pytest.mark.parametrize("kind", ["lightgcn", "mmgcn", "grcn"])
def test_in_16_bits_the_loss_is_that_of_32(kind, planted):
    data, vectors = planted.taste()
    split = MicroLensProtocol(ProtocolConfig()).split(data)
    content = CatalogueVectors(torch.from_numpy(vectors).float(), torch.ones(140, dtype=torch.bool), "0" * 64)
    conf = {"model": {"kind": kind, "d_model": 16}, "items": {"kind": "ids+frozen"}, "loss": {"kind": "full"}}
    torch.manual_seed(0)
    learner = build.learner(RecommendConfig.model_validate(conf), split, content, 1).eval()
    with torch.no_grad():
        torch.nn.init.normal_(learner.model.users.weight)
    batch = next(iter(train_batches(split.train, batch=64, max_len=10, seed=1, epoch=0, first_target=0)))
    exact = learner(batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = learner(batch)
        half.backward()
    assert half.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(torch.isfinite(parameter.grad).all() for parameter in learner.parameters() if parameter.grad is not None)


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
        ({"model": {"kind": "dssm", "similarity": "cosine"}}, r"leave model\.similarity at dot"),
        ({"model": {"kind": "lightgcn"}, "items": {"kind": "end-to-end"}}, "would encode every clip of it each time"),
        ({"items": {"kind": "end-to-end"}, "loss": {"kind": "full"}}, "would encode every clip of the catalogue"),
        ({"model": {"kind": "dssm", "d_model": 15}, "items": {"kind": "ids+frozen", "fusion": "concat"}}, "15 is odd; take 16"),
    ],
)
def test_what_does_not_go_with_users_by_id_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        resolved(RecommendConfig.model_validate(config("dssm") | change), has_vectors=True)


def test_items_are_those_of_every_other_model():
    """Where there are vectors they are used; without, ids."""
    free = RecommendConfig.model_validate({"model": {"kind": "lightgcn"}})
    assert [resolved(free, has_vectors=there).items.kind for there in (True, False)] == ["ids+frozen", "ids"]


@pytest.mark.parametrize("kind", ["dssm", "lightgcn"])
def test_another_run_begins_with_the_item_table_and_not_with_what_the_graph_made_of_it(tmp_path, kind, planted, told):
    data = planted.blocks()
    planted.fit(data, tmp_path / "one", config(kind, epochs=1))
    table = load_file(tmp_path / "one/items.safetensors")["table"]
    assert torch.equal(table, load_file(tmp_path / "one/model.safetensors")["items"]) == (kind == "dssm")
    stays = {"lr": 1e-30, "epochs": 1, "init": str(tmp_path / "one")}
    planted.fit(data, tmp_path / "two", config(kind, **stays), progress=told)
    torch.testing.assert_close(load_file(tmp_path / "two/items.safetensors")["table"], table)
    assert any("begins with 1 of 1 tensors of the item encoder" in line for line in told.lines)


def test_full_softmax_of_pairs_counts_each_pair_once():
    batch = next(iter(train_batches(TRAIN, batch=5, max_len=10, seed=1, epoch=0, first_target=0)))
    torch.manual_seed(0)
    model, encoder = MatrixFactorisation(5, 4), IdItems(6, 4)
    users, items = model(encoder, None)
    want = torch.nn.functional.cross_entropy(users[batch.users_P] @ items.T, batch.targets_P)
    torch.testing.assert_close(CollaborativeLearner(encoder, model, FullSoftmax())(batch), want)
