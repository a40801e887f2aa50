"""Who is trained on what, and who is asked what.

``Protocol`` turns ``Interactions`` into a ``Split``; the ``ProtocolCard`` of a split is what makes two results
comparable: results with different cards are never put beside each other.
"""

from dataclasses import asdict, dataclass
from typing import Any, Protocol as TypingProtocol

from ..store.item_index import ItemIndex
from .sequences import Interactions, Questions, Sequences


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

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Split:
    """A data set divided by a protocol.

    Attributes:
        users: external ids of the users kept; rows used by ``train`` and ``Questions.users``.
        items: the catalogue, in the order of model rows.
        train: one training sequence per user row, oldest first; may be shorter than 2 for users with little history.
        validation: asked for early stopping and tuning.
        test: asked once.
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
