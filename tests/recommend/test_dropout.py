"""What is left out, what is kept and how it is scaled; torch's own dropout is the reference."""

import pytest
import torch
import torch.nn.functional as F
from vivim.recommend.models.dropout import Dropout

ONES = torch.ones(301, 997)  # not a multiple of four


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_the_share_left_out_is_p_and_the_mean_stays(p: float) -> None:
    torch.manual_seed(0)
    dropped = Dropout(p)(ONES)
    left_out = (dropped == 0).double().mean().item()
    standard_error = (p * (1 - p) / ONES.numel()) ** 0.5
    assert abs(left_out - p) < 5 * standard_error
    torch.testing.assert_close(dropped[dropped != 0].unique(), torch.tensor([1 / (1 - p)]), rtol=2e-4, atol=0)
    assert abs(dropped.double().mean().item() - 1) < 5 * standard_error / (1 - p)


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_numbers_that_share_their_random_bits_are_left_out_independently(p: float) -> None:
    torch.manual_seed(0)
    dropped = (Dropout(p)(torch.ones(400_000)) == 0).double()
    for lag in (1, 2, 3, 4, 8):
        both = (dropped[:-lag] * dropped[lag:]).mean().item()
        assert abs(both - p * p) < 5 * (p * p / len(dropped)) ** 0.5, lag


def test_as_torch_does_it_with_the_same_mask() -> None:
    torch.manual_seed(0)
    x = torch.randn(33, 65, requires_grad=True)
    out = Dropout(0.5)(x)
    kept = (out != 0).float()
    out.square().sum().backward()
    expected = x.detach().clone().requires_grad_()
    (expected * kept * 2).square().sum().backward()
    torch.testing.assert_close(x.grad, expected.grad)


def test_one_seed_is_one_mask_whatever_the_threads() -> None:
    masks = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(7)
            layer = Dropout(0.3)
            masks.append((layer(ONES), layer(ONES)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(masks[0][0], masks[1][0])
    assert torch.equal(masks[0][1], masks[1][1])
    assert not torch.equal(masks[0][0], masks[0][1])


@pytest.mark.parametrize(("p", "left"), [(0.0, 1.0), (1e-6, 1.0), (1.0, 0.0)])
def test_no_share_and_all_of_it(p: float, left: float) -> None:
    dropped = Dropout(p)(torch.ones(64, 64))
    assert dropped.mean().item() == pytest.approx(left, abs=1e-3)
    assert Dropout(0.0)(ONES).equal(ONES)


def test_without_training_nothing_is_done() -> None:
    assert Dropout(0.5).eval()(ONES) is ONES


def test_half_precision_stays_what_it_is() -> None:
    x = torch.ones(64, 64, dtype=torch.bfloat16)
    assert Dropout(0.25)(x).dtype == torch.bfloat16
    assert set(Dropout(0.25)(x).unique().tolist()) == set(F.dropout(x, 0.25).unique().tolist())


@pytest.mark.parametrize("shape", [(0, 8), (1,), (3, 1, 5)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert Dropout(0.5)(torch.ones(shape)).shape == shape
