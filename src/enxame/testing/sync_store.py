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


class Refused(Exception):
    """A commit was refused: nothing of it happened."""


class SyncStore:
    """Commits at once, in memory. While it is ``full`` no commit is taken; nor one of an ``epoch`` that is over."""

    def __init__(self, wall: Callable[[], datetime]) -> None:
        #: The committed state, with its indexes.
        self.tables = Tables()
        self._wall = wall
        self.revision = 0
        self.full = False
        self.epoch = 0
        self._events: list[Event] = []

    @property
    def view(self) -> View:
        """The committed state."""
        return self.tables

    def update(self, fn: Callable[[Tx], R], epoch: int | None = None) -> R:
        """Run a transaction and commit it; what it raises undoes it. Raises Refused."""
        staging = _Staging(self.tables, self.revision + 1, self._wall)
        result: R = staging.run(fn)
        changes = staging.changes()
        if changes:
            if self.full:
                raise Refused("no space left on device")
            if epoch not in (None, self.epoch):
                raise Refused(f"epoch {epoch} is over: it is {self.epoch}")
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
            self.tables.by_kind[type(old)].pop(old.id)
            return Event(Action.DELETE, old, old, self.revision)
        stored = replace(new, version=ObjectVersion(index=self.revision))
        self.tables.by_kind[type(stored)].put(stored)
        return Event(Action.CREATE if old is None else Action.UPDATE, stored, old, self.revision)


class _Staging(Staging):
    """Nothing is written anywhere, so nothing is brought into a form for it."""

    def _encode(self, kind: type[Meta], object_id: str) -> bytes | None:
        return b"" if object_id in self._overlays[kind].table.objects else None
