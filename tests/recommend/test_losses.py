"""Losses against slow restatements, values and gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
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


@pytest.mark.parametrize("chunk_positions", [1, 2, 4, 100])
def test_chunked_softmax_equals_the_plain_one_with_exact_gradients(chunk_positions):
    users, table = vectors()
    loss = FullSoftmax()
    loss.chunk_bytes = 4 * len(table) * chunk_positions
    value = loss(users, BATCH, EncodedItems(table, None))
    grads = torch.autograd.grad(value * 3, [users, table])
    plain = F.cross_entropy(users @ table.T, BATCH.targets_P)
    torch.testing.assert_close(value, plain)
    for got, want in zip(grads, torch.autograd.grad(plain * 3, [users, table]), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


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
    losses, p = [], 0
    for b, sequence in enumerate(sequences):
        for t in range(1, len(sequence)):
            logits = []
            for slot_b, slot_t, item in slots:
                if (slot_b, slot_t) == (b, t):
                    target = len(logits)
                elif item in sequence:
                    continue
                logits.append(users[p] @ table[item] - log_p[item])
            losses.append(F.cross_entropy(torch.stack(logits)[None], torch.tensor([target])))
            p += 1
    return torch.stack(losses).mean()


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
