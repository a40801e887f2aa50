"""Everything odd about data that could be read: one function per part of the data."""

from collections.abc import Collection, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from ..store.item_index import ItemIndex
from .protocol import Split
from .sequences import Interactions

_PLAUSIBLE_MS = (datetime(1990, 1, 1, tzinfo=UTC).timestamp() * 1000, datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1000)
_MISSING_WORDS = frozenset({"nan", "na", "n/a", "none", "null", "nil", "<na>", "undefined"})


class OddityKind(StrEnum):
    """What can be odd about data that could be read."""

    CLIPS_MISSING = "clips missing"
    CLIPS_UNUSED = "clips unused"
    CLIPS_OFF_BY_ONE = "clip ids off by one"
    VECTORS_MISSING = "vectors missing"
    VECTORS_UNUSED = "vectors unused"
    VECTORS_OFF_BY_ONE = "vector ids off by one"
    TITLES_MISSING = "titles missing"
    TITLES_UNUSED = "titles unused"
    TITLES_EMPTY = "titles empty"
    TITLES_REPEATED = "titles repeated"
    TITLES_OFF_BY_ONE = "title ids off by one"
    REPEATED_INTERACTIONS = "repeated interactions"
    REPEATED_TARGETS = "repeated targets"
    TIES_IN_TIME = "ties in time"
    IMPLAUSIBLE_TIMES = "implausible times"
    ONE_USER = "one user"
    USERS_TOO_SHORT = "users too short"
    ITEMS_NOT_RANKED = "items not ranked"
    ITEMS_NEVER_TRAINED = "items never trained"
    TARGETS_NEVER_TRAINED = "targets never trained"
    TRAINED_ON_LATER = "trained on later"
    FLOAT_IDS = "ids look like floats"
    MISSING_WORD_IDS = "ids spell a missing value"
    SAME_NUMBER_IDS = "ids are the same number"


@dataclass(frozen=True)
class Oddity:
    """Something a person should know before training.

    Attributes:
        kind: what it is.
        count: how many users, items or interactions it concerns.
        message: what it is, how many, examples, what follows from it.
    """

    kind: OddityKind
    count: int
    message: str


def user_item_pairs(interactions: Interactions) -> npt.NDArray[np.int64]:
    """(total,) int64, one number per combination of user and item."""
    user = np.repeat(np.arange(len(interactions.users)), interactions.histories.lengths)
    return user * np.int64(len(interactions.items)) + interactions.histories.items


def history_oddities(interactions: Interactions, min_interactions: int) -> list[Oddity]:
    """Short, repeated, tied or implausibly dated histories."""
    lengths, times = interactions.histories.lengths, interactions.times_ms
    short = int((lengths < min_interactions).sum())
    left = f"{len(lengths) - short:,} users are left." if short < len(lengths) else "That is everyone: nothing can be trained."
    repeats = len(interactions) - len(np.unique(user_item_pairs(interactions)))
    found = [
        *_counted(OddityKind.USERS_TOO_SHORT, short, f"users left out for fewer than {min_interactions} interactions", left),
        *_counted(OddityKind.REPEATED_INTERACTIONS, repeats, "interactions that repeat an item for the user", "All are kept."),
    ]
    if times is not None:
        starts = np.zeros(len(times) + 1, np.bool_)
        starts[interactions.histories.offsets] = True
        tied = int(((np.diff(times) == 0) & ~starts[1:-1]).sum())
        odd = int(((times < _PLAUSIBLE_MS[0]) | (times > _PLAUSIBLE_MS[1])).sum())
        found += _counted(OddityKind.TIES_IN_TIME, tied, "interactions at the time of the one before", "The order of the lines decides.")
        found += _counted(OddityKind.IMPLAUSIBLE_TIMES, odd, "times before 1990 or after 2100", f"Check the unit: {interactions.source}.")
    return found


def split_oddities(interactions: Interactions, split: Split) -> list[Oddity]:
    """What a split leaves out or cannot learn."""
    trained = np.zeros(len(split.items), np.bool_)
    trained[split.train.items] = True
    cold = int((~trained[split.test.targets]).sum())
    best = 1 - cold / len(split.test)
    dropped, untrained = len(interactions.items) - len(split.items), int((~trained).sum())
    leakage = split.leakage
    return [
        *_counted(OddityKind.ONE_USER, int(len(split.users) == 1), "users to learn from", "A recommender needs at least two."),
        *_counted(OddityKind.ITEMS_NOT_RANKED, dropped, "items in no kept window", "They are not ranked."),
        *_counted(OddityKind.ITEMS_NEVER_TRAINED, untrained, "ranked items that never occur in training", "Ids alone cannot learn them."),
        *_counted(
            OddityKind.TARGETS_NEVER_TRAINED,
            cold,
            "test targets that never occur in training",
            f"By ids alone no hit rate exceeds {best:.4f}.",
        ),
        *_counted(
            OddityKind.REPEATED_TARGETS, split.card.repeated_test, "test targets watched before in the window", "They are certain misses."
        ),
        *([Oddity(OddityKind.TRAINED_ON_LATER, leakage.later, leakage.line)] if leakage and leakage.line else []),
    ]


def id_oddities(items: ItemIndex) -> list[Oddity]:
    """Ids that another program has probably damaged."""
    floats = [id_ for id_ in items.ids if id_.endswith(".0") and id_[:-2].isdigit()]
    words = [id_ for id_ in items.ids if id_.lower() in _MISSING_WORDS]
    padded = [id_ for id_ in items.ids if id_.isdigit() and id_ != (id_.lstrip("0") or "0") and (id_.lstrip("0") or "0") in items]
    return [
        *about_ids(OddityKind.FLOAT_IDS, floats, "item ids that end in .0", "pandas writes whole numbers so in a column with gaps."),
        *about_ids(OddityKind.MISSING_WORD_IDS, words, "item ids that spell a missing value", "They are taken as ids."),
        *about_ids(OddityKind.SAME_NUMBER_IDS, padded, "item ids that equal another but for leading zeros", "All stay apart."),
    ]


def partner_oddities(items: ItemIndex, partners: Set[str], kind: str, noun: str, consequence: str) -> list[Oddity]:
    """What is missing, unused, or shifted by one between the items and the ids of clips, vectors or titles.

    Args:
        items: of the interactions.
        partners: ids of the clips, vectors or titles.
        kind: ``CLIPS``, ``VECTORS`` or ``TITLES``, the first part of the kinds of oddity.
        noun: one of them, for people.
        consequence: of a missing one.
    """
    missing = [id_ for id_ in items.ids if id_ not in partners]
    unused = sorted(id_ for id_ in partners if id_ not in items)
    shift = off_by_one(items.ids, partners)
    advice = (
        f"Item n seems to be {noun} n{shift:+d}: with that shift all of the smaller set agree."
        f" Check one by eye; if it is so, every {noun} belongs to the wrong item."
    )
    return [
        *_counted(
            OddityKind[f"{kind}_OFF_BY_ONE"], min(len(items), len(partners)) if shift else 0, f"{noun} ids that look shifted", advice
        ),
        *about_ids(OddityKind[f"{kind}_MISSING"], missing, f"items without a {noun}", consequence),
        *about_ids(OddityKind[f"{kind}_UNUSED"], unused, f"{noun}s of no item in the interactions"),
    ]


def off_by_one(ids: Collection[str], partners: Collection[str], *, least: int = 10) -> int:
    """The shift, +1 or -1, that makes all numbers of the smaller set agree where they do not without it; otherwise 0.

    Sets of fewer than ``least`` ids agree too easily and give 0, and so do ids that are not plain numbers.
    """
    smaller = min(len(ids), len(partners))
    if smaller < least or not all(id_.isascii() and id_.isdigit() for id_ in (*ids, *partners)):
        return 0
    left, right = {int(id_) for id_ in ids}, {int(id_) for id_ in partners}
    overlap = {shift: len({number + shift for number in left} & right) for shift in (0, -1, 1)}
    if overlap[0] == smaller:
        return 0
    return next((shift for shift in (-1, 1) if overlap[shift] == smaller), 0)


def about_ids(kind: OddityKind, ids: Collection[str], what: str, consequence: str = "") -> list[Oddity]:
    """One oddity that concerns ``ids``, with examples, or none."""
    examples = ", ".join(repr(id_) for id_ in list(ids)[:3])
    return _counted(kind, len(ids), what, f"For example {examples}. {consequence}")


def _counted(kind: OddityKind, count: int, what: str, consequence: str) -> list[Oddity]:
    return [Oddity(kind, count, f"{what}: {count:,}. {consequence}".rstrip())] if count else []
