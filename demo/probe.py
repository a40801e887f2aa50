"""How much of a known truth can be read off vectors by a straight line.

Legend: N vectors, D width, K labels.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InputError

_PENALTIES = np.logspace(-5, 2, 15)  # of the ridge, relative to the mean eigenvalue of the kernel


def linear_probe(vectors_ND: npt.ArrayLike, labels_N: Sequence[Hashable], seed: int = 0) -> float:
    """Accuracy of a linear classifier, trained on one half of the vectors and asked about the other.

    Ridge regression on one-hot labels, in closed form. Both halves hold every label in equal parts; vectors are standardised by the
    training half, and the penalty is the one with the least leave-one-out error there, so the tested half decides nothing.

    Raises:
        InputError: vectors and labels do not match, a value is not finite, there is one label only, or a label has fewer than four vectors.
    """
    X = np.asarray(vectors_ND, dtype=np.float64)
    classes, y = _checked(X, labels_N)
    train, test = _halves(y, np.random.default_rng(seed))
    mean, std = X[train].mean(axis=0), X[train].std(axis=0)
    X = (X - mean) / np.where(std > 0, std, 1)
    onehot = np.eye(classes)[y[train]]
    offset = onehot.mean(axis=0)
    weights_NK = _ridge(X[train] @ X[train].T, onehot - offset)
    predicted = (X[test] @ X[train].T @ weights_NK + offset).argmax(axis=1)
    return float((predicted == y[test]).mean())


def _checked(X: npt.NDArray[np.float64], labels: Sequence[Hashable]) -> tuple[int, npt.NDArray[np.int64]]:
    if X.ndim != 2 or len(X) != len(labels):
        raise InputError(f"vectors of shape {X.shape} and {len(labels)} labels do not match; allowed: (N, D) and N labels.")
    if not np.isfinite(X).all():
        raise InputError("the vectors hold values that are not finite; make them again.")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    y = np.array([numbers[label] for label in labels], dtype=np.int64)
    rare = np.bincount(y).min() if len(y) else 0
    if len(numbers) < 2 or rare < 4:
        raise InputError(f"{len(numbers)} labels, the rarest with {rare} vectors; allowed: at least two labels with four vectors each.")
    return len(numbers), y


def _halves(y: npt.NDArray[np.int64], rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers of two halves, every label divided evenly (an odd one goes to training)."""
    members = [rng.permutation(np.flatnonzero(y == label)) for label in range(y.max() + 1)]
    cuts = [-(-len(rows) // 2) for rows in members]
    train = np.concatenate([rows[:cut] for rows, cut in zip(members, cuts, strict=True)])
    test = np.concatenate([rows[cut:] for rows, cut in zip(members, cuts, strict=True)])
    return train, test


def _ridge(kernel_NN: npt.NDArray[np.float64], targets_NK: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Dual weights (K + penalty I)^-1 y of the best penalty. The leave-one-out residual of row i is weight_i / inverse_ii."""
    values, vectors = np.linalg.eigh(kernel_NN)
    values = values.clip(0)
    projected = vectors.T @ targets_NK
    best_error, best = np.inf, np.zeros_like(targets_NK)
    for penalty in _PENALTIES * max(float(values.mean()), 1e-12):
        scale = 1 / (values + penalty)
        weights = vectors @ (scale[:, None] * projected)
        error = float(((weights / (vectors**2 @ scale)[:, None]) ** 2).mean())
        if error < best_error:
            best_error, best = error, weights
    return best
