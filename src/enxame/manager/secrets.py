"""Use cases around secrets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from enxame.errors import Unimplemented, rpc_error
from enxame.manager import lookup, payloads
from enxame.manager.matching import matches_head
from enxame.model.base import ObjectVersion
from enxame.model.filters import Filters
from enxame.model.secret import Secret, SecretSpec
from enxame.model.service import Service
from enxame.store.interface import Tx
from enxame.store.store import Store

__all__ = ["SecretControl"]


class SecretControl:
    """``/secrets``. What is returned holds the data: whoever shows it to a client takes it out."""

    def __init__(self, store: Store, new_id: Callable[[], str]) -> None:
        self._store = store
        self._new_id = new_id

    def list(self, filters: Filters) -> Sequence[Secret]:
        """Secrets that match ``id``, ``name``, ``names`` (exact), ``label``."""
        return [
            secret
            for secret in self._store.view.all(Secret)
            if matches_head(filters, secret.id, secret.spec.name, secret.spec.labels, exact_names="names")
        ]

    def get(self, ref: str) -> Secret:
        """The secret with this id, name or beginning of an id."""
        return lookup.secret(self._store.view, ref)

    async def create(self, spec: SecretSpec, *, object_id: str = "") -> str:
        """Store a secret; returns its id. With an ``object_id`` it gets this one; when it is there already, this
        request has stored it before.

        Raises:
            InvalidArgument: name or size out of rule.
            Conflict: the name is taken.
        """
        payloads.check_name(spec.name)
        if spec.driver is not None:
            raise Unimplemented("secret drivers are not supported by this daemon yet")
        payloads.check_size(spec.data, "secret", payloads.MAX_SECRET_BYTES)
        secret = Secret(id=object_id or self._new_id(), spec=spec)

        def change(tx: Tx) -> None:
            if not object_id or tx.get(Secret, object_id) is None:
                tx.create(secret)

        await self._store.update(change)
        return secret.id

    async def update(self, ref: str, version: int, spec: SecretSpec) -> None:
        """Change a secret's labels; nothing else may change."""
        secret_id = self.get(ref).id

        def change(tx: Tx) -> None:
            secret = lookup.secret(tx, secret_id)
            if spec.name != secret.spec.name or not payloads.same_data(spec.data, secret.spec.data):
                raise rpc_error("InvalidArgument", "only updates to Labels are allowed")
            labelled = replace(secret.spec, labels=spec.labels)
            tx.update(replace(secret, version=ObjectVersion(index=version), spec=labelled))

        await self._store.update(change)

    async def remove(self, ref: str) -> None:
        """Remove a secret that no service uses."""
        secret_id = self.get(ref).id

        def change(tx: Tx) -> None:
            secret = lookup.secret(tx, secret_id)
            payloads.check_unused("secret", secret.spec.name, tx.find(Service, "secret_id", secret_id))
            tx.delete(Secret, secret_id)

        await self._store.update(change)
