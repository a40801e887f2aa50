"""In which vectors lists are compared: by hand over a file, and in the model's own where there is none."""

import numpy as np
import pytest
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.store import EmbeddingStore

POPULARITY = {"model": {"kind": "popularity"}}


@pytest.fixture
def measure(told):
    """``measure(run, data, store=None)``: the report, and what was said."""

    def measure(run, data, store=None):
        told.lines.clear()
        return evaluate_run(RunFolder.open(run), data, EvaluateConfig(k=(2,)), vectors=store, progress=told), list(told.lines)

    return measure


@pytest.fixture
def opposites(ring, write_vectors, tmp_path):
    """A file in which items of even rows point one way and those of odd rows the other, in one number of two; the other is the same."""
    vectors = np.stack([np.where(np.arange(30) % 2, -1.0, 1.0), np.ones(30)], 1)
    write_vectors(tmp_path / "v.h5", ring.items.ids, vectors=vectors)
    return EmbeddingStore.open(tmp_path / "v.h5")


def test_popularity_has_a_diversity_over_a_file(ring, planted, tmp_path, opposites, measure):
    """Two items of a list are of cosine 1 or -1, so that the mean over lists is twice the share whose rows are of different parity."""
    planted.fit(ring, tmp_path / "run", POPULARITY)
    own, lines = measure(tmp_path / "run", ring)
    assert (own.splits[1].diversity, own.space, lines) == (None, "own vectors", [])
    report, lines = measure(tmp_path / "run", ring, opposites)
    assert (report.space, lines) == (f"v.h5 {opposites.sha256[:8]}", [])
    expected = np.mean([2.0 if (one - other) % 2 else 0.0 for one, other in lists_of(tmp_path / "run", ring)])
    assert 0 < expected < 2
    assert report.splits[1].diversity[2] == pytest.approx(expected)
    assert report.list_rows()[0][5] == f"diversity in v.h5 {opposites.sha256[:8]}"


def lists_of(run, data):
    """The two best for every test question, counted anew: by views in training, what was watched before left out."""
    counts = RunFolder.open(run).catalogue()[1]
    for user in range(40):
        seen = data.histories[user][:-1]
        yield [int(row) for row in np.lexsort((np.arange(30), -counts)) if row not in seen][:2]


def test_a_run_with_vectors_is_measured_in_them_as_long_as_they_are_there(ring, planted, tmp_path, opposites, write_vectors, measure):
    """content-mean's own vectors are the standardised ones of the file: the same number under both names."""
    planted.fit(ring, tmp_path / "run", {"model": {"kind": "content-mean"}}, opposites)
    there, lines = measure(tmp_path / "run", ring)
    assert (there.space, lines) == (f"v.h5 {opposites.sha256[:8]}", [])
    write_vectors(tmp_path / "v.h5", ring.items.ids)
    other, (line,) = measure(tmp_path / "run", ring)
    assert other.space == "own vectors" and "holds others now; the diversity of lists is measured in the model's own vectors" in line
    (tmp_path / "v.h5").unlink()
    gone, (line,) = measure(tmp_path / "run", ring)
    assert gone.space == "own vectors" and "v.h5 is gone" in line
    assert there.splits[1].diversity[2] == pytest.approx(gone.splits[1].diversity[2])


def test_a_file_of_too_few_items_is_not_taken(ring, planted, tmp_path, write_vectors, measure):
    planted.fit(ring, tmp_path / "run", {"model": {"kind": "dssm", "d_model": 8}, "train": {"epochs": 1}})
    own, _ = measure(tmp_path / "run", ring)
    write_vectors(tmp_path / "few.h5", ring.items.ids[:15])
    report, (line,) = measure(tmp_path / "run", ring, EmbeddingStore.open(tmp_path / "few.h5"))
    assert (report.space, report.splits[1].diversity) == ("own vectors", own.splits[1].diversity)
    assert "has vectors of 50.0% of the items, and items.min_coverage is 90%" in line
    write_vectors(tmp_path / "most.h5", ring.items.ids[:28])
    most, lines = measure(tmp_path / "run", ring, EmbeddingStore.open(tmp_path / "most.h5"))
    assert most.space.startswith("most.h5 ") and not lines
