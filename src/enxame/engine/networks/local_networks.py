"""Networks of this machine as they are made and removed: in the kernel, and in the registry that keeps them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Interface, IPv4Network, IPv6Network
from os import uname
from typing import Final

from enxame.engine.networks import definitions
from enxame.engine.networks.name_service import NameService
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.errors import Conflict, EnxameError, InvalidArgument, PermissionDenied
from enxame.model.network import NetworkCreateRequest
from enxame.network.dataplane import DataPlane
from enxame.network.ipam import SubnetPool, free_subnet
from enxame.network.ipam6 import free_subnet6, parse_subnet6

__all__ = ["UNCHANGED", "DefaultBridge", "LocalNetworks"]


@dataclass(frozen=True, slots=True)
class DefaultBridge:
    """What the daemon's options say of the default bridge. ``bip`` is its address with its prefix; empty: the first
    subnet of the pools that is free. ``fixed_cidr_v6`` is its IPv6 subnet, when it has ``ipv6``; empty: one of its own.
    """

    bip: str = ""
    ipv6: bool = False
    fixed_cidr_v6: str = ""


UNCHANGED: Final = DefaultBridge()


class LocalNetworks:
    """``pools``: where subnets come from that nobody chose."""

    def __init__(
        self,
        registry: NetworkRegistry,
        dataplane: DataPlane,
        names: NameService,
        *,
        default_bridge: DefaultBridge,
        pools: Sequence[SubnetPool],
        wall: Callable[[], datetime],
    ) -> None:
        self._registry = registry
        self._dataplane = dataplane
        self._names = names
        self._default_bridge = default_bridge
        self._pools = pools
        self._wall = wall
        #: Held while networks come and go.
        self.changing = asyncio.Lock()

    async def define_predefined(self) -> None:
        """``host``, ``none`` and the default bridge, which keeps its addresses if it can."""
        now = self._wall()
        for name, driver in (("host", "host"), ("none", "null")):
            if self._registry.by_name(name) is None:
                resource = definitions.without_bridge(name, driver, secrets.token_hex(32), now)
                await self._registry.add(ActiveNetwork(resource))
        bridge = self._registry.by_name("bridge")
        if bridge is not None and bridge.endpoints:
            return  # containers hold its addresses; new options wait until they are gone
        foreign = await self._dataplane.routes(without=self.bridge_names() | {definitions.DEFAULT_BRIDGE})
        others = [subnet for item in self._registry if item is not bridge for subnet in item.subnets4]
        subnet, gateway = self._default_subnet(bridge, [*others, *(route.destination for route in foreign)])
        id_, created = (bridge.resource.id, bridge.resource.created) if bridge else (secrets.token_hex(32), now)
        subnet6 = self._default_subnet6(bridge) if self._default_bridge.ipv6 else None
        resource = definitions.default_bridge(id_, created, subnet, gateway, subnet6)
        await self._registry.add(ActiveNetwork.of(resource))

    def _default_subnet6(self, bridge: ActiveNetwork | None) -> IPv6Network:
        others = [subnet for item in self._registry if item is not bridge for subnet in item.subnets6]
        if self._default_bridge.fixed_cidr_v6:
            subnet = parse_subnet6(self._default_bridge.fixed_cidr_v6)
            if any(subnet.overlaps(other) for other in others):
                raise InvalidArgument(f"invalid --fixed-cidr-v6 {subnet}: another network has it")
            return subnet
        if bridge is not None and bridge.subnets6:
            return bridge.subnets6[0]
        return free_subnet6(uname().nodename, others)

    def _default_subnet(self, bridge: ActiveNetwork | None, taken: Sequence[IPv4Network]) -> tuple[IPv4Network, str]:
        if bip := self._default_bridge.bip:
            try:
                address = IPv4Interface(bip)
            except ValueError as error:
                raise InvalidArgument(f"invalid --bip {bip!r}: {error}") from error
            return address.network, str(address.ip)
        before = bridge.subnets4 if bridge is not None else []
        if before and not any(before[0].overlaps(other) for other in taken):
            return before[0], ""
        return free_subnet(self._pools, taken), ""

    async def create(self, request: NetworkCreateRequest) -> ActiveNetwork:
        """Make what a client asks for.

        Raises:
            Conflict: the name is taken.
            EnxameError: a bad request, no free subnet, or the kernel refuses.
        """
        async with self.changing:
            if self._registry.by_name(request.name) is not None and request.name not in definitions.PREDEFINED:
                raise Conflict(f"network with name {request.name} already exists")
            if request.config_only:
                configuration = ActiveNetwork(definitions.configuration(request, secrets.token_hex(32), self._wall()))
                await self.add(configuration)
                return configuration
            network = await self.define(request, secrets.token_hex(32), self._wall())
            await self.add(network)
        return network

    async def remove(self, ref: str) -> ActiveNetwork:
        """Remove what a client calls so.

        Raises:
            NotFound: there is none.
            PermissionDenied: it is predefined or in use.
        """
        async with self.changing:
            network = self._registry.find(ref)
            resource = network.resource
            if resource.name in definitions.PREDEFINED:
                raise PermissionDenied(f"{resource.name} is a pre-defined network and cannot be removed")
            self.refuse_in_use(network)
            await self.drop(network)
        return network

    # What swarm networks need as well, with ``changing`` held

    async def define(self, request: NetworkCreateRequest, id_: str, created: datetime) -> ActiveNetwork:
        """What a request for a network comes to here; nothing is made. Raises EnxameError as :meth:`create`."""
        wanted = request.config_from.network if request.config_from is not None else ""
        plans = (item.resource for item in self._registry if item.resource.config_only)
        request = definitions.configured(request, next((plan for plan in plans if plan.name == wanted), None))
        foreign = await self._dataplane.routes(without=self.bridge_names())
        if request.driver == "macvlan":
            # It is on this machine's own wire, whose subnet it may share.
            foreign = []
        resource = definitions.requested(
            request,
            id_,
            created,
            pools=self._pools,
            own=self._registry.subnets(),
            own6=self._registry.subnets6(),
            foreign=[route.destination for route in foreign],
        )
        network = ActiveNetwork.of(resource)
        if network.bridge is not None and network.bridge.name in self.bridge_names():
            raise Conflict(
                f"cannot create network {resource.id} ({network.bridge.name}): conflicts with another network: "
                "networks have same bridge name"
            )
        return network

    def bridge_names(self) -> frozenset[str]:
        """Links of this machine that are ours."""
        return frozenset(network.bridge.name for network in self._registry if network.bridge is not None)

    async def add(self, network: ActiveNetwork) -> None:
        """Make it in the kernel, or bring it up to date, and keep it. Raises EnxameError; then it is not there."""
        if network.bridge is not None:
            await self._dataplane.bridges.ensure(network.bridge)
        try:
            await self._registry.add(network)
        except OSError as error:
            if network.bridge is not None:
                await self._dataplane.bridges.remove(network.bridge.name)
            await self._registry.discard(network.resource.id)
            raise EnxameError(f"store network {network.resource.name}: {error.strerror}") from error

    async def drop(self, network: ActiveNetwork) -> None:
        """Take it out of the kernel, and forget it."""
        if network.bridge is not None:
            await self._dataplane.bridges.remove(network.bridge.name)
        await self._registry.discard(network.resource.id)
        self._names.drop(network.resource.id)

    def refuse_in_use(self, network: ActiveNetwork) -> None:
        """Raises PermissionDenied when containers or other networks need it."""
        resource = network.resource
        if resource.config_only and any(
            other.resource.config_from.network == resource.name for other in self._registry
        ):
            raise PermissionDenied(f'error while removing network: configuration network "{resource.name}" is in use')
        if network.endpoints:
            raise PermissionDenied(
                f"error while removing network: network {resource.name} id {resource.id} has active endpoints"
            )
