"""Events are kept before they are acknowledged, once each, in their order, whatever happens."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from vivim.errors import InputError
from vivim.serve import event_log, event_store
from vivim.serve.errors import EventConflict, LogUnavailable, UnknownEvent
from vivim.serve.event_log import EventLog
from vivim.serve.event_store import NOBODY, digest_of


def ids(log, user):
    return [event.event_id for event in log.since(user, 0)[1]]


def test_events_are_in_order_of_time_and_those_of_one_time_in_order_of_arrival(log):
    log.append("u", "b", "x", 200)
    log.append("u", "c", "x", 200)
    late = log.append("u", "a", "y", 100)
    assert (late.new, late.late, late.events) == (True, True, 3)
    last = log.append("u", "d", "z", 300)
    assert (last.new, last.late, last.events) == (True, False, 4)
    assert ids(log, "u") == ["a", "b", "c", "d"]
    assert [event.event_id for event in log.newest("u", 2)] == ["c", "d"]
    assert [event.event_id for event in log.since("u", 3)[1]] == ["d"]
    assert log.head("v") == NOBODY


def test_an_event_without_a_time_comes_after_everything_that_is_recorded(log):
    far = int(time.time() * 1000) + 10**9
    log.append("u", "a", "x", far)
    added = log.append("u", "b", "y")
    assert added.event.time_ms == far
    assert not added.late
    before = int(time.time() * 1000)
    assert before <= log.append("v", "a", "x").event.time_ms <= int(time.time() * 1000)


def test_a_replay_is_acknowledged_and_changes_nothing(log):
    first = log.append("u", "a", "x", 5)
    head = log.head("u")
    again = log.append("u", "a", "x", 5)
    assert (again.event, again.new, again.late, again.events) == (first.event, False, False, 1)
    assert log.append("u", "a", "x").event == first.event
    assert log.head("u") == head
    assert log.append("v", "a", "y", 5).new  # another user's ids are that one's own


@pytest.mark.parametrize(("item", "time_ms"), [("y", 5), ("x", 6), ("y", None)])
def test_the_same_id_with_other_content_is_a_conflict(log, item, time_ms):
    log.append("u", "a", "x", 5)
    with pytest.raises(EventConflict, match="'a' of user 'u' is recorded with item 'x' at 5 ms"):
        log.append("u", "a", item, time_ms)
    assert log.head("u").events == 1


def test_a_conflict_harms_nobody_else_in_its_transaction(log):
    log.append("u", "a", "x", 5)
    futures = [log.submit("u", event_id, "y", 6) for event_id in ("b", "a", "c")]
    assert futures[0].result().new
    assert futures[2].result().new
    with pytest.raises(EventConflict):
        futures[1].result()
    assert ids(log, "u") == ["a", "b", "c"]


def test_a_removed_event_stays_removed_and_its_id_is_not_used_again(tmp_path):
    path = tmp_path / "events.sqlite"
    with EventLog(path) as log:
        log.append("u", "a", "x", 5)
        before = log.head("u")
        log.append("u", "b", "y", 9)
        gone = log.remove("u", "b")
        assert (gone.event.item, gone.new, gone.events) == ("y", True, 1)
        assert log.head("u") == before
        assert not log.remove("u", "b").new
    with EventLog(path) as log:
        assert ids(log, "u") == ["a"]
        again = log.append("u", "b", "y", 9)
        assert (again.new, again.removed, again.events) == (False, True, 1)
        with pytest.raises(EventConflict):
            log.append("u", "b", "z", 9)
        assert ids(log, "u") == ["a"]
        with pytest.raises(UnknownEvent, match="no event 'c'"):
            log.remove("u", "c")
        with pytest.raises(UnknownEvent):
            log.remove("nobody", "a")
        assert not log.append("u", "c", "y", 6).late, "the removed event at 9 does not count"


def test_the_digest_is_that_of_the_events_that_count_whatever_the_way_there(log, tmp_path):
    log.append("u", "a", "x", 5)
    log.append("u", "b", "y", 7)
    log.append("u", "c", "x", 6)
    log.remove("u", "b")
    head, events = log.since("u", 0)
    assert [event.event_id for event in events] == ["a", "c"]
    assert head.digest == sum(map(digest_of, events)) % 2**128
    assert head.newest_ms == 6
    log.remove("u", "a")
    log.remove("u", "c")
    assert log.head("u") == NOBODY


def test_users_with_events_are_found_by_the_beginning_of_their_id(log):
    for user in ("anna", "anton", "berta", "%", "ann\U0001f600"):
        log.append(user, "e", "x", 1)
    log.remove("anton", "e")
    assert log.users("an", 10) == ["anna", "ann\U0001f600"]
    assert log.users("an", 1) == ["anna"]
    assert log.users("%", 10) == ["%"]
    assert len(log.users("", 10)) == 4


def test_ids_are_opaque_text(log):
    for number, text in enumerate(("007", "7", "1e3", "NaN", "a/b", "../x", "'; DROP TABLE events; --", "\u202eabc", "x" * 5000)):
        log.append(text, text, text, number)
        assert [(event.user, event.event_id, event.item) for event in log.since(text, 0)[1]] == [(text, text, text)]
    with pytest.raises(UnicodeEncodeError):
        log.append("\ud800", "a", "x")
    assert log.append("u", "a", "x").new, "the writer lives on"


def test_many_that_wait_share_a_transaction_and_reading_goes_on_meanwhile(log):
    stop = threading.Event()
    seen = []

    def read():
        while not stop.is_set():
            head, events = log.since("u1", 0)
            assert head.events == len(events)
            assert head.digest == sum(map(digest_of, events)) % 2**128
            seen.append(head.events)

    reader = threading.Thread(target=read)
    reader.start()
    futures = [log.submit(f"u{n % 3}", str(n), "x", n) for n in range(3000)]
    assert all(future.result().new for future in futures)
    stop.set()
    reader.join()
    assert seen == sorted(seen)
    assert log.commits < 300
    assert log.head("u1").events == 1000


def test_events_from_many_threads_are_all_there_once(log):
    def send(worker):
        for n in range(40):
            log.append(f"u{n % 5}", f"{worker}-{n}", "x")
            log.append(f"u{n % 5}", f"{worker}-{n}", "x")  # sent again

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    assert [log.head(f"u{n}").events for n in range(5)] == [64] * 5
    times = [event.time_ms for event in log.since("u0", 0)[1]]
    assert times == sorted(times)


def test_a_second_server_a_newer_version_and_other_files_are_refused(tmp_path):
    path = tmp_path / "events.sqlite"
    with EventLog(path), pytest.raises(InputError, match="another server is writing to"):
        EventLog(path)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(InputError, match="is of version 2, and this vivim knows versions up to 1"):
        EventLog(path)
    other.close()
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be read as one " * 100)
    with pytest.raises(InputError, match="cannot be used"):
        EventLog(text)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(InputError, match="of something else"):
        EventLog(foreign)
    with pytest.raises(InputError, match="cannot be written"):
        EventLog(tmp_path / "nowhere" / "events.sqlite")


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "events.sqlite"
    with EventLog(path) as log:
        for n in range(500):
            log.submit("u", f"event {n}", "x" * 50, n)
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"(is damaged|cannot be used).*bring back a copy"):
        EventLog(path)
    path.write_bytes(content[:5000])
    with pytest.raises(InputError, match="bring back a copy"):
        EventLog(path)


def test_a_full_disk_keeps_nothing_of_a_transaction_and_the_log_lives_on(log):
    log.append("u", "first", "x", 1)
    pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
    log._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    fill = (log.append("u", f"big {n}", "x" * 3000, 2 + n) for n in range(100))
    with pytest.raises(LogUnavailable, match="the disk of the event log is full"):
        list(fill)
    head, events = log.since("u", 0)
    assert head.events == len(events)
    assert head.digest == sum(map(digest_of, events)) % 2**128
    kept = head.events
    log._writer.execute("PRAGMA max_page_count = 100000")
    assert log.append("u", f"big {kept - 1}", "x" * 3000, 2 + kept - 1).events == kept + 1


def test_a_fault_of_ours_keeps_nothing_of_its_transaction_is_logged_and_the_log_lives_on(log, monkeypatch, caplog):
    at_work, two_wait, add = threading.Event(), threading.Event(), event_store.add

    def fail(connection, user, event_id, *more):
        at_work.set()
        assert two_wait.wait(10)
        done = add(connection, user, event_id, *more)
        if event_id == "b":
            raise RuntimeError("a fault")
        return done

    monkeypatch.setattr(event_store, "add", fail)
    first = log.submit("u", "first", "x")
    assert at_work.wait(10)
    futures = [log.submit("u", event_id, "x") for event_id in "ab"]  # one transaction, since the writer is at the first
    two_wait.set()
    assert first.result(10).new
    for future in futures:
        with pytest.raises(LogUnavailable, match="the event was not kept: something went wrong here"):
            future.result(10)
    assert ids(log, "u") == ["first"]
    assert log.submit("u", "a", "x").result(10).events == 2
    assert "RuntimeError: a fault" in caplog.text


def test_a_transaction_that_cannot_be_taken_back_yet_stands_in_nobodys_way_afterwards(log, monkeypatch):
    """A disk that fails twice: at the event, and as it is taken back."""

    class Failing:
        """A connection whose disk is away. SQLite itself mostly takes a transaction back without one."""

        def __init__(self, connection):
            self.connection, self.away = connection, True

        @property
        def in_transaction(self):
            return self.connection.in_transaction

        def execute(self, statement, *more):
            if self.away and statement.startswith("INSERT INTO users"):
                raise sqlite3.OperationalError("disk I/O error")
            return self.connection.execute(statement, *more)

        def rollback(self):
            if self.away:
                raise sqlite3.OperationalError("disk I/O error")
            self.connection.rollback()

    failing = Failing(log._writer)
    monkeypatch.setattr(log, "_writer", failing)
    for event_id in "ab":
        with pytest.raises(LogUnavailable, match="the event was not kept"):
            log.submit("u", event_id, "x").result(10)
    assert log.head("u") == NOBODY
    failing.away = False
    assert log.submit("u", "b", "x").result(10).events == 1
    assert ids(log, "u") == ["b"]


def test_a_file_that_another_program_holds_refuses_the_event_and_takes_it_later(log, tmp_path):
    log._writer.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(tmp_path / "events.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable, match="the event was not kept: database is locked"):
            log.submit("u", "a", "x").result(10)
        assert log.head("u") == NOBODY
        other.execute("ROLLBACK")
    assert log.submit("u", "a", "x").result(10).new


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_writer_that_has_ended(log, monkeypatch):
    def fail(_):
        more.extend(log.submit("u", event_id, "x") for event_id in "bc")
        more[1].cancel()
        raise MemoryError

    more = []
    monkeypatch.setattr(event_log, "_CHECKPOINT", 1)
    monkeypatch.setattr(event_store, "checkpoint", fail)
    assert log.submit("u", "a", "x").result(10).new
    log._thread.join(10)
    assert not log._thread.is_alive()
    with pytest.raises(LogUnavailable, match="has stopped"):
        more[0].result(10)
    assert more[1].cancelled()
    with pytest.raises(LogUnavailable, match="has stopped"):
        log.append("u", "d", "x")
    assert ids(log, "u") == ["a"]


def test_a_closed_log_takes_nothing_more_and_has_written_what_waited(tmp_path):
    log = EventLog(tmp_path / "events.sqlite")
    futures = [log.submit("u", str(n), "x", n) for n in range(1000)]
    log.close()
    log.close()
    assert all(future.result().new for future in futures)
    with pytest.raises(LogUnavailable, match="is stopping"):
        log.append("u", "more", "x")


FILLER = """
import resource, sys
from pathlib import Path
from vivim.serve import event_log, event_store
from vivim.serve.errors import LogUnavailable
from vivim.serve.event_log import EventLog

with EventLog(Path(sys.argv[1])) as log:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    kept = 0
    try:
        while True:
            log.append("u", str(kept), "x" * 1000)
            kept += 1
    except LogUnavailable as error:
        print(kept, error, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    print(log.append("u", str(kept), "x" * 1000).events)
"""


def test_a_file_that_may_not_grow_stops_nothing_but_the_event(tmp_path):
    path = tmp_path / "events.sqlite"
    ran = subprocess.run([sys.executable, "-c", FILLER, path], capture_output=True, text=True, check=True)
    refused, after = ran.stdout.splitlines()
    kept = int(refused.split()[0])
    assert "the event was not kept" in refused
    assert (kept > 2, int(after)) == (True, kept + 1)
    with EventLog(path) as log:
        assert ids(log, "u") == [str(n) for n in range(kept + 1)]


SENDER = """
import os, sys, threading
from pathlib import Path
from vivim.serve.event_log import EventLog

log = EventLog(Path(sys.argv[1]))
def send(worker):
    for n in range(100_000):
        event_id = f"{sys.argv[2]}-{worker}-{n}"
        log.append(f"u{n % 7}", event_id, f"i{n % 11}")
        os.write(1, f"{event_id}\\n".encode())
os.write(1, b"begun\\n")
for worker in range(4):
    threading.Thread(target=send, args=(worker,), daemon=True).start()
threading.Event().wait()
"""


def test_no_acknowledged_event_is_lost_or_doubled_when_the_process_is_killed(tmp_path):
    path, acknowledged, rng = tmp_path / "events.sqlite", [], random.Random(1)
    for attempt in range(5):
        child = subprocess.Popen([sys.executable, "-c", SENDER, path, str(attempt)], stdout=subprocess.PIPE, env=os.environ)
        assert child.stdout.readline() == b"begun\n"
        time.sleep(rng.uniform(0.01, 0.25))
        child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().decode().splitlines()
        child.wait()
        child.stdout.close()
        acknowledged += [line for line in lines if line.count("-") == 2]
        with EventLog(path) as log:
            kept = [event_id for n in range(7) for event_id in ids(log, f"u{n}")]
            assert len(kept) == len(set(kept))
            assert set(acknowledged) <= set(kept)
            for n in range(7):
                head, events = log.since(f"u{n}", 0)
                assert head.digest == sum(map(digest_of, events)) % 2**128
    assert len(acknowledged) > 50


def test_the_write_ahead_log_begins_anew_after_some_events_which_are_answered_first(tmp_path, monkeypatch):
    monkeypatch.setattr(event_log, "_CHECKPOINT", 20)
    wal, answered = tmp_path / "events.sqlite-wal", []
    checkpoint = event_store.checkpoint

    def noted(connection):
        answered.append(future.done())
        checkpoint(connection)

    monkeypatch.setattr(event_store, "checkpoint", noted)
    with EventLog(tmp_path / "events.sqlite") as log:
        for n in range(200):
            future = log.submit("ada", str(n), "item")
            future.result()
        log.append("ada", "last", "item")  # the tenth is over
        assert answered == [True] * 10
        assert wal.stat().st_size < 150 * 4096  # of about 900 pages that were written
    with EventLog(tmp_path / "events.sqlite") as log:
        assert [event.event_id for event in log.newest("ada", 1000)] == [*map(str, range(200)), "last"]


def test_a_checkpoint_that_fails_harms_nobody(tmp_path, monkeypatch):
    class Failing:
        def execute(self, statement):
            raise sqlite3.OperationalError("disk I/O error")

    checkpoint, tried = event_store.checkpoint, []
    monkeypatch.setattr(event_log, "_CHECKPOINT", 1)
    monkeypatch.setattr(event_store, "checkpoint", lambda connection: tried.append(checkpoint(Failing())))
    with EventLog(tmp_path / "events.sqlite") as log:
        assert [log.append("ada", str(n), "item").new for n in range(5)] == [True] * 5
    assert len(tried) == 5
