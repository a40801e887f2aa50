"""The affine constraint: theta on cases with a known answer, and a gradient that lives."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.linalg import sqrtm
from torch import nn
from vivim.errors import InputError
from vivim.extract.pretrain.affine import AffineConstraint, InverseForm, MomentMatch, boundary_patches
from vivim.extract.pretrain.edges import edge_of

SURE = 60.0  # a logit whose sigmoid is 0 or 1 in float64


def logits_of(edge):
    return torch.where(edge.bool(), SURE, -SURE).to(torch.float64)


def tile(rows, columns, size=16):
    edge = torch.zeros(1, size, size, dtype=torch.float64)
    edge[:, rows, columns] = 1
    return edge


def theta(predicted, true):
    return MomentMatch()(logits_of(predicted), true).view(2, 3)


def disc(shift, size=64, radius=14.0):
    """The edge of a disc, moved to the right, and logits that are exactly it: (1, 1, H, W) each."""
    y, x = torch.meshgrid(*(torch.arange(size, dtype=torch.float64),) * 2, indexing="ij")
    mask = (x - size / 2 - shift) ** 2 + (y - size / 2) ** 2 < radius**2
    edge = edge_of(mask[None])[None].to(torch.float64)
    return edge, logits_of(edge)


def test_a_shift_is_the_translation_of_theta():
    # 16 pixels are 2 units, so 3 pixels right and 2 up are (3/8, -1/4).
    found = theta(tile(8, 4), tile(6, 7))
    torch.testing.assert_close(found, torch.tensor([[0, 0, 3 / 8], [0, 0, -1 / 4]], dtype=torch.float64))


def test_a_band_half_as_wide_has_to_be_stretched_to_twice_its_width():
    # The variance of n pixels side by side, each a little square, is n^2 / 12 pixels: that of a bar of length n.
    found = theta(tile(slice(None), slice(7, 9)), tile(slice(None), slice(6, 10)))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0], [0, 0, 0]], dtype=torch.float64))


def test_a_line_across_instead_of_along_is_seen():
    # 1 pixel wide and 16 long, against the same turned: stretched by 16 one way, squeezed by 16 the other.
    found = theta(tile(7, slice(None)), tile(slice(None), 7))
    assert found[0, 0] == pytest.approx(1 / 16 - 1)
    assert found[1, 1] == pytest.approx(16 - 1)


def test_theta_equals_an_independent_computation_of_the_moments():
    random = np.random.default_rng(0)
    logits, edge = random.normal(size=(8, 12)), (random.random((8, 12)) < 0.3).astype(float)

    def moments(mass):
        mass = mass / mass.sum()
        y, x = np.meshgrid((np.arange(8) + 0.5) / 4 - 1, (np.arange(12) + 0.5) / 6 - 1, indexing="ij")
        centre = np.array([(mass * x).sum(), (mass * y).sum()])
        points = np.stack([x - centre[0], y - centre[1]])
        return centre, np.einsum("hw,ihw,jhw->ij", mass, points, points) + np.diag([(1 / 6) ** 2, (1 / 4) ** 2]) / 12

    centre, spread = moments(1 / (1 + np.exp(-logits)))
    true_centre, true_spread = moments(edge)
    expected = np.column_stack([sqrtm(true_spread) @ np.linalg.inv(sqrtm(spread)) - np.eye(2), true_centre - centre])
    found = MomentMatch()(torch.from_numpy(logits)[None], torch.from_numpy(edge)[None]).view(2, 3).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_perfect_prediction_costs_nothing_and_has_no_gradient():
    edge, logits = disc(0)
    logits.requires_grad_()
    loss = AffineConstraint(8, 1.0, 0.5, MomentMatch())(logits, edge)
    loss.backward()
    assert float(loss.detach()) < 1e-9
    assert float(logits.grad.abs().max()) < 1e-9


def test_it_grows_with_the_distance_of_the_outline_and_its_gradient_moves_the_edge_there():
    true, _ = disc(0)
    values = []
    for shift in range(5):
        _, logits = disc(shift)
        logits = (logits / 15).requires_grad_()  # soft enough to move
        loss = AffineConstraint(4, 1.0, 0.0, MomentMatch())(logits, true)
        loss.backward()
        assert bool(torch.isfinite(logits.grad).all())
        if shift:
            assert float(logits.grad.norm()) > 1e-4
            better = AffineConstraint(4, 1.0, 0.0, MomentMatch())(logits.detach() - 0.1 * logits.grad / logits.grad.norm(), true)
            assert float(better) < float(loss.detach())
        values.append(float(loss.detach()))
    assert values == sorted(values)
    assert values[4] > 2 * values[0]


def test_the_gradient_equals_finite_differences():
    edge = edge_of(torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0)) > 0.7)[None].double()
    logits = torch.randn(1, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    constraint = AffineConstraint(2, 1.0, 0.5, MomentMatch())
    # The first frame is a constant reference, which differences do not know, so it is held.
    assert torch.autograd.gradcheck(lambda later: constraint(torch.cat([logits[:, :1], later], 1), edge), logits[:, 1:].requires_grad_())


def test_consistency_with_the_first_frame_by_hand():
    # One tile; frame 1 is off by 1 pixel of 16, frame 2 by 3: r = 1/8 and 3/8 up to the rounding of the norm.
    true = torch.stack([tile(8, 8), tile(8, 8)], 1)
    logits = torch.stack([logits_of(tile(8, 7)), logits_of(tile(8, 5))], 1)
    r = [(x**2 + 1e-6) ** 0.5 - 1e-3 for x in (1 / 8, 3 / 8)]
    loss = AffineConstraint(1, 2.0, 0.5, MomentMatch())(logits, true)
    assert float(loss) == pytest.approx((2 * (r[0] + r[1]) + 0.5 * (r[1] - r[0])) / 2)


def test_no_gradient_of_the_consistency_reaches_the_first_frame():
    true = torch.stack([tile(8, 8), tile(8, 8)], 1)
    logits = (torch.stack([logits_of(tile(8, 7)), logits_of(tile(8, 5))], 1) / 15).requires_grad_()
    gradients = [torch.autograd.grad(AffineConstraint(1, 1.0, d, MomentMatch())(logits, true), logits)[0] for d in (0.0, 1.0)]
    assert torch.equal(gradients[0][:, 0], gradients[1][:, 0])
    assert not torch.equal(gradients[0][:, 1], gradients[1][:, 1])


def test_frames_without_an_object_are_skipped():
    edge, _ = disc(0)
    _, logits = disc(3)
    constraint = AffineConstraint(4, 1.0, 0.5, MomentMatch())
    alone = constraint(logits, edge)
    beside_empty = constraint(torch.cat([logits, torch.randn_like(logits)], 1), torch.cat([edge, torch.zeros_like(edge)], 1))
    assert float(beside_empty) == pytest.approx(float(alone))
    # An empty first frame cannot be a reference.
    empty_first = constraint(torch.cat([torch.randn_like(logits), logits], 1), torch.cat([torch.zeros_like(edge), edge], 1))
    assert float(empty_first) == pytest.approx(float(alone))


def test_without_any_edge_it_is_zero_and_can_be_differentiated():
    logits = torch.randn(1, 2, 16, 16, requires_grad=True)
    loss = AffineConstraint(4, 1.0, 0.5, MomentMatch())(logits, torch.zeros(1, 2, 16, 16))
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(logits.grad.abs().max()) == 0


def test_hopeless_logits_give_finite_gradients():
    edge, _ = disc(0)
    for value in (-200.0, 200.0):
        logits = torch.full_like(edge, value).float().requires_grad_()
        AffineConstraint(7, 1.0, 0.5, MomentMatch())(logits, edge.float()).backward()
        assert bool(torch.isfinite(logits.grad).all())


def test_patches_are_tiles_with_edge_and_a_size_that_does_not_divide_is_filled():
    edge = torch.zeros(1, 1, 10, 7)
    edge[0, 0, 9, 6] = 1
    patches = boundary_patches(torch.ones(1, 1, 10, 7), edge, 2)  # tiles of 5 x 4, the right ones filled by a column
    assert patches.place_BTGG.tolist() == [[[[False, False], [False, True]]]]
    assert patches.edge_Nhw[0, 4].tolist() == [0, 0, 1, 0]
    assert patches.logits_Nhw[0, 0].tolist() == [1, 1, 1, float("-inf")]


def test_the_regressor_takes_the_place_of_the_moments_and_passes_gradients():
    class MeanDifference(nn.Module):
        def forward(self, both):
            half = both.shape[1] // 2
            return (both[:, half:].mean(1) - both[:, :half].mean(1))[:, None].expand(-1, 4)

    edge = torch.zeros(1, 1, 16, 16)
    edge[..., :4] = 1
    logits = torch.zeros(1, 1, 16, 16, requires_grad=True)
    loss = AffineConstraint(1, 1.0, 0.0, InverseForm(MeanDifference()))(logits, edge)
    # Means 1/2 and 1/4 differ by 1/4; four equal coefficients have norm 2 * 1/4.
    assert float(loss.detach()) == pytest.approx((0.25 + 1e-6) ** 0.5 - 1e-3, abs=1e-6)
    loss.backward()
    assert float(logits.grad.abs().min()) > 0


def test_a_file_that_is_no_regressor_is_refused(tmp_path):
    save_file({"fc.0.weight": torch.zeros(10, 4), "x": torch.zeros(1)}, tmp_path / "w.safetensors")
    message = r"not an InverseForm regressor.*0\.weight is \(10, 4\), needed is \(1000, 100352\); 0\.bias is missing, needed is \(1000,\)"
    with pytest.raises(InputError, match=message):
        InverseForm.from_file(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"^pretrain\.loss\.inverse_form: no file"):
        InverseForm.from_file(tmp_path / "none.safetensors")
