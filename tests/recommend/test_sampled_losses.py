"""Losses over negatives, against the whole catalogue and against what their papers state."""

import math

import pytest
import torch
import torch.nn.functional as F
from vivim.recommend.batches import EncodedItems, TrainBatch
from vivim.recommend.negatives import ByPopularity, Drawn, InBatch, Mixed, Uniform
from vivim.recommend.sampled_losses import BinaryCrossEntropy, Bpr, GeneralisedBce, SampledSoftmax
from vivim.recommend.sequences import SequenceBatch

N, D = 9, 4
COUNTS = torch.tensor([0, 2, 3, 4, 5, 6, 7, 8, 1])


def batch_of(*sequences, step_seed=0):
    longest = max(len(s) for s in sequences)
    rows = torch.tensor([list(s) + [0] * (longest - len(s)) for s in sequences])
    return TrainBatch.packed(SequenceBatch(rows, torch.tensor([len(s) for s in sequences])), step_seed=step_seed)


BATCH = batch_of([3, 1, 4, 6], [2, 3], [5, 7, 1])


class Fixed:
    """Draws what it is told."""

    def __init__(self, rows, q):
        self.drawn = Drawn(torch.tensor(rows), torch.as_tensor(q).log())

    def draw(self, batch):
        return self.drawn


def vectors(seed=0):
    g = torch.Generator().manual_seed(seed)
    users = torch.randn(len(BATCH.targets_P), D, generator=g, requires_grad=True)
    return users, torch.randn(N, D, generator=g, requires_grad=True)


def gradients(loss, batch=BATCH):
    users, table = vectors()
    value = loss(users, batch, EncodedItems(table, None))
    return value.detach(), *torch.autograd.grad(value, [users, table])


def full_softmax():
    users, table = vectors()
    value = F.cross_entropy(users @ table.T, BATCH.targets_P)
    return value.detach(), *torch.autograd.grad(value, [users, table])


def test_every_item_drawn_once_is_the_full_softmax():
    loss = SampledSoftmax(Fixed(list(range(N)), torch.full((N,), 1 / N)))
    for got, want in zip(gradients(loss), full_softmax(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["uniform", "popularity", "mixed"])
def test_with_many_draws_the_corrected_softmax_comes_near_the_full_one_and_the_classic_one_less(kind):
    count = 20000
    counts = COUNTS.clamp_min(1)
    draws = {
        "uniform": Uniform(torch.arange(N), N, count),
        "popularity": ByPopularity(counts, count),
        "mixed": Mixed(Uniform(torch.arange(N), N, count), ByPopularity(counts, count, 0.5)),
    }[kind]
    want = full_softmax()
    corrected, classic, without = (gradients(SampledSoftmax(draws, logq)) for logq in ("corrected", "classic", "none"))

    def off(got):
        return float((got[2] - want[2]).norm() / want[2].norm())

    assert off(corrected) < 0.03
    assert off(corrected) < 0.5 * off(without)
    assert off(corrected) < 0.5 * off(classic)  # which counts the target twice: here a ninth of the catalogue


def test_only_the_rows_that_a_step_needs_are_asked_for():
    loss = SampledSoftmax(Fixed([8, 0, 8], torch.full((N,), 1 / N)))
    rows = loss.rows(BATCH)
    assert rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    users, table = vectors()
    some = SampledSoftmax(Fixed([1, 3], torch.full((N,), 1 / N)))
    rows = some.rows(BATCH)
    assert rows.tolist() == [1, 2, 3, 4, 5, 6, 7]
    whole = some(users, BATCH, EncodedItems(table, None))
    torch.testing.assert_close(some(users, BATCH, EncodedItems(table[rows], rows)), whole)


def spelled_out(users, table, rows, one):
    """Mean over positions of ``one(score of the target, scores of the negatives that are not the target)``."""
    values = []
    for user, target in zip(users, BATCH.targets_P.tolist(), strict=True):
        negatives = [user @ table[row] for row in rows if row != target]
        values.append(one(user @ table[target], negatives))
    return sum(values) / len(values)


def log_sigmoid(x):
    return math.log(1 / (1 + math.exp(-x)))


def test_bce_and_bpr_and_gbce_are_what_their_papers_state():
    users, table = vectors()
    users, table = users.detach(), table.detach()
    rows, items = [3, 8, 0, 4, 4], EncodedItems(table, None)
    fixed = Fixed(rows, torch.full((N,), 1 / N))

    def bce(own, others):
        return -log_sigmoid(own) - sum(math.log(1 - 1 / (1 + math.exp(-o))) for o in others) / len(others)

    def bpr(own, others):
        return -sum(log_sigmoid(own - o) for o in others) / len(others)

    rate = len(rows) / (N - 1)
    beta = rate * (0.6 * (1 - 1 / rate) + 1 / rate)

    def gbce(own, others):
        return -(beta * log_sigmoid(own) + sum(math.log(1 - 1 / (1 + math.exp(-o))) for o in others)) / (len(others) + 1)

    for loss, one in (
        (BinaryCrossEntropy(fixed), bce),
        (Bpr(fixed), bpr),
        (GeneralisedBce(fixed, N, len(rows), 0.6), gbce),
    ):
        assert float(loss(users, BATCH, items)) == pytest.approx(float(spelled_out(users, table, rows, one)), rel=1e-5)


def test_gbce_with_calibration_0_weighs_the_target_as_bce_does():
    assert GeneralisedBce(Fixed([1], torch.ones(N)), N, 4, 0.0).beta == pytest.approx(1)
    assert GeneralisedBce(Fixed([1], torch.ones(N)), N, 4, 1.0).beta == pytest.approx(4 / 8)


@pytest.mark.parametrize(
    ("negatives", "chance"),
    [
        (Uniform(torch.tensor([1, 3, 5, 7]), N, 8000), [0, 1, 0, 1, 0, 1, 0, 1, 0]),
        (ByPopularity(COUNTS, 8000), COUNTS.tolist()),
        (ByPopularity(COUNTS, 8000, 0.0), (COUNTS > 0).tolist()),
        (Mixed(Uniform(torch.tensor([1, 3]), N, 4000), Uniform(torch.tensor([3, 5]), N, 4000)), [0, 1, 0, 2, 0, 1, 0, 0, 0]),
    ],
)
def test_draws_are_as_frequent_as_is_said(negatives, chance):
    drawn = negatives.draw(BATCH)
    expected = torch.tensor(chance, dtype=torch.float64) / sum(chance)
    torch.testing.assert_close(drawn.log_q_N.exp().double(), expected, rtol=1e-6, atol=1e-9)
    seen = torch.bincount(drawn.rows_M, minlength=N) / len(drawn.rows_M)
    assert float((seen - expected).abs().max()) < 0.02
    assert (seen[expected == 0] == 0).all()


def test_draws_follow_from_the_step_alone():
    for negatives in (Uniform(torch.arange(N), N, 50), ByPopularity(COUNTS, 50), InBatch(COUNTS, 3)):
        torch.rand(1)
        first = negatives.draw(batch_of([1, 2, 3], [4, 5, 6], step_seed=7)).rows_M
        torch.rand(1)
        assert first.tolist() == negatives.draw(batch_of([1, 2, 3], [4, 5, 6], step_seed=7)).rows_M.tolist()
        assert first.tolist() != negatives.draw(batch_of([1, 2, 3], [4, 5, 6], step_seed=8)).rows_M.tolist()


def test_in_batch_negatives_are_the_items_of_the_step():
    assert sorted(InBatch(COUNTS, 99).draw(BATCH).rows_M.tolist()) == [1, 1, 2, 3, 3, 4, 5, 6, 7]
    assert set(InBatch(COUNTS, 3).draw(BATCH).rows_M.tolist()) <= set(range(1, 8))
