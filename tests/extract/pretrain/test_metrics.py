"""Mask metrics by hand."""

import pytest
import torch
from vivim.extract.pretrain.metrics import MaskMetrics, boundary_f, dice, iou


def columns(*spans, size=100):
    """A mask of full-height columns."""
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    for first, last in spans:
        mask[:, :, first:last] = True
    return mask


EMPTY = columns()


@pytest.mark.parametrize(
    ("predicted", "true", "d", "i"),
    [
        (columns((0, 50)), columns((0, 50)), 1, 1),
        (columns((0, 50)), columns((25, 75)), 1 / 2, 1 / 3),
        (columns((0, 10)), columns((0, 40)), 2 / 5, 1 / 4),
        (columns((0, 10)), columns((50, 60)), 0, 0),
        (EMPTY, columns((0, 50)), 0, 0),
        (columns((0, 50)), EMPTY, 0, 0),
        (EMPTY, EMPTY, 1, 1),
    ],
)
def test_dice_and_iou(predicted, true, d, i):
    assert float(dice(predicted, true)) == pytest.approx(d)
    assert float(iou(predicted, true)) == pytest.approx(i)


@pytest.mark.parametrize(
    ("predicted", "true", "f"),
    [
        (columns((0, 50)), columns((0, 50)), 1),
        (columns((0, 52)), columns((0, 50)), 1),  # .8 % of the diagonal, 1.13 pixels, are 2 whole ones
        (columns((0, 53)), columns((0, 50)), 0),
        (columns((0, 50), (80, 100)), columns((0, 50)), 2 / 3),  # one of two outlines is right, the true one is found
        (columns((0, 50)), columns((0, 50), (80, 100)), 2 / 3),
        (EMPTY, columns((0, 50)), 0),
        (columns((0, 50)), EMPTY, 0),
        (EMPTY, EMPTY, 1),
    ],
)
def test_boundary_f(predicted, true, f):
    assert float(boundary_f(predicted, true)) == pytest.approx(f, abs=1e-6)


def test_all_of_a_picture():
    probability = torch.full((2, 100, 100), 0.25)
    probability[:, :, :50] = 0.75
    true = torch.cat([columns((0, 50)), EMPTY])
    found = MaskMetrics.of(probability, true)
    # The first picture is right; the second has no object, where half of the pixels are said to be.
    assert (found.dice, found.iou, found.boundary_f) == pytest.approx((0.5, 0.5, 0.5))
    assert found.mae == pytest.approx((0.25 + 0.5) / 2)


def test_clips_count_once():
    a, b = MaskMetrics(1, 1, 0, 1), MaskMetrics(0.5, 0.25, 0.5, 0)
    assert MaskMetrics.mean([a, b]) == MaskMetrics(0.75, 0.625, 0.25, 0.5)
