"""What people watched, kept before it is acknowledged.

One thread writes. Everything that waits when it comes round is one transaction, so that many events share the wait for the disk; who sent
an event hears of it only after that transaction is on disk. Reading goes on meanwhile, on a connection of its own.
"""

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..store.locks import locked
from . import event_store
from .errors import LogUnavailable, RequestError
from .event_store import Added, Event, Head, Removed

LOG = logging.getLogger("vivim.serve")

_GROUP = 512  # events of one transaction at most
_STOPPED = "the event log has stopped; start the service again, then send the event again with the same id."
_CHECKPOINT = 200  # events between two checkpoints: about 1,000 pages, 4 MB

T = TypeVar("T")


@dataclass
class _Request(Generic[T]):
    write: Callable[[sqlite3.Connection], T]
    future: "Future[T]" = field(default_factory=Future)


class EventLog:
    """The events of all users in one file. Used from any number of threads of one process; no other process may write to it.

    Args:
        path: of the SQLite file; it is made if it is not there.

    Raises:
        InputError: another server holds it; it is damaged, of a newer version, or something else.
    """

    def __init__(self, path: Path) -> None:
        with ExitStack() as held:
            held.enter_context(locked(path.with_name(path.name + ".lock"), holder="server", option="--events"))
            self._writer = event_store.open_writer(path)
            held.callback(self._writer.close)
            self._reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            held.callback(self._reader.close)
            self._reader.execute("PRAGMA query_only = ON")
            self._held = held.pop_all()
        self._reading = threading.Lock()
        self._closing = threading.Lock()
        self._closed = self._stopped = False
        self._waiting: queue.SimpleQueue[_Request[Any] | None] = queue.SimpleQueue()
        self.commits = 0
        self._unchecked = 0
        self._thread = threading.Thread(target=self._write, name="event log", daemon=True)
        self._thread.start()

    def submit(self, user: str, event_id: str, item: str, time_ms: int | None = None) -> "Future[Added]":
        """Have an event recorded; the future has a result once it is on disk.

        Args:
            time_ms: Unix milliseconds; None: now, after everything that is recorded of this user.

        Its errors:
            EventConflict: the event id was used for something else.
            LogUnavailable: it could not be kept; nothing of it was.
        """
        _require_text(user, event_id, item)
        assert time_ms is None or 0 <= time_ms < 2**62, time_ms
        return self._submit(lambda connection: event_store.add(connection, user, event_id, item, time_ms, _now_ms()))

    def submit_removal(self, user: str, event_id: str) -> "Future[Removed]":
        """Have an event taken back; the future has a result once that is on disk.

        Its errors:
            UnknownEvent: it was never recorded.
            LogUnavailable: that could not be kept; nothing of it was.
        """
        _require_text(user, event_id)
        return self._submit(lambda connection: event_store.remove(connection, user, event_id, _now_ms()))

    def append(self, user: str, event_id: str, item: str, time_ms: int | None = None) -> Added:
        """``submit`` and wait."""
        return self.submit(user, event_id, item, time_ms).result()

    def remove(self, user: str, event_id: str) -> Removed:
        """``submit_removal`` and wait."""
        return self.submit_removal(user, event_id).result()

    def head(self, user: str) -> Head:
        """What the events of ``user`` come to.

        Raises:
            LogUnavailable: it cannot be read now.
        """
        with self._read() as connection:
            return event_store.head(connection, user)

    def since(self, user: str, events: int) -> tuple[Head, list[Event]]:
        """What the events of ``user`` come to, and those after the first ``events`` of them, oldest first; both of one moment.

        Raises:
            LogUnavailable: they cannot be read now.
        """
        with self._read() as connection:
            head = event_store.head(connection, user)
            return head, event_store.newest(connection, user, max(0, head.events - events))

    def newest(self, user: str, count: int) -> list[Event]:
        """The ``count`` newest events of ``user``, oldest first.

        Raises:
            LogUnavailable: they cannot be read now.
        """
        with self._read() as connection:
            return event_store.newest(connection, user, count)

    def users(self, prefix: str, limit: int) -> list[str]:
        """Users with events whose id begins with ``prefix``, in the order of their ids.

        Raises:
            LogUnavailable: they cannot be read now.
        """
        with self._read() as connection:
            rows = connection.execute(
                "SELECT user FROM users WHERE events > 0 AND user >= ? AND user < ? ORDER BY user LIMIT ?",
                (prefix, prefix + "\U0010ffff", limit),
            )
            return [row[0] for row in rows]

    def close(self) -> None:
        """Write what waits, then let go of the file."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._thread.join()
        with self._reading:
            self._held.close()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._reading:
            try:
                self._reader.execute("BEGIN")
                try:
                    yield self._reader
                finally:
                    self._reader.execute("COMMIT")
            except sqlite3.Error as error:
                raise LogUnavailable(f"events cannot be read now: {error}. Ask again later.") from error

    def _submit(self, write: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        request = _Request(write)
        with self._closing:
            if self._closed:
                raise LogUnavailable("the service is stopping and takes no more events; send it again later, with the same event id.")
            if self._stopped:
                raise LogUnavailable(_STOPPED)
            self._waiting.put(request)
        return request.future

    def _write(self) -> None:
        group: list[_Request[Any]] = []
        ended = False
        try:
            while not ended:
                group, ended = self._next_group()
                group = [request for request in group if request.future.set_running_or_notify_cancel()]
                self._commit(group)
                self._unchecked += len(group)
                if self._unchecked >= _CHECKPOINT:
                    self._unchecked = 0
                    event_store.checkpoint(self._writer)
        except BaseException:
            self._stop(group)
            raise

    def _stop(self, group: list[_Request[Any]]) -> None:
        """The writer ends of a fault of ours outside of a transaction: nobody waits for it for ever."""
        with self._closing:
            self._stopped = True
            while not self._waiting.empty():
                request = self._waiting.get()
                if request is not None and request.future.set_running_or_notify_cancel():
                    group = [*group, request]
        for request in group:
            if not request.future.done():
                request.future.set_exception(LogUnavailable(_STOPPED))

    def _next_group(self) -> tuple[list[_Request[Any]], bool]:
        """What waits, at least one; whether it is the last."""
        first = self._waiting.get()
        group = [] if first is None else [first]
        while group and len(group) < _GROUP:
            try:
                request = self._waiting.get_nowait()
            except queue.Empty:
                return group, False
            if request is None:
                return group, True
            group.append(request)
        return group, first is None

    def _commit(self, group: list[_Request[Any]]) -> None:
        """All of a group, or nothing of it; what is wrong with one request alone is that one's answer."""
        answers: list[tuple[_Request[Any], Any, RequestError | None]] = []
        if not group:
            return
        try:
            if self._writer.in_transaction:  # the one before could not be taken back
                self._writer.rollback()
            self._writer.execute("BEGIN IMMEDIATE")
            for request in group:
                try:
                    answers.append((request, request.write(self._writer), None))
                except RequestError as error:  # before anything of it was written
                    answers.append((request, None, error))
            self._writer.execute("COMMIT")
        except Exception as failed:  # of SQLite, or a fault of ours: the writer goes on with the next
            self._give_up(group, failed)
            return
        self.commits += 1
        for request, answer, refused in answers:
            if refused is None:
                request.future.set_result(answer)
            else:
                request.future.set_exception(refused)

    def _give_up(self, group: list[_Request[Any]], error: Exception) -> None:
        """Nothing of a group is kept, and each of it hears so."""
        with suppress(sqlite3.Error):  # the next group tries it again, before anything else
            self._writer.rollback()
        if isinstance(error, sqlite3.Error):
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            why = "the disk of the event log is full, and the server needs more room there" if full else str(error)
        else:
            LOG.error("a transaction of the event log was given up", exc_info=error)
            why = "something went wrong here, which the log of the server describes"
        for request in group:
            request.future.set_exception(LogUnavailable(f"the event was not kept: {why}. Send it again later, with the same event id."))


def _require_text(*ids: str) -> None:
    """Found out here, where it harms nobody else."""
    for id_ in ids:
        id_.encode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
