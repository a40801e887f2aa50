"""Vectors of others: every one under its id, none silently lost."""

import numpy as np
import pytest
from vivim.content.import_vectors import import_vectors
from vivim.content.item_ids import ItemIds
from vivim.content.vector_files import open_vectors
from vivim.errors import InputError, RecipeMismatch
from vivim.progress import SILENT
from vivim.store import EmbeddingStore, ImportedRecipe


def vectors(tmp_path, count=10_000, dim=3, name="v.npy", dtype=np.float32):
    """Row r holds r + 1, r + 2, ...: every vector says which it is."""
    values = (np.arange(1, count + 1)[:, None] + np.arange(dim)).astype(dtype)
    np.save(tmp_path / name, values)
    return values


def bring(tmp_path, name="v.npy", ids=None, first=1, out="v.h5"):
    opened = open_vectors(tmp_path / name)
    return import_vectors(opened, ids or ItemIds.counted(len(opened.values_ND), first), tmp_path / out, "their features", SILENT)


def test_row_r_is_item_r_plus_one_in_more_than_one_piece(tmp_path):
    values = vectors(tmp_path)
    done = bring(tmp_path)
    store = EmbeddingStore.open(tmp_path / "v.h5")
    found, present = store.lookup([str(n) for n in range(1, 10_001)])
    assert present.all()
    np.testing.assert_array_equal(found, values)
    assert (done.rows, done.dim, done.dtype, done.failures, done.sha256) == (10_000, 3, "float32", (), store.sha256)
    assert isinstance(store.recipe, ImportedRecipe)
    assert store.recipe.vectors["source"] == "their features"
    assert (store.recipe.vectors["file"], store.recipe.ids) == ("v.npy", {"first": 1})
    assert len(str(store.recipe.vectors["sha256"])) == 64


def test_float16_is_stored_as_it_is(tmp_path):
    values = vectors(tmp_path, 5, dtype=np.float16)
    bring(tmp_path)
    rows = EmbeddingStore.open(tmp_path / "v.h5").rows
    assert rows.vectors_ND.dtype == np.float16
    np.testing.assert_array_equal(rows.vectors_ND, values)


def test_rows_that_cannot_be_used_are_named_and_the_others_taken(tmp_path):
    values = vectors(tmp_path, 5, dtype=np.float64)
    values[1, 2], values[2], values[4, 0] = np.nan, 0, 1e300
    np.save(tmp_path / "v.npy", values)
    done = bring(tmp_path, first=0)
    assert [(failure.id, failure.message) for failure in done.failures] == [
        ("1", "the vector holds NaN or infinite values as float32"),
        ("2", "the vector is all zero as float32"),
        ("4", "the vector holds NaN or infinite values as float32"),
    ]
    store = EmbeddingStore.open(tmp_path / "v.h5")
    assert (store.ids.ids, done.rows) == (("0", "3"), 2)
    assert [failure.id for failure in store.failures] == ["1", "2", "4"]


def test_if_no_row_can_be_used_nothing_is_written(tmp_path):
    np.save(tmp_path / "v.npy", np.zeros((3, 2), np.float32))
    with pytest.raises(InputError, match="no row can be used: the vector is all zero"):
        bring(tmp_path)
    assert not (tmp_path / "v.h5").exists()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (("a", "b"), "has 3 rows and there are 2 ids"),
        (("a", "b", "a"), "1 ids occur more than once: a"),
        (("a", "", "b"), "1 ids are empty"),
    ],
)
def test_ids_must_fit(tmp_path, ids, message):
    vectors(tmp_path, 3)
    with pytest.raises(InputError, match=message):
        bring(tmp_path, ids=ItemIds(ids, {}))
    assert not (tmp_path / "v.h5").exists()


def test_an_item_twice_in_one_json_is_refused(tmp_path):
    (tmp_path / "v.json").write_text('{"1": [1.0], "2": [2.0], "1": [3.0]}')
    opened = open_vectors(tmp_path / "v.json")
    with pytest.raises(InputError, match="1 ids occur more than once: 1"):
        import_vectors(opened, opened.ids, tmp_path / "v.h5", "x", SILENT)


def test_the_same_vectors_again_are_the_same_file_and_others_or_other_ids_are_refused(tmp_path):
    vectors(tmp_path, 3)
    first = bring(tmp_path)
    assert bring(tmp_path).sha256 == first.sha256
    with pytest.raises(RecipeMismatch, match=r"ids\.first: 1 in the file, 0 now"):
        bring(tmp_path, first=0)
    vectors(tmp_path, 3, dim=4)
    with pytest.raises(RecipeMismatch, match=r"vectors\.sha256: .* in the file, .* now\n  vector width: 3 in the file, 4 now"):
        bring(tmp_path)
