"""How an item becomes the vector that histories are read with and users are compared to.

Legend: N items of the catalogue, R some of them, P that have a stored vector, V its width, D model width, C width of a part of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import nn

from .new_share import NewShare


@dataclass(frozen=True)
class ItemParts:
    """The catalogue for models of graphs, which may treat what items look like and who they are apart.

    Attributes:
        vectors_ND: what ``ItemEncoder.all`` gives.
        content_NC: what items look like; where that is all that is known of them, their id vectors.
        ids_NC: id vectors beside the content; None: there are none.
    """

    vectors_ND: torch.Tensor
    content_NC: torch.Tensor
    ids_NC: torch.Tensor | None


class ItemEncoder(Protocol):
    """Item rows to vectors. ``all`` and ``__call__`` agree: ``encoder(rows) == encoder.all()[rows]``."""

    num_items: int

    def __call__(self, rows_R: torch.Tensor) -> torch.Tensor:
        """(R, D) vectors of the items ``rows_R`` (int64)."""

    def all(self) -> torch.Tensor:
        """(N, D) vectors of the whole catalogue, in the order of the rows."""

    def parts(self, new_N: torch.Tensor | None = None) -> ItemParts:
        """All vectors, and what they are made of. Items ``new_N`` (bool) are taken for ones that nobody watched: without an id beside
        their content. None: it is as in ``all``."""


@dataclass(frozen=True)
class Standardisation:
    """Zero mean and unit variance for each dimension of stored vectors.

    Attributes:
        mean_V: float32.
        std_V: float32, not 0.
    """

    mean_V: torch.Tensor
    std_V: torch.Tensor

    @staticmethod
    def of(vectors_PV: torch.Tensor, over: tuple[int, ...] = (0,)) -> "Standardisation":
        """Of the vectors that are there; ``over`` are the dimensions that are not V."""
        return Standardisation(vectors_PV.mean(over), vectors_PV.std(over, correction=0).clamp_min(1e-6))

    def __call__(self, vectors_V: torch.Tensor) -> torch.Tensor:
        """(..., V), standardised."""
        return (vectors_V - self.mean_V) / self.std_V


class IdItems(nn.Module):
    """A learned table: an item is what its watchers have in common. Knows nothing of an item nobody watched.

    Args:
        num_items: N.
        d_model: D.
        std: of the fresh table; 0 for a table that is added to something else.
    """

    def __init__(self, num_items: int, d_model: int, std: float = 0.02) -> None:
        super().__init__()
        self.num_items = num_items
        self.table = nn.Parameter(torch.randn(num_items, d_model) * std)

    def forward(self, rows_R: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(rows_R, self.table)

    def all(self) -> torch.Tensor:
        return self.table

    def parts(self, new_N: torch.Tensor | None = None) -> ItemParts:
        return ItemParts(self.table, self.table, None)


class ContentVectors(nn.Module, ABC):
    """What item encoders share that look at content: one learned "unknown clip" vector for items without any.

    Args:
        num_items: N.
        d_model: D.
    """

    def __init__(self, num_items: int, d_model: int) -> None:
        super().__init__()
        self.num_items = num_items
        self.unknown_D = nn.Parameter(torch.randn(d_model) * 0.02)

    @abstractmethod
    def all(self) -> torch.Tensor:
        """(N, D)."""

    def parts(self, new_N: torch.Tensor | None = None) -> ItemParts:
        content_ND = self.all()
        return ItemParts(content_ND, content_ND, None)


# Buffers of ``StoredContent`` that are kept beside its weights: without them a new item could not be encoded.
STANDARDISATION = ("stored_mean_V", "stored_std_V")


class StoredContent(ContentVectors, ABC):
    """Items that are read from stored vectors, standardised by dimension over the catalogue.

    Args:
        num_items: N.
        d_model: D.
        standard: how.
    """

    stored_mean_V: torch.Tensor
    stored_std_V: torch.Tensor
    training_options: dict[str, float]  # set where it is trained at a pace of its own

    def __init__(self, num_items: int, d_model: int, standard: Standardisation) -> None:
        super().__init__(num_items, d_model)
        for name, constants_V in zip(STANDARDISATION, (standard.mean_V, standard.std_V), strict=True):
            self.register_buffer(name, constants_V.clone(), persistent=False)

    def standardise(self, stored: torch.Tensor) -> torch.Tensor:
        """Stored vectors (..., V) as the weights know them."""
        return Standardisation(self.stored_mean_V, self.stored_std_V)(stored)

    @abstractmethod
    def new(self, stored_R: torch.Tensor) -> torch.Tensor:
        """(R, D) vectors of items that are not in the catalogue, from what is stored of each: equal to what a row of the catalogue
        gives that stores the same."""


class EncodesNew(Protocol):
    """An item encoder that can place items which training did not know."""

    def new(self, stored_R: torch.Tensor) -> torch.Tensor:
        """(R, D); see ``StoredContent.new``."""


def projection(width: int, d_model: int) -> nn.Sequential:
    """Two linears with GELU between, from content of ``width`` to D; starts on the scale of a fresh id table, for logits near zero."""
    last = nn.Linear(d_model, d_model)
    project = nn.Sequential(nn.Linear(width, d_model), nn.GELU(), last)
    nn.init.normal_(last.weight, std=0.02)
    nn.init.zeros_(last.bias)
    return project


class FrozenItems(StoredContent):
    """Stored vectors through a learned projection: standardise each dimension over the catalogue, two linears with GELU between.

    An item without a vector gets one learned "unknown clip" vector.

    Args:
        vectors_NV: stored vectors; the content of rows that are not ``present_N`` is never looked at.
        present_N: bool.
        d_model: D.
        standard: of another catalogue; None: of this one.
    """

    vectors_NV: torch.Tensor
    present_N: torch.Tensor

    def __init__(self, vectors_NV: torch.Tensor, present_N: torch.Tensor, d_model: int, standard: Standardisation | None = None) -> None:
        vectors_NV = vectors_NV.float()
        super().__init__(len(vectors_NV), d_model, standard or Standardisation.of(vectors_NV[present_N]))
        self.register_buffer("vectors_NV", torch.where(present_N[:, None], self.standardise(vectors_NV), 0.0), persistent=False)
        self.register_buffer("present_N", present_N.clone(), persistent=False)
        self.project = projection(vectors_NV.shape[1], d_model)

    def forward(self, rows_R: torch.Tensor) -> torch.Tensor:
        return self._encode(self.vectors_NV[rows_R], self.present_N[rows_R])

    def all(self) -> torch.Tensor:
        return self._encode(self.vectors_NV, self.present_N)

    def new(self, stored_R: torch.Tensor) -> torch.Tensor:
        vectors_RD: torch.Tensor = self.project(self.standardise(stored_R.float()))
        return vectors_RD

    def _encode(self, vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        return torch.where(present[..., None], self.project(vectors), self.unknown_D)


# (content, ids), each (..., C) -> (..., D)
Fusion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def concat(content: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The ``Fusion`` that gives each half of the width."""
    return torch.cat([content, ids], -1)


class ContentAndIdItems(nn.Module):
    """Content plus an id delta that starts at zero and decays: what an item looks like, corrected by who watched it.

    An item nobody watched keeps a delta of zero and is placed by its content alone ("Let It Go? Not Quite", RecSys 2025). In
    training the delta of a random share of items is left out, so that content alone is a place the model knows (Volkovs et al.,
    "DropoutNet", 2017).

    Args:
        content: what an item looks like, (..., C).
        width: C, of the delta.
        new: which items' deltas are left out of a training step; None: none.
        fusion: how the two become one: added (C is D), or side by side (C is half of D).
    """

    def __init__(self, content: ContentVectors, width: int, new: NewShare | None = None, fusion: Fusion = torch.add) -> None:
        super().__init__()
        self.num_items = content.num_items
        self.content = content
        self.delta = IdItems(content.num_items, width, std=0.0)
        self.new_share = NewShare(0.0) if new is None else new
        self.fusion = fusion

    def forward(self, rows_R: torch.Tensor) -> torch.Tensor:
        return self.fusion(self.content(rows_R), self._kept(self.delta(rows_R), rows_R))

    def all(self) -> torch.Tensor:
        return self.fusion(self.content.all(), self._kept(self.delta.all()))

    def parts(self, new_N: torch.Tensor | None = None) -> ItemParts:
        content_NC, ids_NC = self.content.all(), self.delta.all()
        ids_NC = self._kept(ids_NC) if new_N is None else ids_NC.masked_fill(new_N[:, None], 0.0)
        return ItemParts(self.fusion(content_NC, ids_NC), content_NC, ids_NC)

    def new(self, stored_R: torch.Tensor) -> torch.Tensor:
        """(R, D): nobody has watched them, so that their delta is zero."""
        content_RC = cast(EncodesNew, self.content).new(stored_R)
        return self.fusion(content_RC, content_RC.new_zeros(len(content_RC), self.delta.table.shape[1]))

    def _kept(self, delta: torch.Tensor, rows_R: torch.Tensor | None = None) -> torch.Tensor:
        """The deltas of the items ``rows_R``, or of all, but for those that are left out."""
        if not (self.training and self.new_share.ever):
            return delta
        new = self.new_share.of_all(len(delta), delta.device) if rows_R is None else self.new_share.of_rows(rows_R)
        return delta * ~new[..., None]
