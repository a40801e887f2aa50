"""What self-supervised pretraining minimises: two views of a clip agree, and the features neither collapse nor repeat each other.

Source: Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning" (ICLR
2022), eq. 1 to 6.

Legend: B clips, D width of the features, E width of the expander.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ...store import effective_rank

_EPSILON = 1e-4  # inside the square root of the variance term, as in the paper


class Terms(NamedTuple):
    """The terms of VICReg, before their weights.

    Attributes:
        invariance: mean squared distance of the two views, per dimension.
        variance: how far the standard deviations fall short of one.
        covariance: squared covariances of different dimensions.
    """

    invariance: torch.Tensor
    variance: torch.Tensor
    covariance: torch.Tensor


def invariance(x_BE: torch.Tensor, y_BE: torch.Tensor) -> torch.Tensor:
    """Mean squared distance between paired rows. Eq. 5 divides by B only; the paper's weights belong to the published code's mean."""
    return F.mse_loss(x_BE, y_BE)


def variance(x_BE: torch.Tensor) -> torch.Tensor:
    """Mean over the dimensions of max(0, 1 - standard deviation over the batch), eq. 1 and 2."""
    return F.relu(1 - torch.sqrt(x_BE.var(0) + _EPSILON)).mean()


def covariance(x_BE: torch.Tensor) -> torch.Tensor:
    """Squared covariances of different dimensions over the batch, summed, divided by E; eq. 3 and 4."""
    centred = x_BE - x_BE.mean(0)
    matrix_EE = centred.T @ centred / (len(x_BE) - 1)
    return (matrix_EE.square().sum() - matrix_EE.diagonal().square().sum()) / x_BE.shape[1]


def vicreg(x_BE: torch.Tensor, y_BE: torch.Tensor) -> Terms:
    """The three terms of two views; variance is the mean and covariance the sum over both, as the published code has it.

    Raises:
        ValueError: fewer than two clips, of which no variance can be taken.
    """
    if x_BE.shape != y_BE.shape or len(x_BE) < 2:
        raise ValueError(f"VICReg needs two views of the same two or more clips, not {tuple(x_BE.shape)} and {tuple(y_BE.shape)}")
    return Terms(invariance(x_BE, y_BE), (variance(x_BE) + variance(y_BE)) / 2, covariance(x_BE) + covariance(y_BE))


class Expander(nn.Sequential):
    """Features to the space in which views are compared; thrown away after training.

    Three linears with batch norm and ReLU between them (section 4.2 of the paper), narrower than its 8192.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(
            nn.Linear(dim, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
        )


def spread(features_ND: torch.Tensor) -> tuple[float, float]:
    """Whether features have collapsed: (relative deviation, effective rank).

    The relative deviation is the standard deviation of a dimension over the clips, averaged in quadrature, over the root mean square of
    the features: 0 if all clips have one vector. The effective rank is that of the centred features, see ``effective_rank``: 1 if all
    clips lie on a line, at most min(N - 1, D).
    """
    x_ND = features_ND.detach().double()
    centred = x_ND - x_ND.mean(0)
    scale = x_ND.square().mean().sqrt()
    if not float(scale):
        return 0.0, 0.0
    deviation = float(centred.square().mean().sqrt() / scale)
    if deviation < 1e-9:
        return deviation, 0.0
    return deviation, effective_rank(torch.linalg.svdvals(centred).cpu().numpy())
