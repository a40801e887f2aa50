"""Models that know their users by id: vectors of all users and all items, no order of what was watched.

Legend: U users, N items, D width, E pairs of a user and an item.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from ..sequences import Sequences


class MatrixFactorisation(nn.Module):
    """A table of users and one of items. Source: Koren et al., "Matrix factorization techniques" (2009).

    What MicroLens calls DSSM: the towers of its published configuration have no layers, so that a user is a row of a table and
    so is an item.

    Args:
        users, items: U, N.
        width: D.
    """

    def __init__(self, users: int, items: int, width: int) -> None:
        super().__init__()
        self.users = nn.Embedding(users, width)
        self.items = nn.Embedding(items, width)
        for table in (self.users, self.items):
            nn.init.xavier_normal_(table.weight)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.users.weight, self.items.weight


class LightGcn(nn.Module):
    """Neighbours' vectors, averaged over layers; nothing else is learned than the tables.

    e_u(k+1) = sum over the items i of u of e_i(k) / sqrt(|items of u| |users of i|), and likewise for items; the vector of a node
    is the mean over k of 0 to ``layers``. Source: He et al., "LightGCN" (2020), eq. 7 and 8 with alpha_k = 1 / (K + 1).

    Args:
        train: sequences of the users, whose pairs are the graph. A pair that occurs twice counts once.
        items: N.
        width: D.
        layers: K.
    """

    def __init__(self, train: Sequences, items: int, width: int, layers: int) -> None:
        super().__init__()
        self.tables = MatrixFactorisation(len(train), items, width)
        self.layers = layers
        self.graph = PairGraph(train, items)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        users_UD, items_ND = self.tables()
        sum_users, sum_items = users_UD, items_ND
        for _ in range(self.layers):
            users_UD, items_ND = self.graph.to_users(items_ND), self.graph.to_items(users_UD)
            sum_users, sum_items = sum_users + users_UD, sum_items + items_ND
        return sum_users / (self.layers + 1), sum_items / (self.layers + 1)


class PairGraph(nn.Module):
    """Who watched what, each pair weighted by one over the root of the degrees of its two ends. Not trained, and not saved.

    Args:
        train: sequences of the users. A pair that occurs twice counts once.
        items: N.
    """

    def __init__(self, train: Sequences, items: int) -> None:
        super().__init__()
        users = len(train)
        owners = np.repeat(np.arange(users), train.lengths)
        pairs = np.unique(np.stack([owners, train.items.astype(np.int64)]), axis=1)
        degree_U, degree_N = np.bincount(pairs[0], minlength=users), np.bincount(pairs[1], minlength=items)
        weight_E = (degree_U[pairs[0]] * degree_N[pairs[1]]) ** -0.5
        by_item = np.lexsort((pairs[0], pairs[1]))
        # A row's neighbours stand side by side: (neighbour, weight), and where each row begins.
        for name, order, neighbours, degrees in (("users", slice(None), pairs[1], degree_U), ("items", by_item, pairs[0], degree_N)):
            self.register_buffer(f"{name}_neighbours_E", torch.from_numpy(neighbours[order].copy()), persistent=False)
            self.register_buffer(f"{name}_weights_E", torch.from_numpy(weight_E[order].astype(np.float32)), persistent=False)
            self.register_buffer(f"{name}_starts", torch.from_numpy(np.cumsum(degrees) - degrees), persistent=False)

    def to_users(self, items_ND: torch.Tensor) -> torch.Tensor:
        """(U, D) weighted sums over the items of each user."""
        summed: torch.Tensor = _Propagate.apply(items_ND, self._rows("users"), self._rows("items"))  # type: ignore[no-untyped-call]
        return summed

    def to_items(self, users_UD: torch.Tensor) -> torch.Tensor:
        """(N, D) weighted sums over the users of each item."""
        summed: torch.Tensor = _Propagate.apply(users_UD, self._rows("items"), self._rows("users"))  # type: ignore[no-untyped-call]
        return summed

    def _rows(self, name: str) -> tuple[torch.Tensor, ...]:
        return tuple(self.get_buffer(f"{name}_{part}") for part in ("neighbours_E", "starts", "weights_E"))


class _Propagate(torch.autograd.Function):
    """Sums over neighbours; the gradient is the sum the other way, so that no sum is scattered."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, there: tuple[torch.Tensor, ...], back: tuple[torch.Tensor, ...]) -> torch.Tensor:
        ctx.back = back
        return _sums(vectors, there)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _sums(grad, ctx.back), None, None


def _sums(vectors: torch.Tensor, rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
    neighbours, starts, weights = rows
    with torch.autocast(vectors.device.type, enabled=False):
        return F.embedding_bag(neighbours, vectors.float().contiguous(), starts, mode="sum", per_sample_weights=weights)
