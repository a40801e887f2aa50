"""Where negatives come from: items that stand in for the whole catalogue in a step.

What is drawn follows from the batch's step seed and its items alone, so that every process of a training draws the same.

Legend: M draws, N items, R some rows.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from .batches import TrainBatch


@dataclass(frozen=True)
class Drawn:
    """Negatives of a step.

    Attributes:
        rows_M: int64; an item may be there several times.
        log_q_N: natural logarithm of the chance that one draw gives an item, for every item of the catalogue.
    """

    rows_M: torch.Tensor
    log_q_N: torch.Tensor


class Negatives(Protocol):
    """Draws items."""

    def draw(self, batch: TrainBatch) -> Drawn:
        """The same for the same batch, on the batch's device."""


class Uniform:
    """Every candidate alike.

    Args:
        candidates_R: int64 rows that compete.
        num_items: N.
        count: M.
    """

    def __init__(self, candidates_R: torch.Tensor, num_items: int, count: int) -> None:
        self.candidates_R = candidates_R
        self.count = count
        self.log_q_N = torch.full((num_items,), -torch.inf)
        self.log_q_N[candidates_R] = -torch.tensor(float(len(candidates_R))).log()

    def draw(self, batch: TrainBatch) -> Drawn:
        device = batch.sequences.items_BL.device
        places_M = torch.randint(len(self.candidates_R), (self.count,), generator=_generator(batch, 1))
        self.log_q_N = self.log_q_N.to(device)
        return Drawn(self.candidates_R[places_M].to(device), self.log_q_N)


class ByPopularity:
    """Items in proportion to how often training saw them, to a power.

    Args:
        train_counts_N: occurrences.
        count: M.
        power: 1: as often as they occur; 0: uniform over what occurs.
    """

    def __init__(self, train_counts_N: torch.Tensor, count: int, power: float = 1.0) -> None:
        weight_N = torch.where(train_counts_N > 0, train_counts_N.double() ** power, 0.0)
        self.cumulative_N = weight_N.cumsum(0)
        self.count = count
        self.log_q_N = (weight_N / weight_N.sum()).log().float()

    def draw(self, batch: TrainBatch) -> Drawn:
        device = batch.sequences.items_BL.device
        point_M = torch.rand(self.count, generator=_generator(batch, 2), dtype=torch.float64) * self.cumulative_N[-1]
        rows_M = torch.searchsorted(self.cumulative_N, point_M, right=True).clamp_max(len(self.cumulative_N) - 1)
        self.log_q_N = self.log_q_N.to(device)
        return Drawn(rows_M.to(device), self.log_q_N)


class InBatch:
    """Items of the step's sequences, of all processes: their vectors are needed anyway. As likely as they are popular.

    Args:
        train_counts_N: occurrences; items of a batch count at least 1.
        count: M, at most; fewer where the step has fewer slots.
    """

    def __init__(self, train_counts_N: torch.Tensor, count: int) -> None:
        counts_N = train_counts_N.double().clamp_min(1)
        self.log_q_N = (counts_N / counts_N.sum()).log().float()
        self.count = count

    def draw(self, batch: TrainBatch) -> Drawn:
        slots_M = batch.slots_M
        self.log_q_N = self.log_q_N.to(slots_M.device)
        if len(slots_M) > self.count:
            chosen_M = torch.randperm(len(slots_M), generator=_generator(batch, 3))[: self.count]
            slots_M = slots_M[chosen_M.to(slots_M.device)]
        return Drawn(slots_M, self.log_q_N)


class Mixed:
    """Draws of several kinds together; the chance of an item is the mean of its chances, weighted by their draws."""

    def __init__(self, *kinds: Negatives) -> None:
        self.kinds = kinds

    def draw(self, batch: TrainBatch) -> Drawn:
        drawn = [kind.draw(batch) for kind in self.kinds]
        rows_M = torch.cat([part.rows_M for part in drawn])
        weighted = [part.log_q_N + torch.tensor(max(len(part.rows_M), 1e-9) / len(rows_M)).log() for part in drawn]
        return Drawn(rows_M, torch.stack(weighted).logsumexp(0))


def _generator(batch: TrainBatch, kind: int) -> torch.Generator:
    return torch.Generator().manual_seed(batch.step_seed * 4 + kind)
