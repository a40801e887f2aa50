import numpy as np
import pytest
from vivim.store import Rows, content_sha256, file_sha256, vector_faults


def test_faults_are_found_and_named():
    vectors = np.ones((7, 3), np.float32)
    vectors[1, 2] = np.nan
    vectors[2, 0] = -np.inf
    vectors[3] = 0
    vectors[4] = 1e-30
    vectors[5] = 1e30
    assert vector_faults(vectors) == {
        1: "holds NaN or infinite values",
        2: "holds NaN or infinite values",
        3: "is all zero",
        4: "has the norm 1.7e-30",
        5: "has the norm 1.7e+30",
    }


def test_faults_in_half_precision():
    vectors = np.array([[6e4] * 100, [6e-8] + [0] * 99, [np.inf] * 100], np.float16)
    assert list(vector_faults(vectors)) == [2]


def test_the_hash_sees_ids_values_type_shape_and_order():
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    hashes = {
        content_sha256(["a", "b"], vectors),
        content_sha256(["b", "a"], vectors),
        content_sha256(["ab", ""[:0] + "c"], vectors),
        content_sha256(["a", "b"], vectors[::-1]),
        content_sha256(["a", "b"], vectors.astype(np.float16)),
        content_sha256(["a", "b"], -vectors),
    }
    assert len(hashes) == 6
    assert content_sha256(["a", "b"], np.asfortranarray(vectors)) == content_sha256(["a", "b"], vectors.astype(">f4").astype(np.float32))


def test_take_and_join_keep_every_column_together(samples):
    rows = samples.rows("abcde")
    picked = rows.take([4, 0])
    assert picked.ids == ("e", "a")
    assert (picked.vectors_ND == rows.vectors_ND[[4, 0]]).all()
    assert picked.sha256 == (rows.sha256[4], rows.sha256[0])
    assert picked.times_seconds_NT.tolist() == [[8, 9], [0, 1]]
    assert picked.decoder == ("decord", "decord")
    assert picked.short_N.tolist() == [False, True]
    joined = Rows.join([rows.take([0, 1]), rows.take([2, 3, 4])])
    assert joined.ids == rows.ids
    assert (joined.vectors_ND == rows.vectors_ND).all()


def test_columns_of_different_lengths_are_our_own_mistake(samples):
    rows = samples.rows("ab")
    with pytest.raises(AssertionError):
        Rows(rows.ids, rows.vectors_ND[:1], rows.sha256, rows.times_seconds_NT, rows.decoder, rows.short_N)


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    """The first example of FIPS 180-2."""
    (tmp_path / "file").write_bytes(b"abc")
    assert file_sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
