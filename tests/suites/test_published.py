"""The printed tables: quoted whole, and judged by arithmetic."""

from vivim.suites.published import PAPER, README, differing, published

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


def test_where_the_tables_differ():
    assert differing("DSSM") == ()
    assert differing("GRU4Rec") == ("hit_rate@20",)
    assert differing("MMGCN_ID+V") == ("ndcg@10", "hit_rate@20", "ndcg@20")
    assert differing("proposed") == ()
