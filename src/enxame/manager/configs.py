"""Use cases around configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from enxame.errors import rpc_error
from enxame.manager import lookup, payloads
from enxame.manager.matching import matches_head
from enxame.model.base import ObjectVersion
from enxame.model.filters import Filters
from enxame.model.secret import Config, ConfigSpec
from enxame.model.service import Service
from enxame.store.interface import Tx
from enxame.store.store import Store

__all__ = ["ConfigControl"]


class ConfigControl:
    """``/configs``. Their data is no secret: clients may see it."""

    def __init__(self, store: Store, new_id: Callable[[], str]) -> None:
        self._store = store
        self._new_id = new_id

    def list(self, filters: Filters) -> Sequence[Config]:
        """Configs that match ``id``, ``name``, ``names`` (exact), ``label``."""
        return [
            config
            for config in self._store.view.all(Config)
            if matches_head(filters, config.id, config.spec.name, config.spec.labels, exact_names="names")
        ]

    def get(self, ref: str) -> Config:
        """The config with this id, name or beginning of an id."""
        return lookup.config(self._store.view, ref)

    async def create(self, spec: ConfigSpec, *, object_id: str = "") -> str:
        """Store a config; returns its id. With an ``object_id`` it gets this one; when it is there already, this
        request has stored it before.

        Raises:
            InvalidArgument: name or size out of rule.
            Conflict: the name is taken.
        """
        payloads.check_name(spec.name)
        payloads.check_size(spec.data, "config", payloads.MAX_CONFIG_BYTES)
        config = Config(id=object_id or self._new_id(), spec=spec)

        def change(tx: Tx) -> None:
            if not object_id or tx.get(Config, object_id) is None:
                tx.create(config)

        await self._store.update(change)
        return config.id

    async def update(self, ref: str, version: int, spec: ConfigSpec) -> None:
        """Change a config's labels; nothing else may change."""
        config_id = self.get(ref).id

        def change(tx: Tx) -> None:
            config = lookup.config(tx, config_id)
            if spec.name != config.spec.name or not payloads.same_data(spec.data, config.spec.data):
                raise rpc_error("InvalidArgument", "only updates to Labels are allowed")
            labelled = replace(config.spec, labels=spec.labels)
            tx.update(replace(config, version=ObjectVersion(index=version), spec=labelled))

        await self._store.update(change)

    async def remove(self, ref: str) -> None:
        """Remove a config that no service uses."""
        config_id = self.get(ref).id

        def change(tx: Tx) -> None:
            config = lookup.config(tx, config_id)
            payloads.check_unused("config", config.spec.name, tx.find(Service, "config_id", config_id))
            tx.delete(Config, config_id)

        await self._store.update(change)
