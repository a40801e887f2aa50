"""What the service says."""

from dataclasses import dataclass
from typing import NamedTuple

from .snapshot import Fallback, Search


class HistoryEntry(NamedTuple):
    """Something that was watched.

    ``time_ms``: Unix milliseconds, None where the interactions of training have only an order. ``event_id``: None for these.
    """

    item: str
    time_ms: int | None
    event_id: str | None


class Reason(NamedTuple):
    """A clip of the history that is near to a recommended one, and the cosine of their vectors."""

    item: str
    similarity: float


@dataclass(frozen=True)
class Ranked:
    """An item of a list.

    Attributes:
        row: its number in the service.
        because: the nearest clips of the history, nearest first.
    """

    item: str
    row: int
    score: float
    title: str
    because: tuple[Reason, ...]


class Took(NamedTuple):
    """Milliseconds for the user's state, and for the list."""

    state: float
    search: float


@dataclass(frozen=True)
class Answer:
    """A list of items, best first, made from one snapshot of one run.

    Attributes:
        run: its name.
        model_hash, index_hash: of the snapshot.
        search: how the list was found; a fallback is always exact.
        fallback: what the list is made from where the model has no answer; None: it has.
        skipped: items of the history that this run does not know.
    """

    run: str
    model_hash: str
    index_hash: str
    search: Search
    fallback: Fallback | None
    took_ms: Took
    items: tuple[Ranked, ...]
    skipped: int = 0
