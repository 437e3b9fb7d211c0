"""All that a container's own namespace has of rules because of the networks it is on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from enxame.engine.networks.doors import Doors
from enxame.engine.networks.plans import attachments_of
from enxame.engine.networks.registry import NetworkRegistry
from enxame.engine.networks.sandbox_records import SandboxRecord
from enxame.engine.networks.tables import NetworkTables
from enxame.engine.networks.virtual_addresses import VirtualAddresses
from enxame.errors import EnxameError
from enxame.network.namespace_rules import NamespaceRules

_log = logging.getLogger(__name__)


class ContainerRules:
    """Services' virtual addresses, and doors to the routing mesh."""

    def __init__(self, registry: NetworkRegistry, tables: NetworkTables, rules: NamespaceRules) -> None:
        self._registry = registry
        self._rules = rules
        self._doors = Doors()
        self._addresses = VirtualAddresses(rules, tables, self._versions)

    async def connected(self, record: SandboxRecord) -> None:
        """A container is on these networks now.

        Raises:
            EnxameError: the kernel refuses.
        """
        path = Path(record.info.netns_path)
        places = attachments_of(record, self._registry)
        networks = [network.resource.id for network, _, _ in places]
        changes = [
            *self._addresses.connected(record.container_id, path, networks),
            *self._doors.connected(record.container_id, path, places),
        ]
        if await self._rules.apply(changes):
            raise EnxameError(f"the kernel refused the packet rules of container {record.name}; the log has its reason")

    async def found(self, records: Sequence[SandboxRecord]) -> None:
        """An earlier daemon connected these."""
        changes = []
        for record in records:
            if record.info.netns_path:
                path = Path(record.info.netns_path)
                places = attachments_of(record, self._registry)
                networks = [network.resource.id for network, _, _ in places]
                changes += self._addresses.found(record.container_id, path, networks)
                changes += self._doors.found(record.container_id, path, places)
        await self._rules.apply(changes)

    def left(self, container_id: str) -> None:
        """A container is gone. Idempotent."""
        self._addresses.left(container_id)
        self._doors.left(container_id)

    def _versions(self, network_id: str) -> tuple[int, ...]:
        """Of IP, in which services on a network have virtual addresses."""
        network = self._registry.by_id(network_id)
        if network is None or not network.is_overlay or not network.has_names:
            return ()
        return (4, 6) if network.pool6 is not None else (4,)
