"""Losses against slow restatements, values and gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from vivim.errors import InputError
from vivim.recommend import losses
from vivim.recommend.batches import EncodedItems, TrainBatch
from vivim.recommend.losses import FullSoftmax, InBatchSoftmax
from vivim.recommend.sequences import SequenceBatch


def batch_of(*sequences):
    longest = max(len(s) for s in sequences)
    rows = torch.tensor([list(s) + [0] * (longest - len(s)) for s in sequences])
    return TrainBatch.padded(SequenceBatch(rows, torch.tensor([len(s) for s in sequences])))


BATCH = batch_of([3, 1, 4, 6], [2, 3], [5, 0, 1])
COUNTS = torch.tensor([1.0, 2, 3, 4, 5, 6, 7])


def vectors(seed=0, items=7, width=5):
    g = torch.Generator().manual_seed(seed)
    users = torch.randn(len(BATCH.targets_P), width, generator=g, dtype=torch.float32, requires_grad=True)
    table = torch.randn(items, width, generator=g, dtype=torch.float32, requires_grad=True)
    return users, table


def plain_softmax(users, table, weight=1.0):
    """(loss, its gradients by users and table), as torch states it, in double precision."""
    users, table = (x.detach().double().requires_grad_() for x in (users, table))
    value = F.cross_entropy(users @ table.T, BATCH.targets_P)
    return value.detach(), torch.autograd.grad(value * weight, [users, table])


@pytest.mark.parametrize("tile_logits", [1, 6, 18, 1000])
@pytest.mark.parametrize("chunk_positions", [1, 2, 4, 100])
def test_chunked_softmax_equals_the_plain_one_with_exact_gradients(monkeypatch, chunk_positions, tile_logits):
    monkeypatch.setattr(losses, "_TILE_BYTES", 4 * tile_logits)
    users, table = vectors()
    loss = FullSoftmax()
    loss.chunk_bytes = 4 * len(table) * chunk_positions
    value = loss(users, BATCH, EncodedItems(table, None))
    grads = torch.autograd.grad(value * 3, [users, table])
    plain, plain_grads = plain_softmax(users, table, 3)
    torch.testing.assert_close(value, plain.float(), rtol=1e-6, atol=1e-6)
    for got, want in zip(grads, plain_grads, strict=True):
        torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rising", [True, False])
def test_logits_far_beyond_what_an_exponential_holds(monkeypatch, rising):
    """Tile after tile the highest logit rises by 900 or falls by it; e**89 is infinite in single precision."""
    monkeypatch.setattr(losses, "_TILE_BYTES", 4)
    users, table = vectors()
    scale = torch.arange(-3.0, 4) * 300
    table = torch.cat([(scale if rising else -scale)[:, None], table[:, 1:]], 1).detach().requires_grad_()
    users = torch.cat([torch.full_like(users[:, :1], 3.0), users[:, 1:]], 1).detach().requires_grad_()
    value = FullSoftmax()(users, BATCH, EncodedItems(table, None))
    plain, plain_grads = plain_softmax(users, table)
    torch.testing.assert_close(value, plain.float())
    for got, want in zip(torch.autograd.grad(value, [users, table]), plain_grads, strict=True):
        torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tile_logits", [18, 1000])
def test_bf16_autocast_computes_the_products_in_bf16_and_the_rest_in_float32(monkeypatch, tile_logits):
    """Numbers of bf16 have 8 bits: a product is off by at most 2**-8 of its size, so are the gradients; the loss by less."""
    monkeypatch.setattr(losses, "_TILE_BYTES", 2 * tile_logits)
    users, table = vectors()
    with torch.autocast("cpu", torch.bfloat16):
        value = FullSoftmax()(users, BATCH, EncodedItems(table, None))
    assert value.dtype == torch.float32
    grads = torch.autograd.grad(value, [users, table])
    plain, plain_grads = plain_softmax(users, table)
    assert abs(float(value.detach() - plain)) < 2**-8 * float(plain)
    for got, want in zip(grads, plain_grads, strict=True):
        assert got.dtype == torch.float32
        assert float((got - want).norm()) < 2**-6 * float(want.norm())
    assert not torch.equal(grads[0], torch.autograd.grad(FullSoftmax()(users, BATCH, EncodedItems(table, None)), users)[0])


def test_float16_autocast_leaves_the_loss_in_float32():
    """A probability over many items, divided by the number of positions, is below what float16 holds."""
    users, table = vectors()
    plain = FullSoftmax()(users, BATCH, EncodedItems(table, None))
    want = torch.autograd.grad(plain, [users, table])
    with torch.autocast("cpu", torch.float16):
        value = FullSoftmax()(users, BATCH, EncodedItems(table, None))
    assert torch.equal(value, plain)
    assert all(torch.equal(a, b) for a, b in zip(torch.autograd.grad(value, [users, table]), want, strict=True))


def test_full_softmax_by_hand():
    batch = batch_of([0, 1])
    users = torch.tensor([[1.0]])
    table = torch.tensor([[0.0], [math.log(3.0)]])
    assert float(FullSoftmax()(users, batch, EncodedItems(table, None))) == pytest.approx(math.log(4 / 3))


def slow_in_batch(users, table):
    """The loss as MicroLens states it, one position at a time."""
    log_p = torch.log(COUNTS / COUNTS.sum())
    sequences = [r[:n].tolist() for r, n in zip(BATCH.sequences.items_BL, BATCH.sequences.lengths_B.tolist(), strict=True)]
    slots = [(b, t, item) for b, s in enumerate(sequences) for t, item in enumerate(s)]
    terms, p = [], 0
    for b, sequence in enumerate(sequences):
        for t in range(1, len(sequence)):
            logits = []
            for slot_b, slot_t, item in slots:
                if (slot_b, slot_t) == (b, t):
                    target = len(logits)
                elif item in sequence:
                    continue
                logits.append(users[p] @ table[item] - log_p[item])
            terms.append(F.cross_entropy(torch.stack(logits)[None], torch.tensor([target])))
            p += 1
    return torch.stack(terms).mean()


@pytest.mark.parametrize("only_needed_rows", [True, False])
def test_in_batch_softmax_equals_the_slow_statement(only_needed_rows):
    users, table = vectors()
    rows = BATCH.sequences.items_BL.unique() if only_needed_rows else None
    encoded = EncodedItems(table if rows is None else table[rows], rows)
    value = InBatchSoftmax(COUNTS)(users, BATCH, encoded)
    want = slow_in_batch(users, table)
    torch.testing.assert_close(value, want)
    for got, slow in zip(torch.autograd.grad(value, [users, table]), torch.autograd.grad(want, [users, table]), strict=True):
        torch.testing.assert_close(got, slow, rtol=1e-5, atol=1e-7)


def test_targets_follow_the_valid_positions_row_by_row():
    assert BATCH.targets_P.tolist() == [1, 4, 6, 3, 0, 1]
    assert np.array_equal(BATCH.valid_BL.numpy(), [[1, 1, 1], [1, 0, 0], [1, 1, 0]])


def test_cut_cross_entropy_is_refused_in_words_where_it_cannot_be_used():
    """On a CPU; on a GPU ``benchmarks/gpu_check.py`` compares it with the chunked softmax."""
    batch = TrainBatch.padded(SequenceBatch(torch.tensor([[0, 1, 2]]), torch.tensor([3])))
    users, items = torch.randn(2, 4), EncodedItems(torch.randn(3, 4), None)
    with pytest.raises(InputError, match=r"not on cpu; or take loss\.kernel chunked"):
        FullSoftmax(kernel="cut-cross-entropy")(users, batch, items)
