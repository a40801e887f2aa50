"""Where an item that nobody watched belongs: amid watched items of similar content.

Legend: R watched items, J of them that judge, M items that are placed, N of the catalogue, B users, V width of stored vectors, D model
width.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .content import CatalogueVectors
from .division import take
from .item_encoders import STANDARDISATION, Standardisation
from .sequences import SequenceBatch, Sequences

_SHARPNESS = (2.0, 4.0, 8.0, 16.0, 32.0)
_LONGER = tuple(2 ** (step / 12) for step in range(-12, 13))
_JUDGES = 1024
_JUDGED = 2**25  # similarities of all judges together: 128 MiB, a few times
_USERS = 1024
_MOST = 65_536
_NUMBERS = 2**24  # similarities at a time
_PREFIX = "neighbours."


@dataclass(frozen=True)
class Neighbours:
    """Watched items, and what an item that nobody watched has of each.

    Its vector has the direction of the sum over watched items j of max(0, cos(x, x_j))^s / n_j v_j, where x is standardised content and n_j
    how often j was watched: what a rarely watched item has learned says more of where one belongs that nobody watched. All have one
    length. One whose content is like that of none is a vector of zeros. Source: the regression of Nadaraya, "On estimating regression", and
    Watson, "Smooth regression analysis" (both 1964).

    Attributes:
        standard: of stored vectors.
        content_RV: standardised, of length 1.
        vectors_RD: what training made of them.
        views_R: n, float32, above 0.
        sharpness: s.
        length: of the vectors of items that are placed.
    """

    standard: Standardisation
    content_RV: torch.Tensor
    vectors_RD: torch.Tensor
    views_R: torch.Tensor
    sharpness: float
    length: float

    @classmethod
    def fit(
        cls,
        standard: Standardisation,
        content_RV: torch.Tensor,
        vectors_RD: torch.Tensor,
        views_R: torch.Tensor,
        users_BD: torch.Tensor,
    ) -> Self:
        """Sharpness and length by what the quarter of the items that was watched least, up to 1,024 of them, is like without its views.

        Each has a vector that the others foretell. The sharpness, of five, is the one by which an item is told best from the rest of the
        quarter: by the mean reciprocal rank of its own vector, by cosine. The length, between half and twice the mean of their own, is the
        one with which foretold vectors are as loud as their own: with which they take as large a share of a user's softmax in the mean.

        Args:
            users_BD: vectors of some users, as the model scores with them.
        """
        rare_R = views_R <= views_R.double().quantile(0.25)
        rows_J = rare_R.nonzero()[:, 0]
        rows_J = rows_J[_drawn(len(rows_J), min(_JUDGES, max(1, _JUDGED // len(vectors_RD)))).to(rows_J.device)]
        own_JD = vectors_RD[rows_J]
        similar_JR = content_RV[rows_J] @ content_RV.T
        similar_JR[torch.arange(len(rows_J), device=rows_J.device), rows_J] = 0.0

        candidates = [cls(standard, content_RV, vectors_RD, views_R, sharpness, 1.0) for sharpness in _SHARPNESS]
        log_similar_JR = _log(similar_JR)
        foretold = [candidate._amid(log_similar_JR) for candidate in candidates]
        told = [_mean_reciprocal_rank(found_JD @ F.normalize(own_JD, dim=1).T) for found_JD in foretold]
        best = told.index(max(told))

        some = max(1, _NUMBERS // len(vectors_RD))
        total_B1 = torch.cat([(part_BD @ vectors_RD.T).logsumexp(1, keepdim=True) for part_BD in users_BD.split(some)])
        own, scores_BJ = _log_share(users_BD @ own_JD.T, total_B1), users_BD @ foretold[best].T
        lengths = [float(own_JD.norm(dim=1).mean()) * longer for longer in _LONGER]
        return replace(candidates[best], length=min(lengths, key=lambda length: abs(_log_share(scores_BJ * length, total_B1) - own)))

    def new(self, stored_R: torch.Tensor) -> torch.Tensor:
        """Vectors of items by what is stored of each: (M, V) to (M, D)."""
        return self.place(unit(self.standard, stored_R))

    def place(self, content_MV: torch.Tensor) -> torch.Tensor:
        """(M, D) of items with standardised content of length 1."""
        some = max(1, _NUMBERS // len(self.content_RV))
        parts = [self._amid(_log(part_MV @ self.content_RV.T)) for part_MV in content_MV.split(some)]
        return torch.cat(parts) if parts else self.vectors_RD[:0]

    def _amid(self, log_similar_MR: torch.Tensor) -> torch.Tensor:
        weights_MR = torch.softmax(self.sharpness * log_similar_MR - self.views_R.log(), 1)
        weights_MR = weights_MR.where(log_similar_MR.isfinite().any(1, keepdim=True), 0.0)
        return F.normalize(weights_MR @ self.vectors_RD, dim=1) * self.length

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a safetensors file keeps."""
        own = {"content": self.content_RV, "vectors": self.vectors_RD, "views": self.views_R}
        own |= {"shape": torch.tensor([self.sharpness, self.length], dtype=torch.float64)}
        own |= dict(zip(STANDARDISATION, (self.standard.mean_V, self.standard.std_V), strict=True))
        return {_PREFIX + name: tensor.contiguous() for name, tensor in own.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> Self:
        """What ``tensors`` were taken from; others in the file are passed over.

        Raises:
            KeyError: some are missing.
        """
        own = {name: tensors[_PREFIX + name] for name in ("content", "vectors", "views", "shape", *STANDARDISATION)}
        standard = Standardisation(*(own[name] for name in STANDARDISATION))
        return cls(standard, own["content"], own["vectors"], own["views"], *own["shape"].tolist())


class Placing(nn.Module):
    """Gives the items of a catalogue that training never sees their places, once it has said where the others are. Holds no weights.

    Args:
        content: of the catalogue; items without stored vectors are left where they are, and are nobody's neighbours.
        views_N: how often training sees each. Of more than 65,536 watched items a sample, always the same, are neighbours.
        train: the training sequences, U of them; those of up to 1,024 users are read to see how loud an item is.
        max_len: their newest items that a model reads.

    Attributes:
        users: of those users.
        neighbours: as they were at the last call, for items that come later; None before, or where no watched item has content.
    """

    new_N: torch.Tensor
    new_MV: torch.Tensor
    rows_R: torch.Tensor
    content_RV: torch.Tensor
    views_R: torch.Tensor
    mean_V: torch.Tensor
    std_V: torch.Tensor

    def __init__(self, content: CatalogueVectors, views_N: torch.Tensor, train: Sequences, max_len: int) -> None:
        super().__init__()
        self.users = _newest(train, max_len)
        self.neighbours: Neighbours | None = None
        stored_NV, present_N = content.vectors_NV.float(), content.present_N
        standard = content.standard or Standardisation.of(stored_NV[present_N])
        rows_R = ((views_N > 0) & present_N).nonzero()[:, 0]
        rows_R = rows_R[_drawn(len(rows_R), _MOST).sort().values]
        new_N = (views_N == 0) & present_N
        constants = {"mean_V": standard.mean_V, "std_V": standard.std_V}
        constants |= {"rows_R": rows_R, "views_R": views_N[rows_R].float(), "new_N": new_N}
        constants |= {"content_RV": unit(standard, stored_NV[rows_R]), "new_MV": unit(standard, stored_NV[new_N])}
        for name, tensor in constants.items():
            self.register_buffer(name, tensor, persistent=False)

    @torch.no_grad()
    def forward(self, items_ND: torch.Tensor, users_BD: torch.Tensor) -> torch.Tensor:
        """The vectors that a model answers with.

        Args:
            items_ND: of the whole catalogue, as trained.
            users_BD: vectors of ``users``.
        """
        if not len(self.rows_R):
            return items_ND
        standard = Standardisation(self.mean_V, self.std_V)
        self.neighbours = Neighbours.fit(standard, self.content_RV, items_ND[self.rows_R], self.views_R, users_BD)
        placed_ND = items_ND.clone()
        placed_ND[self.new_N] = self.neighbours.place(self.new_MV)
        return placed_ND


def unit(standard: Standardisation, stored_RV: torch.Tensor) -> torch.Tensor:
    """Stored vectors (R, V), standardised and brought to length 1."""
    return F.normalize(standard(stored_RV.float()), dim=1)


def _log(cosines: torch.Tensor) -> torch.Tensor:
    """-inf where they are not above 0. By logarithms, since high powers of small cosines would be 0."""
    return cosines.clamp_min(0).log()


def _drawn(count: int, most: int) -> torch.Tensor:
    """Up to ``most`` of ``count``, the same every time."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most]


def _newest(train: Sequences, max_len: int) -> SequenceBatch:
    """What a model reads of some users."""
    known = np.flatnonzero(train.lengths)
    users = known[_drawn(len(known), _USERS).numpy()]
    lengths = np.minimum(train.lengths[users], max_len)
    return SequenceBatch.of(take(train, train.offsets[users + 1] - lengths, lengths), np.arange(len(users)), users)


def _mean_reciprocal_rank(scores_JJ: torch.Tensor) -> float:
    """Of the diagonal in its row; ties are in its favour."""
    return float((1 / (1 + (scores_JJ > scores_JJ.diagonal()[:, None]).sum(1)).double()).mean())


def _log_share(scores_BJ: torch.Tensor, total_B1: torch.Tensor) -> float:
    """Logarithm, but for a constant, of the mean share of a user's softmax that an item takes beside all others."""
    return float(F.logsigmoid(scores_BJ - total_B1).flatten().logsumexp(0))
