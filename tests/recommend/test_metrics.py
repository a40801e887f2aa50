"""Metrics as fractions by hand; intervals against scipy; the published tables against arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from vivim.errors import VivimError
from vivim.recommend.metrics import (
    Estimate,
    accuracy,
    arithmetic_check,
    bootstrap_mean,
    coverage,
    hit_rate,
    mean_popularity,
    mrr,
    ndcg,
)
from vivim.recommend.ranker import Ranks, TopK

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
