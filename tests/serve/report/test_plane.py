"""The map of vectors that lie in a plane is that plane."""

import importlib.util
import sys

import numpy as np
import pytest
from vivim.errors import MissingExtra
from vivim.serve.report.plane import lay_flat, principal
from vivim.serve.report.space import Space


def flat(count=50, seed=0):
    """Points of a plane, turned into a space of five dimensions."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=(count, 2)) * [5, 1]
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    return plane, (plane @ turn[:2] + 7).astype(np.float32)


def test_the_plane_is_found():
    plane, vectors = flat()
    places, words = principal(vectors)
    distances = np.linalg.norm(plane[:, None] - plane, axis=2)
    assert np.linalg.norm(places[:, None] - places, axis=2) == pytest.approx(distances, abs=1e-3)
    assert places.var(axis=0)[0] > places.var(axis=0)[1]
    assert "100%" in words


def test_one_input_has_one_map():
    _, vectors = flat()
    assert np.array_equal(principal(vectors)[0], principal(vectors.copy())[0])
    again, _ = principal(vectors[::-1])
    assert again[::-1] == pytest.approx(principal(vectors)[0], abs=1e-3)


def test_vectors_of_one_number_lie_on_a_line():
    places, _ = principal(np.array([[1.0], [3.0], [2.0]], np.float32))
    assert places.tolist() == [[-1, 0], [1, 0], [0, 0]]


def test_of_many_items_a_sample_is_shown():
    _, vectors = flat(200)
    space = Space(np.arange(1000, 1200), vectors, (), "made")
    plane = lay_flat(space, "pca", 30, seed=1)
    assert (len(plane.rows_P), plane.of) == (30, 200)
    assert set(plane.rows_P) < set(range(1000, 1200))
    assert np.array_equal(plane.rows_P, np.unique(plane.rows_P))
    assert np.array_equal(plane.rows_P, lay_flat(space, "pca", 30, seed=1).rows_P)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ImportWarning")  # umap looks for tensorflow, which it can do without
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn is not installed")
def test_umap_keeps_clusters_together():
    rng = np.random.default_rng(0)
    cluster = np.arange(90) % 3
    vectors = (np.eye(3, 8)[cluster] * 10 + rng.normal(size=(90, 8)) * 0.2).astype(np.float32)
    space = Space(np.arange(90), vectors, (), "made")
    plane = lay_flat(space, "umap", 100, seed=1)
    apart = np.linalg.norm(plane.places_P2[:, None] - plane.places_P2, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (cluster[apart.argmin(1)] == cluster).all()
    assert np.array_equal(plane.places_P2, lay_flat(space, "umap", 100, seed=1).places_P2)


def test_umap_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    _, vectors = flat()
    with pytest.raises(MissingExtra, match="umap-learn"):
        lay_flat(Space(np.arange(50), vectors, (), "made"), "umap", 100, seed=1)
