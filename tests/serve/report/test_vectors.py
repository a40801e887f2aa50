"""Curves behind the health of vectors."""

import numpy as np
import pytest
from vivim.serve.report.evidence import Missing
from vivim.serve.report.vectors import covariance, look_at_vectors


def test_covariance_is_numpys():
    vectors = np.random.default_rng(0).normal(size=(5000, 6)).astype(np.float32) + 3
    assert covariance(vectors) == pytest.approx(np.cov(vectors.T, bias=True), abs=1e-5)


def test_a_circle_lies_in_two_directions(looking):
    found = look_at_vectors(looking, seed=1)
    assert found.items == "clips"
    assert found.health.rows == 29
    assert found.spectrum_K.sum() == pytest.approx(1)
    assert found.spectrum_K[:2].sum() > 0.999
    assert found.deviations_D.tolist() == sorted(found.deviations_D, reverse=True)
    # Of the circle 3, of the plane above the origin .5.
    assert found.norms_N == pytest.approx(np.hypot(3, 0.5), abs=1e-3)


def test_a_run_of_ids_has_none(counted):
    assert isinstance(look_at_vectors(counted, seed=1), Missing)
