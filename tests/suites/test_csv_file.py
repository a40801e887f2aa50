"""Everything a table says, a number a line."""

import csv
import dataclasses

import pytest
from vivim.suites.csv_file import as_csv
from vivim.suites.table import table_of


@pytest.fixture(scope="module")
def table(suites):
    return table_of(suites.table_out)


def lines_of(table, **wanted):
    lines = csv.DictReader(as_csv(table).splitlines())
    return [line for line in lines if all(line[column] == value for column, value in wanted.items())]


def test_what_was_measured_and_what_it_cost(table):
    measured = [line for split in ("validation", "test") for line in lines_of(table, split=split, bucket="")]
    assert len([line for line in measured if line["metric"].partition("@")[0] in ("hit_rate", "ndcg")]) == 6 * 2 * 4
    (parameters,) = lines_of(table, split="cost", model="DSSM", metric="parameters")
    assert parameters["value"] == "1120"
    (gini,) = lines_of(table, split="test", model="NFM", metric="gini@4")
    assert float(gini["value"]) == pytest.approx(table.lines[3].beside.lists["test", "gini", 4], abs=1e-6)


def test_what_others_print_with_its_flags(table):
    (found,) = lines_of(table, model="NFM", split="paper", metric="hit_rate@10")
    assert (found["value"], found["flags"]) == ("0.0361", "differs impossible")
    (found,) = lines_of(table, model="Vivim-CF", split="paper", metric="ndcg@20")
    assert (found["value"], found["flags"]) == ("0.0265", "")
    made = dataclasses.replace(table, suite=table.suite.model_copy(update={"world": {"clips": 9}}))
    assert lines_of(table, split="MicroLens README")
    assert not lines_of(made, split="MicroLens README")


def test_comparisons_and_the_card(table):
    found = lines_of(table, split="compared", metric="hit_rate@2")
    assert [(line["model"], line["against"]) for line in found] == [(t.row, t.baseline) for t in table.tested if t.metric == "hit_rate@2"]
    assert {(line["class"], line["model"], line["ours"]) for line in found} >= {
        ("IDRec (CF)", "Vivim-CF", "True"),
        ("IDRec (SR)", "GRU4Rec", "False"),
    }
    assert [float(line["p_holm"]) for line in found] == pytest.approx([t.p for t in table.tested[: len(found)]], abs=1e-6)
    assert {line["metric"]: line["value"] for line in lines_of(table, split="card")}["protocol"] == "microlens"


def test_buckets(table):
    buckets = table.lines[3].beside.buckets["test"]
    found = lines_of(table, model="NFM", split="test", bucket=buckets[0].title)
    assert {line["metric"] for line in found} == {"questions", "hit_rate@2", "ndcg@2", "hit_rate@4", "ndcg@4"}
    assert found[0]["value"] == str(buckets[0].questions)
