"""Models of pairs: the same as slow restatements, and able to learn what a product of a history and an item tells."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from vivim.errors import InputError
from vivim.recommend.batches import train_batches
from vivim.recommend.build import pair_model, resolved
from vivim.recommend.config import ModelConfig, RecommendConfig
from vivim.recommend.item_encoders import IdItems
from vivim.recommend.learner import PairLearner
from vivim.recommend.negatives import InBatch
from vivim.recommend.recommender import Recommender
from vivim.recommend.scorers import PairScorer
from vivim.recommend.sequences import SequenceBatch

KINDS = ["nfm", "deepfm"]
L = 5


def model_of(kind, width=6):
    torch.manual_seed(0)
    model = pair_model(ModelConfig(kind=kind, d_model=width, dropout=0.3), L).double()
    for buffer in ("running_mean", "running_var"):
        if kind == "nfm":
            getattr(model.norm, buffer).uniform_(0.5, 1.5)
    return model.eval()


def pair_by_pair(kind, model, history, candidate):
    """One pair, by the published formulas: products of all pairs of fields, then what follows."""
    fields = [*history, candidate]
    products = [fields[i] * fields[j] for i in range(len(fields)) for j in range(i)]
    pooled = torch.stack(products).sum(0)
    if kind == "nfm":
        hidden = F.relu(model.hidden(F.batch_norm(pooled[None], model.norm.running_mean, model.norm.running_var, *model.norm.parameters())))
        return model.out(hidden)[0, 0]
    empty = [torch.zeros_like(candidate)] * (L - len(history))
    weight = torch.cat([model.history.weight, model.candidate.weight], 1)
    return pooled.sum() + model.out(F.relu(weight @ torch.cat([*empty, *fields]) + model.history.bias))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_the_formulas_pair_by_pair(kind):
    model = model_of(kind)
    table = torch.randn(7, 6, dtype=torch.float64)
    histories = [[0, 3, 3], [5], [1, 2, 4, 6, 0]]
    rows = torch.tensor([row + [2] * (5 - len(row)) for row in histories])  # what stands in the padding is not looked at
    with torch.no_grad():
        got = PairScorer(model, table).score(SequenceBatch(rows, torch.tensor([3, 1, 5])))
        for b, history in enumerate(histories):
            for item in range(7):
                want = pair_by_pair(kind, model, table[history], table[item])
                assert float(got[b, item]) == pytest.approx(float(want), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_items_some_at_a_time_score_the_same(kind, monkeypatch):
    model, table = model_of(kind), torch.randn(23, 6, dtype=torch.float64)
    batch = SequenceBatch(torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1]))
    with torch.no_grad():
        whole = PairScorer(model, table).score(batch)
        monkeypatch.setattr("vivim.recommend.scorers._PAIR_NUMBERS_CPU", 2 * 6 * 5)
        torch.testing.assert_close(PairScorer(model, table).score(batch), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_by_hand(kind, planted):
    """A drawn item of each sequence from all the others; candidates are the slots and the targets, logits corrected, own items left out."""
    train = planted.sequences_of([0, 2, 1], [4, 3], [5, 2, 6, 0])
    (batch,) = train_batches(train, batch=3, max_len=L, seed=1, epoch=0)
    model, counts = model_of(kind), torch.tensor([2.0, 1, 2, 1, 1, 1, 1])
    encoder = IdItems(7, 6).double()
    got = PairLearner(encoder, model, InBatch(counts, 100))(batch)
    table = encoder.all().detach()
    chance = torch.rand(len(batch.slots_M), generator=torch.Generator().manual_seed(batch.step_seed), dtype=torch.float64)
    rows = [r[:n] for r, n in zip(batch.sequences.items_BL.tolist(), batch.sequences.lengths_B.tolist(), strict=True)]
    places = [int(chance[first] * len(row)) for row, first in zip(rows, batch.first_slot_B, strict=True)]
    targets = [row[place] for row, place in zip(rows, places, strict=True)]
    log_q, total = torch.log(counts / counts.sum()), 0.0
    for b, (row, place) in enumerate(zip(rows, places, strict=True)):
        history = table[row[:place] + row[place + 1 :]]
        rivals = [i for i in batch.slots_M.tolist() if i not in row] + [t for j, t in enumerate(targets) if j == b or t not in row]
        logits = torch.stack([pair_by_pair(kind, model, history, table[i]) - log_q[i] for i in rivals])
        own = pair_by_pair(kind, model, history, table[row[place]]) - log_q[row[place]]
        total += torch.logsumexp(logits, 0) - own
    assert float(got.detach()) == pytest.approx(float(total.detach() / 3), rel=1e-5)


def config(kind, **train):
    training = {"lr": 0.01, "batch": 32, "epochs": 30, "patience": 30, "weight_decay": 0.0} | train
    return {"model": {"kind": kind, "d_model": 16, "dropout": 0.0}, "items": {"kind": "ids"}, "train": training}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_pairs_finds_the_group_and_nothing_where_there_is_none(tmp_path, kind, planted):
    for name, shuffled in (("true", False), ("shuffled", True)):
        data = planted.blocks(shuffled)
        planted.fit(data, tmp_path / name, config(kind))
        rate = planted.hit_rate_of(tmp_path / name, data)
        assert rate < 0.2 if shuffled else rate > 0.9, (name, rate)


def test_a_run_answers_for_a_history(tmp_path, planted):
    data = planted.blocks()
    planted.fit(data, tmp_path / "run", config("deepfm", epochs=2))
    recommender = Recommender.open(tmp_path / "run")
    best = recommender.top_k(recommender.state(data.items.ids[:3]), 4)
    assert len(best) == 4 and not {id_ for id_, _ in best} & set(data.items.ids[:3])
    assert np.isfinite([score for _, score in best]).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss": {"kind": "full"}}, "leave --loss at auto or in-batch"),
        ({"model": {"kind": "nfm", "similarity": "cosine"}}, r"leave model\.similarity at dot"),
    ],
)
def test_what_does_not_go_with_pairs_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        resolved(RecommendConfig.model_validate(config("nfm") | change), has_vectors=True)
