"""Which networks are encrypted towards which machines, kept in step with definitions, tables and keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

from enxame.engine.networks.registry import NetworkRegistry
from enxame.engine.networks.tables import NetworkTables, TableChange
from enxame.engine.networks.underlay import is_encrypted
from enxame.errors import EnxameError
from enxame.model.network import NetworkResource
from enxame.network.dataplane import DataPlane
from enxame.network.encryption import Wanted


class Encryption:
    """To be made before what leads packets to other machines: it hears of machines first."""

    def __init__(self, registry: NetworkRegistry, dataplane: DataPlane, tables: NetworkTables) -> None:
        self._registry = registry
        self._dataplane = dataplane
        self._tables = tables
        self._done: Wanted | None = None
        #: Something of ours may be in the kernel.
        self._used = False
        self._lock = asyncio.Lock()
        tables.subscribe(self._changed)

    async def load(self) -> None:
        """What an earlier daemon did goes on until the manager says more; without encrypted networks it ends."""
        self._used = await self._dataplane.encrypts()
        if not any(is_encrypted(network.resource) for network in self._registry):
            await self.apply()

    async def check(self, resource: NetworkResource) -> None:
        """Raises EnxameError when a network is to be encrypted and this machine cannot."""
        if is_encrypted(resource):
            reason = await self._dataplane.encryption_problem()
            underlay = self._registry.underlay
            if not reason and (underlay is None or not underlay.local):
                reason = "other machines reach this one at an address that it does not have itself"
            if reason:
                raise EnxameError(f"network {resource.name} cannot be encrypted here: {reason}")

    async def apply(self) -> None:
        """Encrypt what is to be, and nothing else.

        Raises:
            EnxameError: the kernel refuses; packets of encrypted networks are dropped then, not sent in the clear.
        """
        async with self._lock:
            underlay = self._registry.underlay
            networks = [network for network in self._registry if is_encrypted(network.resource)]
            if underlay is None or not (networks or self._used):
                return
            if networks and not underlay.keys:
                return  # a new daemon that the manager has not told yet
            tunnels = [network.bridge.tunnel for network in networks if network.bridge is not None]
            tables = [self._tables.get(network.resource.id) for network in networks]
            peers = [peer for table in tables if table is not None for peer in table.peers.values()]
            machines = {ip_address(peer.data_path) for peer in peers if peer.id != underlay.node_id}
            wanted = Wanted(
                local=underlay.address,
                port=underlay.port,
                ids=frozenset(tunnel.vni for tunnel in tunnels if tunnel is not None),
                machines=frozenset(address for address in machines if address.version == underlay.address.version),
                keys=underlay.keys,
            )
            if wanted == self._done:
                return
            self._done, self._used = None, True
            await self._dataplane.encrypt(wanted)
            self._done, self._used = wanted, bool(networks)

    async def _changed(self, changes: Sequence[TableChange]) -> None:
        for change in changes:
            network = self._registry.by_id(change.network_id)
            if change.gone or (network is not None and is_encrypted(network.resource)):
                await self.apply()
                return
