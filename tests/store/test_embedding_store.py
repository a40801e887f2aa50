"""Reading: what is not right is refused, by file and id."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vivim.errors import InputError
from vivim.store import EmbeddingStore, content_sha256


def assert_refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        EmbeddingStore.open(path)
    assert path.name in str(caught.value)


def rewrite(path, **columns):
    """Replace columns and set the content hash to what they say, as someone with another writer would."""
    with h5py.File(path, "r+") as file:
        for name, values in columns.items():
            del file[name]
            file.create_dataset(name, data=values)
        if file["ids"].ndim == 1 and file["ids"].dtype.kind == "S":
            ids = [value.decode(errors="replace") for value in file["ids"][()]]
            if len(set(ids)) == len(ids) and all(ids):
                file.attrs["sha256"] = np.bytes_(content_sha256(ids, file["embeddings"][()]))
    return path


@pytest.fixture
def path(tmp_path, samples):
    return samples.write(tmp_path / "e.h5")


def test_lookup_gives_vectors_in_the_order_asked_and_zeros_for_strangers(path, samples):
    store = EmbeddingStore.open(path)
    vectors, present = store.lookup(["c", "nobody", "a", "c"])
    assert present.tolist() == [True, False, True, True]
    assert (vectors == samples.rows("abc").vectors_ND.astype(np.float16)[[2, 0, 0, 2]] * present[:, None]).all()
    assert store.lookup([])[0].shape == (0, 4)
    assert (len(store), store.dim) == (3, 4)


def test_vectors_cannot_be_changed_by_accident(path):
    with pytest.raises(ValueError, match="read-only"):
        EmbeddingStore.open(path).vectors_ND[0] = 1


def test_permuted_rows_change_nothing_for_who_looks_up(path):
    before = EmbeddingStore.open(path)
    with h5py.File(path) as file:
        columns = {name: file[name][()][[2, 0, 1]] for name in ("ids", "embeddings", "sha256", "times_seconds", "decoder", "short")}
    after = EmbeddingStore.open(rewrite(path, **columns))
    assert after.ids.ids == ("c", "a", "b")
    assert (after.lookup("abc")[0] == before.lookup("abc")[0]).all()


@pytest.mark.parametrize(
    ("vector", "why"),
    [([np.nan] * 4, "NaN"), ([1, np.inf, 1, 1], "infinite"), ([0] * 4, "all zero")],
)
def test_vectors_that_cannot_be_used_are_named(path, vector, why):
    values = np.ones((3, 4), np.float16)
    values[1] = vector
    assert_refused(rewrite(path, embeddings=values), f"1 of 3 vectors cannot be used: the vector of 'b' .*{why}")


@pytest.mark.parametrize("norm", [1e-30, 1e30])
def test_absurd_norms_are_refused(tmp_path, samples, norm):
    path = samples.write(tmp_path / "e.h5", dtype="float32")
    values = np.ones((3, 4), np.float32)
    values[2] *= norm
    assert_refused(rewrite(path, embeddings=values), "'c' has the norm")


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"ids": np.array([b"a", b"b", b"a"])}, "1 ids occur more than once: a"),
        ({"ids": np.array([b"a", b"", b"c"])}, "empty"),
        ({"ids": np.array([b"a", b"\xff", b"c"])}, "UTF-8"),
        ({"ids": np.array([b"a", b"b"])}, "different lengths"),
        ({"ids": np.array([1, 2, 3])}, "type int64"),
        ({"ids": np.array([[b"a", b"b", b"c"]])}, "2 dimensions"),
        ({"embeddings": np.ones((3, 4), np.float64)}, "type float64"),
        ({"embeddings": np.ones((3, 4), ">f4")}, "type >f4"),
        ({"embeddings": np.ones((3, 4), np.int16)}, "type int16"),
        ({"embeddings": np.ones((3, 4), np.float32)}, "recipe says float16"),
        ({"embeddings": np.ones((3, 2, 2), np.float16)}, "3 dimensions"),
        ({"embeddings": np.ones((3, 0), np.float16)}, "D = 0"),
        ({"embeddings": np.ones((2, 4), np.float16)}, "different lengths"),
        ({"embeddings": np.ones(3, [("x", "<f2")])}, "type"),
        ({"times_seconds": np.ones((3, 2), np.float32)}, "type float32"),
        ({"short": np.ones(3, bool)}, "type"),
    ],
)
def test_columns_of_the_wrong_kind(path, columns, match):
    assert_refused(rewrite(path, **columns), match)


def test_rows_that_were_swapped_do_not_match_the_hash(path):
    with h5py.File(path, "r+") as file:
        file["embeddings"][...] = file["embeddings"][()][[1, 0, 2]]
    assert_refused(path, "do not match the hash")


def test_an_empty_file_is_refused_unless_asked_for(tmp_path, samples):
    path = samples.write(tmp_path / "e.h5", [])
    assert_refused(path, "holds no vectors")
    assert len(EmbeddingStore.open(path, allow_empty=True)) == 0


def test_another_format_or_a_damaged_recipe(path):
    with h5py.File(path, "r+") as file:
        file.attrs["recipe"] = np.bytes_(b'{"encoder": 3}')
    assert_refused(path, "recipe cannot be read: encoder")
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = np.bytes_(b"vivim embeddings 9")
    assert_refused(path, "'vivim embeddings 9'.*update vivim")


def test_files_that_are_not_there_or_something_else(tmp_path):
    assert_refused(tmp_path / "none.h5", "not there")
    (tmp_path / "text.h5").write_text("hello")
    assert_refused(tmp_path / "text.h5", "cannot be read")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    assert_refused(tmp_path / "other.h5", "'format'")


@pytest.mark.parametrize("cut", [1, 100, 0.5, 0.99])
def test_truncated_files(path, cut):
    data = path.read_bytes()
    path.write_bytes(data[: -cut if cut >= 1 else int(len(data) * (1 - cut))])
    assert_refused(path, "cannot be read")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_inverted_byte_is_noticed_or_harmless(samples, tmp_path_factory, data):
    path = samples.write(tmp_path_factory.mktemp("flip") / "e.h5")
    good = EmbeddingStore.open(path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 0xFF
    path.write_bytes(content)
    try:
        store = EmbeddingStore.open(path)
    except InputError as error:
        outcome = str(path) in str(error)
    else:
        same = store.rows.sha256 == good.rows.sha256 and store.rows.decoder == good.rows.decoder and store.recipe == good.recipe
        outcome = same and store.ids == good.ids and (store.vectors_ND == good.vectors_ND).all()
    assert outcome
