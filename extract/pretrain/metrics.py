"""How good a predicted mask is. Each metric is one number per picture; two empty masks agree completely.

Legend: N pictures, H and W their size.
"""

import math
from dataclasses import asdict, dataclass

import torch

from .edges import near

# DAVIS (Perazzi et al., 2016): an outline may be off by .8 % of the picture's diagonal, rounded up to whole pixels.
BOUNDARY_TOLERANCE = 0.008


@dataclass(frozen=True)
class MaskMetrics:
    """Means over pictures.

    Attributes:
        dice: 2 |P and M| / (|P| + |M|), where P is where the probability is above one half.
        iou: |P and M| / |P or M|.
        mae: mean absolute difference of probability and mask.
        boundary_f: F measure of the outline, see ``boundary_f``.
    """

    dice: float
    iou: float
    mae: float
    boundary_f: float

    @staticmethod
    def of(probability_NHW: torch.Tensor, mask_NHW: torch.Tensor) -> "MaskMetrics":
        """Measure predictions from 0 to 1 against masks of 0 and 1."""
        mask, predicted = mask_NHW.bool(), probability_NHW > 0.5
        mae = (probability_NHW - mask.to(probability_NHW.dtype)).abs().mean()
        values = (dice(predicted, mask), iou(predicted, mask), mae, boundary_f(predicted, mask))
        return MaskMetrics(*(float(x.double().mean()) for x in values))

    @staticmethod
    def mean(several: "list[MaskMetrics]") -> "MaskMetrics":
        """The mean over clips, each counted once whatever its length."""
        rows = [asdict(metrics) for metrics in several]
        return MaskMetrics(**{name: sum(row[name] for row in rows) / len(rows) for name in rows[0]})


def dice(predicted_NHW: torch.Tensor, mask_NHW: torch.Tensor) -> torch.Tensor:
    """(N,) from bool masks."""
    both, sum_ = (predicted_NHW & mask_NHW).sum((1, 2)), predicted_NHW.sum((1, 2)) + mask_NHW.sum((1, 2))
    return torch.where(sum_ > 0, 2 * both / sum_.clamp(min=1), 1.0)


def iou(predicted_NHW: torch.Tensor, mask_NHW: torch.Tensor) -> torch.Tensor:
    """(N,) from bool masks."""
    both, either = (predicted_NHW & mask_NHW).sum((1, 2)), (predicted_NHW | mask_NHW).sum((1, 2))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def boundary_f(predicted_NHW: torch.Tensor, mask_NHW: torch.Tensor) -> torch.Tensor:
    """(N,) harmonic mean of two shares: predicted outline near the true one, true outline near the predicted one.

    Near is within ``BOUNDARY_TOLERANCE`` of the diagonal: 3 pixels for pictures of 256 x 256. An outline pixel differs from its right,
    lower, or lower right neighbour (DAVIS's rule).
    """
    tolerance = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*mask_NHW.shape[1:]))
    predicted, true = _outline(predicted_NHW), _outline(mask_NHW)
    precision = _share(predicted & near(true, tolerance), predicted)
    recall = _share(true & near(predicted, tolerance), true)
    # One outline without the other is wrong: the share of nothing is 1, that of the other outline 0, and so is F.
    return 2 * precision * recall / (precision + recall).clamp(min=1e-12)


def _share(part_NHW: torch.Tensor, whole_NHW: torch.Tensor) -> torch.Tensor:
    whole = whole_NHW.sum((1, 2))
    return torch.where(whole > 0, part_NHW.sum((1, 2)) / whole.clamp(min=1), 1.0)


def _outline(mask_NHW: torch.Tensor) -> torch.Tensor:
    outline = torch.zeros_like(mask_NHW)
    outline[:, :, :-1] |= mask_NHW[:, :, :-1] ^ mask_NHW[:, :, 1:]
    outline[:, :-1] |= mask_NHW[:, :-1] ^ mask_NHW[:, 1:]
    outline[:, :-1, :-1] |= mask_NHW[:, :-1, :-1] ^ mask_NHW[:, 1:, 1:]
    return outline
