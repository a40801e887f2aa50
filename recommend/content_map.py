"""Where an item that nobody watched belongs, told by where watched items of similar content lie.

Legend: N items of the catalogue, R some of them, V width of stored vectors, D model width.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .item_encoders import IdItems, ItemParts, Standardisation

_STRENGTHS = tuple(10.0**power for power in (-3, -2, -1, 0, 1, 2, 3))
_ROWS = 8192
_ONE_IN = 10


@dataclass(frozen=True)
class LinearMap:
    """x W + b.

    Attributes:
        weight_VD: float32.
        offset_D: float32.
    """

    weight_VD: torch.Tensor
    offset_D: torch.Tensor

    def __call__(self, stored_RV: torch.Tensor) -> torch.Tensor:
        """(R, D)."""
        return stored_RV @ self.weight_VD + self.offset_D

    @staticmethod
    def fit(stored_RV: torch.Tensor, vectors_RD: torch.Tensor, views_R: torch.Tensor) -> "LinearMap":
        """Ridge regression of item vectors on stored vectors, each item counted as often as it was watched.

        Its strength is the one that foretells a tenth of the items best from the others. What a regression foretells is shorter than
        what it has seen, the more so the less content tells: here it is as long, in the mean, as the quarter of the items that was watched
        least, which is what a new one is most like. Source: Gantner et al., "Learning attribute-to-feature mappings for cold-start
        recommendations" (2010).

        Args:
            stored_RV: standardised, of items that were watched, R at least 2.
            vectors_RD: what training made of them.
            views_R: how often each was watched, above 0.
        """
        # Drawn, the same every time: rows may have an order that every tenth of them follows.
        order_R = torch.randperm(len(views_R), generator=torch.Generator().manual_seed(0)).to(views_R.device)
        held_R = order_R < len(views_R) // _ONE_IN
        strength = _STRENGTHS[-1]
        if held_R.any():
            best, kept_R = torch.inf, ~held_R
            moments = _Moments.of(stored_RV[kept_R], vectors_RD[kept_R], views_R[kept_R])
            for candidate in _STRENGTHS:
                missed_RD = moments.solve(candidate)(stored_RV[held_R]) - vectors_RD[held_R]
                error = float((missed_RD.double().square().sum(1) * views_R[held_R]).sum())
                if error < best:
                    best, strength = error, candidate
        found = _Moments.of(stored_RV, vectors_RD, views_R).solve(strength)
        rare_R = views_R <= views_R.double().quantile(0.25)
        foretold = float(found(stored_RV[rare_R]).norm(dim=1).mean())
        longer = float(vectors_RD[rare_R].norm(dim=1).mean()) / foretold if foretold else 1.0
        return LinearMap(found.weight_VD * longer, found.offset_D * longer)


@dataclass(frozen=True)
class _Moments:
    """What a ridge regression needs of its data: weighted means and, around them, products; the latter by eigenvectors."""

    mean_V: torch.Tensor
    mean_D: torch.Tensor
    values_V: torch.Tensor
    axes_VV: torch.Tensor
    along_VD: torch.Tensor

    @staticmethod
    def of(stored_RV: torch.Tensor, vectors_RD: torch.Tensor, views_R: torch.Tensor) -> "_Moments":
        share_R1 = (views_R.double() / views_R.sum())[:, None]
        width, out = stored_RV.shape[1], vectors_RD.shape[1]
        mean_V, mean_D = (torch.zeros(size, dtype=torch.float64, device=stored_RV.device) for size in (width, out))
        products_VV = torch.zeros(width, width, dtype=torch.float64, device=stored_RV.device)
        along_VD = torch.zeros(width, out, dtype=torch.float64, device=stored_RV.device)
        # Some rows at a time: in float64 a catalogue is twice what it was.
        for x, y, share in zip(stored_RV.split(_ROWS), vectors_RD.split(_ROWS), share_R1.split(_ROWS), strict=True):
            x, y = x.double(), y.double()
            shared = x * share
            mean_V += shared.sum(0)
            mean_D += (y * share).sum(0)
            products_VV += shared.T @ x
            along_VD += shared.T @ y
        values_V, axes_VV = torch.linalg.eigh(products_VV - torch.outer(mean_V, mean_V))
        return _Moments(mean_V, mean_D, values_V.clamp_min(0), axes_VV, axes_VV.T @ (along_VD - torch.outer(mean_V, mean_D)))

    def solve(self, strength: float) -> LinearMap:
        weight_VD = self.axes_VV @ (self.along_VD / (self.values_V + strength)[:, None])
        return LinearMap(weight_VD.float(), (self.mean_D - self.mean_V @ weight_VD).float())


class MappedItems(nn.Module):
    """Items are their ids; one that training never saw is placed where its content says, once training has said where the others are.

    Ids alone are trained, and the vectors of all items that training saw are theirs. For models whose vectors of items are the answer and
    no input (``CollaborativeLearner``).

    Args:
        ids: a fresh table.
        vectors_NV: stored vectors; the content of rows that are not ``present_N`` is never looked at.
        present_N: bool.
        views_N: how often training sees each.
        standard: of another catalogue; None: of this one.
    """

    vectors_NV: torch.Tensor
    present_N: torch.Tensor
    views_N: torch.Tensor
    stored_mean_V: torch.Tensor
    stored_std_V: torch.Tensor
    weight_VD: torch.Tensor
    offset_D: torch.Tensor

    def __init__(
        self,
        ids: IdItems,
        vectors_NV: torch.Tensor,
        present_N: torch.Tensor,
        views_N: torch.Tensor,
        standard: Standardisation | None = None,
    ) -> None:
        super().__init__()
        self.num_items = ids.num_items
        self.ids = ids
        vectors_NV = vectors_NV.float()
        standard = standard or Standardisation.of(vectors_NV[present_N])
        self.register_buffer("stored_mean_V", standard.mean_V.clone(), persistent=False)
        self.register_buffer("stored_std_V", standard.std_V.clone(), persistent=False)
        self.register_buffer("vectors_NV", torch.where(present_N[:, None], self.standardise(vectors_NV), 0.0), persistent=False)
        self.register_buffer("present_N", present_N.clone(), persistent=False)
        self.register_buffer("views_N", views_N.clone(), persistent=False)
        width = ids.table.shape[1]
        self.register_buffer("weight_VD", torch.zeros(vectors_NV.shape[1], width))
        self.register_buffer("offset_D", torch.zeros(width))

    def standardise(self, stored: torch.Tensor) -> torch.Tensor:
        """Stored vectors (..., V) as the map knows them."""
        return Standardisation(self.stored_mean_V, self.stored_std_V)(stored)

    def forward(self, rows_R: torch.Tensor) -> torch.Tensor:
        vectors_RD: torch.Tensor = self.ids(rows_R)
        return vectors_RD

    def all(self) -> torch.Tensor:
        return self.ids.all()

    def parts(self, new_N: torch.Tensor | None = None) -> ItemParts:
        return self.ids.parts(new_N)

    def new(self, stored_R: torch.Tensor) -> torch.Tensor:
        """(R, D) of items that are not in the catalogue."""
        return LinearMap(self.weight_VD, self.offset_D)(self.standardise(stored_R.float()))

    @torch.no_grad()
    def place(self, items_ND: torch.Tensor) -> torch.Tensor:
        """The vectors that a model answers with, those of items that training never saw from their content; the map is kept for others.

        Args:
            items_ND: of the whole catalogue, as trained.
        """
        known_N = (self.views_N > 0) & self.present_N
        if known_N.sum() < 2:
            return items_ND
        found = LinearMap.fit(self.vectors_NV[known_N], items_ND[known_N], self.views_N[known_N])
        self.weight_VD.copy_(found.weight_VD)
        self.offset_D.copy_(found.offset_D)
        new_N = (self.views_N == 0) & self.present_N
        return torch.where(new_N[:, None], found(self.vectors_NV), items_ND)
