"""Rows that hold several histories, one after another, for models that read one history per row.

Legend: B rows, L places of a row, H histories, M places of the longest, D width.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rows:
    """Where the histories of packed rows lie.

    Attributes:
        number_BL: which history each place belongs to, counted over all rows; a gap between histories counts as one.
        since_BL: how many places it is from its history's first.
        count: H.
        longest: M.
    """

    number_BL: torch.Tensor
    since_BL: torch.Tensor
    count: int
    longest: int

    @staticmethod
    def of(seq_idx_BL: torch.Tensor) -> "Rows":
        """Histories as ``VectorModel`` is told of them: one begins where the value changes, and with every row."""
        places_L = torch.arange(seq_idx_BL.shape[1], device=seq_idx_BL.device)
        begins_BL = seq_idx_BL[:, 1:] != seq_idx_BL[:, :-1]
        begins_BL = torch.nn.functional.pad(begins_BL, (1, 0), value=True)
        since_BL = places_L - (begins_BL * places_L).cummax(1).values
        number_BL = begins_BL.flatten().cumsum(0).view_as(begins_BL) - 1
        count = int(begins_BL.sum())
        return Rows(number_BL, since_BL, count, int(since_BL.max()) + 1 if since_BL.numel() else 0)

    def apart(self, x_BLD: torch.Tensor) -> torch.Tensor:
        """(H, M, D): one history per row, zeros behind it."""
        apart_HMD = x_BLD.new_zeros(self.count, self.longest, x_BLD.shape[2])
        return apart_HMD.index_put((self.number_BL, self.since_BL), x_BLD)

    def together(self, x_HMD: torch.Tensor) -> torch.Tensor:
        """(B, L, D), the inverse of ``apart``."""
        return x_HMD[self.number_BL, self.since_BL]
