"""The state of a swarm with one manager: an SQLite database.

Write-ahead log with ``synchronous=FULL``: a commit is on the disk when it is acknowledged. One thread does all the
work. The database is held exclusively, so that a second daemon on the same directory is refused.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from enxame.errors import EnxameError, Unavailable
from enxame.store.backend import Commit, CommitFailed, Corrupt, Mutation, Record
from enxame.store.high_water import HighWater

__all__ = ["SCHEMA_VERSION", "SqliteBackend", "write_database"]

R = TypeVar("R")

SCHEMA_VERSION: Final = 1

#: "enxm": tells our databases from others (PRAGMA application_id).
_APPLICATION_ID: Final = 0x656E786D

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (kind, id)
);
INSERT INTO meta VALUES ('revision', 0);
"""

_PUT: Final = """
INSERT INTO objects (kind, id, revision, checksum, data) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, checksum = excluded.checksum, data = excluded.data
"""
_REWRITE: Final = "UPDATE objects SET checksum = ?, data = ? WHERE kind = ? AND id = ? AND revision = ?"
_DELETE: Final = "DELETE FROM objects WHERE kind = ? AND id = ?"


class SqliteBackend:
    """Records in the SQLite database at ``path``; made (mode 0600) when it does not exist."""

    commit_bytes = 8 << 20

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None
        self._mark: HighWater | None = None
        self._revision = 0
        self._closed = False

    async def load(self) -> tuple[int, list[Record]]:
        """Open, check and read the database; read it again when it is open.

        Raises:
            Corrupt: it is damaged, not ours, or of a newer schema.
            Unavailable: another process holds it, or it cannot be opened.
        """
        return await self._in_thread(self._load)

    async def commit(self, mutations: Sequence[Mutation]) -> int:
        """Write all mutations and sync them to the disk."""
        if self._closed:
            raise CommitFailed("the swarm's state is closed")
        return await self._in_thread(lambda: self._commit(mutations))

    async def rewrite(self, records: Sequence[Record]) -> None:
        """Replace the bytes in one transaction, and leave no copy of the old ones in the file or its log."""
        if self._closed:
            raise CommitFailed("the swarm's state is closed")
        await self._in_thread(lambda: self._rewrite(records))

    async def watch(self, after: int) -> AsyncGenerator[Commit, None]:  # noqa: ARG002
        """Nobody else can write: ends at once."""
        return
        yield

    async def close(self) -> None:
        """Fold the log into the database and close it."""
        self._closed = True
        if self._connection is not None:
            await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, fn: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, fn)

    # -- in the thread

    def _load(self) -> tuple[int, list[Record]]:
        if self._connection is not None:
            return self._read(self._connection)
        try:
            if not self._path.exists():
                _make_database(self._path)
            self._connection = self._open()
            found = self._read(self._connection)
            self._check_mark()
            return found
        except EnxameError:
            self._close()
            raise
        except sqlite3.Error as error:
            self._close()
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise Unavailable(f"the swarm's state in {self._path} is in use by another process") from error
            if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise self._corrupt(str(error)) from error
            raise Unavailable(f"the swarm's state in {self._path} cannot be opened: {error}") from error
        except OSError as error:
            self._close()
            raise Unavailable(f"the swarm's state in {self._path} cannot be made: {error.strerror}") from error

    def _open(self) -> sqlite3.Connection:
        # An empty file is a valid, empty database to SQLite; here it is the remains of one.
        if self._path.stat().st_size == 0:
            raise self._corrupt("the file is empty")
        connection = _connect(self._path)
        try:
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise self._corrupt("it is not a database of enxame")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise Corrupt(
                    f"the swarm's state in {self._path} has schema {version}, this program knows {SCHEMA_VERSION}: "
                    "it was written by a newer version of enxame"
                )
            problems = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if problems != "ok":
                raise self._corrupt(problems)
        except BaseException:
            connection.close()
            raise
        return connection

    def _read(self, connection: sqlite3.Connection) -> tuple[int, list[Record]]:
        row = connection.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()
        if row is None:
            raise self._corrupt("its revision is missing")
        self._revision = row[0]
        records: list[Record] = []
        query = "SELECT kind, id, revision, checksum, data FROM objects ORDER BY rowid"
        for kind, object_id, revision, checksum, data in connection.execute(query):
            if zlib.crc32(data) != checksum or revision > self._revision:
                raise self._corrupt(f"{kind} {object_id} does not match its checksum")
            records.append(Record(kind, object_id, revision, data))
        return self._revision, records

    def _check_mark(self) -> None:
        self._mark = HighWater(self._path.with_name(self._path.name + "-mark"))
        acknowledged = self._mark.read()
        if acknowledged > self._revision:
            raise Corrupt(
                f"the swarm's state in {self._path} is at revision {self._revision}, but revision {acknowledged} was "
                f"acknowledged: its log ({self._path.name}-wal) was lost, or this is an old copy. Bring the log back, "
                f"or remove {self._mark.path} to go on with what is there"
            )

    def _commit(self, mutations: Sequence[Mutation]) -> int:
        connection = self._connection
        if connection is None:
            raise CommitFailed("the swarm's state is closed")
        revision = self._revision + 1
        puts = [(m.kind, m.id, revision, zlib.crc32(m.data), m.data) for m in mutations if m.data is not None]
        deletes = [(m.kind, m.id) for m in mutations if m.data is None]
        try:
            connection.execute("BEGIN IMMEDIATE")
            if puts:
                connection.executemany(_PUT, puts)
            if deletes:
                connection.executemany(_DELETE, deletes)
            connection.execute("UPDATE meta SET value = ? WHERE key = 'revision'", (revision,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise CommitFailed(f"the swarm's state could not be saved in {self._path}: {error}") from error
        self._revision = revision
        if self._mark is not None:
            self._mark.write(revision)
        return revision

    def _rewrite(self, records: Sequence[Record]) -> None:
        connection = self._connection
        if connection is None:
            raise CommitFailed("the swarm's state is closed")
        changes = [(zlib.crc32(r.data), r.data, r.kind, r.id, r.revision) for r in records]
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_REWRITE, changes)
            connection.execute("COMMIT")
            # The pages that were freed go with the old file's pages, the log with them.
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise CommitFailed(f"the swarm's state could not be rewritten in {self._path}: {error}") from error

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        mark, self._mark = self._mark, None
        if mark is not None:
            mark.close()

    def _corrupt(self, what: str) -> Corrupt:
        return Corrupt(
            f"the swarm's state in {self._path} is damaged ({what}): restore a backup, or leave the swarm with --force"
        )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.0)
    try:
        # Exclusive before WAL: the index of the log then lives in this process, and nobody else gets in.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
    except BaseException:
        connection.close()
        raise
    return connection


def write_database(path: Path, revision: int, records: Iterable[Record]) -> None:
    """Make a database that holds this state. Whatever was at the path is replaced. Raises sqlite3.Error, OSError."""
    path.with_name(path.name + "-mark").unlink(missing_ok=True)
    _make_database(path, revision, records)


def _make_database(path: Path, revision: int = 0, records: Iterable[Record] = ()) -> None:
    """Make a database beside and move it into place: a half-made one is never taken for an empty swarm."""
    draft = path.with_name(path.name + ".new")
    for leftover in (draft, draft.with_name(draft.name + "-wal"), draft.with_name(draft.name + "-journal")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(draft, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {_SCHEMA}")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'revision'", (revision,))
        connection.executemany(_PUT, ((r.kind, r.id, r.revision, zlib.crc32(r.data), r.data) for r in records))
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    finally:
        connection.close()
    # A log that an earlier database left behind must not be replayed into this one.
    path.with_name(path.name + "-wal").unlink(missing_ok=True)
    draft.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
