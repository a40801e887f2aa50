"""Losses by hand, by an independent computation, and against the published code's numbers."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch import nn
from vivim.extract.pretrain.affine import AffineConstraint, InverseForm, MomentMatch
from vivim.extract.pretrain.config import MaskLossConfig
from vivim.extract.pretrain.edges import official_edge_of
from vivim.extract.pretrain.losses import OfficialLoss, OurLoss, edge_loss, mask_loss, official_structure_loss, structure_loss
from vivim.extract.vivim import SegmentLogits


@pytest.fixture(scope="module")
def golden(shared_data):
    return {k: torch.from_numpy(np.asarray(v)) for k, v in np.load(shared_data.parent / "golden" / "d_losses.npz").items()}


@pytest.fixture(scope="module")
def golden_regressor(golden):
    """The first layer of the golden regressor is the product of two thin ones."""
    layers = nn.Sequential(
        nn.Linear(100352, 4, bias=False), nn.Linear(4, 1000), nn.ReLU(), nn.Linear(1000, 32), nn.ReLU(), nn.Linear(32, 4)
    )
    names = ("V", "U", "b1", "W2", "b2", "W3", "b3")
    layers.load_state_dict(dict(zip(layers.state_dict(), (golden[name] for name in names), strict=True)))
    return InverseForm(layers)


@pytest.mark.shared
def test_the_official_loss_equals_the_published_code_with_gradients(golden, golden_regressor):
    mask, edge = golden["mask"][:, 0], golden["edge_gt"][:, 0]
    logits, edge_logits = (golden[k][:, 0].clone().requires_grad_() for k in ("pred_logits", "edge_logits"))
    loss = OfficialLoss(golden_regressor).of_pictures(logits, edge_logits, mask, edge)
    loss.total.backward()
    names = {"structure": "seg_structure", "edge": "edge_bce2d", "edge_attention": "edge_attention", "affine": "affine_official"}
    for name, theirs in names.items():
        assert float(loss.terms[name].detach()) == pytest.approx(float(golden[theirs]), rel=2e-5)
    assert float(loss.total.detach()) == pytest.approx(float(golden["total"]), rel=2e-5)
    for ours, theirs in ((logits, "grad_pred"), (edge_logits, "grad_edge")):
        assert float((ours.grad - golden[theirs][:, 0]).abs().max()) <= 1e-4 * float(golden[theirs].abs().max())


@pytest.mark.shared
def test_the_regressor_with_a_sigmoid_equals_the_published_numbers(golden, golden_regressor):
    found = OfficialLoss(golden_regressor).affine(golden["edge_logits"][:, 0].sigmoid(), golden["edge_gt"][:, 0])
    assert float(found) == pytest.approx(float(golden["affine_sigmoid_variant_not_official"]), rel=2e-5)


@pytest.mark.shared
def test_the_official_edge_equals_the_published_one(golden):
    assert torch.equal(official_edge_of(golden["mask"][:, 0]), golden["edge_gt"][:, 0] == 1)


@pytest.mark.shared
def test_the_official_affine_term_is_dead_and_ours_is_not(golden, golden_regressor):
    logits = golden["edge_logits"][:, 0].clone().requires_grad_()
    edge = golden["edge_gt"][:, 0]
    official = OfficialLoss(golden_regressor).affine(torch.log_softmax(logits[:, None], 1)[:, 0], edge)
    assert float(torch.autograd.grad(official, logits)[0].abs().max()) == 0
    for estimator in (MomentMatch(), golden_regressor):
        ours = AffineConstraint(4, 1.0, 0.5, estimator)(logits[None], edge[None])
        assert float(torch.autograd.grad(ours, logits)[0].abs().max()) > 0


def test_the_structure_loss_by_an_independent_computation():
    random = np.random.default_rng(0)
    logits, mask = random.normal(size=(2, 40, 50)), np.zeros((2, 40, 50))
    mask[0, 5:30, 0:20] = 1
    mask[1, 20:25, 30:45] = 1
    expected, official = [], []
    for x, m in zip(logits, mask, strict=True):
        p = 1 / (1 + np.exp(-x))
        weight = 1 + 5 * np.abs(uniform_filter(m, 31, mode="constant") - m)
        bce = -(m * np.log(p) + (1 - m) * np.log(1 - p))
        both, union = (weight * p * m).sum(), (weight * (p + m)).sum() - (weight * p * m).sum()
        iou_part = 1 - (both + 1) / (union + 1)
        expected.append((weight * bce).sum() / weight.sum() + iou_part)
        official.append(bce.mean() + iou_part)
    x, m = torch.from_numpy(logits), torch.from_numpy(mask)
    assert float(structure_loss(x, m)) == pytest.approx(np.mean(expected), rel=1e-9)
    assert float(official_structure_loss(x, m)) == pytest.approx(np.mean(official), rel=1e-9)


def test_an_empty_mask_asks_for_small_probabilities():
    empty = torch.zeros(1, 20, 20, dtype=torch.float64)
    logits = torch.zeros(1, 20, 20, dtype=torch.float64, requires_grad=True)
    loss = structure_loss(logits, empty)
    # All weights are 1; BCE is log 2; nothing in common, 200 in sum.
    assert float(loss.detach()) == pytest.approx(math.log(2) + 1 - 1 / 201)
    loss.backward()
    assert float(logits.grad.min()) > 0


def test_a_mistake_at_the_outline_costs_more_than_one_far_away():
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    right = torch.where(mask == 1, 5.0, -5.0)
    near, far = right.clone(), right.clone()
    near[:, 10:20, 28:32] *= -1
    far[:, 10:20, 0:4] *= -1
    assert float(structure_loss(near, mask)) > 1.5 * float(structure_loss(far, mask))


def test_the_edge_loss_by_hand():
    edge, logits = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.zeros(1, 2, 2)
    # A quarter is edge: it weighs 3/4, each of the others 1/4.
    assert float(edge_loss(logits, edge)) == pytest.approx((3 / 4 + 3 * 1 / 4) / 4 * math.log(2))
    assert float(edge_loss(torch.randn(1, 2, 2), torch.zeros(1, 2, 2))) == 0


def test_the_total_is_the_weighted_sum_of_its_terms():
    random = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, 3, 40, 40)
    mask[:, :, 10:30, 12:25] = 1
    logits = SegmentLogits(*(torch.randn(1, 3, 40, 40, generator=random) for _ in range(2)))
    for config, weights in (
        (MaskLossConfig(edge=0.7, affine=0.4), {"structure": 1, "edge": 0.7, "affine": 0.4}),
        (MaskLossConfig(affine=0), {"structure": 1, "edge": 0.3}),
        (MaskLossConfig(kind="official"), {"structure": 1, "edge": 0.3, "edge_attention": 0.1}),
    ):
        loss = mask_loss(config)(logits, mask)
        assert set(loss.terms) == set(weights)
        assert float(loss.total) == pytest.approx(sum(weights[name] * float(term) for name, term in loss.terms.items()))


def test_a_batch_of_empty_masks_trains_without_nan():
    logits = SegmentLogits(*(torch.randn(1, 2, 32, 32, requires_grad=True) for _ in range(2)))
    loss = OurLoss(0.3, 0.3, AffineConstraint(4, 1.0, 0.5, MomentMatch()))(logits, torch.zeros(1, 2, 32, 32))
    loss.total.backward()
    assert bool(torch.isfinite(logits.mask_BTHW.grad).all())
    assert float(logits.edge_BTHW.grad.abs().max()) == 0
