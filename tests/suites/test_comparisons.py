"""Who is compared with whom, in which family."""

import dataclasses

import polars as pl
import pytest
from vivim.suites.comparisons import compare
from vivim.suites.significance import holm, randomisation
from vivim.suites.table import table_of


@pytest.fixture(scope="module")
def table(suites):
    return table_of(suites.table_out)


def test_ours_with_the_best_in_validation_named_rows_with_theirs_and_learned_ones_with_the_yardstick(table):
    lines = {line.row.name: line for line in table.lines}
    best = max((lines["DSSM"], lines["NFM"]), key=lambda line: line.cells["validation", "ndcg@2"].estimate.value)
    pairs = [("Vivim-CF", best.row.name), ("GRU4Rec", "NFM"), *((name, "item-knn") for name in ("DSSM", "NFM", "Vivim-CF", "GRU4Rec"))]
    assert [(t.metric, t.row, t.baseline) for t in table.tested] == [(m, *pair) for m in ("hit_rate@2", "ndcg@2") for pair in pairs]
    for t in table.tested:
        mean = lines[t.row].answers.gains[t.metric].mean() - lines[t.baseline].answers.gains[t.metric].mean()
        assert t.found.difference == pytest.approx(mean)


def test_all_comparisons_of_a_metric_are_one_family(table):
    gains = {line.row.name: line.answers.gains["ndcg@2"] for line in table.lines}
    family = [t for t in table.tested if t.metric == "ndcg@2"]
    assert [t.p for t in family] == holm([randomisation(gains[t.row], gains[t.baseline]).p for t in family])


def test_a_pair_that_is_asked_for_twice_is_compared_once(table):
    lines = [line for line in table.lines if line.row.name in ("item-knn", "NFM")]
    named = dataclasses.replace(lines[1], row=lines[1].row.model_copy(update={"against": "item-knn"}))
    assert len(compare([lines[0], named])) == 2  # two metrics


def test_as_many_other_users_are_not_the_same_users(table):
    lines = list(table.lines)
    answers = lines[-1].answers
    others = dataclasses.replace(answers, users=pl.Series(list(answers.users)[::-1]))
    lines[-1] = dataclasses.replace(lines[-1], answers=others)
    with pytest.raises(AssertionError, match="answered different users"):
        compare(lines)
