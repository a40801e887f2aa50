"""Who watched what, as a graph whose sums, products and softmaxes have exact gradients and never hold a vector for each pair.

Legend: U users, N items, E pairs of a user and an item, D width.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from ..sequences import Sequences

# Pairs whose products are formed at once: vectors of 64 float32 then fill 4 MiB.
_PAIRS_AT_ONCE = 2**14

# Of one side: (neighbours of its nodes, side by side; where each node's begin; which pairs these are, None: in order).
_Side = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
# Rows of the two ends of every pair: of this side, of the other.
_Ends = tuple[torch.Tensor, torch.Tensor]


class PairGraph(nn.Module):
    """The pairs of training. Not trained, and not saved.

    Where neighbours' vectors are averaged, who has none hears itself: a sum over nobody, 0, would leave nothing of the content of an item
    that was never watched.

    Pairs are in the order of their users, then of their items; what is said of each pair (``..._E``) is in this order.

    Args:
        train: sequences of the users. A pair that occurs twice counts once.
        items: N.

    Attributes:
        users_E, items_E: rows of the two ends of every pair.
        symmetric_E: one over the root of the degrees of a pair's two ends.
        per_user_E, per_item_E: one over the degree of its user, of its item.
        alone_U1, alone_N1: bool, who has no pair.
    """

    users_E: torch.Tensor
    items_E: torch.Tensor
    by_item_E: torch.Tensor
    symmetric_E: torch.Tensor
    per_user_E: torch.Tensor
    per_item_E: torch.Tensor
    alone_U1: torch.Tensor
    alone_N1: torch.Tensor

    def __init__(self, train: Sequences, items: int) -> None:
        super().__init__()
        owners = np.repeat(np.arange(len(train)), train.lengths)
        users_E, items_E = np.unique(np.stack([owners, train.items.astype(np.int64)]), axis=1)
        by_item_E = np.lexsort((users_E, items_E))
        ends = torch.from_numpy(users_E.copy()), torch.from_numpy(items_E.copy())
        self._lay_out(*ends, torch.from_numpy(by_item_E), len(train), items)

    def _lay_out(self, users_E: torch.Tensor, items_E: torch.Tensor, by_item_E: torch.Tensor, users: int, items: int) -> None:
        degree_U, degree_N = users_E.bincount(minlength=users), items_E.bincount(minlength=items)
        found = {
            "users_E": users_E,
            "items_E": items_E,
            "by_item_E": by_item_E,
            "users_by_item_E": users_E[by_item_E],
            "starts_U": degree_U.cumsum(0) - degree_U,
            "starts_N": degree_N.cumsum(0) - degree_N,
            "symmetric_E": (degree_U[users_E] * degree_N[items_E]).float() ** -0.5,
            "per_user_E": 1 / degree_U[users_E].float(),
            "per_item_E": 1 / degree_N[items_E].float(),
            "alone_U1": (degree_U == 0)[:, None],
            "alone_N1": (degree_N == 0)[:, None],
        }
        for name, tensor in found.items():
            self.register_buffer(name, tensor, persistent=False)

    def without(self, new_N: torch.Tensor) -> "PairGraph":
        """The graph as it would be if nobody had watched the items ``new_N`` (bool)."""
        kept_E = ~new_N[self.items_E]
        place_E = kept_E.cumsum(0) - 1
        by_item_E = place_E[self.by_item_E[kept_E[self.by_item_E]]]
        rest = PairGraph.__new__(PairGraph)
        nn.Module.__init__(rest)
        rest._lay_out(self.users_E[kept_E], self.items_E[kept_E], by_item_E, len(self.alone_U1), len(self.alone_N1))
        return rest

    def to_users(self, items_ND: torch.Tensor, weights_E: torch.Tensor, own_UD: torch.Tensor) -> torch.Tensor:
        """(U, D) weighted sums over the items of each user; ``own_UD`` of who has none."""
        ends = (self.users_E, self.items_E)
        summed: torch.Tensor = _Sums.apply(items_ND, weights_E, self._of_users(), self._of_items(), ends)  # type: ignore[no-untyped-call]
        return own_UD.where(self.alone_U1, summed)

    def to_items(self, users_UD: torch.Tensor, weights_E: torch.Tensor, own_ND: torch.Tensor) -> torch.Tensor:
        """(N, D) weighted sums over the users of each item; ``own_ND`` of who has none."""
        ends = (self.items_E, self.users_E)
        summed: torch.Tensor = _Sums.apply(users_UD, weights_E, self._of_items(), self._of_users(), ends)  # type: ignore[no-untyped-call]
        return own_ND.where(self.alone_N1, summed)

    def products(self, users_UD: torch.Tensor, items_ND: torch.Tensor) -> torch.Tensor:
        """(E,) dot product of the two ends of every pair."""
        sides = (self._of_users(), self._of_items(), (self.users_E, self.items_E))
        found: torch.Tensor = _Products.apply(users_UD, items_ND, *sides)  # type: ignore[no-untyped-call]
        return found

    def softmax_by_user(self, scores_E: torch.Tensor) -> torch.Tensor:
        """(E,) softmax over the items of each user."""
        return _softmax(scores_E, self.users_E, len(self.alone_U1))

    def softmax_by_item(self, scores_E: torch.Tensor) -> torch.Tensor:
        """(E,) softmax over the users of each item."""
        return _softmax(scores_E, self.items_E, len(self.alone_N1))

    def _of_users(self) -> _Side:
        return self.items_E, self.get_buffer("starts_U"), None

    def _of_items(self) -> _Side:
        return self.get_buffer("users_by_item_E"), self.get_buffer("starts_N"), self.by_item_E


class _Sums(torch.autograd.Function):
    """Weighted sums over neighbours; the gradient of the vectors is the sum the other way, so that no sum is scattered."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, weights_E: torch.Tensor, there: _Side, back: _Side, ends: _Ends) -> torch.Tensor:
        ctx.back, ctx.ends = back, ends
        ctx.save_for_backward(vectors, weights_E)
        return _sums(vectors, weights_E, there)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        vectors, weights_E = ctx.saved_tensors
        of_vectors = _sums(grad, weights_E, ctx.back).to(vectors.dtype) if ctx.needs_input_grad[0] else None
        of_weights = _dots(grad, vectors, ctx.ends, weights_E.dtype) if ctx.needs_input_grad[1] else None
        return of_vectors, of_weights, None, None, None


class _Products(torch.autograd.Function):
    """Products of the ends of pairs; the gradients are sums over neighbours."""

    @staticmethod
    def forward(ctx: Any, users_UD: torch.Tensor, items_ND: torch.Tensor, of_users: _Side, of_items: _Side, ends: _Ends) -> torch.Tensor:
        ctx.of_users, ctx.of_items = of_users, of_items
        ctx.save_for_backward(users_UD, items_ND)
        return _dots(users_UD, items_ND, ends, torch.promote_types(users_UD.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_E: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        users_UD, items_ND = ctx.saved_tensors
        of_users, of_items = _sums(items_ND, grad_E, ctx.of_users), _sums(users_UD, grad_E, ctx.of_items)
        return of_users.to(users_UD.dtype), of_items.to(items_ND.dtype), None, None, None


def _sums(vectors: torch.Tensor, weights_E: torch.Tensor, side: _Side) -> torch.Tensor:
    """In the precision of the weights, also where the vectors come from an encoder in 16 bits."""
    neighbours, starts, order = side
    weights_E = weights_E if order is None else weights_E[order]
    with torch.autocast(vectors.device.type, enabled=False):
        table = vectors.to(weights_E.dtype).contiguous()
        return F.embedding_bag(neighbours, table, starts, mode="sum", per_sample_weights=weights_E.contiguous())


def _dots(own: torch.Tensor, other: torch.Tensor, ends: _Ends, dtype: torch.dtype) -> torch.Tensor:
    """(E,), some pairs at a time, so that vectors of all never exist at once."""
    own, other = own.to(dtype), other.to(dtype)
    parts = zip(ends[0].split(_PAIRS_AT_ONCE), ends[1].split(_PAIRS_AT_ONCE), strict=True)
    return torch.cat([(own.index_select(0, here) * other.index_select(0, there)).sum(1) for here, there in parts])


def _softmax(scores_E: torch.Tensor, ends_E: torch.Tensor, count: int) -> torch.Tensor:
    highest = scores_E.new_full((count,), -torch.inf).scatter_reduce(0, ends_E, scores_E.detach(), "amax")
    exps_E = (scores_E - highest[ends_E]).exp()
    return exps_E / exps_E.new_zeros(count).index_add(0, ends_E, exps_E)[ends_E]
