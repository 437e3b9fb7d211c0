"""Use cases around secrets and configs alike: what both may do, by the rules of :mod:`enxame.manager.payloads`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from msgspec.structs import replace

from enxame.errors import rpc_error
from enxame.manager import payloads
from enxame.manager.matching import matches_head
from enxame.model.base import ObjectVersion
from enxame.model.filters import Filters
from enxame.model.secret import Payload, PayloadSpec
from enxame.model.service import Service
from enxame.store.interface import Tx, View
from enxame.store.store import Store

__all__ = ["PayloadControl"]

P = TypeVar("P", bound=Payload)
S = TypeVar("S", bound=PayloadSpec)


class PayloadControl(Generic[P, S]):
    """``noun`` is what users call such an object; ``find`` gets one by what a user calls it; ``limit`` is the size
    (bytes) that its contents must stay below.
    """

    def __init__(
        self,
        store: Store,
        new_id: Callable[[], str],
        *,
        kind: type[P],
        noun: str,
        find: Callable[[View, str], P],
        limit: int,
    ) -> None:
        self._store = store
        self._new_id = new_id
        self._kind = kind
        self._noun = noun
        self._find = find
        self._limit = limit

    def list(self, filters: Filters) -> Sequence[P]:
        """Those that match ``id``, ``name``, ``names`` (exact), ``label``."""
        return [
            found
            for found in self._store.view.all(self._kind)
            if matches_head(filters, found.id, found.spec.name, found.spec.labels, exact_names="names")
        ]

    def get(self, ref: str) -> P:
        """The one with this id, name or beginning of an id."""
        return self._find(self._store.view, ref)

    async def create(self, spec: S, *, object_id: str = "") -> str:
        """Store one; returns its id. With an ``object_id`` it gets this one; when it is there already, this request has
        stored it before.

        Raises:
            InvalidArgument: name or size out of rule.
            Conflict: the name is taken.
        """
        self._check(spec)
        made = self._kind(id=object_id or self._new_id(), spec=spec)

        def change(tx: Tx) -> None:
            if not object_id or tx.get(self._kind, object_id) is None:
                tx.create(made)

        await self._store.update(change)
        return made.id

    async def update(self, ref: str, version: int, spec: S) -> None:
        """Change the labels; nothing else may change."""
        object_id = self.get(ref).id

        def change(tx: Tx) -> None:
            known = self._find(tx, object_id)
            if spec.name != known.spec.name or not payloads.same_data(spec.data, known.spec.data):
                raise rpc_error("InvalidArgument", "only updates to Labels are allowed")
            labelled = replace(known.spec, labels=spec.labels)
            tx.update(replace(known, version=ObjectVersion(index=version), spec=labelled))

        await self._store.update(change)

    async def remove(self, ref: str) -> None:
        """Remove one that no service uses."""
        object_id = self.get(ref).id

        def change(tx: Tx) -> None:
            known = self._find(tx, object_id)
            payloads.check_unused(self._noun, known.spec.name, tx.find(Service, f"{self._noun}_id", object_id))
            tx.delete(self._kind, object_id)

        await self._store.update(change)

    def _check(self, spec: S) -> None:
        payloads.check_name(spec.name)
        payloads.check_size(spec.data, self._noun, self._limit)
