"""The networks that exist on this machine and who is on them; found by id, name or prefix."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final

import msgspec

from enxame.engine.durable_file import replace_file
from enxame.engine.networks import definitions, subnets
from enxame.engine.networks.moments import parse_moment
from enxame.engine.networks.underlay import Underlay
from enxame.engine.patterns import any_matches
from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.model.base import decode, encode
from enxame.model.filters import Filters
from enxame.model.network import EndpointResource, NetworkResource
from enxame.network.address_pools import Addresses4, Addresses6
from enxame.network.bridge import Bridge

_log = logging.getLogger(__name__)
#: A link that carries less has no IPv6.
_LEAST_MTU6: Final = 1280


@dataclass(slots=True)
class ActiveNetwork:
    """A network with its addresses in use and the containers on it, by container id.

    ``pool`` and ``bridge`` are None for ``host`` and ``none``.
    """

    resource: NetworkResource
    pool: Addresses4 | None = None
    bridge: Bridge | None = None
    pool6: Addresses6 | None = None
    endpoints: dict[str, EndpointResource] = field(default_factory=dict)

    @classmethod
    def of(cls, resource: NetworkResource, underlay: Underlay | None = None) -> ActiveNetwork:
        """Raises InvalidArgument when the resource's addresses or options make no sense."""
        if not resource.ipam.config or resource.config_only:
            return cls(resource)
        pool, pool6 = subnets.address_pool(resource), subnets.address_pool6(resource)
        bridge = definitions.bridge_of(resource, pool, underlay, pool6)
        if pool6 is not None and resource.driver == "overlay" and bridge.mtu < _LEAST_MTU6:
            _log.warning("network %s is without IPv6 on this machine: its packets are too small", resource.name)
            of_four = tuple(address for address in bridge.further if address.version == 4)
            return cls(resource, pool, replace(bridge, gateway6=None, further=of_four), None)
        return cls(resource, pool, bridge, pool6)

    @property
    def is_overlay(self) -> bool:
        """Whether the swarm's manager gives the addresses, and tunnels lead to containers of other machines."""
        return self.resource.driver == "overlay"

    @property
    def has_table(self) -> bool:
        """Whether the manager tells who is on it on other machines: an overlay, or the swarm's and on the wire."""
        return self.resource.scope == "swarm" and self.resource.driver in ("overlay", "macvlan")

    @property
    def subnets4(self) -> list[IPv4Network]:
        """The network's IPv4 subnets."""
        return self.pool.subnets if self.pool is not None else []

    @property
    def subnets6(self) -> list[IPv6Network]:
        """Its IPv6 subnets."""
        return self.pool6.subnets if self.pool6 is not None else []

    def subnets(self) -> list[IPv4Network | IPv6Network]:
        """Of both versions of IP."""
        return [*self.subnets4, *self.subnets6]

    def on_link(self, address: IPv4Address, address6: IPv6Address | None) -> tuple[IPv4Network | IPv6Network, ...]:
        """The other subnets of the network whose containers one with these addresses reaches without a gateway: all of
        them, but on the wire, where somebody else decides that.
        """
        if self.bridge is None or self.bridge.parent:
            return ()
        beside4 = [subnet for subnet in self.subnets4 if address not in subnet]
        beside6 = [subnet for subnet in self.subnets6 if address6 is not None and address6 not in subnet]
        return (*beside4, *beside6)

    @property
    def has_names(self) -> bool:
        """Whether containers on it find each other by name: not on the default bridge, nor on the ingress network."""
        return self.bridge is not None and self.resource.name != "bridge" and not self.resource.ingress

    def leave(self, container_id: str) -> None:
        """Take a container off; its address is free again. Idempotent."""
        endpoint = self.endpoints.pop(container_id, None)
        if endpoint is not None and self.pool is not None and endpoint.ipv4_address:
            self.pool.give_back(IPv4Address(endpoint.ipv4_address.partition("/")[0]))
        if endpoint is not None and self.pool6 is not None and endpoint.ipv6_address:
            self.pool6.give_back(IPv6Address(endpoint.ipv6_address.partition("/")[0]))


class NetworkRegistry:
    """All networks of this machine, kept as files under ``directory``. ``underlay`` carries those of the swarm, as soon
    as it is known.
    """

    def __init__(self, directory: Path) -> None:
        self.underlay: Underlay | None = None
        self._directory = directory
        self._networks: dict[str, ActiveNetwork] = {}

    def __iter__(self) -> Iterator[ActiveNetwork]:
        return iter(list(self._networks.values()))

    def load(self) -> None:
        """Read the definitions. One that cannot be read is reported, kept aside and left out."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._directory.glob("*.json")):
            try:
                network = ActiveNetwork.of(decode(path.read_bytes(), NetworkResource), self.underlay)
            except (EnxameError, OSError) as error:
                _log.error("the network definition %s cannot be used: %s", path, error)
                path.replace(path.with_suffix(".broken"))
                continue
            self._networks[network.resource.id] = network

    async def add(self, network: ActiveNetwork) -> None:
        """Keep a network, durably; one with the same id is replaced."""
        id_ = network.resource.id
        self._networks[id_] = network
        await asyncio.to_thread(replace_file, self._file(id_), encode(network.resource))

    async def discard(self, id_: str) -> None:
        """Forget a network. Idempotent."""
        self._networks.pop(id_, None)
        await asyncio.to_thread(self._file(id_).unlink, missing_ok=True)

    def by_id(self, id_: str) -> ActiveNetwork | None:
        """The network with exactly this id."""
        return self._networks.get(id_)

    def by_name(self, name: str) -> ActiveNetwork | None:
        """The network with exactly this name; the newer of two, if the swarm has removed one and made another."""
        named = (item for item in self._networks.values() if item.resource.name == name)
        return max(named, key=lambda item: item.resource.created, default=None)

    def find(self, ref: str) -> ActiveNetwork:
        """By full id, exact name or unique id prefix.

        Raises:
            NotFound: there is none.
            InvalidArgument: the prefix fits several.
        """
        exact = self.by_id(ref) or self.by_name(ref)
        if exact is not None:
            return exact
        fitting = [item for id_, item in self._networks.items() if ref and id_.startswith(ref)]
        if len(fitting) > 1:
            raise InvalidArgument(f"network {ref} is ambiguous ({len(fitting)} matches found based on ID prefix)")
        if not fitting:
            raise NotFound(f"network {ref} not found")
        return fitting[0]

    def subnets(self) -> list[IPv4Network]:
        """Of all networks."""
        return [subnet for network in self._networks.values() for subnet in network.subnets4]

    def subnets6(self) -> list[IPv6Network]:
        """The IPv6 ones of all networks."""
        return [subnet for network in self._networks.values() for subnet in network.subnets6]

    def _file(self, id_: str) -> Path:
        return self._directory / f"{id_}.json"


def render(network: ActiveNetwork) -> NetworkResource:
    """A network with its containers, as the API shows it."""
    return msgspec.structs.replace(network.resource, containers=dict(network.endpoints))


def matches(network: ActiveNetwork, filters: Filters, now: datetime) -> bool:
    """Whether a network passes the filters of ``network ls``."""
    resource = network.resource
    predefined = resource.name in definitions.PREDEFINED
    if "until" in filters and not any(resource.created <= parse_moment(text, now) for text in filters.get("until")):
        return False
    if "dangling" in filters and filters.flag("dangling") != (not network.endpoints and not predefined):
        return False
    wanted_types = filters.get("type")
    for text in wanted_types:
        if text not in ("builtin", "custom"):
            raise InvalidArgument(f"invalid filter: 'type'='{text}'")
    checks = (
        "name" not in filters or any_matches(filters.get("name"))(resource.name),
        "id" not in filters or any_matches(filters.get("id"))(resource.id),
        not filters.get("driver") or resource.driver in filters.get("driver"),
        not filters.get("scope") or resource.scope in filters.get("scope"),
        not wanted_types or ("builtin" if predefined else "custom") in wanted_types,
        filters.labels_match(resource.labels),
        "label!" not in filters or not filters.labels_match(resource.labels, "label!"),
    )
    return all(checks)
