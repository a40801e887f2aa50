"""Which item each row is: every way to say it, and everything that would put rows in the wrong place."""

import hashlib

import polars as pl
import pytest
from vivim.content.item_ids import ItemIds
from vivim.errors import InputError


def test_without_names_rows_are_counted_from_one_as_microlens_does():
    assert ItemIds.counted(3) == ItemIds(("1", "2", "3"), {"first": 1})
    assert ItemIds.counted(2, 0).ids == ("0", "1")
    with pytest.raises(InputError, match="--first-id -1"):
        ItemIds.counted(2, -1)


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("ids.txt", "007\n7\nx y\n", ("007", "7", "x y")),
        ("ids.txt", "b\r\na", ("b", "a")),
        ("ids.txt", "item\n2\n1\n\n", ("2", "1")),
        ("ids.csv", "row,item_id\n0,b\n1,a\n", ("b", "a")),
        ("ids.tsv", "video\tlength\n07\t1\n08\t2\n", ("07", "08")),
    ],
)
def test_ids_are_text_in_the_order_of_the_file(tmp_path, name, content, ids):
    (tmp_path / name).write_bytes(content.encode())
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    assert ItemIds.read(tmp_path / name) == ItemIds(ids, {"file": name, "sha256": sha256})


@pytest.mark.parametrize("columns", [{"item": [3, 1], "other": [1.0, 2.0]}, {"anything": [3, 1]}])
def test_ids_of_a_parquet_column(tmp_path, columns):
    pl.DataFrame(columns).write_parquet(tmp_path / "ids.parquet")
    assert ItemIds.read(tmp_path / "ids.parquet").ids == ("3", "1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n\nb\n", "line 2 is blank"),
        ("a\nb\na\n", "1 ids occur more than once: a"),
        ("row,length\n0,b\n", "none is called item"),
        ("item,video\n0,b\n", "'item' and 'video' could each be the item"),
        ("row,item\n0,b\n1,\n", "1 ids are empty"),
        (b"\xff\xfe\xfd\n", "UTF-16|not UTF-8"),
        (b"caf\xe9\n", "not UTF-8"),
        ("", "is empty"),
    ],
)
def test_what_would_put_rows_in_the_wrong_place_is_refused(tmp_path, content, message):
    (tmp_path / "ids").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        ItemIds.read(tmp_path / "ids")


@pytest.mark.parametrize(
    ("column", "message"), [([1.0, 2.0], "holds Float64; ids are text or whole numbers"), ([1, None], "1 ids are empty")]
)
def test_parquet_ids_that_are_none(tmp_path, column, message):
    pl.DataFrame({"item": column}).write_parquet(tmp_path / "ids")
    with pytest.raises(InputError, match=message):
        ItemIds.read(tmp_path / "ids")


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        ItemIds.read(tmp_path / "ids")
