"""Ordered change events, with resume.

All watchers read one bounded history at their own pace; there are no queues to overflow. A watcher that falls behind
the history's oldest commit gets :class:`WatchLagged` and starts again from the tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from enxame.errors import Unavailable
from enxame.model.base import Meta
from enxame.store.interface import Event

__all__ = ["HISTORY_EVENTS", "History", "Watch", "WatchClosed", "WatchLagged"]

#: Events that are kept for slow watchers and resumes, beside the newest commits.
HISTORY_EVENTS: Final = 10_000
#: Newest commits that are kept whatever their size.
_HISTORY_COMMITS: Final = 16


class WatchLagged(Exception):
    """Events were missed: read the whole state again and watch from there."""


class WatchClosed(Unavailable):
    """The store or the watch was closed."""


@dataclass(frozen=True, slots=True)
class _Entry:
    revision: int
    events: Sequence[Event]
    kinds: frozenset[type[Meta]]


class History:
    """The newest commits' events. ``revision`` is that of the last commit, also when it was before our time."""

    def __init__(self, revision: int, *, limit: int = HISTORY_EVENTS) -> None:
        self.revision = revision
        self._limit = limit
        self._entries: dict[int, _Entry] = {}
        self._first = 0
        self._next = 0
        self._size = 0
        #: Nothing at or below this revision is remembered.
        self._floor = revision
        self._watches: dict[Watch, None] = {}
        self._closed = False

    def append(self, revision: int, events: Sequence[Event]) -> None:
        """Record a commit and wake whom it concerns."""
        self.revision = revision
        entry = _Entry(revision, events, frozenset(type(event.object) for event in events))
        self._entries[self._next] = entry
        self._next += 1
        self._size += len(events)
        while self._size > self._limit and len(self._entries) > _HISTORY_COMMITS:
            dropped = self._entries.pop(self._first)
            self._first += 1
            self._size -= len(dropped.events)
            self._floor = dropped.revision
        for watch in self._watches:
            watch.notify(entry.kinds)

    def open(self, kinds: frozenset[type[Meta]], since: int | None) -> Watch:
        """A watch of these kinds (none given: all), from after ``since`` or from now."""
        watch = Watch(self, kinds, self._position(since))
        if self._closed:
            watch.close()
        else:
            self._watches[watch] = None
        return watch

    def drop(self, watch: Watch) -> None:
        """Forget a watch."""
        self._watches.pop(watch, None)

    def close(self) -> None:
        """End all watches, also those that are opened later."""
        self._closed = True
        for watch in list(self._watches):
            watch.close()

    def read(self, position: int, kinds: frozenset[type[Meta]]) -> tuple[int, list[Event]]:
        """Events of these kinds from a position on, and the position after them. Raises WatchLagged."""
        if position < self._first:
            raise WatchLagged(f"events up to revision {self._floor} are no longer kept")
        events: list[Event] = []
        for sequence in range(position, self._next):
            entry = self._entries[sequence]
            if not kinds:
                events.extend(entry.events)
            elif not kinds.isdisjoint(entry.kinds):
                events.extend(event for event in entry.events if type(event.object) in kinds)
        return self._next, events

    def _position(self, since: int | None) -> int:
        if since is None or since >= self.revision:
            return self._next
        if since < self._floor:
            return -1
        position = self._next
        while position > self._first and self._entries[position - 1].revision > since:
            position -= 1
        return position


class Watch:
    """One reader of the history; an async context manager."""

    __slots__ = ("_closed", "_history", "_kinds", "_position", "_waiter")

    def __init__(self, history: History, kinds: frozenset[type[Meta]], position: int) -> None:
        self._history = history
        self._kinds = kinds
        self._position = position
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    async def next(self) -> list[Event]:
        """All events that are due, in order; waits until there is one.

        Raises:
            WatchLagged: events were missed. The watch goes on from now: read the state again first.
            WatchClosed: there will be no more.
        """
        while True:
            if self._closed:
                raise WatchClosed("the store is closed")
            events = self.pending()
            if events:
                return events
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def pending(self) -> list[Event]:
        """Events that are due now, without waiting; may be empty. Raises WatchLagged as :meth:`next` does."""
        try:
            self._position, events = self._history.read(self._position, self._kinds)
        except WatchLagged:
            self._position, _ = self._history.read(self._history._next, self._kinds)  # noqa: SLF001
            raise
        return events

    def notify(self, kinds: frozenset[type[Meta]]) -> None:
        """A commit touched these kinds."""
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (not self._kinds or not self._kinds.isdisjoint(kinds)):
            waiter.set_result(None)

    def close(self) -> None:
        """Stop watching; a waiting :meth:`next` raises WatchClosed."""
        self._closed = True
        self._history.drop(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
