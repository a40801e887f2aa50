"""Metrics with intervals from exact ranks, and what lists say beside accuracy.

One target per question. An interval covers 95 % and is about the users: had other users of the same kind been asked.
It does not cover another seed, split or data set.

Shapes: Q questions, K places of a list, N items, D width of item vectors.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ..errors import VivimError
from .ranker import Ranks, TopK

Z_95 = 1.959963984540054
RESAMPLES = 1000
_VECTOR_NUMBERS = 2**23  # of (lists, K, D) at a time: 32 MiB


@dataclass(frozen=True)
class Estimate:
    """A mean over users and its 95 % interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def hit_rate(ranks: Ranks, k: int) -> Estimate:
    """Share of targets at rank <= k, with Wilson's interval (Wilson 1927)."""
    n = len(ranks)
    _need(n, k)
    p = float((ranks.rank <= k).mean())
    centre = (p + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 / (1 + Z_95**2 / n) * math.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n * n))
    # At 0 and 1 the bound is the value itself; rounding must not put it on the other side.
    return Estimate(p, min(max(centre - half, 0.0), p), max(min(centre + half, 1.0), p))


def ndcg(ranks: Ranks, k: int, *, seed: int = 0) -> Estimate:
    """Mean of 1 / log2(rank + 1) where rank <= k, else 0; the ideal is 1 as there is one target. Bootstrap interval."""
    _need(len(ranks), k)
    gains = np.where(ranks.rank <= k, 1 / np.log2(ranks.rank + 1), 0.0)
    return bootstrap_mean(gains, seed=seed)


def mrr(ranks: Ranks, *, seed: int = 0) -> Estimate:
    """Mean of 1 / rank over the whole catalogue; a masked target counts 0. Bootstrap interval."""
    _need(len(ranks), 1)
    return bootstrap_mean(1 / ranks.rank, seed=seed)


def bootstrap_mean(values: npt.NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Mean of ``values`` (Q,) with the percentile bootstrap over them (Efron 1979).

    Drawing Q values with replacement is drawing how often each distinct value comes (a multinomial), which is cheap since
    ranks within a list take few distinct values.
    """
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    at_once = max(1, 2**22 // len(distinct))  # 32 MiB of counts
    sizes = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    draws = (rng.multinomial(len(values), counts / len(values), size=size) for size in sizes)
    means = np.concatenate([draw @ distinct for draw in draws]) / len(values)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def accuracy(ranks: Ranks, ks: Sequence[int], *, seed: int = 0) -> dict[str, Estimate]:
    """``hit_rate@k`` and ``ndcg@k`` for every k, and ``mrr``, checked against each other by ``arithmetic_check``.

    Raises:
        VivimError: the numbers contradict each other: a defect of this program.
    """
    ks = sorted(set(ks))
    result = {f"hit_rate@{k}": hit_rate(ranks, k) for k in ks} | {f"ndcg@{k}": ndcg(ranks, k, seed=seed) for k in ks}
    for a, b in itertools.pairwise(ks):
        hits, gains = (result[f"hit_rate@{a}"], result[f"hit_rate@{b}"]), (result[f"ndcg@{a}"], result[f"ndcg@{b}"])
        arithmetic_check(hits[0].value, gains[0].value, hits[1].value, gains[1].value, a, b, rank_step=0.5)
    return result | {"mrr": mrr(ranks, seed=seed)}


def arithmetic_check(
    hr_a: float, ndcg_a: float, hr_b: float, ndcg_b: float, k_a: int, k_b: int, *, rank_step: float = 1.0, rounding: float = 0.0
) -> None:
    """Can these four numbers come from one ranking with one target per user?

    A hit between the ranks k_a + rank_step and k_b adds 1 to the hits and between 1 / log2(k_b + 1) and
    1 / log2(k_a + rank_step + 1) to NDCG, so (ndcg_b - ndcg_a) / (hr_b - hr_a) lies between these two.

    Args:
        hr_a: hit rate at ``k_a``; ``hr_b`` at ``k_b`` > ``k_a``; likewise ``ndcg_a`` and ``ndcg_b``.
        rank_step: 1 for whole ranks, 0.5 where ties share their average rank.
        rounding: largest rounding error of each number; 0.00005 for four printed decimals.

    Raises:
        VivimError: they cannot.
    """
    assert 0 < k_a < k_b, (k_a, k_b)
    least, most = 1 / math.log2(k_b + 1), 1 / math.log2(k_a + rank_step + 1)
    hits, gain = hr_b - hr_a, ndcg_b - ndcg_a
    slack = 2 * rounding + 1e-9
    if hits < -slack or not least * (hits - slack) - slack <= gain <= most * (hits + slack) + slack:
        ratio = f"{gain / hits:.4f}" if hits else "undefined"
        raise VivimError(
            f"impossible numbers: between rank {k_a} and {k_b} the hit rate grows by {hits:.5f} and NDCG by {gain:.5f};"
            f" their ratio is {ratio} but one target per user allows {least:.4f} to {most:.4f}. One of the four is not what it says it is."
        )


def coverage(lists: TopK, k: int) -> float:
    """Share of the catalogue that at least one of the first-``k`` lists holds."""
    items = lists.items[:, :k]
    assert items.shape[1] == k, (lists.items.shape, k)
    return len(np.unique(items[items >= 0])) / lists.num_items


def mean_popularity(lists: TopK, k: int, train_counts: npt.NDArray[np.int64]) -> float:
    """Mean number of training interactions of the items in the first-``k`` lists; ``train_counts`` is (N,)."""
    items = lists.items[:, :k]
    assert items.shape[1] == k, (lists.items.shape, k)
    assert len(train_counts) == lists.num_items
    shown = items[items >= 0]
    return float(train_counts[shown].mean()) if len(shown) else 0.0


def gini(lists: TopK, k: int) -> float:
    """Gini coefficient of how often each item of the catalogue stands in the first-``k`` lists; never recommended items count.

    0: all equally often; (N - 1) / N: one item alone. With counts x in ascending order it is
    sum over i of (2 i - N - 1) x_i / (N sum x), i from 1. Source: Gini 1912; for lists Ge et al., "Beyond accuracy" (RecSys 2010).
    """
    items = lists.items[:, :k]
    assert items.shape[1] == k, (lists.items.shape, k)
    times_N = np.sort(np.bincount(items[items >= 0], minlength=lists.num_items))
    total = int(times_N.sum())
    if not total:
        return 0.0
    weights_N = 2 * np.arange(1, lists.num_items + 1) - lists.num_items - 1
    return int(weights_N @ times_N) / (lists.num_items * total)


def intra_list_diversity(lists: TopK, k: int, vectors_ND: torch.Tensor) -> float:
    """Mean over lists of the mean of 1 - cosine over the pairs of items in a first-``k`` list; lists of fewer than 2 items are left out.

    0: all items of a list point the same way; 1: they are orthogonal. An item whose vector is 0 has cosine 0 to everything. Numbers of
    two models are of two spaces, unless their vectors are the same. Source: Ziegler et al., "Improving recommendation lists through
    topic diversification" (WWW 2005), with cosines.

    Args:
        vectors_ND: of the whole catalogue, on any device.
    """
    items = torch.from_numpy(lists.items[:, :k].astype(np.int64))
    assert items.shape[1] == k, (lists.items.shape, k)
    assert len(vectors_ND) == lists.num_items
    # The first row stands for places without an item.
    unit_ND = F.pad(F.normalize(vectors_ND.detach().double().cpu(), dim=1), (0, 0, 1, 0))
    total, counted = 0.0, 0
    for part_BK in items.split(max(1, _VECTOR_NUMBERS // (k * unit_ND.shape[1]))):
        listed_B = (part_BK >= 0).sum(1)
        vectors_BKD = unit_ND[part_BK + 1]
        # Of all ordered pairs: the square of the sum, less every item with itself.
        cosines_B = vectors_BKD.sum(1).square().sum(1) - vectors_BKD.square().sum((1, 2))
        pairs_B = (listed_B * (listed_B - 1)).double()
        enough_B = listed_B >= 2
        total += float((1 - cosines_B[enough_B] / pairs_B[enough_B]).sum())
        counted += int(enough_B.sum())
    return total / counted if counted else 0.0


def _need(questions: int, k: int) -> None:
    assert questions > 0, "no questions were asked"
    assert k >= 1, k
