"""Losses over a sample of the catalogue: for catalogues whose items are too many to be scored at every step.

All positions of a step share its negatives, so that scores are one matrix product. A negative that is a position's target does not
count there.

Legend: P predictions, M negatives, N items, R rows, D model width.
"""

from typing import Literal

import torch
import torch.nn.functional as F

from .batches import EncodedItems, TrainBatch
from .negatives import Drawn, Negatives


class _Sampled:
    """What these losses share: which items a step needs, and the scores of targets and negatives.

    Args:
        negatives: draws items.
    """

    def __init__(self, negatives: Negatives) -> None:
        self.negatives = negatives

    def rows(self, batch: TrainBatch) -> torch.Tensor | None:
        """Items of the step, in all processes, which may share the encoding of them; and the negatives."""
        return torch.cat([batch.slots_M, self.negatives.draw(batch).rows_M]).unique()

    def scores(
        self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Drawn]:
        """((P,) of targets, (P, M) of negatives, (P, M) which of these count, what was drawn)."""
        drawn = self.negatives.draw(batch)
        targets_P = batch.targets_P
        positive_P = (users_PD * items.at(targets_P)).sum(1).float()
        negative_PM = (users_PD @ items.at(drawn.rows_M).T).float()
        return positive_P, negative_PM, drawn.rows_M[None, :] != targets_P[:, None], drawn


class SampledSoftmax(_Sampled):
    """Cross-entropy of the next item among a sample.

    ``corrected``: each negative weighs 1 over its expected number, so that their sum estimates that of the whole catalogue without the
    target, and the target, which is always there, is not corrected: Khrylchenko et al., "Correcting the LogQ Correction" (RecSys 2025).
    With every item drawn once this is the full softmax exactly. ``classic``: log q is subtracted from all logits, the target's too, as
    in Yi et al., "Sampling-bias-corrected neural modeling" (RecSys 2019). ``none``: no correction; popular negatives are pushed down.

    Args:
        negatives: draws items.
        logq: which correction.
    """

    def __init__(self, negatives: Negatives, logq: Literal["corrected", "classic", "none"] = "corrected") -> None:
        super().__init__(negatives)
        self.logq = logq

    def __call__(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        positive_P, negative_PM, counts_PM, drawn = self.scores(users_PD, batch, items)
        match self.logq:
            case "corrected":
                left_P = torch.log1p(-drawn.log_q_N[batch.targets_P].exp().clamp_max(1 - 1e-6))
                drawn_P = counts_PM.sum(1).clamp_min(1).log()
                negative_PM = negative_PM - drawn.log_q_N[drawn.rows_M] + (left_P - drawn_P)[:, None]
            case "classic":
                positive_P = positive_P - drawn.log_q_N[batch.targets_P]
                negative_PM = negative_PM - drawn.log_q_N[drawn.rows_M]
            case "none":
                pass
        logits = torch.cat([positive_P[:, None], negative_PM.masked_fill(~counts_PM, -torch.inf)], 1)
        return (logits.logsumexp(1) - positive_P).mean()


class BinaryCrossEntropy(_Sampled):
    """Is this the next item, or one that was drawn? The negatives together weigh as much as the target.

    With uniform negatives and in expectation the loss of Kang and McAuley, "Self-Attentive Sequential Recommendation" (2018), which
    draws one negative for each position.
    """

    def __call__(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        positive_P, negative_PM, counts_PM, _ = self.scores(users_PD, batch, items)
        return (F.softplus(-positive_P) + _mean_over(F.softplus(negative_PM), counts_PM)).mean()


class GeneralisedBce(_Sampled):
    """gBCE: the target's probability to the power beta, against the overconfidence that few negatives leave.

    beta = a (t (1 - 1 / a) + 1 / a), a = M / (N - 1). Source: Petrov and Macdonald, "gSASRec" (RecSys 2023), eq. 12 and 13.

    Args:
        negatives: draws items, uniformly in the paper.
        num_items: N that compete.
        count: M, negatives of a step.
        calibration: t from 0 (BCE) to 1 (probabilities as those of all negatives).
    """

    def __init__(self, negatives: Negatives, num_items: int, count: int, calibration: float = 0.75) -> None:
        super().__init__(negatives)
        rate = min(1.0, count / max(num_items - 1, 1))
        self.beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)

    def __call__(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        positive_P, negative_PM, counts_PM, _ = self.scores(users_PD, batch, items)
        total_P = self.beta * F.softplus(-positive_P) + (F.softplus(negative_PM) * counts_PM).sum(1)
        return (total_P / (1 + counts_PM.sum(1))).mean()


class Bpr(_Sampled):
    """The target scores higher than what was drawn. Source: Rendle et al., "BPR" (UAI 2009)."""

    def __call__(self, users_PD: torch.Tensor, batch: TrainBatch, items: EncodedItems) -> torch.Tensor:
        positive_P, negative_PM, counts_PM, _ = self.scores(users_PD, batch, items)
        return _mean_over(F.softplus(negative_PM - positive_P[:, None]), counts_PM).mean()


def _mean_over(values_PM: torch.Tensor, counts_PM: torch.Tensor) -> torch.Tensor:
    return (values_PM * counts_PM).sum(1) / counts_PM.sum(1).clamp_min(1)
