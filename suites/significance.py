"""Is one model better than another, asked of the same people?

Legend: U users, R rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Gains = npt.NDArray[np.float64]
_AT_ONCE = 1 << 22  # signs that are drawn at a time


@dataclass(frozen=True)
class Comparison:
    """One model against another.

    Attributes:
        difference: mean of the first less mean of the second.
        better: users with whom the first does better.
        worse: users with whom it does worse.
        p: two-sided; how often a difference this large would come about if it did not matter which model a user got.
    """

    difference: float
    better: int
    worse: int
    p: float


def randomisation(first_U: Gains, second_U: Gains, *, rounds: int = 10_000, seed: int = 0) -> Comparison:
    """Any measure of two models: the paired randomisation test, whose smallest p is 1 / (R + 1).

    Of hits, which are 0 or 1, it is McNemar's exact test, drawn instead of counted. Source: Smucker et al., "A comparison of statistical
    significance tests for information retrieval evaluation" (2007).

    Raises:
        ValueError: not the same users.
    """
    _require_same(first_U, second_U)
    difference_U = first_U - second_U
    changed = difference_U[difference_U != 0]  # the others say nothing, whatever their sign
    rng, reached, done = np.random.default_rng(seed), 0, 0
    while done < rounds and len(changed):
        now = min(rounds - done, max(1, _AT_ONCE // len(changed)))
        signs = rng.integers(0, 2, (now, len(changed)), dtype=np.int8) * 2 - 1
        # What equals the difference but for rounding has reached it.
        reached += int((np.abs(signs @ changed) >= abs(changed.sum()) * (1 - 1e-12)).sum())
        done += now
    p = (reached + 1) / (rounds + 1) if len(changed) else 1.0
    return Comparison(float(difference_U.mean()), int((difference_U > 0).sum()), int((difference_U < 0).sum()), p)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values of a family of tests, so that the chance of any false alarm among them is what each says.

    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for place, which in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[which]))
        adjusted[which] = largest
    return adjusted


def _require_same(first_U: npt.NDArray[np.generic], second_U: npt.NDArray[np.generic]) -> None:
    if first_U.shape != second_U.shape or first_U.ndim != 1 or not len(first_U):
        raise ValueError(f"both models must have answered the same users, not {first_U.shape} and {second_U.shape}")
