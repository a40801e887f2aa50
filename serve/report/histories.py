"""What the histories are: how many are left after each step, how long they are, how unevenly items are watched, what leaks.

Shapes: U users, N items, C places of a curve.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .evidence import Evidence

CURVE_POINTS = 200
_HEADS = (0.01, 0.1)


@dataclass(frozen=True)
class Stage:
    """What is left after a step.

    Attributes:
        name: of the step.
        users, items, interactions: that are left.
    """

    name: str
    users: int
    items: int
    interactions: int


@dataclass(frozen=True)
class Histories:
    """What ``look_at_histories`` finds.

    Attributes:
        source: file and format.
        funnel: raw, filtered, cut, divided.
        lengths_U: (U,) interactions of every user of the file.
        places_C: places of items by how often training saw them, from 1 (the most watched).
        views_C: training interactions of the items at these places.
        heads: share of the catalogue -> share of the training interactions that its most watched items hold.
        never: items of the catalogue that training never saw.
        leakage: in a sentence.
        repeated: test questions whose target was watched before: certain misses.
    """

    source: str
    funnel: tuple[Stage, ...]
    lengths_U: npt.NDArray[np.int64]
    places_C: npt.NDArray[np.int64]
    views_C: npt.NDArray[np.int64]
    heads: dict[float, float]
    never: int
    leakage: str
    repeated: int


def look_at_histories(evidence: Evidence) -> Histories:
    """Count."""
    views_N = np.sort(evidence.counts_N)[::-1]
    places_C = np.unique(np.geomspace(1, len(views_N), CURVE_POINTS).round().astype(np.int64))
    total = max(int(views_N.sum()), 1)
    return Histories(
        source=evidence.interactions.source,
        funnel=tuple(_funnel(evidence)),
        lengths_U=evidence.interactions.histories.lengths,
        places_C=places_C,
        views_C=views_N[places_C - 1],
        heads={share: float(views_N[: max(1, round(share * len(views_N)))].sum() / total) for share in _HEADS},
        never=int((evidence.counts_N == 0).sum()),
        leakage=_leakage(evidence),
        repeated=evidence.split.card.repeated_test,
    )


def _funnel(evidence: Evidence) -> list[Stage]:
    data, split = evidence.interactions, evidence.split
    card = split.card
    kept = data.histories.take(data.users.rows_of(split.users.ids))
    stages = [
        Stage("in the file", len(data.users), len(data.items), len(data)),
        Stage(f"users with {card.min_interactions} or more", len(kept), len(np.unique(kept.items)), len(kept.items)),
    ]
    if card.keep_last is not None:
        stages.append(Stage(f"the newest {card.keep_last} of each", len(kept), card.items, card.interactions))
    trained = int((split.train.lengths > 0).sum())
    stages.append(Stage("trained on", trained, len(np.unique(split.train.items)), len(split.train.items)))
    for name, asked in (("validation questions", split.validation), ("test questions", split.test)):
        stages.append(Stage(name, len(np.unique(asked.users)), len(np.unique(asked.targets)), len(asked)))
    return stages


def _leakage(evidence: Evidence) -> str:
    found = evidence.split.leakage
    if found is None:
        return "The file has no times, so how much training looks past the test cannot be known."
    return f"{found.line[0].upper()}{found.line[1:]}" if found.line else "Nothing leaks: training ends before the test begins."
