"""Histories cut into what is trained on and what is asked, by place.

Shapes: U users kept, S sequences, Q questions, total interactions.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .config import ProtocolConfig
from .sequences import Interactions, Questions, Sequences


@dataclass(frozen=True)
class Division:
    """Where the histories of the users kept are cut.

    Attributes:
        users: (U,) int64 rows of the file's users.
        starts: (U,) int64 where each one's window begins in ``interactions.histories.items``.
        sizes: (U,) int64 its length.
        train: (U,) int64 how many of its first items are for training.
        validation: (U,) int64 place of the validation target in it; -1: not asked.
        test: (U,) int64 place of the test target in it; -1: not asked.
    """

    users: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def last_two(interactions: Interactions, config: ProtocolConfig, newest: int | None) -> Division:
    """The last item of each history is the test target, the one before it the validation target.

    Args:
        newest: interactions of a history that count, from its end; None: all.

    Raises:
        InputError: no user has ``min_interactions``.
    """
    users = long_enough(interactions, config.min_interactions)
    sizes = interactions.histories.lengths[users]
    if newest is not None:
        sizes = np.minimum(sizes, newest)
    return Division(users, interactions.histories.offsets[users + 1] - sizes, sizes, sizes - 2, sizes - 2, sizes - 1)


def long_enough(interactions: Interactions, least: int) -> npt.NDArray[np.int64]:
    """Rows of the users with at least ``least`` interactions.

    Raises:
        InputError: nobody has as many.
    """
    lengths = interactions.histories.lengths
    kept = np.flatnonzero(lengths >= least)
    if not len(kept):
        raise InputError(
            f"{interactions.source}: none of {len(lengths):,} users has the {least} interactions that training, "
            f"validation and test need; the longest history has {int(lengths.max(initial=0))}. Bring longer histories"
            " or, if it is above 3, lower protocol.min_interactions."
        )
    return kept


def take(sequences: Sequences, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Sequences:
    """Stretches of the flat ``sequences.items``: new sequence s is ``items[starts[s] : starts[s] + lengths[s]]``; both (S,)."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Sequences(offsets, sequences.items[flat])


def repeated_targets(questions: Questions) -> npt.NDArray[np.bool_]:
    """(Q,) True where the target is among the masked items: a certain miss."""
    owner = np.repeat(np.arange(len(questions)), questions.masked.lengths)
    hit = questions.masked.items == questions.targets[owner]
    return np.bincount(owner[hit], minlength=len(questions)).astype(np.bool_)


def ask(window: Sequences, place: npt.NDArray[np.int64], max_len: int, *, masks_seen: bool = True) -> Questions:
    """The item at ``place`` (U,) of every window, asked after what came before it; -1: not asked."""
    users = np.flatnonzero(place >= 0)
    starts, before = window.offsets[users], place[users]
    targets, shown = starts + before, np.minimum(before, max_len)
    return Questions(
        users=users.astype(np.int32),
        histories=take(window, targets - shown, shown),
        targets=window.items[targets],
        seen=take(window, starts, before),
        masks_seen=masks_seen,
    )


def assert_in_time_order(interactions: Interactions) -> None:
    """No interaction of a user is earlier than the one before it: else a test target could precede training items."""
    if interactions.times_ms is not None:
        backwards = np.flatnonzero(np.diff(interactions.times_ms) < 0) + 1
        assert np.isin(backwards, interactions.histories.offsets).all(), "histories are not in time order"


def assert_no_leak(window: Sequences, train: Sequences, questions: Questions, place: npt.NDArray[np.int64]) -> None:
    """Put the parts together again by position: in every window training ends before the target, and no history reaches its own
    target."""
    users, before = questions.users, place[questions.users]
    last = window.offsets[users] + before
    assert np.array_equal(users, np.flatnonzero(place >= 0))
    assert np.all(train.lengths[users] <= before)
    assert np.array_equal(train.items, window.items[_first(window, train.lengths)])
    assert np.array_equal(questions.targets, window.items[last])
    assert np.array_equal(questions.seen.lengths, before)
    assert np.all(questions.histories.lengths >= 1), "a question needs a history"
    newest = questions.histories.items[questions.histories.offsets[1:] - 1]
    assert np.array_equal(newest, window.items[last - 1]), "a history must end right before its target"
    assert np.all(questions.histories.lengths <= questions.seen.lengths)


def _first(window: Sequences, count: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(total,) True at the first ``count`` (U,) places of every window."""
    place = np.arange(len(window.items)) - np.repeat(window.offsets[:-1], window.lengths)
    return place < np.repeat(count, window.lengths)
