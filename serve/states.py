"""States of users, kept in memory and brought up to date one event at a time.

A state is the fold over a user's whole history: what was watched in the interactions of training, then the events of the log in their
order. Each kept state says which events went into it, so that it is told in constant time whether it is up to date, can be brought so by
steps, or has to be made anew: after an event that came late, after one that was taken back, after another model took over.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, NamedTuple

import torch

from ..recommend.recommender import UserState
from .event_log import EventLog
from .event_store import Event, digest_of
from .snapshot import Snapshot

How = Literal["kept", "stepped", "rebuilt"]

_STRIPES = 64
_FORESEEN = 64  # steps made before their events are kept, of those who then do not ask
_ROW_BYTES = 36  # of a watched row: 8 for its place, 28 for the number


class Key(NamedTuple):
    """Whose state, under which weights, after which history of training."""

    model_hash: str
    base_hash: str
    user: str


@dataclass(frozen=True)
class Folded:
    """A state, and what went into it.

    Attributes:
        state: of the recommender.
        events: of the log.
        digest: of these.
        skipped: items of the history that the catalogue does not hold.
        index_hash: of the only catalogue with which the state is right, since items came up that were not in training's; None: any.
    """

    state: UserState
    events: int
    digest: int
    skipped: int
    index_hash: str | None


class Found(NamedTuple):
    """A state that is up to date, and how it came to be so; ``ahead_seconds`` of the work were done before it was asked for."""

    folded: Folded
    how: How
    ahead_seconds: float = 0.0


class Foreseen(NamedTuple):
    """A step that was made before its event was kept: from which state to which, over which item of which catalogue. It does not hold the
    snapshot, which would live on with every step that nobody came for."""

    before: Folded
    row: int
    index_hash: str
    after: UserState
    seconds: float


@dataclass
class Counts:
    """How often what happened; read by the metrics."""

    kept: int = 0
    stepped: int = 0
    steps: int = 0
    rebuilt: int = 0
    evicted: int = 0
    checks: int = 0
    drift_max: float = 0.0


class UserStates:
    """The states of the users that were asked for last. Used from any number of threads; one user's state is made by one at a time.

    Args:
        max_users: states that are kept.
    """

    def __init__(self, max_users: int) -> None:
        self.max_users = max_users
        self.counts = Counts()
        self._kept: OrderedDict[Key, tuple[Folded, int]] = OrderedDict()
        self._bytes = 0
        self._foreseen: OrderedDict[Key, Foreseen] = OrderedDict()
        self._lock = threading.Lock()
        self._users = [threading.Lock() for _ in range(_STRIPES)]

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """What all kept states take: their tensors, and the rows that were watched."""
        return self._bytes

    def current(self, snapshot: Snapshot, user: str, log: EventLog) -> Found:
        """The state after everything that is recorded of ``user``.

        Raises:
            LogUnavailable: the events cannot be read now.
        """
        key = Key(snapshot.model_hash, snapshot.base_hash, user)
        with self._users[hash(user) % _STRIPES]:
            kept = self._take(key, snapshot)
            found = None if kept is None else self._continued(kept, snapshot, user, log)
            if found is None:
                found = Found(self.whole(snapshot, user, log), "rebuilt")
            with self._lock:
                setattr(self.counts, found.how, getattr(self.counts, found.how) + 1)
            if found.how != "kept":
                self._keep(key, found.folded)
        return found

    def foresee(self, snapshot: Snapshot, user: str, item: str) -> None:
        """Make the step over an item whose event is on its way to the disk, so that the disk and the model are waited for at once.
        ``current`` takes it if it is that of the next event of the log; where nothing is kept, or the item is not known, nothing is made.
        """
        key = Key(snapshot.model_hash, snapshot.base_hash, user)
        with self._users[hash(user) % _STRIPES]:
            kept, [row] = self._take(key, snapshot), snapshot.rows_of([item])
            if kept is None or row < 0:
                return
            begun = time.perf_counter()
            after = snapshot.recommender.continued(kept.state, [row])
            step = Foreseen(kept, row, snapshot.index_hash, after, time.perf_counter() - begun)
        with self._lock:
            self._foreseen.pop(key, None)
            self._foreseen[key] = step
            if len(self._foreseen) > _FORESEEN:
                self._foreseen.popitem(last=False)

    def whole(self, snapshot: Snapshot, user: str, log: EventLog) -> Folded:
        """The state made from the whole history, whatever is kept.

        Raises:
            LogUnavailable: the events cannot be read now.
        """
        head, events = log.since(user, 0)
        base_rows = snapshot.base_rows(user)
        rows = snapshot.rows_of([event.item for event in events])
        skipped = sum(row < 0 for row in (*base_rows, *rows))
        watched = [row for row in (*base_rows, *rows) if row >= 0]
        state = snapshot.recommender.continued(snapshot.nothing_watched(user), watched)
        return Folded(state, head.events, head.digest, skipped, snapshot.tied_to((*base_rows, *rows)))

    def checked(self, snapshot: Snapshot, user: str, log: EventLog) -> Folded:
        """The state made from the whole history, which takes the place of the kept one; how far their scores lay apart is noted.

        Raises:
            LogUnavailable: the events cannot be read now.
        """
        key = Key(snapshot.model_hash, snapshot.base_hash, user)
        with self._users[hash(user) % _STRIPES]:
            kept, whole = self._take(key, snapshot), self.whole(snapshot, user, log)
            if kept is not None and kept.digest == whole.digest and snapshot.answers(whole.state):
                apart = snapshot.recommender.scores(kept.state) - snapshot.recommender.scores(whole.state)
                with self._lock:
                    self.counts.checks += 1
                    self.counts.drift_max = max(self.counts.drift_max, float(apart.abs().max()))
            self._keep(key, whole)
        return whole

    def _continued(self, kept: Folded, snapshot: Snapshot, user: str, log: EventLog) -> Found | None:
        """The kept state, after the events since; None: what went into it is not what is recorded."""
        head, events = log.since(user, kept.events)
        if head.events < kept.events or (kept.digest + _digest(events)) % 2**128 != head.digest:
            return None
        if not events:
            return Found(kept, "kept")
        rows = snapshot.rows_of([event.item for event in events])
        watched = [row for row in rows if row >= 0]
        state, ahead = self._stepped(kept, watched, snapshot, user)
        tied = kept.index_hash or snapshot.tied_to(rows)
        with self._lock:
            self.counts.steps += len(watched)
        return Found(Folded(state, head.events, head.digest, kept.skipped + len(rows) - len(watched), tied), "stepped", ahead)

    def _stepped(self, kept: Folded, watched: list[int], snapshot: Snapshot, user: str) -> tuple[UserState, float]:
        """The state after some more items, and seconds of it that were worked before."""
        with self._lock:
            foreseen = self._foreseen.pop(Key(snapshot.model_hash, snapshot.base_hash, user), None)
        if foreseen is not None and foreseen.before is kept and foreseen.index_hash == snapshot.index_hash and [foreseen.row] == watched:
            return foreseen.after, foreseen.seconds
        return snapshot.recommender.continued(kept.state, watched), 0.0

    def _take(self, key: Key, snapshot: Snapshot) -> Folded | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            folded, _ = self._kept[key]
        return folded if folded.index_hash in (None, snapshot.index_hash) else None

    def _keep(self, key: Key, folded: Folded) -> None:
        with self._lock:
            before = self._kept.pop(key, None)
            state = folded.state
            size = size_bytes((state.memory, state.user_1D)) + _ROW_BYTES * len(state.watched)
            self._kept[key] = (folded, size)
            self._bytes += size - (0 if before is None else before[1])
            while len(self._kept) > self.max_users:
                _, (_, gone) = self._kept.popitem(last=False)
                self._bytes -= gone
                self.counts.evicted += 1


def size_bytes(memory: Any) -> int:
    """What the tensors in a state take: of tensors, tuples and dataclasses of them."""
    if isinstance(memory, torch.Tensor):
        return memory.numel() * memory.element_size()
    if isinstance(memory, tuple | list):
        return sum(size_bytes(part) for part in memory)
    if is_dataclass(memory):
        return sum(size_bytes(getattr(memory, field.name)) for field in fields(memory))
    return 0


def _digest(events: Iterable[Event]) -> int:
    return sum(digest_of(event) for event in events)
