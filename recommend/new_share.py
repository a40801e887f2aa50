"""Which items a training step takes for new.

Legend: N items of the catalogue, R some of them.
"""

import torch
from torch import nn


class NewShare(nn.Module):
    """How often a training step takes an item for one that nobody watched.

    The same share p of all items; or, with ``half_views`` h, p n / (n + h) of those that training sees n times: an item that is watched
    often learns its id in any case, one that is watched rarely keeps the few steps that it has. Holds no weights, and is in no file.

    Args:
        share: p, from 0 to below 1; 0: none is.
        views_N: n, how often training sees each item.
        half_views: h, the views with which an item has half of p; 0: all have p.
    """

    share_N: torch.Tensor | None

    def __init__(self, share: float, views_N: torch.Tensor | None = None, half_views: float = 0.0) -> None:
        super().__init__()
        self.share = share
        grown_N = None
        if half_views:
            assert views_N is not None, "a share that grows with the views needs them"
            grown_N = (share * views_N.double() / (views_N + half_views)).float()
        self.register_buffer("share_N", grown_N, persistent=False)

    @property
    def ever(self) -> bool:
        """Is any item ever taken for new?"""
        return self.share > 0

    def of_all(self, items: int, device: torch.device) -> torch.Tensor:
        """(N,) bool, drawn: which of the catalogue are new in this step."""
        return torch.rand(items, device=device) < (self.share if self.share_N is None else self.share_N)

    def of_rows(self, rows_R: torch.Tensor) -> torch.Tensor:
        """(R,) bool, drawn for each place: which of the items ``rows_R`` are new there."""
        return torch.rand(rows_R.shape, device=rows_R.device) < (self.share if self.share_N is None else self.share_N[rows_R])
