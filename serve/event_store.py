"""Events in one SQLite file: what one transaction does.

``events`` holds everything that was ever recorded; a removal is a mark on its event, so that an undo survives and the id of a removed
event is never used again. ``users`` holds what is needed of a user to tell in constant time whether a kept state is up to date:
how many events count, the time of the newest, and a digest of all of them.

The digest is the sum, modulo 2^128, of a hash of each event that counts, its place in the order included: an event is added or removed in
constant time wherever it stands, and the set of events decides their order.
"""

import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..store.durable import sync
from .errors import EventConflict, UnknownEvent

_CHECKPOINT_PAGES = 8192  # 32 MB of write-ahead log, at which a commit makes room itself

_LAST_MS = 253_402_300_799_999  # the end of the year 9999, which no date can be behind

APPLICATION = 0x76697669
VERSION = 1

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE events (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL,
    event_id TEXT NOT NULL,
    item TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    removed_ms INTEGER,
    UNIQUE (user, event_id)
) STRICT;
CREATE INDEX events_in_order ON events (user, time_ms, arrival) WHERE removed_ms IS NULL;
CREATE TABLE users (
    user TEXT PRIMARY KEY,
    events INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL,
    digest BLOB NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""


@dataclass(frozen=True)
class Event:
    """Somebody watched something.

    Attributes:
        user: opaque text.
        event_id: chosen by whoever sent it, unique for the user.
        item: opaque text.
        time_ms: Unix milliseconds.
        arrival: number of the event in the file; of two events at one time the one that arrived first is the older.
    """

    user: str
    event_id: str
    item: str
    time_ms: int
    arrival: int


class Head(NamedTuple):
    """What the events of a user come to: how many count, the time of the newest, the digest of all."""

    events: int
    newest_ms: int
    digest: int


NOBODY = Head(0, 0, 0)


@dataclass(frozen=True)
class Added:
    """What became of an event that was sent.

    Attributes:
        event: as it is recorded.
        new: False: it had been recorded before, and nothing changed.
        late: events with a later time had been recorded before it.
        events: of this user that count now.
        removed: it was recorded and removed again, and stays removed.
    """

    event: Event
    new: bool
    late: bool
    events: int
    removed: bool = False


@dataclass(frozen=True)
class Removed:
    """What became of an undo.

    Attributes:
        event: that does not count any more.
        new: False: it had been removed before, and nothing changed.
        events: of this user that count now.
    """

    event: Event
    new: bool
    events: int


def open_writer(path: Path) -> sqlite3.Connection:
    """The file, made if it is not there; every commit is on disk before it returns.

    Raises:
        InputError: not ours, of a newer version, damaged, or a place without what SQLite needs.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise InputError(f"the event log {path} cannot be opened: {error}. Choose another --events.") from error
    try:
        _require_ours(connection, path)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise InputError(f"the event log {path} lies on a file system without shared memory for SQLite; choose an --events elsewhere.")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            connection.executescript(_SCHEMA)
            sync(path.parent)
    except sqlite3.Error as error:
        connection.close()
        raise InputError(
            f"the event log {path} cannot be used ({error}). If it is damaged, move it away to begin a new one, or bring back a copy."
        ) from error
    except InputError:
        connection.close()
        raise
    return connection


def checkpoint(connection: sqlite3.Connection) -> None:
    """Copy the write-ahead log into the database, so that the log begins anew. For when nobody waits: left to itself SQLite does it within
    the commit that makes the log 1,000 pages long, and every two hundredth event waited 10 ms more."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:  # a full disk, say: nothing is lost, the next commit meets the same and tells whoever sent it
        return


def _require_ours(connection: sqlite3.Connection, path: Path) -> None:
    version, application = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
    empty = not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if empty and version == 0 and application == 0:
        return
    if application != APPLICATION:
        raise InputError(f"{path} is an SQLite file of something else, not an event log of vivim; choose another --events.")
    if version > VERSION:
        raise InputError(
            f"the event log {path} is of version {version}, and this vivim knows versions up to {VERSION}; update vivim, or choose another "
            "--events."
        )
    found = " ".join(connection.execute("PRAGMA quick_check(1)").fetchone()[0].split())
    outside = f"SELECT 1 FROM events WHERE time_ms NOT BETWEEN 0 AND {_LAST_MS} LIMIT 1"
    if found == "ok" and connection.execute(outside).fetchone():
        found = "the time of an event is not one that was ever taken"
    if found != "ok":
        raise InputError(f"the event log {path} is damaged ({found}). Move it away to begin a new one, or bring back a copy.")


def head(connection: sqlite3.Connection, user: str) -> Head:
    """What the events of ``user`` come to."""
    row = connection.execute("SELECT events, newest_ms, digest FROM users WHERE user = ?", (user,)).fetchone()
    return NOBODY if row is None else Head(row[0], row[1], int.from_bytes(row[2], "little"))


def newest(connection: sqlite3.Connection, user: str, count: int) -> list[Event]:
    """The ``count`` newest events of ``user`` that count, oldest first."""
    rows = connection.execute(
        "SELECT event_id, item, time_ms, arrival FROM events WHERE user = ? AND removed_ms IS NULL "
        "ORDER BY time_ms DESC, arrival DESC LIMIT ?",
        (user, count),
    ).fetchall()
    return [Event(user, *row) for row in reversed(rows)]


def digest_of(event: Event) -> int:
    """The part of an event in its user's digest."""
    parts = [part.encode() for part in (event.event_id, event.item, str(event.time_ms), str(event.arrival))]
    content = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little")


def add(connection: sqlite3.Connection, user: str, event_id: str, item: str, time_ms: int | None, now_ms: int) -> Added:
    """Record an event, once.

    Args:
        time_ms: None: now, but after everything that is recorded of this user.

    Raises:
        EventConflict: the event id was used for something else.
    """
    before = head(connection, user)
    found = _find(connection, user, event_id)
    if found is not None:
        event, removed = found
        if item != event.item or time_ms not in (None, event.time_ms):
            raise EventConflict(
                f"event {event_id!r} of user {user!r} is recorded with item {event.item!r} at {event.time_ms} ms, and was sent again with "
                f"item {item!r}{'' if time_ms is None else f' at {time_ms} ms'}; give each event an id of its own."
            )
        return Added(event, new=False, late=False, events=before.events, removed=removed)
    when = max(now_ms, before.newest_ms) if time_ms is None else time_ms
    arrival = connection.execute(
        "INSERT INTO events (user, event_id, item, time_ms) VALUES (?, ?, ?, ?)", (user, event_id, item, when)
    ).lastrowid
    assert arrival is not None
    event = Event(user, event_id, item, when, arrival)
    _write_head(connection, user, before.events + 1, max(when, before.newest_ms), before.digest + digest_of(event))
    return Added(event, new=True, late=when < before.newest_ms, events=before.events + 1)


def remove(connection: sqlite3.Connection, user: str, event_id: str, now_ms: int) -> Removed:
    """Mark an event as removed, once.

    Raises:
        UnknownEvent: it was never recorded.
    """
    found = _find(connection, user, event_id)
    if found is None:
        raise UnknownEvent(f"user {user!r} has no event {event_id!r}; only what was recorded can be taken back.")
    event, removed = found
    before = head(connection, user)
    if removed:
        return Removed(event, new=False, events=before.events)
    connection.execute("UPDATE events SET removed_ms = ? WHERE arrival = ?", (now_ms, event.arrival))
    left = newest(connection, user, 1)
    _write_head(connection, user, before.events - 1, left[0].time_ms if left else 0, before.digest - digest_of(event))
    return Removed(event, new=True, events=before.events - 1)


def _find(connection: sqlite3.Connection, user: str, event_id: str) -> tuple[Event, bool] | None:
    row = connection.execute(
        "SELECT event_id, item, time_ms, arrival, removed_ms IS NOT NULL FROM events WHERE user = ? AND event_id = ?", (user, event_id)
    ).fetchone()
    return None if row is None else (Event(user, *row[:4]), bool(row[4]))


def _write_head(connection: sqlite3.Connection, user: str, events: int, newest_ms: int, digest: int) -> None:
    packed = (digest % 2**128).to_bytes(16, "little")
    connection.execute(
        "INSERT INTO users VALUES (?, ?, ?, ?) ON CONFLICT (user) DO UPDATE SET "
        "events = excluded.events, newest_ms = excluded.newest_ms, digest = excluded.digest",
        (user, events, newest_ms, packed),
    )
