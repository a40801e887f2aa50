"""Clips under two ids and almost equal vectors, planted and found."""

import numpy as np
import pytest
from vivim.store import Rows, twins
from vivim.store.twins import near_twins, same_files


def rows_of(vectors, sha256=None, dtype=np.float32):
    count = len(vectors)
    sha256 = sha256 or [f"{k:064x}" for k in range(count)]
    ids = tuple(f"c{k}" for k in range(count))
    return Rows(ids, np.asarray(vectors, dtype), tuple(sha256), np.zeros((count, 2)), ("pyav",) * count, np.zeros(count, bool))


def random_rows(count, dim=16, seed=0, offset=0.0):
    return np.random.default_rng(seed).standard_normal((count, dim)) + offset


def twins_of(rows, **changes):
    mean = rows.vectors_ND.astype(np.float64).mean(0)
    return near_twins(rows, mean, **{"cosine": 0.999, "seed": 1, **changes})


def test_files_under_several_ids_are_counted():
    vectors = [[1, 2], [3, 4], [1, 2], [1, 2], [5, 6], [3, 4]]
    found = same_files(rows_of(vectors, ["a", "b", "a", "a", "c", "b"]))
    assert (found.files, found.clips, found.conflicts) == (2, 5, ())
    assert found.examples == (("c0", "c2", "c3"), ("c1", "c5"))


def test_one_file_with_two_vectors_is_a_conflict():
    vectors = [[3, 4], [3, 4.02], [6, 8], [1, 1]]  # .02 / 5 may be arithmetic, 5 / 5 may not
    found = same_files(rows_of(vectors, ["a", "a", "a", "b"]))
    assert found.conflicts == (("c0", "c2", 1.0),)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_near_twins_are_found_also_when_all_vectors_are_much_alike(offset):
    vectors = random_rows(50, offset=offset)
    vectors[7] = vectors[30] + 0.01 * random_rows(1)[0]
    vectors[49] = vectors[0]
    found = twins_of(rows_of(vectors))
    assert (found.looked_at, found.found, found.share) == (50, 4, 4 / 50)
    assert [pair[:2] for pair in found.examples] == [("c0", "c49"), ("c7", "c30")]
    assert found.examples[0][2] == pytest.approx(1.0, abs=1e-6)


def test_one_file_under_two_ids_is_not_a_near_twin():
    vectors = random_rows(20)
    vectors[3] = vectors[5] = vectors[9]
    shas = [f"{k}" for k in range(20)]
    shas[3] = shas[5]
    found = twins_of(rows_of(vectors, shas))
    assert found.found == 3  # 3 and 5 are twins of 9 only
    assert {pair[:2] for pair in found.examples} == {("c3", "c9"), ("c5", "c9")}


def test_the_cosine_is_that_of_vectors_from_the_mean():
    # Mean zero; the angle between the first two is 2 atan(.01).
    vectors = [[1, 0.01], [1, -0.01], [-1, 1], [-1, -1]]
    cosine = np.cos(2 * np.arctan(0.01))
    assert twins_of(rows_of(vectors), cosine=cosine - 1e-6).found == 2
    assert twins_of(rows_of(vectors), cosine=cosine + 1e-6).found == 0
    assert twins_of(rows_of(vectors), cosine=cosine - 1e-6).examples[0][2] == pytest.approx(cosine)


def test_blocks_and_samples_find_what_the_whole_finds(monkeypatch):
    vectors = random_rows(90)
    vectors[10] = vectors[80]
    vectors[20] = vectors[21]
    rows = rows_of(vectors, dtype=np.float16)
    whole = twins_of(rows)
    monkeypatch.setattr(twins, "_BLOCK_ROWS", 7)
    assert twins_of(rows) == whole
    monkeypatch.setattr(twins, "EXACT_ROWS", 89)
    monkeypatch.setattr(twins, "SAMPLE_ROWS", 90)
    assert twins_of(rows) == whole
    monkeypatch.setattr(twins, "SAMPLE_ROWS", 40)
    part = twins_of(rows)
    drawn = set(np.random.default_rng(1).choice(90, 40, replace=False))
    assert (part.rows, part.looked_at, part.found) == (90, 40, len(drawn & {10, 80, 20, 21}))


def test_clips_without_a_direction_are_no_twins():
    assert twins_of(rows_of(np.ones((5, 3)))).found == 0
    assert twins_of(rows_of([[1, 2]])).found == 0
