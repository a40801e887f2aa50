"""What training minimises. A loss owns its negatives.

Legend: B sequences, L inputs, P valid positions, M candidates, N items, D model width.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F

from .batches import EncodedItems, TrainBatch


class Loss(Protocol):
    """(user vectors at every valid position, the batch, the encoded items) -> a scalar, mean over positions."""

    def rows(self, batch: TrainBatch) -> torch.Tensor | None:
        """Rows that have to be encoded for this batch, ascending; None: the whole catalogue."""

    def __call__(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        """``users_PD`` is in the order of ``batch.targets_P``; ``items`` holds the catalogue, or at least every item of the batch."""


class FullSoftmax:
    """Cross-entropy of the next item among the whole catalogue. Logits never exist whole: a chunk of positions at a time.

    Args:
        chunk_mb: MiB of logits at a time.
        candidates_R: int64 rows, ascending, that compete; None: all. Every item of a batch must be among them.
    """

    def __init__(self, chunk_mb: int = 32, candidates_R: torch.Tensor | None = None) -> None:
        self.chunk_bytes = chunk_mb * 2**20
        self.candidates_R = candidates_R

    def rows(self, batch: TrainBatch) -> torch.Tensor | None:
        if self.candidates_R is not None:
            self.candidates_R = self.candidates_R.to(batch.sequences.items_BL.device)
        return self.candidates_R

    def __call__(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        positions = max(1, self.chunk_bytes // (4 * len(items.vectors_RD)))
        return _ChunkedCrossEntropy.apply(users_PD, items.vectors_RD, items.place(batch.targets_P), positions)  # type: ignore[no-untyped-call]


class InBatchSoftmax:
    """MicroLens's own loss: candidates are all item slots of the batch, logits are corrected by log popularity.

    logit(p, m) = <h_p, e_m> - log(count_m / total). A candidate that its user watched anywhere in the sequence is masked, except
    the one slot that is the position's target. Raw dot product, no temperature.
    Source: westlake-repl/MicroLens, SASRec; Yi et al., "Sampling-bias-corrected neural modeling" (2019).

    Args:
        train_counts_N: how often each item occurs in training; items of a batch count at least 1.
    """

    def __init__(self, train_counts_N: torch.Tensor) -> None:
        counts = train_counts_N.double().clamp_min(1)
        self.log_popularity_N = torch.log(counts / counts.sum()).float()

    def rows(self, batch: TrainBatch) -> torch.Tensor | None:
        return batch.sequences.items_BL.unique()

    def __call__(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        slots_BL = batch.sequences.items_BL
        real_BL = batch.sequences.valid_BL
        candidates_M = slots_BL[real_BL]
        slot_BL = torch.full_like(slots_BL, -1)
        slot_BL[real_BL] = torch.arange(len(candidates_M), device=slots_BL.device)
        self.log_popularity_N = self.log_popularity_N.to(users_PD.device)
        logits_PM = users_PD @ items.at(candidates_M).T - self.log_popularity_N[candidates_M]
        own_BN = torch.zeros(len(slots_BL), len(items.vectors_RD), dtype=torch.bool, device=slots_BL.device)
        user_of_slot = real_BL.nonzero()[:, 0]
        own_BN[user_of_slot, items.place(candidates_M)] = True
        user_of_position = batch.valid_BL.nonzero()[:, 0]
        masked_PM = own_BN[:, items.place(candidates_M)][user_of_position]
        target_P = slot_BL[:, 1:][batch.valid_BL]
        masked_PM[torch.arange(len(target_P), device=target_P.device), target_P] = False
        return F.cross_entropy(logits_PM.masked_fill(masked_PM, -torch.inf), target_P)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of users @ items.T, forward and both gradients in one pass over chunks of positions.

    The gradient of the logits is known as soon as the chunk's softmax is, so nothing is recomputed in the backward.
    """

    @staticmethod
    def forward(ctx: Any, users_PD: torch.Tensor, items_ND: torch.Tensor, targets_P: torch.Tensor, positions: int) -> torch.Tensor:
        users, items = users_PD.float(), items_ND.float()
        count = max(len(users), 1)
        total = users.new_zeros(())
        grad_users, grad_items = torch.empty_like(users), torch.zeros_like(items)
        # One buffer for every chunk: fresh memory of this size costs more in page faults than the arithmetic on it.
        buffer = users.new_empty(min(positions, len(users)), len(items))
        for start in range(0, len(users), positions):
            chunk, target = users[start : start + positions], targets_P[start : start + positions, None]
            logits = torch.mm(chunk, items.T, out=buffer[: len(chunk)])
            highest = logits.amax(1, keepdim=True)
            own = logits.gather(1, target)
            exps = logits.sub_(highest).exp_()
            sums = exps.sum(1, keepdim=True)
            total += (sums.log() + highest - own).sum()
            grad_logits = exps.div_(sums * count)
            grad_logits.scatter_add_(1, target, torch.full_like(own, -1.0 / count))
            grad_users[start : start + positions] = grad_logits @ items
            grad_items.addmm_(grad_logits.T, chunk)
        ctx.save_for_backward(grad_users.to(users_PD.dtype), grad_items.to(items_ND.dtype))
        return total / count

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_users, grad_items = ctx.saved_tensors
        return grad_users * grad, grad_items * grad, None, None
