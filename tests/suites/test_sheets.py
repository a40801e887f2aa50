"""The tables of a page, cell by cell."""

import dataclasses
import json

import pytest
from vivim.suites.sheets import printed_cells, sheets
from vivim.suites.table import table_of


@pytest.fixture(scope="module")
def table(suites):
    return table_of(suites.table_out)


def named(table, key):
    """Lines of a table, by model: column -> cell."""
    (sheet,) = [sheet for sheet in sheets(table) if sheet.key == key]
    return {row[sheet.header.index("model")]: dict(zip(sheet.header, row, strict=True)) for row in sheet.rows}


def results(table_out, run):
    return json.loads((table_out / run / "results.json").read_text())["splits"]["test"]


def test_the_main_table_holds_what_was_measured_alone(table):
    found = named(table, "table")
    assert set(found) == {"popularity", "item-knn", "DSSM", "NFM", "**Vivim-CF**", "GRU4Rec §"}
    assert found["NFM"]["test NDCG@4"] == str(table.lines[3].cells["test", "ndcg@4"])
    assert not any("paper" in column for column in found["NFM"])


def test_what_is_printed_stands_in_a_table_of_its_own_with_its_marks(table):
    found = named(table, "printed")
    assert set(found) == {"DSSM", "NFM", "**Vivim-CF**", "GRU4Rec"}
    assert found["GRU4Rec"]["MicroLens README HR@10"] == "0.0782"
    assert found["GRU4Rec"]["MicroLens README HR@20"] == "0.1147†"
    assert found["NFM"]["paper NDCG@20"] == "0.0228†‡"
    ours = found["**Vivim-CF**"]
    assert (ours["printed as"], ours["MicroLens README HR@10"], ours["paper HR@10"]) == ("proposed", "-", "0.0405")


def test_a_world_that_was_made_has_no_printed_numbers_beside_it(table):
    made = dataclasses.replace(table, suite=table.suite.model_copy(update={"world": {"clips": 9}}))
    assert "printed" not in {sheet.key for sheet in sheets(made)}
    assert any("does not stand here" in note for note in made.notes())


def test_cells_are_in_the_order_of_the_header():
    assert printed_cells("IDRec (SR)", "proposed") == ["-", "-", "-", "-", "0.0920‡", "0.0530‡", "0.1455‡", "0.0625‡"]


def test_buckets_and_lists_are_those_of_the_runs(suites, table):
    told = results(suites.table_out, "idrec-cf-nfm/seed-1")
    found = named(table, "buckets hit_rate@2")["NFM"]
    for name, bucket in told["groups"].items():
        assert found[f"seen {name} times: {bucket['questions']:,} questions"] == f"{bucket['hit_rate@2']['value']:.4f}"
    assert found["all"] == f"{told['metrics']['hit_rate@2']['value']:.4f}"
    lists = named(table, "lists")
    assert lists["NFM"]["Gini@4"] == f"{told['gini']['4']:.3f}"
    assert lists["popularity"]["diversity@2 in own vectors"] == "-"
    assert lists["NFM"]["diversity@2 in own vectors"] == f"{told['diversity']['2']:.3f}"
    two = [results(suites.table_out, f"idrec-cf-dssm/seed-{seed}")["coverage"]["2"] for seed in (1, 2)]
    assert lists["DSSM"]["coverage@2"] == f"{sum(two) / 2:.4f}"


def test_where_rows_are_in_several_spaces_each_says_which(table):
    line = table.lines[0]
    assert line.row.name == "popularity"
    lists = line.beside.lists | {("test", "diversity", 2): 0.5}
    over_file = dataclasses.replace(line, beside=dataclasses.replace(line.beside, lists=lists, space="titles.h5 01234567"))
    found = named(dataclasses.replace(table, lines=(over_file, *table.lines[1:])), "lists")
    assert (found["popularity"]["diversity@2"], found["popularity"]["diversity in"]) == ("0.500", "titles.h5 01234567")
    assert (found["NFM"]["diversity in"], "diversity@2 in own vectors" in found["NFM"]) == ("own vectors", False)
    one = named(dataclasses.replace(table, lines=(over_file,)), "lists")
    assert one["popularity"]["diversity@2 in titles.h5 01234567"] == "0.500"


def test_what_counts_has_a_line_of_cost_too(table):
    found = named(table, "cost")
    assert set(found) == {"popularity", "item-knn", "DSSM", "NFM", "Vivim-CF", "GRU4Rec"}
    assert found["item-knn"]["epochs"] == "-"
    assert found["item-knn"]["on"] == "cpu"
