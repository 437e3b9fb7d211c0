"""Changes that are staged on top of the tables until the backend has made them durable.

A :class:`Staging` is one commit in the making. Several transactions run on it, one after the other; each sees what
those before it changed. One that fails is undone alone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar, cast

from msgspec.structs import replace

from enxame.errors import Conflict, NotFound, rpc_error
from enxame.model.base import ZERO_TIME, Meta, ObjectVersion
from enxame.store.backend import Mutation
from enxame.store.kinds import KINDS, encode_record
from enxame.store.tables import Table, Tables

__all__ = ["Staging"]

T = TypeVar("T", bound=Meta)
R = TypeVar("R")

Key = tuple[type[Meta], str]


class _Overlay:
    """Staged changes of one kind: ``table`` has what was put, ``masked`` every id that was touched."""

    __slots__ = ("masked", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.masked: dict[str, None] = {}


class _Before:
    """An object as it was before the running transaction touched it."""

    __slots__ = ("masked", "obj", "seen")

    def __init__(self, *, masked: bool, obj: Meta | None, seen: int) -> None:
        self.masked = masked
        self.obj = obj
        #: The version that the transaction saw first.
        self.seen = seen


class Staging:
    """One commit in the making; the :class:`~enxame.store.interface.Tx` that transactions are given.

    ``version`` is the revision that the commit is expected to get.
    """

    __slots__ = ("_base", "_encoded", "_journal", "_overlays", "_version", "_wall", "staged_bytes")

    def __init__(self, base: Tables, version: int, wall: Callable[[], datetime]) -> None:
        self._base = base
        self._version = ObjectVersion(index=version)
        self._wall = wall
        self._overlays: dict[type[Meta], _Overlay] = {}
        self._journal: dict[Key, _Before] = {}
        self._encoded: dict[Key, bytes | None] = {}
        #: Size of the records that are staged.
        self.staged_bytes = 0

    # -- reads

    def get(self, kind: type[T], object_id: str) -> T | None:
        """The object with this full id, or None."""
        overlay = self._overlays.get(kind)
        if overlay is not None and object_id in overlay.masked:
            return cast("T | None", overlay.table.objects.get(object_id))
        return self._base.get(kind, object_id)

    def all(self, kind: type[T]) -> list[T]:
        """All objects of a kind."""
        overlay = self._overlays.get(kind)
        if overlay is None:
            return self._base.all(kind)
        masked = overlay.masked
        kept = [obj for object_id, obj in self._base.by_kind[kind].objects.items() if object_id not in masked]
        return cast("list[T]", [*kept, *overlay.table.objects.values()])

    def find(self, kind: type[T], index: str, value: object) -> list[T]:
        """Objects whose index has this value."""
        overlay = self._overlays.get(kind)
        if overlay is None:
            return self._base.find(kind, index, value)
        table = self._base.by_kind[kind]
        masked, staged = overlay.masked, overlay.table
        kept = [table.objects[object_id] for object_id in table.ids(index, value) if object_id not in masked]
        return cast("list[T]", [*kept, *(staged.objects[object_id] for object_id in staged.ids(index, value))])

    # -- changes

    def create(self, obj: Meta) -> None:
        """Add an object. Raises Conflict on a taken id or name."""
        kind = type(obj)
        if not obj.id:
            raise ValueError(f"a {KINDS[kind].name} needs an id before it is stored")
        if self.get(kind, obj.id) is not None:
            raise Conflict(f"{KINDS[kind].name} {obj.id} already exists")
        self._check_name(obj)
        now = self._wall()
        created = now if obj.created_at == ZERO_TIME else obj.created_at
        self._put(replace(obj, version=self._version, created_at=created, updated_at=now), None)

    def update(self, obj: Meta) -> None:
        """Replace an object; its version must be the stored one, or the one this transaction saw first."""
        kind = type(obj)
        stored = self.get(kind, obj.id)
        if stored is None:
            raise NotFound(f"{KINDS[kind].name} {obj.id} not found")
        version = obj.version.index
        if version != stored.version.index:
            before = self._journal.get((kind, obj.id))
            if before is None or before.seen != version:
                raise rpc_error("Unknown", "update out of sequence")
        self._check_name(obj)
        self._put(
            replace(obj, version=self._version, created_at=stored.created_at, updated_at=self._wall()),
            stored,
        )

    def delete(self, kind: type[Meta], object_id: str) -> None:
        """Remove an object. Raises NotFound."""
        stored = self.get(kind, object_id)
        if stored is None:
            raise NotFound(f"{KINDS[kind].name} {object_id} not found")
        overlay = self._touch(kind, object_id, stored)
        overlay.table.pop(object_id)

    # -- running transactions

    def run(self, fn: Callable[[Staging], R]) -> R:
        """Run one transaction. What it raises is raised here, after its own changes were undone."""
        self._journal = {}
        try:
            result = fn(self)
            encoded = {(kind, object_id): self._encode(kind, object_id) for kind, object_id in self._journal}
        except BaseException:
            self._undo()
            raise
        finally:
            self._journal = {}
        for key, data in encoded.items():
            self.staged_bytes += len(data or b"") - len(self._encoded.get(key) or b"")
        self._encoded.update(encoded)
        return result

    def changes(self) -> list[tuple[Meta | None, Meta | None]]:
        """What the commit amounts to: (old, new) of every object that differs; one of them may be None."""
        changed: list[tuple[Meta | None, Meta | None]] = []
        for kind, object_id in self._encoded:
            old = self._base.by_kind[kind].objects.get(object_id)
            new = self._overlays[kind].table.objects.get(object_id)
            if old is not None or new is not None:
                changed.append((old, new))
        return changed

    def mutations(self) -> list[Mutation]:
        """The commit in the backend's form."""
        return [
            Mutation(KINDS[kind].name, object_id, data)
            for (kind, object_id), data in self._encoded.items()
            if data is not None or object_id in self._base.by_kind[kind].objects
        ]

    # -- inside

    def _check_name(self, obj: Meta) -> None:
        kind = KINDS[type(obj)]
        if kind.name_conflict is None:
            return
        for key in kind.indexes["name"](obj):
            for other in self.find(type(obj), "name", key):
                if other.id != obj.id:
                    raise kind.name_conflict(obj.spec.name)  # type: ignore[attr-defined]

    def _put(self, obj: Meta, stored: Meta | None) -> None:
        overlay = self._touch(type(obj), obj.id, stored)
        overlay.table.put(obj)

    def _touch(self, kind: type[Meta], object_id: str, stored: Meta | None) -> _Overlay:
        overlay = self._overlays.get(kind)
        if overlay is None:
            overlay = self._overlays[kind] = _Overlay(Table(KINDS[kind]))
        key = (kind, object_id)
        if key not in self._journal:
            masked = object_id in overlay.masked
            seen = 0 if stored is None else stored.version.index
            self._journal[key] = _Before(masked=masked, obj=overlay.table.objects.get(object_id), seen=seen)
        overlay.masked[object_id] = None
        return overlay

    def _encode(self, kind: type[Meta], object_id: str) -> bytes | None:
        obj = self._overlays[kind].table.objects.get(object_id)
        return None if obj is None else encode_record(obj)

    def _undo(self) -> None:
        for (kind, object_id), before in self._journal.items():
            overlay = self._overlays[kind]
            if before.obj is not None:
                overlay.table.put(before.obj)
            else:
                overlay.table.pop(object_id)
            if not before.masked:
                del overlay.masked[object_id]
