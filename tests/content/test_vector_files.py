"""One matrix through every format comes back the same; whatever is no matrix is refused."""

import hashlib
import json
import pickle

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vivim.content.vector_files import _members, open_vectors
from vivim.errors import InputError

MATRIX = np.array([[1.5, -2, 0.25], [0, 3, 1e-3], [7, 8, 9], [1e30, 0, -1]], np.float32)


def read(path):
    blocks = list(open_vectors(path).blocks(3))
    assert [start for start, _ in blocks] == [0, 3]
    assert all(values.dtype == np.float32 for _, values in blocks)
    return np.concatenate([values for _, values in blocks])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy(tmp_path, dtype, order):
    np.save(tmp_path / "v.npy", np.asarray(MATRIX, dtype, order=order))
    np.testing.assert_array_equal(read(tmp_path / "v.npy"), MATRIX)
    opened = open_vectors(tmp_path / "v.npy")
    assert isinstance(opened.values_ND, np.memmap)
    assert (opened.dtype, opened.ids) == ("float32", None)
    assert opened.sha256 == hashlib.sha256((tmp_path / "v.npy").read_bytes()).hexdigest()


def test_float16_stays_and_float64_that_is_too_large_becomes_infinite(tmp_path):
    np.save(tmp_path / "half.npy", np.ones((2, 2), np.float16))
    assert open_vectors(tmp_path / "half.npy").dtype == "float16"
    np.save(tmp_path / "double.npy", np.array([[1e300]]))
    [(_, values)] = open_vectors(tmp_path / "double.npy").blocks(1)
    assert np.isinf(values).all()


def test_json(tmp_path):
    named = {name: row for name, row in zip(["10", "2", "ü", "x y"], MATRIX.astype(np.float64).tolist(), strict=True)}
    for text in (json.dumps(named), json.dumps(named, indent=3, ensure_ascii=False), json.dumps(named, separators=(",", ":"))):
        (tmp_path / "v.json").write_text(text, encoding="utf-8")
        np.testing.assert_array_equal(read(tmp_path / "v.json"), MATRIX)
        assert open_vectors(tmp_path / "v.json").ids.ids == ("10", "2", "ü", "x y")


@given(st.dictionaries(st.text(), st.lists(st.floats(width=32) | st.integers(-1000, 1000)), max_size=4), st.sampled_from([None, 1]))
def test_members_are_those_of_the_json_module(content, indent):
    found = list(_members(json.dumps(content, indent=indent)))
    assert [name for name, _ in found] == list(content)
    for (_, vector), expected in zip(found, content.values(), strict=True):
        np.testing.assert_array_equal(vector, np.array(expected, np.float32))


def test_parquet(tmp_path):
    rows = MATRIX.tolist()
    pl.DataFrame({"item": [4, 3, 2, 1], "vector": rows}, schema_overrides={"vector": pl.List(pl.Float32)}).write_parquet(tmp_path / "v")
    np.testing.assert_array_equal(read(tmp_path / "v"), MATRIX)
    assert open_vectors(tmp_path / "v").ids.ids == ("4", "3", "2", "1")
    pl.DataFrame({"vector": pl.Series(rows, dtype=pl.Array(pl.Float32, 3))}).write_parquet(tmp_path / "w")
    np.testing.assert_array_equal(read(tmp_path / "w"), MATRIX)
    assert open_vectors(tmp_path / "w").ids is None


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[Evil()]], object), "cannot be read as an array of numbers: .*Python objects"),
        (np.ones(3, np.float32), r"has the shape \(3,\)"),
        (np.ones((2, 5, 3), np.float32), r"has the shape \(2, 5, 3\); expected \(items, numbers\)"),
        (np.ones((2, 3), np.int64), "holds int64; float16, float32 or float64 is read"),
        (np.ones((2, 3), np.complex64), "holds complex64"),
        (np.array([["a"]]), "holds <U1"),
        (np.ones((0, 3), np.float32), r"holds no numbers|mmap"),
        (np.ones((3, 0), np.float32), r"holds no numbers|mmap"),
    ],
)
def test_arrays_that_are_no_vectors(tmp_path, array, message):
    np.save(tmp_path / "v.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        open_vectors(tmp_path / "v.npy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"1": [1, 2], "2": [3]}', "item '2' has 1 numbers, the first 2"),
        ('{"1": [1, "2"]}', "item '1' has something else"),
        ('{"1": [1, null]}', "something else"),
        ('{"1": [true]}', "something else"),
        ('{"1": 3}', "something else"),
        ('{"1": [1]', "expected ','"),
        ('{"1": [1]} x', "something follows"),
        ('{"1": [1],}', "a comma stands before the last brace"),
        ('{"1": [' + "9" * 400 + "]}", "is not JSON"),
        ('{"1": ' + "[" * 100_000, "is not JSON"),
        ("{}", "holds no numbers"),
        ('{"1": []}', "holds no numbers"),
        ("[[1, 2]]", "is no file of vectors"),
        ("1,2,3\n", "is no file of vectors"),
    ],
)
def test_text_that_is_no_vectors(tmp_path, text, message):
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(InputError, match=message):
        open_vectors(tmp_path / "v.json")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item": [1], "x": [0.5]}, "the columns none hold lists"),
        ({"a": [[0.5]], "b": [[0.5]]}, "the columns 'a', 'b' hold lists; expected one"),
        ({"a": [[0.5, 1.0], [0.5]]}, "row 2 holds 1 numbers, the first 2"),
        ({"a": [[0.5, 1.0], None]}, "row 2 holds no numbers"),
        ({"a": [["x"]]}, "lists of String"),
        ({"item": [0.5], "a": [[0.5]]}, "holds Float64; ids are text or whole numbers"),
        ({"a": []}, "holds no rows"),
        ({"first": [1], "a": [[0.5]], "second": [2]}, "none is called item"),
    ],
)
def test_parquet_that_is_no_vectors(tmp_path, columns, message):
    pl.DataFrame(columns).write_parquet(tmp_path / "v")
    with pytest.raises(InputError, match=message):
        open_vectors(tmp_path / "v")


def test_other_files(tmp_path):
    np.savez(tmp_path / "v.npz", MATRIX)
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(MATRIX))
    np.save(tmp_path / "cut.npy", MATRIX)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-4])
    for name, message in {
        "v.npz": "unpack it and name the .npy",
        "v.pkl": "is no file of vectors",
        "cut.npy": "cannot be read as an array",
        "none.npy": "does not exist",
        ".": "is a folder",
    }.items():
        with pytest.raises(InputError, match=message):
            open_vectors(tmp_path / name)
