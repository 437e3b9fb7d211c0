"""The store's tables and transactions without its event loop: for tests and simulations that own the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from msgspec.structs import replace

from enxame.model.base import Meta, ObjectVersion
from enxame.store.interface import Action, Event, Tx, View
from enxame.store.tables import Tables
from enxame.store.transaction import Staging

R = TypeVar("R")


class SyncStore:
    """Commits at once, in memory. ``events`` are all commits' events since they were last taken."""

    def __init__(self, wall: Callable[[], datetime]) -> None:
        self._tables = Tables()
        self._wall = wall
        self.revision = 0
        self._events: list[Event] = []

    @property
    def view(self) -> View:
        """The committed state."""
        return self._tables

    def update(self, fn: Callable[[Tx], R]) -> R:
        """Run a transaction and commit it; what it raises undoes it."""
        staging = Staging(self._tables, self.revision + 1, self._wall)
        result: R = staging.run(fn)
        changes = staging.changes()
        if changes:
            self.revision += 1
            for old, new in changes:
                self._events.append(self._apply(old, new))
        return result

    def take_events(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def _apply(self, old: Meta | None, new: Meta | None) -> Event:
        if new is None:
            assert old is not None
            self._tables.by_kind[type(old)].pop(old.id)
            return Event(Action.DELETE, old, old, self.revision)
        stored = replace(new, version=ObjectVersion(index=self.revision))
        self._tables.by_kind[type(stored)].put(stored)
        return Event(Action.CREATE if old is None else Action.UPDATE, stored, old, self.revision)
