"""Suites: what may stand in one."""

import pytest
from vivim.errors import InputError
from vivim.recommend import build
from vivim.strict_yaml import read
from vivim.suites.published import published
from vivim.suites.suite import place_of, shipped, suite_of


@pytest.mark.parametrize("name", shipped())
def test_every_suite_that_comes_along_can_be_read(name):
    found = suite_of(read(place_of(name)), name)
    assert found.name == name
    assert found.about
    assert any(row.ours for row in found.rows)
    for row in found.rows:
        config = found.config_of(row)
        build.resolved(config, has_vectors=row.vectors is not None)
        assert build.needs_vectors(config.items) == (row.vectors is not None), row.name
    names = {row.vectors for row in found.rows} - {None}
    assert found.diversity_in in names if len(names) > 1 else found.diversity_in is None  # one file is enough to be the only one


SEQUENCE_MODELS = {"nextitnet", "gru4rec", "sasrec", "youtube", "mamba"}
WHOLE = ("demo", "microlens-100k", "microlens-1m")
OURS = {"Vivim-CF", "Mamba-ID", "Mamba-ID+V frozen", "Mamba-ID+V adapter", "Mamba-V", "Mamba-ID+V end to end"}
# Where the official code has a fault or none is published, and what the note must name.
FAULTS = {
    "DSSM": ("no layers",),
    "NFM": ("ReLU", "later ones too"),
    "DeepFM": ("later ones too",),
    "NextItNet": ("pads", "never used"),
    "GRU4Rec": ("pads",),
    "SASRec": ("norm", "ReLU"),
    "YouTube_ID": ("Covington", "no video", "one table"),
    "YouTube_ID+V": ("Covington", "unknown"),
    "MMGCN_ID": ("MM 2019", "trains neither ids nor preferences", "BPR", "no video"),
    "MMGCN_ID+V": ("MM 2019", "trains neither ids nor preferences", "BPR"),
    "GRCN_ID": ("MM 2020", "BPR", "no video"),
    "GRCN_ID+V": ("MM 2020", "BPR"),
    "DSSM_ID+V": ("random bias", "another order"),
    "SASRec_ID+V": ("no source", "unknown"),
    "NextItNet_V": ("normalises twice", "400 class scores", "five neighbouring frames"),
    "GRU4Rec_V": ("normalises twice", "400 class scores", "five neighbouring frames"),
    "SASRec_V": ("normalises twice", "400 class scores", "five neighbouring frames"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_suites_hold_every_published_row_ours_and_what_learns_nothing(name):
    found = suite_of(read(place_of(name)), name)
    assert {(row.kind, row.row) for row in published()} <= {(row.kind, row.printed_name) for row in found.rows}
    assert {row.name for row in found.rows if row.ours} >= OURS
    assert {"popularity", "item-knn", "BM25", "content-mean"} <= {row.name for row in found.rows if row.kind == "no learning"}


def test_the_suite_of_ids_holds_every_published_row_that_needs_histories_alone():
    found = suite_of(read(place_of("microlens-50k-id")), "microlens-50k-id")
    of_ids = {(row.kind, row.row) for row in published() if row.kind == "IDRec (SR)" or row.row.endswith("_ID")}
    of_ids |= {("IDRec (CF)", name) for name in ("DSSM", "LightGCN", "NFM", "DeepFM")}
    assert of_ids <= {(row.kind, row.printed_name) for row in found.rows}
    assert all(found.seeds_of(row) >= 3 for row in found.rows if row.config["model"]["kind"] in SEQUENCE_MODELS)


@pytest.mark.parametrize("name", [*WHOLE, "microlens-50k-id"])
def test_where_the_official_code_is_at_fault_or_missing_the_note_says_so(name):
    notes = {row.name: row.note for row in suite_of(read(place_of(name)), name).rows}
    assert len(FAULTS.keys() & notes.keys()) == (9 if name == "microlens-50k-id" else len(FAULTS))
    for row, words in FAULTS.items():
        if row in notes:
            assert all(word in notes[row] for word in words), (row, notes[row])


def test_every_row_with_titles_is_compared_with_its_own_without():
    found = suite_of(read(place_of("microlens-50k-text")), "microlens-50k-text")
    with_titles = {row.name: row for row in found.rows if row.kind == "ids and titles"}
    assert {f"{name}_ID+T" for name in ("SASRec", "YouTube", "DSSM", "MMGCN", "GRCN")} | {
        "Mamba-ID+T",
        "Vivim-CF",
        "DSSM+T by map",
    } == with_titles.keys()
    for row in with_titles.values():
        (other,) = found.named(row.against)
        both, alone = found.config_of(row), found.config_of(other)
        assert (both.model, both.loss, both.train) == (alone.model, alone.loss, alone.train)
        assert (alone.items.kind, both.items.kind, other.seeds) == ("ids", "ids+frozen", row.seeds)


def test_rows_of_ids_are_trained_alike_with_and_without_the_suite_of_titles():
    one, other = (suite_of(read(place_of(f"microlens-50k-{which}")), which) for which in ("id", "text"))
    alike = {row.name for row in one.rows} & {row.name for row in other.rows}
    assert {"SASRec", "Mamba-ID", "YouTube_ID", "DSSM", "LightGCN", "MMGCN_ID", "GRCN_ID"} <= alike
    for name in alike:
        assert one.config_of(one.named(name)[0]) == other.config_of(other.named(name)[0])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"name": "A", "kind": "x", "config": {"model": {"kind": "sasrek"}}}], r"row A of the suite small: model\.kind"),
        ([{"name": "A", "kind": "x", "config": {"protocol": {"keep_last": 5}}}], "row A .* has a protocol of its own"),
        ([{"name": "A", "kind": "x"}, {"name": "A", "kind": "x"}], "two rows of class x that are called A"),
        ([{"name": "A", "kind": "x", "init": "B"}, {"name": "B", "kind": "x"}], "row A .* begins with B; that must be one row"),
        ([{"name": "B", "kind": k} for k in "xy"] + [{"name": "A", "kind": "x", "init": "B"}], "begins with B; that must be one row"),
        ([{"name": "A", "kind": "x", "vectors": "my file"}], r"rows\.0\.vectors"),
        ([], r"small\.yaml is no suite: rows"),
        ([{"kind": "x"}], r"small\.yaml is no suite: rows\.0\.name"),
    ],
)
def test_what_is_no_suite_is_refused_in_words(suites, rows, says):
    with pytest.raises(InputError, match=says):
        suites.small(rows=rows)


@pytest.mark.parametrize("name", ["nothing", "nothing.yaml"])
def test_a_suite_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(InputError, match="microlens-50k-id"):
        place_of(name)


def test_chosen_rows_come_with_what_they_begin_with_in_the_suites_order(suites):
    rows = [{"name": name, "kind": "x"} for name in "AB"]
    rows += [{"name": "C", "kind": "x", "init": "A"}, {"name": "D", "kind": "x", "init": "C"}, {"name": "B", "kind": "y"}]
    found = suites.small(rows=rows)
    assert [row.name for row in found.chosen(["D"])] == ["A", "C", "D"]
    assert [(row.kind, row.name) for row in found.chosen(["B"])] == [("x", "B"), ("y", "B")]
    assert found.chosen([]) == found.rows
    with pytest.raises(InputError, match="no row E; its rows are: A, B, C, D, B"):
        found.chosen(["A", "E"])


def test_the_budget_of_a_row_comes_before_the_suites(suites):
    found = suites.small(budget_minutes=2, rows=[{"name": "A", "kind": "x"}, {"name": "B", "kind": "x", "budget_minutes": 0.5}])
    assert [found.budget_of(row) for row in found.rows] == [120, 30]
    small = suites.small()
    assert small.budget_of(small.rows[0]) is None
