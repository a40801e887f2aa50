"""What training on masks minimises.

Legend: B clips, T frames, N pictures, H and W their size.
"""

from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F

from ..vivim import SegmentLogits
from .affine import AffineConstraint, InverseForm, MomentMatch
from .config import MaskLossConfig
from .edges import edge_of, official_edge_of


class LossTerms(NamedTuple):
    """A loss and what it is made of.

    Attributes:
        total: to be minimised.
        terms: by name, without their weights, for the log.
    """

    total: torch.Tensor
    terms: dict[str, torch.Tensor]


class MaskLoss(Protocol):
    """Compares what is predicted for clips with their masks."""

    def __call__(self, logits: SegmentLogits, mask_BTHW: torch.Tensor) -> LossTerms:
        """The loss.

        Args:
            logits: of all frames.
            mask_BTHW: 0 or 1, float.
        """


class OurLoss:
    """Structure loss, edge loss and the affine constraint across frames.

    Args:
        edge: weight of the edge loss.
        affine: weight of the constraint.
        constraint: eq. 10; None leaves it out.
    """

    def __init__(self, edge: float, affine: float, constraint: AffineConstraint | None) -> None:
        self.edge, self.affine, self.constraint = edge, affine, constraint

    def __call__(self, logits: SegmentLogits, mask_BTHW: torch.Tensor) -> LossTerms:
        mask = mask_BTHW.flatten(0, 1)
        edge = edge_of(mask).to(mask.dtype)
        terms = {
            "structure": structure_loss(logits.mask_BTHW.flatten(0, 1), mask),
            "edge": edge_loss(logits.edge_BTHW.flatten(0, 1), edge),
        }
        total = terms["structure"] + self.edge * terms["edge"]
        if self.constraint is not None:
            terms["affine"] = self.constraint(logits.edge_BTHW, edge.view_as(mask_BTHW))
            total = total + self.affine * terms["affine"]
        return LossTerms(total, terms)


class OfficialLoss:
    """The published code's loss with its faults, for comparison (scott-yjyang/Vivim @2bcd619, with_edge).

    - Structure loss: the mean of the BCE is taken before the weights are applied, so that they cancel.
    - Edge attention: a second structure loss whose target is 1 everywhere except where the edge logit is above .8, an inheritance from
      Gated-SCNN, where the filler means "ignore".
    - Affine: log_softmax over a single channel is 0 everywhere, so InverseForm sees an empty prediction and the term has no gradient.
      Without the regressor's weights it is left out of the value, which changes no weight that is trained.
    - The true edge holds a frame around every picture.
    - Only the middle frame counts (the caller passes it alone).

    Args:
        inverse_form: the regressor, or None.
    """

    TILES = (3, 6)

    def __init__(self, inverse_form: InverseForm | None = None) -> None:
        self.inverse_form = inverse_form

    def __call__(self, logits: SegmentLogits, mask_BTHW: torch.Tensor) -> LossTerms:
        mask = mask_BTHW.flatten(0, 1)
        edge = official_edge_of(mask).to(mask.dtype)
        return self.of_pictures(logits.mask_BTHW.flatten(0, 1), logits.edge_BTHW.flatten(0, 1), mask, edge)

    def of_pictures(
        self, logits_NHW: torch.Tensor, edge_logits_NHW: torch.Tensor, mask_NHW: torch.Tensor, edge_NHW: torch.Tensor
    ) -> LossTerms:
        """The same with the true edge given."""
        terms = {
            "structure": official_structure_loss(logits_NHW, mask_NHW),
            "edge": edge_loss(edge_logits_NHW, edge_NHW),
            "edge_attention": official_structure_loss(logits_NHW, torch.where(edge_logits_NHW > 0.8, mask_NHW, torch.ones_like(mask_NHW))),
        }
        total = terms["structure"] + 0.3 * terms["edge"] + 0.1 * terms["edge_attention"]
        if self.inverse_form is not None:
            predicted = F.log_softmax(edge_logits_NHW[:, None], 1)[:, 0]
            terms["affine"] = self.affine(predicted, edge_NHW)
            total = total + 0.3 * terms["affine"]
        return LossTerms(total, terms)

    def affine(self, predicted_NHW: torch.Tensor, edge_NHW: torch.Tensor) -> torch.Tensor:
        """Mean length of the regressor's coefficients over 3 x 6 tiles of both maps, enlarged to 672 x 1344."""
        assert self.inverse_form is not None
        (rows, columns), side = self.TILES, InverseForm.SIDE
        maps = F.interpolate(torch.stack([predicted_NHW, edge_NHW], 1), (rows * side, columns * side), mode="bilinear", align_corners=False)
        tiles = maps.unflatten(3, (columns, side)).unflatten(2, (rows, side)).permute(2, 4, 0, 1, 3, 5)
        return self.inverse_form.regressor(tiles.flatten(0, 2).flatten(1)).norm(dim=1).mean()


def structure_loss(logits_NHW: torch.Tensor, mask_NHW: torch.Tensor) -> torch.Tensor:
    """Weighted BCE and weighted IoU of PraNet (Fan et al., 2020, sec. 3.3): pixels near the outline weigh up to six times as much.

    The weight is 1 + 5 |mean of the mask over 31 x 31 pixels - mask|. A picture with an empty mask is legal; its IoU part asks for
    small probabilities.
    """
    weight = _weight(mask_NHW)
    bce = F.binary_cross_entropy_with_logits(logits_NHW, mask_NHW, reduction="none")
    weighted_bce = (weight * bce).sum((1, 2)) / weight.sum((1, 2))
    return (weighted_bce + _iou_loss(logits_NHW, mask_NHW, weight)).mean()


def official_structure_loss(logits_NHW: torch.Tensor, mask_NHW: torch.Tensor) -> torch.Tensor:
    """The same where the mean of the BCE comes first, and the weights cancel out of it."""
    bce = F.binary_cross_entropy_with_logits(logits_NHW, mask_NHW)
    return bce + _iou_loss(logits_NHW, mask_NHW, _weight(mask_NHW)).mean()


def edge_loss(logits_NHW: torch.Tensor, edge_NHW: torch.Tensor) -> torch.Tensor:
    """Class-balanced BCE: edge pixels weigh the share of the others, and the reverse; shares are over all pictures together.

    Without any edge pixel the loss is 0.
    """
    positive = edge_NHW.mean()
    weight = torch.where(edge_NHW == 1, 1 - positive, positive)
    return F.binary_cross_entropy_with_logits(logits_NHW, edge_NHW, weight)


def mask_loss(config: MaskLossConfig) -> MaskLoss:
    """The loss that ``config`` describes.

    Raises:
        InputError: the regressor's file cannot be used.
    """
    inverse_form = _inverse_form(config.inverse_form)
    if config.kind == "official":
        return OfficialLoss(inverse_form)
    constraint = None
    if config.affine:
        constraint = AffineConstraint(config.tiles, config.delta_1, config.delta_2, inverse_form or MomentMatch())
    return OurLoss(config.edge, config.affine, constraint)


def _inverse_form(path: Path | None) -> InverseForm | None:
    return None if path is None else InverseForm.from_file(path)


def _weight(mask_NHW: torch.Tensor) -> torch.Tensor:
    # Rows, then columns: 62 additions a pixel instead of 961, which took half as long as the whole encoder.
    rows = F.avg_pool2d(mask_NHW[:, None], (1, 31), stride=1, padding=(0, 15))
    return 1 + 5 * (F.avg_pool2d(rows, (31, 1), stride=1, padding=(15, 0))[:, 0] - mask_NHW).abs()


def _iou_loss(logits_NHW: torch.Tensor, mask_NHW: torch.Tensor, weight_NHW: torch.Tensor) -> torch.Tensor:
    """(N,) 1 - (I + 1) / (U - I + 1), where U is the sum of both, not their union."""
    probability = logits_NHW.sigmoid()
    both = (weight_NHW * probability * mask_NHW).sum((1, 2))
    sum_ = (weight_NHW * (probability + mask_NHW)).sum((1, 2))
    return 1 - (both + 1) / (sum_ - both + 1)
