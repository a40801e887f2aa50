"""Some test questions whole: what was watched, what the model puts first, what was really watched next.

Legend: Q test questions, V of them drawn, K places of a list.
"""

from dataclasses import dataclass

import numpy as np

from ...recommend.ranker import rank_and_list
from .evidence import Evidence


@dataclass(frozen=True)
class Recommended:
    """A place of a list.

    Attributes:
        row: of the item in the catalogue.
        score: of the model.
        hit: it is what was watched next.
    """

    row: int
    score: float
    hit: bool


@dataclass(frozen=True)
class Viewer:
    """A test question.

    Attributes:
        user: external id.
        history: rows that the model was shown, oldest first.
        target: row of what was watched next.
        views: training interactions of the target.
        rank: its exact rank, 1 is best; ties share the mean of their places; infinite: it was watched before, and is masked.
        recommended: best first.
    """

    user: str
    history: tuple[int, ...]
    target: int
    views: int
    rank: float
    recommended: tuple[Recommended, ...]

    @property
    def hit(self) -> bool:
        return any(place.hit for place in self.recommended)


def ask_viewers(evidence: Evidence, count: int, k: int, seed: int) -> tuple[Viewer, ...]:
    """``count`` test questions drawn at random, so that what is shown is neither the best nor the worst."""
    test, items = evidence.split.test, len(evidence.items)
    drawn_V = np.sort(np.random.default_rng([seed, 4]).choice(len(test), min(count, len(test)), replace=False))
    if not len(drawn_V):
        return ()
    asked = test.take(drawn_V)
    ranks, lists = rank_and_list(evidence.scorer, asked, min(k, items), num_items=items)
    viewers = []
    for place in range(len(asked)):
        target = int(asked.targets[place])
        listed = zip(lists.items[place].tolist(), lists.scores[place].tolist(), strict=True)
        viewers.append(
            Viewer(
                user=evidence.split.users.ids[int(asked.users[place])],
                history=tuple(asked.histories[place].tolist()),
                target=target,
                views=int(evidence.counts_N[target]),
                rank=float(ranks.rank[place]),
                recommended=tuple(Recommended(row, score, row == target) for row, score in listed if row >= 0),
            )
        )
    return tuple(viewers)
