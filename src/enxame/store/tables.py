"""The objects in memory, with their indexes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar, cast

from enxame.model.base import Meta
from enxame.store.kinds import KINDS, Kind

__all__ = ["Table", "Tables", "index_key"]

T = TypeVar("T", bound=Meta)


def index_key(index: str, value: object) -> Hashable:
    """The form in which an index holds a value: names are compared without case, as Swarm does."""
    if not isinstance(value, Hashable):
        raise TypeError(f"index {index} holds no {type(value).__name__}")
    return value.lower() if index == "name" and isinstance(value, str) else value


class Table:
    """Objects of one kind by id, with indexes that are kept in step. Order is that of insertion: deterministic."""

    __slots__ = ("_indexers", "_indexes", "kind", "objects")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.objects: dict[str, Meta] = {}
        self._indexes: dict[str, dict[Hashable, dict[str, None]]] = {name: {} for name in kind.indexes}
        self._indexers = [(self._indexes[name], indexer) for name, indexer in kind.indexes.items()]

    def put(self, obj: Meta) -> Meta | None:
        """Add or replace; returns what was there. An object that cannot be indexed changes nothing."""
        values = [tuple(indexer(obj)) for _, indexer in self._indexers]
        old = self.objects.get(obj.id)
        self.objects[obj.id] = obj
        if old is None:
            for (index, _), after in zip(self._indexers, values, strict=True):
                for value in after:
                    index.setdefault(value, {})[obj.id] = None
            return None
        for (index, indexer), after in zip(self._indexers, values, strict=True):
            before = tuple(indexer(old))
            if before != after:
                self._unindex(index, before, obj.id)
                for value in after:
                    index.setdefault(value, {})[obj.id] = None
        return old

    def pop(self, object_id: str) -> Meta | None:
        """Remove; returns what was there."""
        old = self.objects.pop(object_id, None)
        if old is not None:
            for index, indexer in self._indexers:
                self._unindex(index, tuple(indexer(old)), object_id)
        return old

    def ids(self, index: str, value: object) -> dict[str, None]:
        """Ids whose index has the value. The table's own dict: do not change it."""
        return self._indexes[index].get(index_key(index, value), {})

    def same_indexes(self, other: Table) -> bool:
        """Whether both find the same by all indexes, in whatever order."""
        return self._indexes == other._indexes

    @staticmethod
    def _unindex(index: dict[Hashable, dict[str, None]], values: tuple[Hashable, ...], object_id: str) -> None:
        for value in values:
            ids = index[value]
            ids.pop(object_id, None)
            if not ids:
                del index[value]


class Tables:
    """All tables: the store's committed state. Implements :class:`~enxame.store.interface.View`."""

    __slots__ = ("by_kind",)

    def __init__(self) -> None:
        self.by_kind: dict[type[Meta], Table] = {kind: Table(described) for kind, described in KINDS.items()}

    def get(self, kind: type[T], object_id: str) -> T | None:
        """The object with this full id, or None."""
        return cast("T | None", self.by_kind[kind].objects.get(object_id))

    def all(self, kind: type[T]) -> list[T]:
        """All objects of a kind."""
        return cast("list[T]", list(self.by_kind[kind].objects.values()))

    def find(self, kind: type[T], index: str, value: object) -> list[T]:
        """Objects whose index has this value."""
        table = self.by_kind[kind]
        objects = table.objects
        return cast("list[T]", [objects[object_id] for object_id in table.ids(index, value)])
