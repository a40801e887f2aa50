"""What training minimises. A loss owns its negatives.

Legend: B sequences, L inputs, P valid positions, M candidates, N items, T items of a tile, D model width.
"""

import math
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F

from ..errors import InputError
from . import cut_cross_entropy
from .batches import EncodedItems, TrainBatch
from .side_by_side import side_by_side

_LOG2_E = 1 / math.log(2)
# Bytes of a tile's logits on a CPU, per thread: 1 MiB stays in a core's second cache, and the products of such a tile are
# still fast. Threads wait for each other at every pass over a tile, so each gets as much as one thread alone.
_TILE_BYTES = 2**20
# Positions of a thread, at least: each has a gradient of all items of its own.
_LEAST_POSITIONS = 64


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
        kernel: ``chunked``, which is this; or ``cut-cross-entropy``, see there.
    """

    def __init__(
        self,
        chunk_mb: int = 32,
        candidates_R: torch.Tensor | None = None,
        kernel: Literal["chunked", "cut-cross-entropy"] = "chunked",
    ) -> None:
        self.chunk_bytes = chunk_mb * 2**20
        self.candidates_R = candidates_R
        self.kernel = kernel

    def rows(self, batch: TrainBatch) -> torch.Tensor | None:
        if self.candidates_R is not None:
            self.candidates_R = self.candidates_R.to(batch.sequences.items_BL.device)
        return self.candidates_R

    def __call__(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        if self.kernel == "cut-cross-entropy":
            return self._cut(users_PD, batch, items)
        device, dtype = users_PD.device.type, torch.float32
        # Not float16: the gradients are computed here, before a loss scaler could keep them from its underflow.
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
            dtype = torch.bfloat16
        positions = max(1, self.chunk_bytes // (dtype.itemsize * len(items.vectors_RD)))
        arguments = (users_PD, items.vectors_RD, items.place(batch.targets_P), positions, dtype)
        with torch.autocast(device, enabled=False):
            return _ChunkedCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]

    def _cut(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        device = users_PD.device
        if reason := cut_cross_entropy.why_not(device):
            raise InputError(f"loss.kernel cut-cross-entropy cannot be used: {reason}; or take loss.kernel chunked.")
        if not torch.is_autocast_enabled(device.type):
            raise InputError(
                "loss.kernel cut-cross-entropy works in 16 bits: set train.precision to bf16-mixed, or loss.kernel to chunked."
            )
        dtype = torch.get_autocast_dtype(device.type)
        with torch.autocast(device.type, enabled=False):
            return cut_cross_entropy.cross_entropy(users_PD, items.vectors_RD, items.place(batch.targets_P), dtype)


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
        return batch.slots_M.unique()

    def __call__(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        candidates_M = batch.slots_M
        real_BL = batch.sequences.valid_BL
        own_slots_BL = batch.sequences.items_BL
        self.log_popularity_N = self.log_popularity_N.to(users_PD.device)
        logits_PM = users_PD @ items.at(candidates_M).T - self.log_popularity_N[candidates_M]
        own_BN = torch.zeros(len(own_slots_BL), len(items.vectors_RD), dtype=torch.bool, device=users_PD.device)
        own_BN[real_BL.nonzero()[:, 0], items.place(own_slots_BL[real_BL])] = True
        user_of_position = batch.valid_BL.nonzero()[:, 0]
        masked_PM = own_BN[:, items.place(candidates_M)][user_of_position]
        target_P = batch.target_slots_P
        masked_PM[torch.arange(len(target_P), device=target_P.device), target_P] = False
        return F.cross_entropy(logits_PM.masked_fill(masked_PM, -torch.inf), target_P)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of users @ items.T, forward and both gradients in one pass over chunks of positions.

    The gradient of the logits is known as soon as the chunk's softmax is, so nothing is recomputed in the backward. What the
    gradients owe to the targets alone, -1 at each, is subtracted from the gradients and not from the large matrix. The matrix
    products are computed in ``dtype``; maxima, exponentials' arguments, sums and both gradients are float32 whatever it is.
    """

    @staticmethod
    def forward(
        ctx: Any, users_PD: torch.Tensor, items_ND: torch.Tensor, targets_P: torch.Tensor, positions: int, dtype: torch.dtype
    ) -> torch.Tensor:
        # Logits in base 2: 2**x takes a third of the time of e**x on a CPU.
        users, items = (users_PD.float() * _LOG2_E).to(dtype), items_ND.to(dtype)
        count = max(len(users), 1)
        grad_users = users.new_zeros(users.shape, dtype=torch.float32)
        threads = torch.get_num_threads() if users.device.type == "cpu" else 1
        parts = max(1, min(threads, len(users) // _LEAST_POSITIONS))
        # Chunks of one size, and one buffer for all: fresh memory of this size costs more in page faults than arithmetic on it. It is
        # taken here, as what a thread takes goes back to the system with it.
        share = max(1, -(-len(users) // parts))
        positions = -(-share // -(-share // max(1, positions // parts)))
        calls = [
            (*part, items, users.new_empty(positions * len(items)), items.new_zeros(items.shape, dtype=torch.float32), 1 / count)
            for part in zip(users.chunk(parts), grad_users.chunk(parts), strict=True)
        ]
        total = torch.stack(side_by_side(_share, calls)).sum()
        grad_items = calls[0][4]
        for call in calls[1:]:
            grad_items += call[4]
        users, own = users.float(), items[targets_P].float()
        total -= (users * own).sum()
        grad_users.sub_(own, alpha=1 / count)
        grad_items.index_add_(0, targets_P, users, alpha=-1 / (count * _LOG2_E))
        ctx.save_for_backward(grad_users.to(users_PD.dtype), grad_items.to(items_ND.dtype))
        return total / (count * _LOG2_E)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_users, grad_items = ctx.saved_tensors
        return grad_users * grad, grad_items * grad, None, None, None


def _share(
    users_PD: torch.Tensor,
    grad_users_PD: torch.Tensor,
    items_ND: torch.Tensor,
    buffer: torch.Tensor,
    grad_items_ND: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Sum of the log2 of the softmax's denominators over some positions, a chunk that fills the buffer at a time; adds to both
    gradients."""
    total = users_PD.new_zeros((), dtype=torch.float32)
    positions = len(buffer) // len(items_ND)
    for chunk, grad_chunk in zip(users_PD.split(positions), grad_users_PD.split(positions), strict=True):
        total += _softmax_gradients(chunk, items_ND, buffer, grad_chunk, grad_items_ND, scale).sum()
    return total


def _softmax_gradients(
    users_PD: torch.Tensor,
    items_ND: torch.Tensor,
    buffer: torch.Tensor,
    grad_users_PD: torch.Tensor,
    grad_items_ND: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """(P, 1) log2 of sum 2**(users @ items.T); adds scale times its gradients by the natural logits to both gradients.

    A tile of items at a time, so that what the products leave is still in the cache when it is read. A tile's exponentials
    are taken against the highest logit so far, and neither they nor the tile are touched again when a higher one comes or when
    the sum is known: the (P, D) factors of the products are scaled instead. Source: Milakov and Gimelshein, "Online normalizer
    calculation for softmax" (2018).
    """
    tile = _tile_items(users_PD, items_ND)
    highest_P1 = users_PD.new_full((len(users_PD), 1), -torch.inf, dtype=torch.float32)
    sums_P1 = torch.zeros_like(highest_P1)
    tiles = []
    for place, items_TD in enumerate(items_ND.split(tile)):
        first = place * tile * len(users_PD)
        exps_PT = buffer[first : first + len(users_PD) * len(items_TD)].view(len(users_PD), -1)
        logits_PT = torch.mm(users_PD, items_TD.T, out=exps_PT).float()
        before_P1, highest_P1 = highest_P1, torch.maximum(highest_P1, logits_PT.amax(1, keepdim=True))
        shrink_P1 = torch.exp2(before_P1 - highest_P1)
        logits_PT.sub_(highest_P1).exp2_()
        sums_P1 = sums_P1 * shrink_P1 + logits_PT.sum(1, keepdim=True)
        if logits_PT is not exps_PT:
            exps_PT.copy_(logits_PT)
        grad_users_PD.mul_(shrink_P1).add_(exps_PT @ items_TD)
        tiles.append((exps_PT, highest_P1))
    share_P1 = scale / sums_P1
    grad_users_PD.mul_(share_P1)
    for (exps_PT, reference_P1), grad_TD in zip(tiles, grad_items_ND.split(tile), strict=True):
        weighted_PD = users_PD * (torch.exp2(reference_P1 - highest_P1) * share_P1 / _LOG2_E)
        grad_TD.add_(exps_PT.T @ weighted_PD.to(users_PD.dtype))
    return sums_P1.log2() + highest_P1


def _tile_items(users_PD: torch.Tensor, items_ND: torch.Tensor) -> int:
    """T: on a CPU a multiple of 64 where there is room, for which products are fastest; elsewhere N, to launch few kernels."""
    if users_PD.device.type != "cpu":
        return len(items_ND)
    fitting = max(1, _TILE_BYTES * torch.get_num_threads() // (users_PD.element_size() * len(users_PD)))
    return fitting // 64 * 64 or fitting
