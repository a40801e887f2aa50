"""Neighbours on a circle are those beside one."""

from dataclasses import replace

import numpy as np
import pytest
from vivim.serve.report.evidence import Missing
from vivim.serve.report.neighbours import look_at_neighbours
from vivim.serve.report.space import Space, space_of
from vivim.serve.report.vectors import look_at_vectors


def test_neighbours_on_the_circle(looking):
    """Rows 3 and 4 are one file, 7 has no vector; of every other row the nearest two stand beside it."""
    space = space_of(looking)
    gallery = look_at_neighbours(space, look_at_vectors(looking, 1), 29, 2, seed=1)
    found = {query: [near.row for near in neighbours] for query, neighbours in gallery.queries}
    assert sorted(found) == [row for row in range(30) if row != 7]
    for row in (11, 15, 20, 28):
        assert set(found[row]) == {(row - 1) % 30, (row + 1) % 30}
    assert found[3][0] == 4
    twin = dict(gallery.queries)[3][0]
    assert twin.same_file
    assert twin.cosine == pytest.approx(1, abs=1e-5)
    assert gallery.same_files == (("i03", "i04"),)
    assert gallery.twins_known


def test_queries_are_drawn_by_the_seed(looking):
    space, vectors = space_of(looking), look_at_vectors(looking, 1)
    first, again, other = (look_at_neighbours(space, vectors, 6, 3, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert [query for query, _ in first.queries] != [query for query, _ in other.queries]
    assert all(query not in {near.row for near in neighbours} for query, neighbours in first.queries)


def test_the_mean_is_taken_off():
    """By plain cosine everything far from the origin is alike; by direction from the mean, opposite."""
    space = Space(np.arange(4), np.array([[101, 100], [99, 100], [101, 100.1], [99, 99.9]], np.float32), (), "made")
    gallery = look_at_neighbours(space, Missing("none"), 4, 1, seed=0)
    assert {query: neighbours[0].row for query, neighbours in gallery.queries} == {0: 2, 1: 3, 2: 0, 3: 1}
    assert not gallery.twins_known


def test_without_stored_vectors_the_learned_ones_are_taken(looking, counted):
    learned = space_of(replace(looking, store=None))
    assert len(learned) == 30
    assert learned.vectors_SD == pytest.approx(looking.scorer.items_ND.numpy())
    assert "learned" in learned.words
    assert isinstance(space_of(counted), Missing)
