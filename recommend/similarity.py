"""How alike a user and an item are: dot product or cosine, over a temperature that is learned.

Both kinds are user vector . item vector, so that nothing that scores has to know which it is.

Legend: B histories, L positions, N items, R rows, D model width.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from .item_encoders import EncodesNew, ItemEncoder, ItemParts
from .models.vector_model import VectorModel, step_of

_HIGHEST_SCALE = 100.0  # of logits of unit vectors; beyond it a softmax over them is a maximum


class UnitItems(nn.Module):
    """Item vectors of length 1.

    Args:
        encoder: an ``ItemEncoder``.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_items: int = cast(ItemEncoder, encoder).num_items

    def forward(self, rows_R: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.encoder(rows_R), dim=-1)

    def all(self) -> torch.Tensor:
        return F.normalize(cast(ItemEncoder, self.encoder).all(), dim=-1)

    def parts(self, new_N: torch.Tensor | None = None) -> ItemParts:
        vectors_ND = self.all()
        return ItemParts(vectors_ND, vectors_ND, None)

    def new(self, stored_R: torch.Tensor) -> torch.Tensor:
        """(R, D) of items that are not in the catalogue."""
        return F.normalize(cast(EncodesNew, self.encoder).new(stored_R), dim=-1)


class ScaledUsers(nn.Module):
    """A ``VectorModel`` whose vectors are divided by a learned temperature, and have length 1 before that if asked for.

    Args:
        model: a ``VectorModel``.
        temperature: to begin with.
        unit: cosine; False: dot product.
    """

    def __init__(self, model: nn.Module, temperature: float, *, unit: bool) -> None:
        super().__init__()
        self.model = model
        self.unit = unit
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, items_BLD: torch.Tensor, seq_idx_BL: torch.Tensor | None = None) -> torch.Tensor:
        return self._scale(self.model(items_BLD, seq_idx_BL))

    def initial_state(self, batch: int) -> Any:
        return self._inner().initial_state(batch)

    def step(self, item_BD: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        user_BD, state = self._inner().step(item_BD, state)
        return self._scale(user_BD), state

    def stepper(self) -> Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]]:
        inner, factor = step_of(self._inner()), self._factor()

        def step(item_BD: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
            user_BD, state = inner(item_BD, state)
            return self._directed(user_BD) * factor, state

        return step

    def read(self, items_BLD: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        user_BD, state = self._inner().read(items_BLD, state)
        return self._scale(user_BD), state

    def _scale(self, users: torch.Tensor) -> torch.Tensor:
        return self._directed(users) * self._factor()

    def _directed(self, users: torch.Tensor) -> torch.Tensor:
        return F.normalize(users, dim=-1) if self.unit else users

    def _factor(self) -> torch.Tensor:
        return self.log_scale.exp().clamp_max(_HIGHEST_SCALE)

    def _inner(self) -> VectorModel[Any]:
        return cast(VectorModel[Any], self.model)
