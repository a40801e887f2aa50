"""What clips that are missing or unreadable mean for the interactions.

Shapes: N items of the interactions.
"""

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .sequences import Interactions


@dataclass(frozen=True)
class Part:
    """Some items of the interactions.

    Attributes:
        ids: the most watched first.
        interactions: with one of them.
    """

    ids: tuple[str, ...]
    interactions: int


@dataclass(frozen=True)
class Coverage:
    """Interactions beside a catalogue of clips; every item is in one of the three parts.

    Attributes:
        items: N.
        interactions: all.
        readable: items whose clip can be read.
        unreadable: items whose clip is there but cannot be read.
        missing: items without a clip.
        unwatched: clips of no item, sorted by id.
        source: of the interactions.
    """

    items: int
    interactions: int
    readable: Part
    unreadable: Part
    missing: Part
    unwatched: tuple[str, ...]
    source: str


def cover(interactions: Interactions, *, readable: Set[str], unreadable: Set[str]) -> Coverage:
    """Divide the items by what became of their clips.

    Args:
        interactions: as read; every one counts, also those that a protocol leaves out.
        readable: ids of clips that can be read.
        unreadable: ids of clips that are there but cannot be read.
    """
    watched_N = np.bincount(interactions.histories.items, minlength=len(interactions.items))
    order_N = np.argsort(-watched_N, kind="stable")

    def part(wanted_N: npt.NDArray[np.bool_]) -> Part:
        return Part(tuple(interactions.items.ids[row] for row in order_N if wanted_N[row]), int(watched_N[wanted_N].sum()))

    good_N = np.array([id_ in readable for id_ in interactions.items.ids], np.bool_)
    bad_N = np.array([id_ in unreadable for id_ in interactions.items.ids], np.bool_) & ~good_N
    return Coverage(
        items=len(interactions.items),
        interactions=len(interactions),
        readable=part(good_N),
        unreadable=part(bad_N),
        missing=part(~good_N & ~bad_N),
        unwatched=tuple(sorted(id_ for id_ in readable | unreadable if id_ not in interactions.items)),
        source=interactions.source,
    )
