"""What is known of every clip of a run, in SQLite beside the shards: which need not be read again, and who was being read when all ended.

The shards are the truth; a ledger that is lost or damaged is made again from them. It adds what they do not hold: size and time of the
files, so that a finished clip is passed over without reading it, and the clips that are being read right now.

A clip is written down as started before it is given to a decoding process. These small writes are not flushed to disk (they survive the
death of this process, which is what they are for); what a shard holds is flushed with it.
"""

import os
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError, VivimError
from ..store.durable import free_bytes
from ..store.failpoints import failpoint
from .clip import Failure

VERSION = "1"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE shards (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL) STRICT;
CREATE TABLE clips (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, shard TEXT, sha256 TEXT, kind TEXT, message TEXT,
    size_bytes INTEGER, mtime_ns INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE reading (id TEXT PRIMARY KEY, alone INTEGER NOT NULL, boot TEXT NOT NULL, process TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE suspects (id TEXT PRIMARY KEY, deaths INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
DEATHS = 2
"""After so many times that the whole machine went down while a clip was read alone, it is not tried any more."""


@dataclass(frozen=True, slots=True)
class Stat:
    """By what a file is taken for the same without reading it."""

    size_bytes: int
    mtime_ns: int

    @staticmethod
    def of(path: Path) -> "Stat | None":
        """None if the file is not there or may not be looked at."""
        try:
            status = path.stat()
        except OSError:
            return None
        return Stat(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a clip.

    Attributes:
        state: ``done``: a shard holds its vector; ``failed``.
        stat: of its file when it was read, if known.
        sha256: of its file's bytes, if done.
        kind, message: of the failure.
    """

    state: Literal["done", "failed"]
    stat: Stat | None
    sha256: str
    kind: str
    message: str


class Ledger:
    """The ledger of one folder of shards. Made by ``Ledger.open``; used from any thread, by one process at a time (see ``Parts``)."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._mutex = threading.Lock()

    @staticmethod
    def open(path: Path) -> "Ledger":
        """The ledger at ``path``, made if it is not there. One that is damaged is put aside, and an empty one takes its place.

        Raises:
            InputError: it cannot be made here, or is of a newer vivim.
        """
        try:
            return _connect(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and path.exists() and not os.access(path, os.W_OK):
                raise InputError(f"the ledger {path} may not be written; give write permission, or choose another --out.") from error
            if _disk_is_to_blame(error):
                raise InputError(_cannot_be_made(path, error)) from error
        for suffix in ("", "-wal", "-shm"):
            damaged = path.with_name(path.name + suffix)
            if damaged.exists():
                os.replace(damaged, path.with_name(path.name + ".damaged" + suffix))
        try:
            return _connect(path)
        except sqlite3.DatabaseError as error:
            raise InputError(_cannot_be_made(path, error)) from error

    @staticmethod
    def look(path: Path) -> "tuple[dict[str, Entry], dict[str, int]]":
        """Entries and suspects, changing nothing; also while a run is writing. Nothing is known where there is no ledger.

        Raises:
            InputError: it cannot be read.
        """
        if not path.is_file():
            return {}, {}
        try:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)
            with closing(connection):
                suspects = connection.execute("SELECT id, deaths FROM suspects UNION ALL SELECT id, 0 FROM reading ORDER BY 2")
                return Ledger(path, connection).entries(), dict(suspects.fetchall())
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"the ledger {path} cannot be read: {error}. Run `vivim extract`: it makes it again from the shards."
            ) from error

    def close(self) -> None:
        self._connection.close()

    def meta(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        with self._transaction(durable=True) as cursor:
            cursor.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def shards(self) -> dict[str, str]:
        """Content hash of every shard that is booked, by name."""
        return dict(self._connection.execute("SELECT name, sha256 FROM shards ORDER BY name"))

    def forget_shard(self, name: str) -> None:
        """A shard is lost: what it held is to be done again."""
        with self._transaction(durable=True) as cursor:
            cursor.execute("DELETE FROM shards WHERE name = ?", (name,))
            cursor.execute("DELETE FROM clips WHERE shard = ?", (name,))

    def book(
        self,
        shard: str,
        sha256: str,
        done: Iterable[tuple[str, str]],
        failed: Sequence[Failure],
        stats: "Mapping[str, Stat | None] | None" = None,
    ) -> None:
        """Note what a shard holds, in one transaction that is on disk when this returns.

        Args:
            done: id and hash of the file of every row.
            failed: clips that failed since the shard before.
            stats: of the files, as they were when the clips were listed; None: unknown, as after a loss of the ledger.
        """
        stats = stats or {}

        def stat(id_: str) -> tuple[int | None, int | None]:
            found = stats.get(id_)
            return (found.size_bytes, found.mtime_ns) if found else (None, None)

        failpoint("ledger.before_commit")
        with self._transaction(durable=True) as cursor:
            cursor.execute("INSERT OR REPLACE INTO shards VALUES (?, ?)", (shard, sha256))
            cursor.executemany(
                "INSERT OR REPLACE INTO clips VALUES (?, 'done', ?, ?, NULL, NULL, ?, ?)",
                [(id_, shard, file_sha256, *stat(id_)) for id_, file_sha256 in done],
            )
            cursor.executemany(
                "INSERT OR REPLACE INTO clips VALUES (?, 'failed', ?, NULL, ?, ?, ?, ?)",
                [(failure.id, shard, failure.kind, failure.message, *stat(failure.id)) for failure in failed],
            )
        failpoint("ledger.committed")

    def touch(self, stats: "dict[str, Stat]") -> None:
        """The files of these finished clips were read again and are the same; remember their new sizes and times."""
        with self._transaction(durable=False) as cursor:
            cursor.executemany(
                "UPDATE clips SET size_bytes = ?, mtime_ns = ? WHERE id = ?", [(s.size_bytes, s.mtime_ns, i) for i, s in stats.items()]
            )

    def entries(self) -> dict[str, Entry]:
        """Everything that is known, by id."""
        rows = self._connection.execute("SELECT id, state, size_bytes, mtime_ns, sha256, kind, message FROM clips")
        return {
            id_: Entry(state, None if size is None else Stat(size, mtime), sha256 or "", kind or "", message or "")
            for id_, state, size, mtime, sha256, kind, message in rows
        }

    def starting(self, id_: str, *, alone: bool = False) -> None:
        """Before a clip is given to a decoding process: if everything ends now, it was that one, or one that was read beside it."""
        with self._transaction(durable=False) as cursor:
            cursor.execute("INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?)", (id_, alone, boot_id(), f"{os.getpid()}@{_host()}"))

    def read(self, id_: str) -> None:
        """The decoding process came back from this clip, with frames or a failure."""
        with self._transaction(durable=False) as cursor:
            cursor.execute("DELETE FROM reading WHERE id = ?", (id_,))
            cursor.execute("DELETE FROM suspects WHERE id = ?", (id_,))

    def nothing_is_read(self) -> None:
        """The run ends in good order: what was being read just now is under no suspicion."""
        with self._transaction(durable=False) as cursor:
            cursor.execute("DELETE FROM reading")

    def suspects(self) -> dict[str, int]:
        """Clips that were being read when an earlier run ended without a word, and how often the machine went down over each alone.

        To be called before this run starts any clip.
        """
        boot = boot_id()
        with self._transaction(durable=True) as cursor:
            for id_, alone, then in cursor.execute("SELECT id, alone, boot FROM reading").fetchall():
                deaths = 1 if alone and then != boot else 0
                cursor.execute(
                    "INSERT INTO suspects VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET deaths = deaths + excluded.deaths", (id_, deaths)
                )
            cursor.execute("DELETE FROM reading")
            return dict(cursor.execute("SELECT id, deaths FROM suspects ORDER BY id").fetchall())

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Cursor]:
        with self._mutex:
            cursor = self._connection.cursor()
            try:
                cursor.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                cursor.execute("BEGIN IMMEDIATE")
                yield cursor
                cursor.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise VivimError(
                    f"the ledger {self.path} cannot be written: {error}. {_room(self.path)} Make room or check the disk; "
                    "shards that are written are safe. Run the same command again to go on."
                ) from error
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.rollback()
                raise
            finally:
                cursor.close()


def _disk_is_to_blame(error: sqlite3.Error) -> bool:
    """And not what the file holds."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


def _cannot_be_made(path: Path, error: sqlite3.Error) -> str:
    return (
        f"the ledger {path} cannot be opened: {error}. {_room(path)} Make room, or choose another --out, on a disk that keeps file locks."
    )


def _room(path: Path) -> str:
    """SQLite's journal grows to 1,000 pages of 4 kB before it is folded into the ledger, which starts with some dozens."""
    return f"Up to {5 << 20} bytes are needed there and some hundred for each clip, {free_bytes(path.parent)} are free."


def boot_id() -> str:
    """Changes when the machine starts anew; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _host() -> str:
    return socket.gethostname()


def _connect(path: Path) -> Ledger:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
        if not connection.execute("SELECT name FROM sqlite_master WHERE name = 'meta'").fetchone():
            connection.executescript(f"BEGIN; {_SCHEMA} INSERT INTO meta VALUES ('version', '{VERSION}'); COMMIT;")
        (version,) = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    except BaseException:
        connection.close()
        raise
    if version != VERSION:
        connection.close()
        raise InputError(f"the ledger {path} has version {version!r}; this vivim knows {VERSION!r}. Update vivim, or choose another --out.")
    return Ledger(path, connection)
