import pytest
from hypothesis import given
from hypothesis import strategies as st
from vivim.errors import InputError
from vivim.store import ItemIndex

ids = st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=9), unique=True, max_size=20)


@given(ids)
def test_ids_and_rows_are_one_to_one(ids):
    index = ItemIndex(ids)
    assert len(index) == len(ids)
    assert index.rows_of(ids).tolist() == list(range(len(ids)))
    assert [index.ids[index.row_of(id_)] for id_ in ids] == ids
    assert all(id_ in index for id_ in ids)


def test_ids_are_never_parsed():
    assert ItemIndex(["007", "7", "1e3", "NaN"]).rows_of(["7", "007", "7.0", "nan"]).tolist() == [1, 0, -1, -1]


def test_an_unknown_id_is_named_with_examples():
    with pytest.raises(InputError, match=r"unknown id 'x'; 2 ids are known, for example a, b"):
        ItemIndex("ab").row_of("x")


@pytest.mark.parametrize(
    ("ids", "match"), [(["a", ""], "empty"), (["a\0"], "control"), (["a\x7f"], "control"), (["a", "b", "a"], "once: a")]
)
def test_ids_that_cannot_be_told_apart_or_kept(ids, match):
    with pytest.raises(InputError, match=match):
        ItemIndex(ids)


def test_the_hash_depends_on_ids_their_borders_and_their_order():
    hashes = {ItemIndex(ids).sha256 for ids in (["a", "bc"], ["ab", "c"], ["bc", "a"], ["abc"], [])}
    assert len(hashes) == 5
    assert ItemIndex(["a", "b"]) == ItemIndex("ab")
    assert hash(ItemIndex(["a"])) == hash(ItemIndex("a"))
