"""How far training looks past the test.

Leave one out cuts every history at its own end. Of two users one may have stopped watching long before the other began: the model is
then trained on what happened after a question is asked, which nobody could have had at that moment.

Shapes: P training interactions, Q test questions, N items.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CUT_BY_TIME = "temporal"  # the protocol under which nothing can leak
_UNMEASURED = "leakage: not measured, as the file has no times; leave one out may train on what others watched after a question was asked."
_NONE = (
    "leakage: measured, and none: no training interaction is later than the median test question, and no target is known from later ones."
)


@dataclass(frozen=True)
class Leakage:
    """Counts; ``later`` and ``unborn`` are 0 where training ends before the test begins.

    Attributes:
        training: training interactions.
        later: of them, those later than the median test question.
        questions: test questions.
        unborn: of them, those whose target training knows, but only from interactions later than the question: at that moment nobody
            in training had watched it.
    """

    training: int
    later: int
    questions: int
    unborn: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def line(self) -> str:
        """For people; empty where nothing leaks. What is not measured has a line too, see ``leakage_lines``."""
        if not self.later and not self.unborn:
            return ""
        return (
            f"leakage: {self.later / self.training:.1%} of the training interactions are later than the median test question, and the "
            f"targets of {self.unborn / self.questions:.1%} of the questions are known to training only from later ones; protocol.name: "
            "temporal trains on what came before."
        )


def leakage_lines(protocol: str, measured: Leakage | None) -> list[str]:
    """What is to be said beside every result.

    Args:
        protocol: name on the card.
        measured: None where the file has no times.
    """
    if measured is not None and measured.line:
        return [measured.line]
    return [] if protocol == CUT_BY_TIME else [_UNMEASURED if measured is None else _NONE]


def measure_leakage(
    train_items: npt.NDArray[np.int32],
    train_times_ms: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int32],
    asked_ms: npt.NDArray[np.int64],
) -> Leakage:
    """Compare times.

    Args:
        train_items: (P,) rows.
        train_times_ms: (P,) when they were watched.
        targets: (Q,) rows; at least one.
        asked_ms: (Q,) when they were watched.
    """
    size = 1 + max(int(train_items.max(initial=-1)), int(targets.max()))
    never = np.iinfo(np.int64).max
    first_N = np.full(size, never)
    np.minimum.at(first_N, train_items, train_times_ms)
    first_Q = first_N[targets]
    later = train_times_ms > np.median(asked_ms)
    unborn = (first_Q > asked_ms) & (first_Q < never)
    return Leakage(len(train_items), int(later.sum()), len(targets), int(unborn.sum()))
