"""Who is trained on what, and who is asked what.

``Protocol`` turns ``Interactions`` into a ``Split``; the ``ProtocolCard`` of a split is what makes two results
comparable: results with different cards are never put beside each other.

Shapes: U users kept, total interactions.
"""

from dataclasses import asdict, dataclass
from typing import Any
from typing import Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt

from ..store.item_index import ItemIndex
from .config import ProtocolConfig
from .division import Division, ask, assert_in_time_order, assert_no_leak, last_two, repeated_targets, take
from .leakage import Leakage, measure_leakage
from .sequences import Interactions, Questions, Sequences

SEEN_RULE = "items of the window before the target are masked; a target that repeats one of them counts as a miss"
NOTHING_MASKED = "nothing is masked: what was watched before is ranked like everything else"
ALL_SEEN_RULE = "all items watched before the target are masked; a target that repeats one of them counts as a miss"


@dataclass(frozen=True)
class ProtocolCard:
    """What a number depends on besides the model.

    Attributes:
        protocol: name, for example ``"microlens"``. What a protocol does not have is None, and left out of ``as_dict``.
        dataset_sha256: hash of the interactions file.
        catalogue_sha256: hash of the ordered catalogue ids.
        users: users asked on test.
        items: size of the catalogue that is ranked.
        interactions: interactions left after truncation.
        keep_last: interactions kept per user, the newest (microlens).
        max_len: history length shown to the model.
        min_interactions: users with fewer are left out.
        seen_rule: which items are masked when ranking.
        tie_rule: how equal scores rank.
        ordering: how events of one user are ordered.
        repeated_validation: validation questions whose target the user had watched before in the window: certain misses.
        repeated_test: the same of the test questions.
        users_validation: users asked on validation, where they are not those asked on test (temporal).
        validation_from: time (UTC) of the first cut: training is before it (temporal).
        test_from: time (UTC) of the second cut: validation is before it, test from it on (temporal).
    """

    protocol: str
    dataset_sha256: str
    catalogue_sha256: str
    users: int
    items: int
    interactions: int
    keep_last: int | None
    max_len: int
    min_interactions: int
    seen_rule: str
    tie_rule: str = "average rank of the tied items"
    ordering: str = "time, then order in the file (stable)"
    repeated_validation: int = 0
    repeated_test: int = 0
    users_validation: int | None = None
    validation_from: str | None = None
    test_from: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Split:
    """A data set divided by a protocol.

    Attributes:
        users: external ids of the users kept; rows used by ``train`` and ``Questions.users``.
        items: the catalogue, in the order of model rows.
        train: one training sequence per user row, oldest first; may be shorter than 2 for users with little history, and empty
            (temporal) for users who came later.
        validation: asked for early stopping and tuning, in the order of the user rows.
        test: asked once, in the order of the user rows. Leave one out asks every user, temporal those who were there.
        card: what the numbers depend on.
        dropped_users: users left out because their history is too short.
        leakage: how far training looks past the test; None where the file has no times.
    """

    users: ItemIndex
    items: ItemIndex
    train: Sequences
    validation: Questions
    test: Questions
    card: ProtocolCard
    dropped_users: int
    leakage: Leakage | None = None


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
        keep = self.config.keep_last
        return divide(interactions, self.config, last_two(interactions, self.config, keep), SEEN_RULE, keep_last=keep)


class LeaveOneOutProtocol:
    """Leave one out in whole histories: what most libraries of sequential recommendation do.

    The last item of every history is the test target, the one before it the validation target, all the rest is for training.
    A model is shown at most the ``max_len`` items before the target; everything watched before it is masked when ranking. The
    catalogue is what the users kept have watched, or every item of the file.
    """

    def __init__(self, config: ProtocolConfig) -> None:
        self.config = config

    def split(self, interactions: Interactions) -> Split:
        """Divide.

        Raises:
            InputError: no user has ``min_interactions``.
        """
        return divide(interactions, self.config, last_two(interactions, self.config, None), ALL_SEEN_RULE)


def divide(interactions: Interactions, config: ProtocolConfig, parts: Division, seen_rule: str, **own: Any) -> Split:
    """Cut the histories where ``parts`` says.

    Args:
        seen_rule: for the card, where something is masked.
        own: fields of the card that only this protocol has.
    """
    assert_in_time_order(interactions)
    window = take(interactions.histories, parts.starts, parts.sizes)
    rows = np.arange(len(interactions.items)) if config.full_catalogue else np.unique(window.items)
    new_row = np.full(len(interactions.items), -1, np.int32)
    new_row[rows] = np.arange(len(rows), dtype=np.int32)
    window = Sequences(window.offsets, new_row[window.items])
    train = take(window, window.offsets[:-1], parts.train)
    validation, test = (ask(window, place, config.max_len, masks_seen=config.seen == "masked") for place in (parts.validation, parts.test))
    assert_no_leak(window, train, validation, parts.validation)
    assert_no_leak(window, train, test, parts.test)
    items = ItemIndex(interactions.items.ids[row] for row in rows)
    timed = interactions.times_ms is not None
    card = ProtocolCard(
        protocol=config.name,
        dataset_sha256=interactions.sha256,
        catalogue_sha256=items.sha256,
        users=len(test),
        items=len(items),
        interactions=len(window.items),
        max_len=config.max_len,
        min_interactions=config.min_interactions,
        seen_rule=seen_rule if config.seen == "masked" else NOTHING_MASKED,
        ordering=ProtocolCard.ordering if timed else "order in the file",
        repeated_validation=int(repeated_targets(validation).sum()),
        repeated_test=int(repeated_targets(test).sum()),
        **({"keep_last": None} | own),
    )
    users = ItemIndex(interactions.users.ids[row] for row in parts.users)
    leakage = _leakage(interactions.times_ms, parts, train, test) if interactions.times_ms is not None else None
    return Split(users, items, train, validation, test, card, len(interactions.users) - len(users), leakage)


def _leakage(times_ms: npt.NDArray[np.int64], parts: Division, train: Sequences, test: Questions) -> Leakage:
    where = np.arange(len(train.items)) + np.repeat(parts.starts - train.offsets[:-1], parts.train)
    asked = parts.test >= 0
    return measure_leakage(train.items, times_ms[where], test.targets, times_ms[(parts.starts + parts.test)[asked]])
