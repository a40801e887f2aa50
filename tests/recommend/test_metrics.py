"""Metrics as fractions by hand and against scikit-learn; intervals against scipy; the published tables against arithmetic."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_distances
from vivim.errors import VivimError
from vivim.recommend.metrics import (
    Estimate,
    accuracy,
    arithmetic_check,
    bootstrap_mean,
    coverage,
    gini,
    hit_rate,
    intra_list_diversity,
    mean_popularity,
    mrr,
    ndcg,
)
from vivim.recommend.ranker import Ranks, TopK, exact_ranks

INF = float("inf")


def ranks(*values: float) -> Ranks:
    return Ranks(np.array(values, np.float64), num_items=100)


def test_values_by_hand() -> None:
    asked = ranks(1, 3, 10, 10.5, 11, INF, 7.5, 50)
    assert hit_rate(asked, 1).value == Fraction(1, 8)
    assert hit_rate(asked, 10).value == Fraction(4, 8)  # 10.5 is not within 10
    assert hit_rate(asked, 11).value == Fraction(6, 8)
    assert ndcg(asked, 3).value == pytest.approx((1 + 1 / 2) / 8)  # log2(2) = 1, log2(4) = 2
    assert ndcg(asked, 10).value == pytest.approx((1 + 1 / 2 + 1 / math.log2(11) + 1 / math.log2(8.5)) / 8)
    expected = (1 + Fraction(1, 3) + Fraction(1, 10) + Fraction(2, 21) + Fraction(1, 11) + Fraction(2, 15) + Fraction(1, 50)) / 8
    assert mrr(asked).value == pytest.approx(float(expected))


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (1, 3), (581, 10_000), (2_905, 50_000)])
def test_hit_rate_has_wilsons_interval(hits: int, n: int) -> None:
    found = hit_rate(Ranks(np.where(np.arange(n) < hits, 1.0, 99.0), 100), 10)
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low <= found.value <= found.high


def test_the_bootstrap_agrees_with_the_normal_interval_where_that_holds() -> None:
    values = np.random.default_rng(1).choice([0.0, 0.3, 0.5, 1.0], size=20_000, p=[0.9, 0.04, 0.03, 0.03])
    found = bootstrap_mean(values)
    error = stats.sem(values)
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.12 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.12 * error)


def test_the_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(2).exponential(size=400)  # all distinct, skewed
    expected = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=3).confidence_interval
    found = bootstrap_mean(values, resamples=4000)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.015)


def test_the_bootstrap_is_repeatable_and_bounded_in_memory() -> None:
    values = 1 / np.arange(1, 30_001, dtype=np.float64)  # 30,000 distinct values: drawn in parts
    one, two = bootstrap_mean(values, seed=5, resamples=200), bootstrap_mean(values, seed=5, resamples=200)
    assert one == two != bootstrap_mean(values, seed=6, resamples=200)
    assert one.low < one.value < one.high


def test_all_the_same_has_no_width() -> None:
    assert mrr(ranks(2, 2, 2)) == Estimate(0.5, 0.5, 0.5)


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(1, 60).map(float), st.integers(2, 120).map(lambda n: n / 2), st.just(INF)), min_size=1, max_size=50))
def test_every_ranking_passes_the_arithmetic(values: list[float]) -> None:
    result = accuracy(ranks(*values), (20, 5, 10, 1, 40))
    assert list(result) == [f"{name}@{k}" for name in ("hit_rate", "ndcg") for k in (1, 5, 10, 20, 40)] + ["mrr"]
    for estimate in result.values():
        assert 0 <= estimate.low <= estimate.high <= 1
    for k in (1, 5, 10, 20, 40):
        assert result[f"ndcg@{k}"].value <= result[f"hit_rate@{k}"].value + 1e-12
    assert result["ndcg@1"].value == pytest.approx(result["hit_rate@1"].value)


# HR@10, NDCG@10, HR@20, NDCG@20 as printed. Source of the first: table image in the README of westlake-repl/MicroLens.
README_TABLE = {
    "DSSM": (0.0394, 0.0193, 0.0654, 0.0258),
    "LightGCN": (0.0372, 0.0177, 0.0618, 0.0239),
    "NFM": (0.0313, 0.0159, 0.0480, 0.0201),
    "DeepFM": (0.0350, 0.0170, 0.0571, 0.0225),
    "NextItNet": (0.0805, 0.0442, 0.1175, 0.0535),
    "GRU4Rec": (0.0782, 0.0423, 0.1147, 0.0515),
    "SASRec": (0.0909, 0.0517, 0.1278, 0.0610),
    "YouTube_ID": (0.0461, 0.0229, 0.0747, 0.0301),
    "YouTube_ID+V": (0.0392, 0.0188, 0.0648, 0.0252),
    "MMGCN_ID": (0.0141, 0.0065, 0.0247, 0.0092),
    "MMGCN_ID+V": (0.0214, 0.0103, 0.0374, 0.0143),
    "GRCN_ID": (0.0282, 0.0131, 0.0497, 0.0185),
    "GRCN_ID+V": (0.0306, 0.0144, 0.0547, 0.0204),
    "DSSM_ID+V": (0.0279, 0.0137, 0.0461, 0.0183),
    "SASRec_ID+V": (0.0799, 0.0415, 0.1217, 0.0520),
    "NextItNet_V": (0.0862, 0.0466, 0.1246, 0.0562),
    "GRU4Rec_V": (0.0954, 0.0517, 0.1377, 0.0623),
    "SASRec_V": (0.0948, 0.0515, 0.1364, 0.0619),
}
# Rows of the project's paper that no ranking can have.
IMPOSSIBLE = {
    "NFM": (0.0361, 0.0180, 0.0590, 0.0228),
    "SASRec": (0.0909, 0.0517, 0.1445, 0.0617),
    "YouTube_ID+V": (0.0392, 0.0188, 0.0654, 0.0225),
    "MMGCN_ID+V": (0.0214, 0.0146, 0.0457, 0.0177),
    "GRCN_ID+V": (0.0338, 0.0190, 0.0572, 0.0226),
    "DSSM_ID+V": (0.0279, 0.0173, 0.0510, 0.0210),
    "SASRec_ID+V": (0.0799, 0.0415, 0.1257, 0.0583),
    "NextItNet_V": (0.0862, 0.0466, 0.1426, 0.0562),
    "GRU4Rec_V": (0.0870, 0.0457, 0.1415, 0.0554),
    "proposed SR": (0.0920, 0.0530, 0.1455, 0.0625),
    "proposed frozen": (0.0809, 0.0425, 0.1267, 0.0590),
}


@pytest.mark.parametrize("row", README_TABLE.values(), ids=README_TABLE.keys())
def test_the_published_table_is_possible(row: tuple[float, float, float, float]) -> None:
    arithmetic_check(*row, 10, 20, rounding=0.00005)


@pytest.mark.parametrize("row", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_rows_of_the_paper_are_not(row: tuple[float, float, float, float]) -> None:
    with pytest.raises(VivimError, match=r"impossible numbers.*allows 0\.2277 to 0\.2789"):
        arithmetic_check(*row, 10, 20, rounding=0.00005)


def test_hits_cannot_shrink_and_ties_widen_the_bound() -> None:
    with pytest.raises(VivimError, match="impossible"):
        arithmetic_check(0.5, 0.3, 0.4, 0.27, 10, 20)
    gain = 1 / math.log2(11.5)  # one of one user at rank 10.5
    arithmetic_check(0.0, 0.0, 1.0, gain, 10, 20, rank_step=0.5)
    with pytest.raises(VivimError, match="impossible"):
        arithmetic_check(0.0, 0.0, 1.0, gain, 10, 20)


def test_coverage_and_popularity_by_hand() -> None:
    items = np.array([[0, 1, 2], [0, 3, -1]], np.int32)
    lists = TopK(items, np.where(items < 0, -np.inf, 1.0).astype(np.float32), num_items=8)
    assert coverage(lists, 1) == 1 / 8
    assert coverage(lists, 3) == 4 / 8
    counts = np.array([10, 4, 2, 0, 9, 9, 9, 9])
    assert mean_popularity(lists, 1, counts) == 10
    assert mean_popularity(lists, 3, counts) == (10 + 4 + 2 + 10 + 0) / 5


def lists_of(*rows: list[int], num_items: int) -> TopK:
    items = np.array(rows, np.int32)
    return TopK(items, np.where(items < 0, -np.inf, 1.0).astype(np.float32), num_items)


def test_gini_by_hand() -> None:
    assert gini(lists_of([0, 1], [2, 3], num_items=4), 2) == 0  # each once
    assert gini(lists_of([0], [0], [0], num_items=4), 1) == 3 / 4  # one alone
    # Counts 0 0 1 2: (-3 * 0 - 1 * 0 + 1 * 1 + 3 * 2) / (4 * 3)
    assert gini(lists_of([0, 1], [0, -1], num_items=4), 2) == 7 / 12
    assert gini(lists_of([0, 1], [0, -1], num_items=4), 1) == 3 / 4
    assert gini(lists_of([-1, -1], num_items=4), 2) == 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-1, 11), min_size=3, max_size=3), min_size=1, max_size=9))
def test_gini_is_the_mean_difference_of_all_pairs(rows: list[list[int]]) -> None:
    """Half the mean absolute difference of two items' counts over the mean count, as a fraction."""
    counts = [sum(row.count(item) for row in rows) for item in range(12)]
    differences = sum(abs(a - b) for a in counts for b in counts)
    expected = Fraction(differences, 2 * 12 * sum(counts)) if sum(counts) else Fraction(0)
    assert gini(lists_of(*rows, num_items=12), 3) == pytest.approx(float(expected), abs=1e-12)


def test_diversity_by_hand() -> None:
    vectors = torch.tensor([[2.0, 0.0], [0.0, 3.0], [5.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    assert intra_list_diversity(lists_of([0, 1], num_items=5), 2, vectors) == pytest.approx(1)
    assert intra_list_diversity(lists_of([0, 2], num_items=5), 2, vectors) == pytest.approx(0)
    assert intra_list_diversity(lists_of([0, 3], num_items=5), 2, vectors) == pytest.approx(2)
    assert intra_list_diversity(lists_of([0, 1, 2], num_items=5), 3, vectors) == pytest.approx(2 / 3)  # 1, 0 and 1
    assert intra_list_diversity(lists_of([0, 2, -1], [0, 1, -1], [0, -1, -1], num_items=5), 3, vectors) == pytest.approx(1 / 2)
    assert intra_list_diversity(lists_of([0, 4], num_items=5), 2, vectors) == pytest.approx(1)
    assert intra_list_diversity(lists_of([0, -1], num_items=5), 2, vectors) == 0


def test_diversity_equals_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(50, 7)).astype(np.float32)
    lists = lists_of(*(rng.permutation(50)[:6].tolist() for _ in range(30)), num_items=50)
    pairs = np.triu_indices(6, 1)
    expected = np.mean([cosine_distances(vectors[row].astype(np.float64))[pairs].mean() for row in lists.items])
    assert intra_list_diversity(lists, 6, torch.from_numpy(vectors)) == pytest.approx(expected, abs=1e-9)


QUESTIONS, ITEMS = 300, 40


@dataclass(frozen=True)
class Case:
    """Random questions: scores, targets, items that are masked; ``shown`` are the scores with masked items below all others."""

    scores: npt.NDArray[np.float64]
    targets: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]

    @property
    def ranks(self) -> Ranks:
        return Ranks(exact_ranks(*map(torch.from_numpy, (self.scores, self.targets, self.seen))).numpy(), ITEMS)

    @property
    def shown(self) -> npt.NDArray[np.float64]:
        shown = self.scores.copy()
        np.put_along_axis(shown, self.seen, self.scores.min() - 1, axis=1)
        return shown

    @property
    def relevant(self) -> npt.NDArray[np.int64]:
        return np.eye(ITEMS, dtype=np.int64)[self.targets]


def case(seed: int, *, ties: bool, masked_targets: bool) -> Case:
    rng = np.random.default_rng(seed)
    scores = (
        rng.integers(0, 6, (QUESTIONS, ITEMS)).astype(float)
        if ties
        else rng.permuted(np.tile(np.arange(ITEMS) / 7, (QUESTIONS, 1)), axis=1)
    )
    targets = rng.integers(0, ITEMS, QUESTIONS)
    seen = rng.integers(0, ITEMS, (QUESTIONS, 5))
    if not masked_targets:
        seen[seen == targets[:, None]] = (np.broadcast_to(targets[:, None], seen.shape)[seen == targets[:, None]] + 1) % ITEMS
    return Case(scores, targets, seen)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("masked_targets", [False, True])
@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_without_ties_all_equals_scikit_learn(seed: int, masked_targets: bool, k: int) -> None:
    asked = case(seed, ties=False, masked_targets=masked_targets)
    masked = np.isinf(asked.ranks.rank)
    assert masked.any() == masked_targets
    assert hit_rate(asked.ranks, k).value == pytest.approx(
        top_k_accuracy_score(asked.targets, asked.shown, k=k, labels=np.arange(ITEMS)), abs=1e-9
    )
    assert ndcg(asked.ranks, k).value == pytest.approx(ndcg_score(asked.relevant, asked.shown, k=k), abs=1e-9)
    # A masked target counts 0 here and one over its last place there.
    there = label_ranking_average_precision_score(asked.relevant[~masked], asked.shown[~masked]) * (~masked).mean()
    assert mrr(asked.ranks).value == pytest.approx(there, abs=1e-9)


def place_of(asked: Case, q: int, *, better: bool) -> int:
    """Place of the target of question ``q``, from 1, if all that tie with it stood after it (``better``) or before it, by scikit-learn."""
    left = np.setdiff1d(np.arange(ITEMS), asked.seen[q])
    relevant, scores = (left == asked.targets[q]).astype(int)[None], asked.scores[q][left][None]
    if better:
        return len(left) + 1 - round(1 / label_ranking_average_precision_score(relevant, -scores))
    return round(1 / label_ranking_average_precision_score(relevant, scores))


@pytest.mark.parametrize("seed", range(3))
def test_tied_ranks_equal_scikit_learn_and_scipy(seed: int) -> None:
    """The average of the best and the worst place, which is also scipy's average rank."""
    asked = case(seed, ties=True, masked_targets=False)
    found = asked.ranks.rank
    assert (found % 1 == 0.5).any()
    for q in range(QUESTIONS):
        assert found[q] == (place_of(asked, q, better=True) + place_of(asked, q, better=False)) / 2
        left = np.setdiff1d(np.arange(ITEMS), asked.seen[q])
        assert found[q] == stats.rankdata(-asked.scores[q][left])[left == asked.targets[q]][0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 5, 10])
def test_metrics_of_ties_equal_scikit_learn_of_the_average_place(seed: int, k: int) -> None:
    """scikit-learn averages DCG over the orders of a tie, or takes the worst place. So it is given the middle of each tie as an order:
    one with the target at the average place where that is whole; where it is a half, the two orders beside it, which hold ours between
    them. A half is within k when the later of the two is."""
    asked = case(seed, ties=True, masked_targets=False)
    ranks = asked.ranks.rank
    upper, lower = (np.eye(ITEMS)[(rounded(ranks) - 1).astype(int)] for rounded in (np.floor, np.ceil))
    ordered = np.tile(np.arange(ITEMS, 0, -1.0), (QUESTIONS, 1))
    hits = top_k_accuracy_score(lower.argmax(1), ordered, k=k, labels=np.arange(ITEMS))
    assert hit_rate(asked.ranks, k).value == pytest.approx(hits, abs=1e-9)
    whole = ranks % 1 == 0
    some = Ranks(ranks[whole], ITEMS)
    assert ndcg(some, k).value == pytest.approx(ndcg_score(lower[whole], ordered[whole], k=k), abs=1e-9)
    assert mrr(some).value == pytest.approx(label_ranking_average_precision_score(lower[whole].astype(int), ordered[whole]), abs=1e-9)
    halves = Ranks(ranks[~whole], ITEMS)
    by_place = [label_ranking_average_precision_score(side[~whole].astype(int), ordered[~whole]) for side in (lower, upper)]
    assert by_place[0] < mrr(halves).value < by_place[1]
    assert ndcg_score(lower[~whole], ordered[~whole], k=k) <= ndcg(halves, k).value <= ndcg_score(upper[~whole], ordered[~whole], k=k)
