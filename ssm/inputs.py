"""What a scan is of: the one argument that the door hands to a backend.

Legend: as in ``ssm.scan``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .order import FORWARD, Order


class ScanInputs(NamedTuple):
    """Tensors and options of one scan, shapes checked by ``selective_scan``; also the flat argument list of autograd functions.

    Attributes:
        u: (B, L, D), as are delta and z.
        A: (D, N).
        B: (B, L, G, N), as is C.
        D: (D,), as is delta_bias.
        initial_state: (B, D, N).
        keep: bool (B, L), or (B, G, L) where groups walk differently, in walk order: 0 where the state is emptied before the token.
        softplus: step size is softplus(delta + delta_bias).
        orders: one for all groups, or one per group.
    """

    u: torch.Tensor
    delta: torch.Tensor
    A: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor
    D: torch.Tensor | None = None
    z: torch.Tensor | None = None
    delta_bias: torch.Tensor | None = None
    initial_state: torch.Tensor | None = None
    keep: torch.Tensor | None = None
    softplus: bool = False
    orders: tuple[Order, ...] = (FORWARD,)

    @property
    def differentiable(self) -> tuple[torch.Tensor | None, ...]:
        """The tensors that get a gradient, in the order of the fields."""
        return self[:9]

    @property
    def wants_gradient(self) -> bool:
        """Whether a backward may follow. An autograd function cannot tell: its ``needs_input_grad`` is true under ``no_grad`` too."""
        return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in self.differentiable)

    @property
    def groups(self) -> int:
        return self.B.shape[2]

    def group(self, g: int) -> "ScanInputs":
        """The scan of group ``g`` alone: groups share nothing."""
        wide = self.u.shape[2] // self.groups
        own = slice(g * wide, (g + 1) * wide)

        def part(x: torch.Tensor | None) -> torch.Tensor | None:
            return None if x is None else x[..., own]

        return self._replace(
            u=self.u[..., own],
            delta=self.delta[..., own],
            A=self.A[own],
            B=self.B[:, :, g : g + 1],
            C=self.C[:, :, g : g + 1],
            D=part(self.D),
            z=part(self.z),
            delta_bias=part(self.delta_bias),
            initial_state=None if self.initial_state is None else self.initial_state[:, own],
            keep=self.keep if self.keep is None or self.keep.ndim == 2 else self.keep[:, g],
            orders=(self.orders[g if len(self.orders) > 1 else 0],),
        )


def orders_of(order: Order | Sequence[Order], groups: int) -> tuple[Order, ...]:
    """One order where all groups walk alike, else one per group.

    Raises:
        ValueError: another number of orders than 1 or ``groups``.
    """
    orders = (order,) if isinstance(order, Order) else tuple(order)
    if len(orders) not in {1, groups}:
        raise ValueError(f"{len(orders)} orders do not fit {groups} groups of B and C; give one, or one per group")
    return orders[:1] if len(set(orders)) == 1 else orders


def starts_kept(seq_idx_BL: torch.Tensor, orders: tuple[Order, ...]) -> torch.Tensor:
    """``ScanInputs.keep``: 0 at the first token of every sequence but the first that a walk meets, else 1."""
    kept = [torch.nn.functional.pad((walked := o.apply(seq_idx_BL))[:, 1:] == walked[:, :-1], (1, 0), value=True) for o in orders]
    return kept[0] if len(kept) == 1 else torch.stack(kept, 1)
