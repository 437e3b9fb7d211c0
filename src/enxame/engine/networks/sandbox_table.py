"""Which containers are on networks, and what they hold: their records, ports, and whose turn it is to change them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from enxame.engine.networks.endpoints import resource
from enxame.engine.networks.name_service import NameService
from enxame.engine.networks.registry import NetworkRegistry
from enxame.engine.networks.sandbox_records import SandboxFiles, SandboxRecord
from enxame.errors import EnxameError
from enxame.network.held_ports import HeldPort, HeldPorts

__all__ = ["Place", "SandboxTable"]

_log = logging.getLogger(__name__)

#: Gives an address back.
Place = Callable[[], None]


class SandboxTable:
    """By container id; ``files`` keep the records for a restart of the daemon."""

    def __init__(
        self, registry: NetworkRegistry, files: SandboxFiles, names: NameService, held_ports: HeldPorts
    ) -> None:
        self._registry = registry
        self._files = files
        self._names = names
        self._held_ports = held_ports
        self.records: dict[str, SandboxRecord] = {}
        self.held: dict[str, list[HeldPort]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        #: Set, and another one, whenever addresses are free again.
        self.address_left = asyncio.Event()

    def load(self) -> None:
        """Take over what an earlier run of the daemon connected: addresses, ports."""
        for record in self._files.load():
            self.records[record.container_id] = record
            for name, endpoint in record.info.endpoints.items():
                network = self._registry.by_id(endpoint.network_id) or self._registry.by_name(name)
                if network is None:
                    _log.error("container %s is on the network %s, which is not defined", record.name, name)
                    continue
                if network.pool is not None and endpoint.ip_address:
                    with contextlib.suppress(EnxameError):  # two records with one address: both run already
                        network.pool.take(IPv4Address(endpoint.ip_address))
                if network.pool6 is not None and endpoint.global_ipv6_address:
                    with contextlib.suppress(EnxameError):
                        network.pool6.take(IPv6Address(endpoint.global_ipv6_address))
                network.endpoints[record.container_id] = resource(record.name, endpoint)
            self.held[record.container_id] = [
                self._held_ports.hold(
                    port.protocol,
                    ip_address(port.host_ip) if port.host_ip else None,
                    port.host_port,
                    insist=True,
                    target=(port.target_ip, port.target_port),
                )
                for port in record.published
                if not port.companion
            ]
            self._names.tell(record)

    def find(self, container_id: str) -> SandboxRecord | None:
        """A container's connection."""
        return self.records.get(container_id)

    def put(self, record: SandboxRecord) -> None:
        """It is so from now on. Raises OSError when only a restart of the daemon would not know it."""
        self.records[record.container_id] = record
        self._files.save(record)

    def keep(self, record: SandboxRecord) -> None:
        """The same for one whose networks and names changed: whoever shows or finds it is told."""
        self.put(record)
        for endpoint in record.info.endpoints.values():
            network = self._registry.by_id(endpoint.network_id)
            if network is not None:
                network.endpoints[record.container_id] = resource(record.name, endpoint)
        self._names.tell(record)

    def give_ports_back(self, container_id: str) -> None:
        """Others may have the ports of the host that it held."""
        for held in self.held.pop(container_id, ()):
            self._held_ports.give_back(held)

    def give_up(self, container_id: str) -> None:
        """Nothing is left of it but addresses that rest."""
        self.give_ports_back(container_id)
        self._files.discard(container_id)

    def leave_addresses(self, places: Iterable[Place]) -> None:
        """These are free again."""
        for give_back in places:
            give_back()
        self.address_left.set()
        self.address_left = asyncio.Event()

    def alone(self, container_id: str) -> asyncio.Lock:
        """Changes of one container's connection wait for each other."""
        return self._locks.setdefault(container_id, asyncio.Lock())

    def forget_lock(self, container_id: str) -> None:
        """The container is gone."""
        self._locks.pop(container_id, None)
