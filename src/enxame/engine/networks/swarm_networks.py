"""The local side of swarm networks: made when a task or a container needs them, led over tunnels, removed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from typing import Final

import msgspec

from enxame.engine.networks import definitions, node_local_networks
from enxame.engine.networks.encryption import Encryption
from enxame.engine.networks.local_networks import LocalNetworks
from enxame.engine.networks.overlays import Overlays
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.engine.networks.swarm_ports import SwarmPorts
from enxame.engine.networks.tables import NetworkTables
from enxame.engine.uncancelled import finished
from enxame.errors import EnxameError, PermissionDenied
from enxame.model.dispatch import DataPath
from enxame.model.network import Network, NetworkResource
from enxame.network.dataplane import DataPlane

__all__ = ["SwarmNetworks"]

_log = logging.getLogger(__name__)
#: How long the last containers of a network may take to leave it, once the manager has given its place to another.
_LEAVING_SECONDS: Final = 3.0
_Subnet = IPv4Network | IPv6Network


class SwarmNetworks:
    """``expected`` says whether a container is being put on a network (by its id) just now; ``one_left`` waits until
    some container has left its networks; ``missing`` is told why a network could not be made, by its id.
    """

    def __init__(
        self,
        local: LocalNetworks,
        registry: NetworkRegistry,
        dataplane: DataPlane,
        *,
        overlays: Overlays,
        encryption: Encryption,
        swarm_ports: SwarmPorts,
        tables: NetworkTables,
        expected: Callable[[str], bool],
        one_left: Callable[[], Awaitable[None]],
        missing: dict[str, str],
    ) -> None:
        self._local = local
        self._registry = registry
        self._dataplane = dataplane
        self._overlays = overlays
        self._encryption = encryption
        self._swarm_ports = swarm_ports
        self._tables = tables
        self._expected = expected
        self._one_left = one_left
        self._missing = missing
        #: What was to be made and was not, by id.
        self._refused: dict[str, Network] = {}

    async def set_data_path(self, data_path: DataPath) -> None:
        """Take packets for this machine's containers there. Raises EnxameError when a network could not be led so."""
        await finished(self._set_data_path(data_path))

    async def _set_data_path(self, data_path: DataPath) -> None:
        async with self._local.changing:
            if not await self._overlays.set_data_path(data_path):
                return
            errors: list[EnxameError] = []
            for step in (self._encryption.apply, self._swarm_ports.refresh):
                try:
                    await step()
                except EnxameError as error:
                    errors.append(error)
            for network in self._registry:
                if network.is_overlay:
                    try:
                        await self._renew(network)
                    except EnxameError as error:
                        errors.append(error)
        if errors:
            raise errors[0]

    async def _renew(self, network: ActiveNetwork) -> None:
        """Bring a swarm network's bridge in line with what carries it now."""
        fresh = ActiveNetwork.of(network.resource, self._registry.underlay)
        _take_over(fresh, network)
        await self._local.add(fresh)
        await self._overlays.refresh(network.resource.id)

    async def ensure(self, network: Network) -> None:
        """Make its local side, or bring that up to date. Raises EnxameError."""
        self._refused[network.id] = network
        if node_local_networks.is_node_local(network):
            await self._ensure_node_local(network)
        else:
            await self._ensure_overlay(network)
        self._refused.pop(network.id, None)

    def refused(self, network_ids: Iterable[str]) -> list[Network]:
        """Those of these that were to be made and could not be: what was in the way may be gone."""
        return [network for id_ in network_ids if (network := self._refused.get(id_)) is not None]

    async def _ensure_node_local(self, network: Network) -> None:
        async with self._local.changing:
            if self._registry.by_id(network.id) is None:
                try:
                    await node_local_networks.make(self._local, network)
                except EnxameError as error:
                    self._missing[network.id] = error.message
                    raise
            self._missing.pop(network.id, None)

    async def _ensure_overlay(self, network: Network) -> None:
        resource = definitions.of_swarm(network, ipv6=self._dataplane.has_ipv6)
        known = self._registry.by_id(resource.id)
        has_it = known is None or known.resource.enable_ipv6
        if network.spec.ipv6_enabled and not resource.enable_ipv6 and has_it:
            _log.warning("network %s has no IPv6 on this machine, where that is switched off", resource.name)
        await self._vacated(resource)
        async with self._local.changing:
            try:
                await self._ensure_swarm(resource)
            except EnxameError as error:
                self._missing[resource.id] = error.message
                raise
            self._missing.pop(resource.id, None)

    async def _ensure_swarm(self, resource: NetworkResource) -> None:
        known = self._registry.by_id(resource.id)
        if known is not None:
            if msgspec.structs.replace(known.resource, created=resource.created) == resource:
                return
            if known.endpoints and definitions.differ_in_ipv6(known.resource, resource):
                return  # as it is, until nobody is on it
            if known.resource.ipam != resource.ipam and known.endpoints:
                raise EnxameError(f"network {resource.name} changed its addresses while containers are on it")
        fresh = ActiveNetwork.of(resource, self._registry.underlay)
        if known is not None and known.resource.ipam == resource.ipam:
            _take_over(fresh, known)
        else:
            await self._encryption.check(resource)
            await self._replace_ended(fresh)
            await self._refuse_overlap(fresh)
        await self._local.add(fresh)
        await self._encryption.apply()
        await self._overlays.refresh(resource.id)

    async def _vacated(self, resource: NetworkResource) -> None:
        """Wait a moment until the last containers have left the networks whose place this one takes."""
        if self._registry.by_id(resource.id) is not None:
            return
        network = ActiveNetwork.of(resource, self._registry.underlay)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVING_SECONDS):
                while any(other.endpoints for other in self._ended(network)):
                    await self._one_left()

    def _ended(self, network: ActiveNetwork) -> Iterator[ActiveNetwork]:
        """The manager gives what a network had to another once it is removed: the word of that may not be here yet."""
        tunnel = network.bridge.tunnel if network.bridge is not None else None
        for other in self._registry:
            if not other.is_overlay or other.resource.id == network.resource.id:
                continue
            theirs = other.bridge.tunnel if other.bridge is not None else None
            same_id = tunnel is not None and theirs is not None and tunnel.vni == theirs.vni
            if same_id or any(_overlap(mine, their) for mine in network.subnets() for their in other.subnets()):
                yield other

    async def _replace_ended(self, network: ActiveNetwork) -> None:
        for other in self._ended(network):
            if not other.endpoints and not self._expected(other.resource.id):
                await self._tables.drop(other.resource.id)
                await self._local.drop(other)

    async def _refuse_overlap(self, network: ActiveNetwork) -> None:
        """A subnet that this machine reaches directly would be cut off by a bridge of the same addresses."""
        name = network.resource.name
        for other in self._registry:
            for theirs in other.subnets() if other.resource.id != network.resource.id else ():
                clash = next((mine for mine in network.subnets() if _overlap(mine, theirs)), None)
                if clash is not None:
                    raise EnxameError(
                        f"the subnet {clash} of network {name} overlaps with network {other.resource.name}"
                    )
        for other in self._ended(network):  # not by its subnets: those were looked at
            raise EnxameError(f"the VXLAN id of network {name} is still used by network {other.resource.name}")
        without = self._local.bridge_names()
        reached: list[_Subnet] = [
            route.destination for route in await self._dataplane.routes(without=without) if route.direct
        ]
        reached += await self._dataplane.subnets6(without=without)
        for mine in network.subnets():
            for there in reached:
                if _overlap(mine, there):
                    raise EnxameError(
                        f"the subnet {mine} of network {name} overlaps with {there}, which this machine is on: choose "
                        "another with --subnet, or other pools with swarm init --default-addr-pool"
                    )

    async def remove(self, network_id: str) -> None:
        """Remove its local side, if there is one. Raises PermissionDenied while containers are on it."""
        async with self._local.changing:
            self._refused.pop(network_id, None)
            network = self._registry.by_id(network_id)
            if network is None:  # it could not be made, or has made room for another
                self._missing.pop(network_id, None)
                await self._tables.drop(network_id)
                return
            if network.resource.scope != "swarm":
                return
            self._local.refuse_in_use(network)
            if self._expected(network_id):
                raise PermissionDenied(f"network {network.resource.name} is about to be used by a container")
            await self._tables.drop(network_id)
            await self._local.drop(network)
            await self._encryption.apply()


def _overlap(one: _Subnet, other: _Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)


def _take_over(fresh: ActiveNetwork, known: ActiveNetwork) -> None:
    """The addresses in use; those of IPv6 where what carries the network still can."""
    fresh.pool, fresh.endpoints = known.pool, known.endpoints
    if fresh.pool6 is not None and known.pool6 is not None:
        fresh.pool6 = known.pool6
