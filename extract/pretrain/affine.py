"""The boundary-aware affine constraint across frames: eq. 10 of the Vivim paper, with a gradient.

As printed, its bars do not balance::

    L = 1/Np  sum over p of (Delta1 |.||theta_t - I||_F - Delta2 ||theta_1 - I||_F)

theta_t is the affine map that takes the predicted edge of frame t to its true edge inside patch p, I the identity, theta_1 that of
the first frame. Read literally, the second part rewards a bad first frame without bound. What is computed here::

    L = 1/Np  sum over boundary patches p of all frames t of (Delta1 r_tp + Delta2 |r_tp - r_1p|),    r_tp = ||theta_tp - I||_F

Interpreted:

- ``|r_t - r_1|`` is the reading with bars around the whole difference, a consistency with the first frame; ``r_t`` itself stands
  beside it, because consistency alone is satisfied by equally bad frames.
- The first frame is the reference: no gradient flows through its r, or else T - 1 frames would pull it away from the truth.
- A patch is a tile of a regular grid; it counts if it holds true edge. Where the first frame has none in that place, the
  consistency is left out. Without any boundary patch (empty masks) the term is 0.
- Np is the number of patches that count.
- ||x||_F is sqrt(||x||^2 + s^2) - s with s = .001, smooth at 0, so that a perfect prediction has no gradient.

The published code has the first part only, with a regressor in place of theta, on input that makes it a constant
(``losses.OfficialLoss``).

Legend: B clips, T frames, H and W size of a frame, G tiles per side, N boundary patches, h and w size of a tile, K coefficients.
"""

from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import InputError
from ..weight_files import read_safetensors

_SMOOTH = 1e-3


class ThetaEstimator(Protocol):
    """Estimates how far the map from predicted to true edge is from the identity."""

    def __call__(self, logits_Nhw: torch.Tensor, edge_Nhw: torch.Tensor) -> torch.Tensor:
        """Coefficients of theta - I, (N, K).

        Args:
            logits_Nhw: predicted edge before the sigmoid; -inf outside the picture.
            edge_Nhw: true edge, 0 or 1; no tile is empty.
        """


class MomentMatch:
    """theta from the moments of both edges: the shift of the centroids and ``Sigma_true^(1/2) Sigma_predicted^(-1/2)``.

    Coordinates run from -1 to 1 across the tile, with the origin at the predicted centroid, so the translation of theta is the
    shift. Edges are distributions of mass: sigmoid(logits) and the true edge, each divided by its sum. Every pixel is a small
    square, whose own variance (a twelfth of its side squared) keeps thin edges invertible. A map with the right moments gives
    theta = I exactly; the converse does not hold, so this constrains position, width and direction of an edge, not its details.
    """

    def __call__(self, logits_Nhw: torch.Tensor, edge_Nhw: torch.Tensor) -> torch.Tensor:
        """(N, 6): theta - I by rows, three columns each."""
        # Softmax of the logarithm is division by the sum, safe also where the sum underflows.
        predicted = F.logsigmoid(logits_Nhw).flatten(1).softmax(1).view_as(logits_Nhw)
        true = edge_Nhw / edge_Nhw.sum((1, 2), keepdim=True)
        centre, spread = _moments(predicted)
        true_centre, true_spread = _moments(true)
        linear = _sqrt(true_spread) @ _inverse(_sqrt(spread))
        identity = torch.eye(2, dtype=linear.dtype, device=linear.device)
        return torch.cat([linear - identity, (true_centre - centre)[..., None]], 2).flatten(1)


class InverseForm(nn.Module):
    """The regressor of InverseForm (Borse et al., 2021, cvpr), which reads theta - I off both tiles at 224 x 224 pixels. Frozen.

    Args:
        regressor: (N, 100352), predicted then true tile by rows, to (N, 4).
    """

    SIDE = 224

    def __init__(self, regressor: nn.Module) -> None:
        super().__init__()
        self.regressor = regressor.eval().requires_grad_(False)

    @staticmethod
    def from_file(path: Path) -> "InverseForm":
        """The published fully connected layers 100352, 1000, 32, 4, saved as safetensors under ``fc.0``, ``fc.2``, ``fc.4``.

        Raises:
            InputError: no such file, or other tensors.
        """
        tensors = {
            name.rpartition("fc.")[2]: tensor.float() for name, tensor in read_safetensors(path, "pretrain.loss.inverse_form")[0].items()
        }
        with torch.device("meta"):
            layers = nn.Sequential(nn.Linear(2 * InverseForm.SIDE**2, 1000), nn.ReLU(), nn.Linear(1000, 32), nn.ReLU(), nn.Linear(32, 4))
        wanted = {name: tuple(tensor.shape) for name, tensor in layers.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        odd = [f"{name} is {found.get(name, 'missing')}, needed is {shape}" for name, shape in wanted.items() if found.get(name) != shape]
        odd += [f"{name} is too many" for name in found.keys() - wanted.keys()]
        odd = odd or [f"{name} holds NaN or infinite values" for name, tensor in tensors.items() if not tensor.isfinite().all()]
        if odd:
            raise InputError(
                f"pretrain.loss.inverse_form: {path} is not an InverseForm regressor (fc.0, fc.2, fc.4 of 100352, 1000, 32, 4): "
                f"{'; '.join(odd[:3])}. Give its safetensors file, or null for moments of the edges."
            )
        layers.load_state_dict(tensors, assign=True)
        return InverseForm(layers)

    def __call__(self, logits_Nhw: torch.Tensor, edge_Nhw: torch.Tensor) -> torch.Tensor:
        """(N, 4)."""
        size = (self.SIDE, self.SIDE)
        tiles = torch.stack([logits_Nhw.sigmoid(), edge_Nhw], 1)
        return self.regressor(F.interpolate(tiles, size, mode="bilinear", align_corners=False).flatten(1))


class BoundaryPatches(NamedTuple):
    """Tiles that hold true edge.

    Attributes:
        logits_Nhw: predicted edge, -inf outside the picture.
        edge_Nhw: true edge.
        place_BTGG: which tiles these are; in this order.
    """

    logits_Nhw: torch.Tensor
    edge_Nhw: torch.Tensor
    place_BTGG: torch.Tensor


def boundary_patches(logits_BTHW: torch.Tensor, edge_BTHW: torch.Tensor, tiles: int) -> BoundaryPatches:
    """Cut both maps into ``tiles`` x ``tiles`` and keep those with true edge; a size that does not divide is filled up."""
    height, width = logits_BTHW.shape[2:]
    h, w = -(-height // tiles), -(-width // tiles)
    fill = (0, w * tiles - width, 0, h * tiles - height)

    def cut(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(3, (tiles, w)).unflatten(2, (tiles, h)).transpose(3, 4)

    edge = cut(F.pad(edge_BTHW, fill))
    place = edge.flatten(4).any(4)
    return BoundaryPatches(cut(F.pad(logits_BTHW, fill, value=float("-inf")))[place], edge[place], place)


class AffineConstraint:
    """Eq. 10 as interpreted above.

    Args:
        tiles: G.
        delta_1: weight of ||theta_t - I||.
        delta_2: weight of the difference to the first frame.
        estimator: gives theta - I.
    """

    def __init__(self, tiles: int, delta_1: float, delta_2: float, estimator: ThetaEstimator) -> None:
        self.tiles, self.delta_1, self.delta_2, self.estimator = tiles, delta_1, delta_2, estimator

    def __call__(self, logits_BTHW: torch.Tensor, edge_BTHW: torch.Tensor) -> torch.Tensor:
        """A scalar, from edge logits and the true edge (0 or 1, same dtype)."""
        patches = boundary_patches(logits_BTHW, edge_BTHW, self.tiles)
        if not len(patches.edge_Nhw):
            return logits_BTHW.sum() * 0
        departure_N = _norm(self.estimator(patches.logits_Nhw, patches.edge_Nhw))
        place = patches.place_BTGG
        departure = torch.zeros(place.shape, dtype=departure_N.dtype, device=place.device).masked_scatter(place, departure_N)
        both = place[:, 1:] & place[:, :1]
        difference = (departure[:, 1:] - departure[:, :1].detach()).abs()[both]
        return (self.delta_1 * departure_N.sum() + self.delta_2 * difference.sum()) / len(departure_N)


def _norm(coefficients_NK: torch.Tensor) -> torch.Tensor:
    return (coefficients_NK.square().sum(1) + _SMOOTH**2).sqrt() - _SMOOTH


def _moments(mass_Nhw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centroid (N, 2) as (x, y) and covariance (N, 2, 2) of distributions of mass over a tile that runs from -1 to 1."""
    height, width = mass_Nhw.shape[1:]
    y = (torch.arange(height, dtype=mass_Nhw.dtype, device=mass_Nhw.device) * 2 + 1) / height - 1
    x = (torch.arange(width, dtype=mass_Nhw.dtype, device=mass_Nhw.device) * 2 + 1) / width - 1
    along_x, along_y = mass_Nhw.sum(1), mass_Nhw.sum(2)
    centre = torch.stack([along_x @ x, along_y @ y], 1)
    dx, dy = x - centre[:, :1], y - centre[:, 1:]
    xx = (along_x * dx**2).sum(1) + (2 / width) ** 2 / 12
    yy = (along_y * dy**2).sum(1) + (2 / height) ** 2 / 12
    xy = torch.einsum("nhw,nh,nw->n", mass_Nhw, dy, dx)
    return centre, torch.stack([xx, xy, xy, yy], 1).unflatten(1, (2, 2))


def _sqrt(matrix_N22: torch.Tensor) -> torch.Tensor:
    """Square root of symmetric positive definite 2 x 2 matrices, by Cayley and Hamilton: differentiable, unlike eigenvectors."""
    root = _determinant(matrix_N22).sqrt()[:, None, None]
    trace = matrix_N22.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    identity = torch.eye(2, dtype=matrix_N22.dtype, device=matrix_N22.device)
    return (matrix_N22 + root * identity) / (trace + 2 * root).sqrt()


def _inverse(matrix_N22: torch.Tensor) -> torch.Tensor:
    a, b, c, d = matrix_N22.flatten(1).unbind(1)
    return torch.stack([d, -b, -c, a], 1).unflatten(1, (2, 2)) / _determinant(matrix_N22)[:, None, None]


def _determinant(matrix_N22: torch.Tensor) -> torch.Tensor:
    return matrix_N22[:, 0, 0] * matrix_N22[:, 1, 1] - matrix_N22[:, 0, 1] * matrix_N22[:, 1, 0]
