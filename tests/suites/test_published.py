"""The printed tables: quoted whole, and judged by arithmetic."""

import pytest
from vivim.suites.published import PAPER, README, differing, flags, marked, printed_for, published

IMPOSSIBLE = {
    "NFM", "SASRec", "YouTube_ID+V", "MMGCN_ID+V", "GRCN_ID+V", "DSSM_ID+V", "SASRec_ID+V", "NextItNet_V", "GRU4Rec_V",
}  # fmt: skip


def test_both_tables_are_quoted_whole():
    rows = published()
    assert [sum(row.source == source for row in rows) for source in (README, PAPER)] == [18, 22]
    assert all(0 < row.metrics[f"ndcg@{k}"] < row.metrics[f"hit_rate@{k}"] < 1 for row in rows for k in (10, 20))


def test_half_of_the_papers_rows_cannot_be_and_all_of_the_readmes_can():
    rows = published()
    assert all(row.possible for row in rows if row.source == README)
    wrong = [row for row in rows if row.source == PAPER and not row.possible]
    assert len(wrong) == 11
    assert {row.row for row in wrong} == IMPOSSIBLE | {"proposed"}


@pytest.mark.parametrize(
    ("kind", "row", "metrics"),
    [
        ("IDRec (CF)", "DSSM", ()),
        ("IDRec (SR)", "GRU4Rec", ("hit_rate@20",)),
        ("VIDRec (frozen)", "MMGCN_ID+V", ("ndcg@10", "hit_rate@20", "ndcg@20")),
        ("IDRec (SR)", "proposed", ()),
    ],
)
def test_where_the_tables_differ(kind, row, metrics):
    assert differing(printed_for(kind, row)) == metrics


def test_a_row_is_found_by_its_class_and_its_name():
    found = {kind: printed_for(kind, "proposed") for kind in dict.fromkeys(row.kind for row in published())}
    assert [rows[0].metrics["hit_rate@10"] for rows in found.values()] == [0.0405, 0.0920, 0.0809, 0.0958]
    assert all(len(rows) == 1 for rows in found.values())
    assert [row.source for row in printed_for("IDRec (SR)", "SASRec")] == [README, PAPER]
    assert printed_for("titles", "SASRec") == ()


def test_the_marks_of_a_cell():
    readme, paper = printed_for("IDRec (SR)", "SASRec")
    assert flags(readme, "hit_rate@10") == ()
    assert flags(readme, "hit_rate@20") == ("differs",)
    assert flags(paper, "hit_rate@10") == ("impossible",)
    assert [marked(paper, metric) for metric in ("hit_rate@10", "hit_rate@20")] == ["0.0909‡", "0.1445†‡"]
