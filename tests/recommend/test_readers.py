"""Every format read as the same histories; every damage refused in words that help."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vivim.errors import InputError
from vivim.recommend.readers import read_interactions
from vivim.recommend.sequences import Interactions

Write = Callable[[str | bytes], Path]

# User 2 watched b, then a; user 10 watched c, a, b. Ties, gaps and disorder are added by the tests.
CSV = "user,item,timestamp\n10,c,1600000001000\n2,b,1600000002000\n10,a,1600000003000\n2,a,1600000004000\n10,b,1600000005000\n"
EXPECTED = {"2": ["b", "a"], "10": ["c", "a", "b"]}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_(content: str | bytes) -> Path:
        path = tmp_path / "file.dat"  # the name must not matter
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_


def histories(data: Interactions) -> dict[str, list[str]]:
    return {user: [data.items.ids[row] for row in data.histories[u]] for u, user in enumerate(data.users.ids)}


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


FRAME = pl.read_csv(CSV.encode())

SAME_DATA = {
    "csv": CSV,
    "tsv": CSV.replace(",", "\t"),
    "semicolons": CSV.replace(",", ";"),
    "bars": CSV.replace(",", "|"),
    "windows line ends": CSV.replace("\n", "\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + CSV.encode(),
    "no last line end": CSV.rstrip("\n"),
    "blank lines": CSV.replace("\n", "\n\n"),
    "quoted": CSV.replace("10,c", '"10","c"'),
    "gzip": gzip.compress(CSV.encode()),
    "other names": CSV.replace("user,item,timestamp", "userID,video_id,ts"),
    "seconds": CSV.replace("000\n", "\n"),
    "float seconds": CSV.replace("000\n", ".0\n"),
    "microseconds": CSV.replace("000\n", "000000\n"),
    "extra columns": "rating," + CSV.replace("\n1", "\n5,1").replace("\n2", "\n5,2"),
    "other order of columns": FRAME.select("timestamp", "item", "user").write_csv(),
    "recbole": CSV.replace("user,item,timestamp", "user_id:token,item_id:token,timestamp:float").replace(",", "\t"),
    "pairs": "10\tc a b\n2\tb a\n",
    "pairs, windows line ends, spaces": "10\tc a  b \r\n\r\n2\tb a\r\n",
    "pairs after a blank line": "\n10\tc a b\n2\tb a\n",
    "order of the lines": "user,item\n10,c\n2,b\n10,a\n2,a\n10,b\n",
    "parquet": parquet(FRAME),
    "parquet of dates": parquet(FRAME.with_columns(pl.from_epoch("timestamp", "ms"))),
    "parquet of text": parquet(FRAME.cast(pl.String)),
    "iso": FRAME.with_columns(pl.from_epoch("timestamp", "ms").dt.to_string("%Y-%m-%dT%H:%M:%S")).write_csv(),
    "iso with zone": FRAME.with_columns(pl.from_epoch("timestamp", "ms").dt.to_string("%Y-%m-%d %H:%M:%S%.3fZ")).write_csv(),
}


@pytest.mark.parametrize("content", SAME_DATA.values(), ids=SAME_DATA.keys())
def test_every_format_gives_the_same_histories(write: Write, content: str | bytes) -> None:
    data = read_interactions(write(content))
    assert histories(data) == EXPECTED
    assert data.users.ids == ("2", "10")  # numbers by size
    assert data.items.ids == ("a", "b", "c")
    if data.times_ms is not None:
        assert data.times_ms.tolist() == [1600000002000, 1600000004000, 1600000001000, 1600000003000, 1600000005000]


@pytest.mark.parametrize(
    ("stamp", "unit"),
    [("1600000000", "s"), ("1600000000000", "ms"), ("1600000000000000000", "ns"), ("2022-01-31", "ISO 8601 without zone"), ("7", "s")],
)
def test_the_time_unit_is_reported(write: Write, stamp: str, unit: str) -> None:
    assert f"time in {unit}" in read_interactions(write(f"user,item,time\n1,2,{stamp}\n")).source


def test_offsets_of_zones_count(write: Write) -> None:
    data = read_interactions(write("user,item,time\n1,late,2022-01-01T10:00:00+01:00\n1,early,2022-01-01T10:00:00+02:00\n"))
    assert histories(data) == {"1": ["early", "late"]}


def test_ids_are_opaque_text(write: Write) -> None:
    ids = ["007", "7", "1e3", "NaN", "NA", "None", "null", "1.0", "ü", "'", "a b"]
    data = read_interactions(write("user,item,timestamp\n" + "".join(f"u,{id_},{n}\n" for n, id_ in enumerate(ids))))
    assert histories(data) == {"u": ids}
    assert list(data.items.ids) == sorted(ids)


def test_numbers_sort_by_size_then_text(write: Write) -> None:
    data = read_interactions(write("u\t10 9 07 7 100000000000000000000\n"))
    assert data.items.ids == ("07", "7", "9", "10", "100000000000000000000")


def test_ties_keep_the_order_of_the_file(write: Write) -> None:
    rows = [("1", f"i{n}", "5") for n in (3, 1, 2, 9, 4)] + [("1", "first", "4")]
    data = read_interactions(write("user,item,ts\n" + "".join(",".join(row) + "\n" for row in rows)))
    assert histories(data) == {"1": ["first", "i3", "i1", "i2", "i9", "i4"]}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_the_order_of_lines_does_not_matter_when_times_differ(tmp_path: Path, data: st.DataObject) -> None:
    times = data.draw(st.lists(st.integers(10**9, 2 * 10**9), min_size=1, max_size=30, unique=True))
    lines = [f"u{data.draw(st.integers(0, 3))},{data.draw(st.integers(0, 9))},{time}" for time in times]
    path = tmp_path / "x.csv"
    results = []
    for order in (lines, data.draw(st.permutations(lines))):
        path.write_text("\n".join(["user,item,timestamp", *order]))
        results.append(read_interactions(path))
    one, other = results
    assert (one.users, one.items) == (other.users, other.items)
    np.testing.assert_array_equal(one.histories.offsets, other.histories.offsets)
    np.testing.assert_array_equal(one.histories.items, other.histories.items)
    assert one.sha256 != other.sha256 or lines == order


def test_named_columns(write: Write) -> None:
    path = write(CSV.replace("user,item,timestamp", "who,what,when"))
    assert histories(read_interactions(path, user_column="who", item_column="what", time_column="when")) == EXPECTED


def test_no_time_can_be_asked_for(write: Write) -> None:
    data = read_interactions(write("user,item,rating\n1,b,5\n1,a,3\n"), time_column="none")
    assert histories(data) == {"1": ["b", "a"]}
    assert data.times_ms is None


H = "user,item,timestamp\n"
REFUSED = {
    "empty": ("", "is empty"),
    "blank": (" \n\n", "is empty"),
    "header only": (H, "header but no rows"),
    "one column": ("user\n1\n", "line 1 is 'user': no columns"),
    "separated by spaces": ("1 2 3\n", "no columns found"),
    "no header": ("1,2,3\n4,5,6\n", "looks like data, not a header"),
    "no header, dates": ("al,clip,2022-01-01\n", "looks like data, not a header"),
    "pairs of one item each": ("1\t5\n2\t6\n", "looks like data, not a header"),
    "renamed user": (
        "who,item,timestamp\n1,2,3\n",
        r"found columns 'who', 'item', 'timestamp'; no user column .* --set data.user_column=NAME",
    ),
    "renamed item": ("user,what,timestamp\n1,2,3\n", "no item column .* --set data.item_column=NAME"),
    "renamed time": ("user,item,when\n1,2,3\n", "data.time_column=NAME.* data.time_column=none"),
    "two users": ("user,user_id,item,timestamp\n1,2,3,4\n", "'user' and 'user_id' could each be the user; .*data.user_column"),
    "twice the same name": ("user,item,item\n1,2,3\n", "names 'item' more than once"),
    "sequence file": ("user_id:token\titem_id_list:token_seq\n1\t2 3\n", "no item column"),
    "header inside": (H + "1,2,3\n" + H, "line 3: the user id in column 'user' repeats the header"),
    "header eaten as a pair": ("user\titems\n1\t2 3\n2\t4 5\n", "line 1 .* looks like a header"),
    "mixed delimiters": (H + "1,2,3\n1;2;3\n", "line 3: the item id in column 'item' is empty or missing; .*1;2;3"),
    "a field too many": (H + "1,2,3\n1,2,3,4\n", "has 3 columns .* line 3 has 4"),
    "too few fields at once": (H + "1,2\n1,2,3\n", "line 2: time column 'timestamp' holds None: no time"),
    "quote inside": (H + '1,2"x,3\n1,"4,5\n', "quote"),
    "open quote": (H + '1,"2,3\n1,3,4\n', "quote"),
    "empty user": (H + ",2,3\n", "line 2: the user id .* is empty"),
    "empty items": (H + "1,,3\n1,2,3\n" + "1,,3\n" * 6, r"lines 2, 4, 5, 6, 7 \(7 in all\): the item id .* is empty"),
    "after a quoted line break": ('user,item,timestamp,comment\n1,2,3,"a\nb"\n1,,4,x\n', "line 4: the item id"),
    "spaces": (H + "1, 2,3\n", "line 2: .* has spaces around it"),
    "control character": (H + "1,a\x07b,3\n", "line 2: .* control character"),
    "empty time": (H + "1,2,\n", "line 2: .* no time"),
    "word as time": (H + "1,2,3\n1,2,soon\n", "line 3: .*'soon': not a number"),
    "nan as time": (H + "1,2,3\n1,2,nan\n", "line 3: .*'nan'"),
    "date that is none": (H + "1,2,2022-01-01\n1,2,2022-13-01\n", "line 3: .*'2022-13-01'"),
    "negative time": (H + "1,2,-5\n", "line 2: .* negative"),
    "two units": (H + "1,2,1600000000\n" + "1,3,1600000000000\n" * 3, "line 2: .* too small for the unit"),
    "two units, other way": (H + "1,2,1600000000000\n" + "1,3,1600000000\n" * 3, "line 2: .* too large for the unit"),
    "utf-16": (H.encode("utf-16"), "UTF-16; only UTF-8 .* iconv"),
    "utf-16 without mark": (H.encode("utf-16-le"), "NUL bytes"),
    "latin-1": (H.encode() + b"1,caf\xe9,3\n", "line 2 is not UTF-8 .*0xe9"),
    "zip": (b"PK\x03\x04....", "zip archive; unpack"),
    "cut gzip": (gzip.compress(CSV.encode())[:-6], "damaged gzip"),
    "cut parquet": (parquet(FRAME)[:-9], "not a readable Parquet"),
    "parquet of float ids": (parquet(FRAME.cast({"user": pl.Float64})), "'user' holds Float64; ids must be text or whole"),
    "parquet with a gap": (parquet(FRAME.with_columns(item=pl.lit(None, pl.String))), r"rows 1, 2, 3, 4, 5: the item id"),
    "pairs: user twice": ("1\t2 3\n2\t5 6\n1\t4 5\n", "lines 1, 3: the same user"),
    "pairs: no items": ("1\t2 3\n2\t\n3\t4 5\n", "line 2: expected user, tab, items"),
    "pairs: comma": ("1\t2 3\n\n2,4 5\n3\t4 5\n", "line 3: expected user, tab, items"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_damage_is_refused_in_words(write: Write, content: str | bytes, message: str) -> None:
    path = write(content)
    with pytest.raises(InputError, match=f"(?s){message}") as error:
        read_interactions(path)
    assert str(path) in str(error.value)


def test_a_named_column_must_exist(write: Write) -> None:
    with pytest.raises(InputError, match=r"found columns 'user', 'item', 'timestamp', but not 'who', which data.user_column asks for"):
        read_interactions(write(CSV), user_column="who")


def test_one_column_cannot_be_two(write: Write) -> None:
    with pytest.raises(InputError, match="cannot be two of"):
        read_interactions(write(CSV), user_column="item")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_interactions(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_interactions(tmp_path / "absent.csv")


def test_microlens_50k_is_what_its_authors_count(shared_data: Path) -> None:
    data = read_interactions(shared_data / "microlens-50k" / "MicroLens-50k_pairs.tsv")
    lengths = data.histories.lengths
    assert (len(data.users), len(data.items), len(data)) == (50_000, 19_220, 359_708)
    assert (data.items.ids[0], data.items.ids[-1]) == ("1", "19738")
    assert (lengths.min(), np.median(lengths), lengths.max()) == (5, 6, 218)
    assert [data.items.ids[row] for row in data.histories[0]] == ["1958", "6346", "15223", "17700", "1707"]


def test_movielens_in_recbole_format(shared_data: Path) -> None:
    data = read_interactions(shared_data / "ml-100k" / "ml-100k.inter")
    assert (len(data.users), len(data.items), len(data)) == (943, 1682, 100_000)
    assert "time in s" in data.source
    user = data.users.row_of("196")
    times = data.times_ms[data.histories.offsets[user] : data.histories.offsets[user + 1]]
    assert np.all(np.diff(times) >= 0)
    assert 881250949000 in times
