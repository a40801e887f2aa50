"""Packed batches hold what padded ones hold, and a training step on them is the same step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vivim.recommend import build
from vivim.recommend.batches import TrainBatch, train_batches
from vivim.recommend.config import LossConfig, ModelConfig
from vivim.recommend.item_encoders import IdItems
from vivim.recommend.learner import Learner
from vivim.recommend.losses import FullSoftmax, InBatchSoftmax
from vivim.recommend.sequences import SequenceBatch, Sequences

ITEMS = 40


def sequences_of(lengths, seed=0):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(offsets, np.random.default_rng(seed).integers(ITEMS, size=offsets[-1], dtype=np.int32))


def both(lengths, row_tokens, seed=0):
    batch = SequenceBatch.of(sequences_of(lengths, seed), np.arange(len(lengths)))
    return TrainBatch.padded(batch), TrainBatch.packed(batch, row_tokens)


@given(lengths=st.lists(st.integers(2, 30), min_size=1, max_size=50), row_tokens=st.integers(1, 80))
@settings(max_examples=60, deadline=None)
def test_every_history_stands_whole_in_one_row_and_rows_are_filled_alike(lengths, row_tokens):
    padded, packed = both(lengths, row_tokens)
    inputs, owners = packed.inputs_SW.flatten(), packed.seq_idx_SW.flatten()
    width = packed.inputs_SW.shape[1]
    assert torch.equal(inputs[packed.place_P], padded.inputs_SW.flatten()[padded.place_P])
    assert len(set(packed.place_P.tolist())) == len(packed.place_P) == sum(lengths) - len(lengths)
    assert set(owners[~torch.isin(torch.arange(len(owners)), packed.place_P)].tolist()) <= {-1}
    start = 0
    for b, length in enumerate(lengths):
        places = packed.place_P[start : start + length - 1]
        assert places.diff().eq(1).all()
        assert len({int(place) // width for place in places}) == 1
        assert owners[places].eq(b).all()
        start += length - 1
    # No row is emptier than another by more than one history.
    filled = packed.seq_idx_SW.ge(0).sum(1)
    assert int(filled.max()) == width
    assert int(filled.max() - filled.min()) <= max(lengths) - 1


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "sasrec"])
@pytest.mark.parametrize("loss", ["full", "in-batch"])
def test_the_step_is_the_same_packed_and_padded(kind, loss):
    torch.manual_seed(0)
    lengths = np.random.default_rng(1).integers(2, 12, size=60)
    padded, packed = both(lengths, 24)
    model = build.user_model(ModelConfig(kind=kind, d_model=16, d_state=8, headdim=8, dropout=0.0), max_len=11)
    objective = FullSoftmax(LossConfig().chunk_mb) if loss == "full" else InBatchSoftmax(torch.arange(ITEMS) + 1)
    learner = Learner(IdItems(ITEMS, 16, std=1.0), model, objective).train()
    results = []
    for batch in (padded, packed):
        learner.zero_grad()
        value = learner(batch)
        value.backward()
        results.append((value.detach(), {name: p.grad.clone() for name, p in learner.named_parameters()}))
    (want, want_grads), (got, got_grads) = results
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
    for name, grad in want_grads.items():
        assert float((got_grads[name] - grad).norm()) <= 1e-5 * float(grad.norm()), name


def test_what_stands_in_the_gaps_is_never_looked_at():
    torch.manual_seed(0)
    _, packed = both([5, 3, 9, 2], 9)
    gap = packed.seq_idx_SW.eq(-1)
    assert gap.any()
    other = replace(packed, inputs_SW=packed.inputs_SW.masked_fill(gap, 7))
    for kind in ("mamba", "mamba2", "sasrec"):
        model = build.user_model(ModelConfig(kind=kind, d_model=16, headdim=8, dropout=0.0), max_len=11)
        learner = Learner(IdItems(ITEMS, 16), model, FullSoftmax())
        assert torch.equal(learner(packed), learner(other)), kind


def test_training_reads_packed_rows_of_little_waste():
    """On lengths like those of MicroLens, padding is more than half of a padded batch and a few percent of a packed one."""
    lengths = np.minimum(np.random.default_rng(0).geometric(0.25, size=4000) + 1, 11)
    for batch in train_batches(sequences_of(lengths), batch=256, max_len=10, seed=0, epoch=1):
        assert batch.seq_idx_SW is not None
        assert len(batch.place_P) / batch.inputs_SW.numel() > 0.93
        assert len(batch.place_P) / TrainBatch.padded(batch.sequences).inputs_SW.numel() < 0.5
