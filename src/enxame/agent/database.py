"""The node's own memory of its tasks, so that they go on without a manager and through restarts of the daemon.

Written behind: a crash may lose the last moments, which the containers themselves (found by their labels) and the next
complete assignment set bring back. Writes go through one thread and share transactions.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from enxame.model.task import Task

log = logging.getLogger(__name__)


class TaskDatabase:
    """Tasks with their last status, by id."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="task-db")
        self._connection: sqlite3.Connection | None = None
        self._pending: dict[str, Task | None] = {}
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> list[Task]:
        """Open (or make) the database; the tasks in it. A broken file is set aside, since it can be rebuilt."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    def save(self, task: Task) -> None:
        """Remember a task as it is now."""
        self._pending[task.id] = task
        self._wake()

    def forget(self, task_id: str) -> None:
        """The task is gone."""
        self._pending[task_id] = None
        self._wake()

    async def close(self) -> None:
        """Write what is due and close."""
        while self._writer is not None:
            await self._writer
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _wake(self) -> None:
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_behind(), name="task-db")

    async def _write_behind(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, {}
                try:
                    await asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch.items())
                except sqlite3.Error as error:
                    # The disk may be full. The next write tries again; until then the containers' labels have to do.
                    log.warning("task database %s: %s", self._path, error)
                    self._pending = {**batch, **self._pending}
                    return
        finally:
            self._writer = None

    def _open(self) -> list[Task]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except (sqlite3.DatabaseError, msgspec.DecodeError, msgspec.ValidationError) as error:
            aside = self._path.with_suffix(".damaged")
            log.warning(
                "task database %s is damaged (%s); kept as %s, starting with an empty one", self._path, error, aside
            )
            self._close()
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._connect()

    def _connect(self) -> list[Task]:
        # SQLite gives its log the mode of the database.
        self._path.touch(mode=0o600)
        self._path.chmod(0o600)
        connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection = connection
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE IF NOT EXISTS task (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID")
        decoder = msgspec.msgpack.Decoder(Task)
        return [decoder.decode(body) for (body,) in connection.execute("SELECT body FROM task")]

    def _write(self, batch: Iterable[tuple[str, Task | None]]) -> None:
        assert self._connection is not None
        encode = msgspec.msgpack.encode
        self._connection.execute("BEGIN")
        try:
            for task_id, task in batch:
                if task is None:
                    self._connection.execute("DELETE FROM task WHERE id = ?", (task_id,))
                else:
                    self._connection.execute("INSERT OR REPLACE INTO task VALUES (?, ?)", (task_id, encode(task)))
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
