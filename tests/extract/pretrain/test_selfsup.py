"""The objective on batches whose terms are known by hand."""

import math

import pytest
import torch
from vivim.extract.pretrain.selfsup import covariance, invariance, spread, variance, vicreg


def test_variance_of_a_known_batch():
    """Deviations sqrt(2) (above one: no loss), 0 (the whole loss, but for epsilon) and .5 sqrt(2)."""
    x = torch.tensor([[1.0, 3.0, 0.5], [-1.0, 3.0, -0.5]])
    by_hand = (0 + (1 - math.sqrt(1e-4)) + (1 - math.sqrt(0.5 + 1e-4))) / 3
    assert variance(x).item() == pytest.approx(by_hand, rel=1e-6)


def test_covariance_of_decorrelated_features_is_zero():
    assert covariance(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])).item() == 0


def test_covariance_of_a_repeated_feature():
    """Two equal dimensions of variance 2: off the diagonal stands 2 twice, (4 + 4) / 2 dimensions. The mean plays no part."""
    assert covariance(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]) + 7).item() == pytest.approx(4.0)


def test_invariance_is_the_mean_squared_distance():
    assert invariance(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 3.0]])).item() == pytest.approx(10 / 4)
    assert invariance(torch.ones(3, 2), torch.ones(3, 2)).item() == 0


def test_vicreg_takes_the_mean_of_variances_and_the_sum_of_covariances():
    x = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    terms = vicreg(x, torch.zeros(2, 2))
    assert terms.invariance.item() == pytest.approx(1.0)
    assert terms.variance.item() == pytest.approx(0.99 / 2, rel=1e-5)
    assert terms.covariance.item() == pytest.approx(4.0)


def test_gradients_are_right_and_finite_even_on_a_collapsed_batch():
    torch.manual_seed(0)
    x, y = (torch.randn(5, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: sum(vicreg(a, b)), (x, y))
    collapsed = torch.ones(5, 3, requires_grad=True)
    sum(vicreg(collapsed, collapsed.detach())).backward()
    assert torch.isfinite(collapsed.grad).all()


@pytest.mark.parametrize("shapes", [((1, 3), (1, 3)), ((4, 3), (5, 3))])
def test_views_that_cannot_be_compared_are_refused(shapes):
    with pytest.raises(ValueError, match="two views"):
        vicreg(*(torch.zeros(shape) for shape in shapes))


def test_spread_of_known_features():
    one = torch.tensor([1.0, 2.0, 3.0])
    assert spread(one.expand(6, 3)) == (0.0, 0.0)
    assert spread(torch.zeros(6, 3)) == (0.0, 0.0)
    deviation, rank = spread(torch.tensor([[1.0], [-1.0], [2.0], [-2.0]]) * one)
    assert (deviation, rank) == (pytest.approx(1.0), pytest.approx(1.0))
    axes = torch.cat([torch.eye(4), -torch.eye(4)])
    assert spread(axes)[1] == pytest.approx(4.0)
    # Half of the mean square is the common part, half differs.
    assert spread(torch.tensor([[2.0], [0.0]]))[0] == pytest.approx(0.5**0.5)
