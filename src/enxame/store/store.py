"""The replicated object store: tables in memory, changes made durable by a backend before anybody sees them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from enxame.errors import EnxameError, Unavailable
from enxame.model.base import Meta, ObjectVersion
from enxame.store.backend import Backend, Commit, Corrupt, Record
from enxame.store.interface import Action, Event, Tx, View
from enxame.store.kinds import KINDS_BY_NAME
from enxame.store.tables import Tables
from enxame.store.transaction import Staging
from enxame.store.watch import HISTORY_EVENTS, History, Watch, WatchLagged

__all__ = ["Store"]

_log = logging.getLogger(__name__)

R = TypeVar("R")

#: Seconds between attempts to read everything again.
_RELOAD_PAUSE: Final = 0.2


def _wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Request:
    fn: Callable[[Tx], Any]
    future: asyncio.Future[Any]


class Store:
    """The state of a swarm.

    Reads (:attr:`view`) are plain lookups in memory. Changes (:meth:`update`) share durable commits: while one is in
    flight, later callers queue up and make the next one together.
    """

    def __init__(
        self, backend: Backend, *, wall: Callable[[], datetime] = _wall_clock, history_events: int = HISTORY_EVENTS
    ) -> None:
        self._backend = backend
        self._wall = wall
        self._history_events = history_events
        self._tables = Tables()
        self._history = History(0, limit=history_events)
        self._queue: deque[_Request] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._open = False
        self._failure: EnxameError | None = None

    # -- life

    async def start(self) -> None:
        """Load the tables. Raises Corrupt when the backend's records cannot be read."""
        revision, records = await self._backend.load()
        for record in records:
            obj = _decode(record)
            self._tables.by_kind[type(obj)].put(obj)
        self._history = History(revision, limit=self._history_events)
        self._open = True
        self._idle.set()
        self._tasks = [
            asyncio.create_task(self._commit_queue(), name="store: commits"),
            asyncio.create_task(self._follow(), name="store: foreign commits"),
        ]

    async def close(self) -> None:
        """Finish the commit in flight, refuse what is queued, end all watches, close the backend. Idempotent."""
        if self._open:
            self._open = False
            await self._idle.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._refuse(Unavailable("the store is closed"))
        self._history.close()
        await self._backend.close()

    # -- reads

    @property
    def view(self) -> View:
        """The committed state; consistent between awaits."""
        return self._tables

    @property
    def revision(self) -> int:
        """That of the last commit that :attr:`view` shows."""
        return self._history.revision

    def snapshot(self) -> tuple[int, list[Meta]]:
        """All objects at one revision. They are frozen: a thread may have them."""
        return self.revision, [obj for table in self._tables.by_kind.values() for obj in table.objects.values()]

    def watch(self, *kinds: type[Meta], since: int | None = None) -> Watch:
        """Changes of these kinds (none given: all), after revision ``since`` or from now on."""
        return self._history.open(frozenset(kinds), since)

    # -- changes

    async def update(self, fn: Callable[[Tx], R]) -> R:
        """Run ``fn`` on a transaction; returns its result once its changes are durable.

        ``fn`` is synchronous and may run at any later moment, once. What it raises is raised here, with none of its
        changes kept. A cancelled caller's changes may still be committed.

        Raises:
            CommitFailed: the backend refused; nothing was changed.
            Unavailable: the store is closed.
        """
        if self._failure is not None:
            raise self._failure
        if not self._open:
            raise Unavailable("the store is closed")
        request = _Request(fn, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._wake.set()
        result: R = await request.future
        return result

    async def _commit_queue(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._idle.clear()
            try:
                while self._queue and self._open:
                    await self._commit_batch()
            except Exception as error:  # noqa: BLE001 - nobody may be left waiting
                self._give_up(f"the store broke: {error}")
                return
            finally:
                self._idle.set()

    async def _commit_batch(self) -> None:
        """One durable commit for everybody who waits."""
        staging = Staging(self._tables, self.revision + 1, self._wall)
        done: list[tuple[asyncio.Future[Any], Any]] = []
        while self._queue:
            request = self._queue.popleft()
            if request.future.done():
                continue
            try:
                result = staging.run(request.fn)
            except Exception as error:  # noqa: BLE001 - whatever the caller's function raises is the caller's
                request.future.set_exception(error)
                continue
            done.append((request.future, result))
            if staging.staged_bytes > self._backend.commit_bytes:
                break
        mutations = staging.mutations()
        if mutations:
            try:
                revision = await self._backend.commit(mutations)
            except Exception as error:  # noqa: BLE001 - a failed commit fails its callers, not the store
                for future, _ in done:
                    if not future.done():
                        future.set_exception(_own_copy(error))
                return
            try:
                self._apply(staging.changes(), revision)
            except Exception:
                for future, _ in done:
                    if not future.done():
                        future.set_exception(Unavailable("the change was saved, but the store broke"))
                raise
        for future, result in done:
            if not future.done():
                future.set_result(result)

    def _apply(
        self, changes: Sequence[tuple[Meta | None, Meta | None]], revision: int, *, versioned: bool = False
    ) -> None:
        """Show a commit's changes. Its objects get its revision for version, unless they are ``versioned``."""
        events: list[Event] = []
        version = ObjectVersion(index=revision)
        for old, new in changes:
            if new is None:
                if old is not None:
                    self._tables.by_kind[type(old)].pop(old.id)
                    events.append(Event(Action.DELETE, old, old, revision))
                continue
            stored = new if versioned or new.version.index == revision else replace(new, version=version)
            self._tables.by_kind[type(stored)].put(stored)
            events.append(Event(Action.CREATE if old is None else Action.UPDATE, stored, old, revision))
        self._history.append(revision, events)

    def _refuse(self, error: EnxameError) -> None:
        while self._queue:
            future = self._queue.popleft().future
            if not future.done():
                future.set_exception(_own_copy(error))

    # -- what other managers commit

    async def _follow(self) -> None:
        try:
            while True:
                try:
                    async with aclosing(self._backend.watch(self.revision)) as commits:
                        async for commit in commits:
                            await self._settled()
                            if commit.revision > self.revision:
                                self._apply_foreign(commit)
                    return
                except WatchLagged as error:
                    _log.warning("the store missed commits and reads everything again: %s", error)
                    await self._reload()
        except Exception as error:  # noqa: BLE001 - the store says so itself: whoever writes next is told
            self._give_up(f"the store no longer follows its backend: {error}")

    async def _settled(self) -> None:
        """Our own commit may be reported before it is acknowledged: wait until its outcome is applied."""
        while not self._idle.is_set():
            await self._idle.wait()

    async def _reload(self) -> None:
        """Take over what the backend has now: one set of changes, at its revision."""
        while True:
            try:
                revision, records = await self._backend.load()
                break
            except Unavailable as error:
                _log.warning("%s; trying again", error.message)
                await asyncio.sleep(_RELOAD_PAUSE)
        await self._settled()
        if revision <= self.revision:
            return
        found = [_decode(record) for record in records]
        kept = {(type(obj), obj.id) for obj in found}
        changes: list[tuple[Meta | None, Meta | None]] = []
        for kind, table in self._tables.by_kind.items():
            changes += [(old, None) for old in list(table.objects.values()) if (kind, old.id) not in kept]
        for obj in found:
            old = self._tables.by_kind[type(obj)].objects.get(obj.id)
            if old is None or old.version != obj.version:
                changes.append((old, obj))
        self._apply(changes, revision, versioned=True)

    def _give_up(self, reason: str) -> None:
        """The tables can no longer be trusted: tell everybody, rather than answer wrongly or not at all."""
        _log.exception("%s", reason)
        self._failure = Unavailable(reason)
        self._history.close()
        self._refuse(self._failure)

    def _apply_foreign(self, commit: Commit) -> None:
        changes: list[tuple[Meta | None, Meta | None]] = []
        for mutation in commit.mutations:
            kind = KINDS_BY_NAME.get(mutation.kind)
            if kind is None:
                continue
            old = self._tables.by_kind[kind.type].objects.get(mutation.id)
            data = mutation.data
            new = None if data is None else _decode(Record(mutation.kind, mutation.id, commit.revision, data))
            changes.append((old, new))
        self._apply(changes, commit.revision)


def _own_copy(error: Exception) -> Exception:
    """Each waiter gets an exception of its own: a shared one would collect everybody's traceback."""
    if isinstance(error, EnxameError):
        copy = type(error)(error.message)
        copy.__cause__ = error
        return copy
    return error


def _decode(record: Record) -> Meta:
    kind = KINDS_BY_NAME.get(record.kind)
    if kind is None:
        raise Corrupt(
            f"the store holds an object of the unknown kind {record.kind!r}: was it written by a newer version?"
        )
    try:
        obj = kind.decode(record.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"the store's {record.kind} {record.id} cannot be read: {error}") from error
    return replace(obj, version=ObjectVersion(index=record.revision))
