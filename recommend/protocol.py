"""Who is trained on what, and who is asked what.

``Protocol`` turns ``Interactions`` into a ``Split``; the ``ProtocolCard`` of a split is what makes two results
comparable: results with different cards are never put beside each other.

Shapes: U users kept, V users of the file, total interactions.
"""

from dataclasses import asdict, dataclass
from typing import Any
from typing import Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..store.item_index import ItemIndex
from .config import ProtocolConfig
from .sequences import Interactions, Questions, Sequences

SEEN_RULE = "items of the window before the target are masked; a target that repeats one of them counts as a miss"


@dataclass(frozen=True)
class ProtocolCard:
    """What a number depends on besides the model.

    Attributes:
        protocol: name, for example ``"microlens"``.
        dataset_sha256: hash of the interactions file.
        catalogue_sha256: hash of the ordered catalogue ids.
        users: users asked on test.
        items: size of the catalogue that is ranked.
        interactions: interactions left after truncation.
        keep_last: interactions kept per user, the newest.
        max_len: history length shown to the model.
        min_interactions: users with fewer are left out.
        seen_rule: which items are masked when ranking.
        tie_rule: how equal scores rank.
        ordering: how events of one user are ordered.
        repeated_validation: validation questions whose target the user had watched before in the window: certain misses.
        repeated_test: the same of the test questions.
    """

    protocol: str
    dataset_sha256: str
    catalogue_sha256: str
    users: int
    items: int
    interactions: int
    keep_last: int
    max_len: int
    min_interactions: int
    seen_rule: str
    tie_rule: str = "average rank of the tied items"
    ordering: str = "time, then order in the file (stable)"
    repeated_validation: int = 0
    repeated_test: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Split:
    """A data set divided by a protocol.

    Attributes:
        users: external ids of the users kept; rows used by ``train`` and ``Questions.users``.
        items: the catalogue, in the order of model rows.
        train: one training sequence per user row, oldest first; may be shorter than 2 for users with little history.
        validation: asked for early stopping and tuning; question q is about user row q.
        test: asked once; question q is about user row q.
        card: what the numbers depend on.
        dropped_users: users left out because their history is too short.
    """

    users: ItemIndex
    items: ItemIndex
    train: Sequences
    validation: Questions
    test: Questions
    card: ProtocolCard
    dropped_users: int


class Protocol(TypingProtocol):
    """A named rule that divides interactions."""

    def split(self, interactions: Interactions) -> Split:
        """Divide; raises ``InputError`` if nobody is left to ask."""


class MicroLensProtocol:
    """Leave one out in the newest part of every history, as MicroLens does it.

    Per user the newest ``keep_last`` interactions are the window; its last item is the test target, the one before it
    the validation target, the rest is for training. A model is shown at most the ``max_len`` items before the target (on
    test the validation target is one of them). The catalogue is what the windows hold, or every item of the file. Items
    of the window before the target are masked when ranking; items watched before the window are not.

    Source: westlake-repl/MicroLens, the loaders of both code families.
    """

    def __init__(self, config: ProtocolConfig) -> None:
        self.config = config

    def split(self, interactions: Interactions) -> Split:
        """Divide.

        Raises:
            InputError: no user has ``min_interactions``.
        """
        config = self.config
        offsets, lengths = interactions.histories.offsets, interactions.histories.lengths
        kept = np.flatnonzero(lengths >= config.min_interactions)
        if not len(kept):
            raise InputError(
                f"{interactions.source}: none of {len(lengths):,} users has the {config.min_interactions} interactions that training, "
                f"validation and test need; the longest history has {int(lengths.max(initial=0))}. Bring longer histories"
                " or, if it is above 3, lower protocol.min_interactions."
            )
        sizes = np.minimum(lengths[kept], config.keep_last)
        window = take(interactions.histories, offsets[kept + 1] - sizes, sizes)
        rows = np.arange(len(interactions.items)) if config.full_catalogue else np.unique(window.items)
        new_row = np.full(len(interactions.items), -1, np.int32)
        new_row[rows] = np.arange(len(rows), dtype=np.int32)
        window = Sequences(window.offsets, new_row[window.items])
        validation, test = _ask(window, 2, config.max_len), _ask(window, 1, config.max_len)
        train = take(window, window.offsets[:-1], sizes - 2)
        assert_in_time_order(interactions)
        assert_no_leak(window, train, validation, test)
        users = ItemIndex(interactions.users.ids[row] for row in kept)
        items = ItemIndex(interactions.items.ids[row] for row in rows)
        card = ProtocolCard(
            protocol=config.name,
            dataset_sha256=interactions.sha256,
            catalogue_sha256=items.sha256,
            users=len(users),
            items=len(items),
            interactions=len(window.items),
            keep_last=config.keep_last,
            max_len=config.max_len,
            min_interactions=config.min_interactions,
            seen_rule=SEEN_RULE,
            ordering="order in the file" if interactions.times_ms is None else ProtocolCard.ordering,
            repeated_validation=int(repeated_targets(validation).sum()),
            repeated_test=int(repeated_targets(test).sum()),
        )
        return Split(users, items, train, validation, test, card, dropped_users=len(lengths) - len(kept))


def take(sequences: Sequences, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Sequences:
    """Stretches of the flat ``sequences.items``: new sequence s is ``items[starts[s] : starts[s] + lengths[s]]``; both (S,)."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return Sequences(offsets, sequences.items[flat])


def repeated_targets(questions: Questions) -> npt.NDArray[np.bool_]:
    """(Q,) True where the target is among the seen items, that is, masked and a certain miss."""
    owner = np.repeat(np.arange(len(questions)), questions.seen.lengths)
    hit = questions.seen.items == questions.targets[owner]
    return np.bincount(owner[hit], minlength=len(questions)).astype(np.bool_)


def _ask(window: Sequences, from_end: int, max_len: int) -> Questions:
    """The item ``from_end`` places from the end of every window, asked after what came before it."""
    targets = window.offsets[1:] - from_end
    before = targets - window.offsets[:-1]
    shown = np.minimum(before, max_len)
    return Questions(
        users=np.arange(len(window), dtype=np.int32),
        histories=take(window, targets - shown, shown),
        targets=window.items[targets],
        seen=take(window, window.offsets[:-1], before),
    )


def assert_in_time_order(interactions: Interactions) -> None:
    """No interaction of a user is earlier than the one before it: else a test target could precede training items."""
    if interactions.times_ms is not None:
        backwards = np.flatnonzero(np.diff(interactions.times_ms) < 0) + 1
        assert np.isin(backwards, interactions.histories.offsets).all(), "histories are not in time order"


def assert_no_leak(window: Sequences, train: Sequences, validation: Questions, test: Questions) -> None:
    """Put the parts together again by position: training, validation target and test target follow each other in every
    window, and no history reaches its own target."""
    last = window.offsets[1:] - 1
    assert np.array_equal(train.lengths + 2, window.lengths)
    assert np.array_equal(train.lengths, validation.seen.lengths)
    assert np.array_equal(test.targets, window.items[last])
    assert np.array_equal(validation.targets, window.items[last - 1])
    is_train = np.ones(len(window.items), np.bool_)
    is_train[last] = is_train[last - 1] = False
    assert np.array_equal(train.items, window.items[is_train])
    assert np.array_equal(validation.seen.items, train.items)
    for questions, end in ((validation, last - 1), (test, last)):
        newest = questions.histories.items[questions.histories.offsets[1:] - 1]
        assert np.array_equal(newest, window.items[end - 1]), "a history must end right before its target"
        assert np.all(questions.histories.lengths <= questions.seen.lengths)
