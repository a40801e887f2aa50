"""Norms of known gradients, clipped or not, scaled or not; nothing is fetched before it is asked for."""

import math

import lightning_fabric
import pytest
import torch
from lightning_fabric.plugins import MixedPrecision
from vivim.recommend.gradient_norms import GradientNorms, Norms, clip


class Product(torch.nn.Module):
    """Weights times what is given: the gradient is what is given."""

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.zeros(2))
        self.other = torch.nn.Parameter(torch.zeros(1))

    def forward(self, gradient):
        return self.one @ gradient[:2] + self.other @ gradient[2:]


def clipped(limit, gradient, **how):
    """Norm before, and gradients after."""
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1, **how)
    fabric.launch()
    module = Product()
    optimizer = torch.optim.Adam(module.parameters())
    fabric.setup_optimizers(optimizer)
    fabric.backward(module(torch.tensor(gradient)))
    norm = clip(fabric, module, optimizer, limit)
    return float(norm), [*module.one.grad.tolist(), *module.other.grad.tolist()]


def scaler():
    return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))]}


@pytest.mark.parametrize("how", [dict, scaler], ids=["32-true", "16-mixed"])
def test_the_norm_is_that_before_clipping(how):
    assert clipped(10.0, [2.0, 3.0, 6.0], **how()) == (7.0, [2.0, 3.0, 6.0])
    norm, after = clipped(3.5, [2.0, 3.0, 6.0], **how())
    assert norm == 7.0
    assert after == pytest.approx([1.0, 1.5, 3.0])
    assert clipped(0.0, [2.0, 3.0, 6.0], **how()) == (7.0, [2.0, 3.0, 6.0])


def test_without_a_limit_gradients_that_are_infinite_are_left_alone():
    assert clipped(0.0, [2.0, math.inf, 6.0]) == (math.inf, [2.0, math.inf, 6.0])


def test_mean_and_largest_are_those_of_the_steps():
    norms = GradientNorms("cpu")
    for value in (1.0, 7.0, 4.0):
        norms.add(torch.tensor(value))
    assert norms.fetch(3) == Norms(4.0, 7.0, 0)


def test_steps_that_were_not_finite_are_counted_apart():
    norms = GradientNorms("cpu")
    for value in (1.0, math.inf, 2.0, math.nan):
        norms.add(torch.tensor(value))
    assert norms.fetch(4) == Norms(1.5, 2.0, 2)
    norms = GradientNorms("cpu")
    norms.add(torch.tensor(math.inf))
    assert norms.fetch(1) == Norms(None, None, 1)


def test_an_epoch_of_which_a_part_was_not_seen_has_none():
    norms = GradientNorms("cpu")
    norms.add(torch.tensor(1.0))
    assert norms.fetch(2) == Norms(None, None, None)


def test_a_step_fetches_nothing():
    """Tensors of the device ``meta`` have no values: whatever reads one fails."""
    norm = torch.empty((), device="meta")
    with pytest.raises(RuntimeError):
        float(norm)
    GradientNorms("meta").add(norm)
