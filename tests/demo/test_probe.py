"""The linear probe on vectors whose answer is known."""

import numpy as np
import pytest
from vivim.demo.probe import linear_probe
from vivim.errors import InputError

RNG = np.random.default_rng(0)
LABELS = ["left", "right", "still"] * 60


def test_separable_vectors_are_told_apart_perfectly() -> None:
    onehot = np.array([[label == name for name in ("left", "right", "still")] for label in LABELS], dtype=float)
    vectors = 1e-4 * onehot @ RNG.normal(size=(3, 20)) + 7
    assert linear_probe(vectors, LABELS) == 1.0


def test_noise_is_at_chance_even_with_more_dimensions_than_vectors() -> None:
    accuracies = [linear_probe(RNG.normal(size=(180, 400)), LABELS, seed) for seed in range(10)]
    assert abs(np.mean(accuracies) - 1 / 3) < 0.05


def test_a_weak_signal_in_many_dimensions_is_found() -> None:
    vectors = RNG.normal(size=(180, 300))
    vectors[:, :40] += np.array([[label == "left"] for label in LABELS])
    assert linear_probe(vectors, ["left" if label == "left" else "other" for label in LABELS]) > 0.8


def test_a_quadratic_truth_stays_hidden() -> None:
    """The probe is linear: it cannot see that a label is the sign of a product."""
    x = RNG.normal(size=(400, 2))
    labels = (x[:, 0] * x[:, 1] > 0).tolist()
    assert linear_probe(x, labels) < 0.62
    assert linear_probe(np.column_stack([x, x[:, 0] * x[:, 1]]), labels) > 0.9


def test_constant_dimensions_do_no_harm() -> None:
    vectors = np.column_stack([np.ones(180), [LABELS.index(label) for label in LABELS]])
    assert linear_probe(vectors, ["left" if label == "left" else "other" for label in LABELS]) == 1.0
    assert linear_probe(np.ones((180, 3)), LABELS) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("vectors", "labels", "message"),
    [
        (np.ones((3, 2)), ["a", "b"], "do not match"),
        (np.ones(8), ["a", "b"] * 4, "do not match"),
        (np.full((8, 2), np.nan), ["a", "b"] * 4, "not finite"),
        (np.ones((8, 2)), ["a"] * 8, "at least two labels"),
        (np.ones((8, 2)), ["a"] * 5 + ["b"] * 3, "rarest with 3"),
        (np.ones((0, 2)), [], "0 labels"),
    ],
)
def test_unusable_input_is_refused(vectors: np.ndarray, labels: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        linear_probe(vectors, labels)
