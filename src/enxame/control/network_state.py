"""One swarm network's addresses, and which networks have none to give."""

from __future__ import annotations

import ipaddress
from typing import Final

from enxame.control.addresses import AddressPool
from enxame.model.cluster import Driver
from enxame.model.network import IPAMConfig, Network, NetworkSpec

VXLAN_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
_PREDEFINED: Final = ("host", "bridge", "none")
_LOCAL_DRIVERS: Final = frozenset({"host", "bridge", "null", "none", "macvlan", "ipvlan"})


def is_node_local(network: Network) -> bool:
    """Every node has its own of that name; the swarm gives no addresses in it."""
    return _driver(network) in _LOCAL_DRIVERS or _is_predefined(network)


def is_made_by_nodes(network: Network) -> bool:
    """Node-local, and made by a user: a node makes its own when a task comes, and removes it with the last one."""
    return is_node_local(network) and not _is_predefined(network)


def is_on_the_wire(network: Network) -> bool:
    """Nodes make it, and give addresses in it that containers of other nodes reach, too."""
    return _driver(network) == "macvlan" and not _is_predefined(network)


def _is_predefined(network: Network) -> bool:
    return network.spec.scope == "local" or network.spec.name in _PREDEFINED


def _driver(network: Network) -> str:
    driver = network.spec.driver_configuration
    return driver.name if driver is not None else ""


def predefined(target: str) -> Network | None:
    """The node-local network of that name that every node has without anybody making it."""
    if target not in _PREDEFINED:
        return None
    driver = "null" if target == "none" else target
    spec = NetworkSpec(name=target, driver_configuration=Driver(name=driver), scope="local")
    return Network(id=target, spec=spec)


class NetworkState:
    """A swarm network with its pools of addresses."""

    def __init__(self, network: Network) -> None:
        self.network = network
        configs = network.ipam_options.configs if network.ipam_options is not None else []
        self.pools = [_pool(config) for config in configs]

    def take(self) -> list[str] | None:
        """One free address (CIDR) of each family; None when a family has none left."""
        taken: list[str] = []
        for version in sorted({pool.network.version for pool in self.pools}):
            address = self._take(version)
            if address is None:
                for other in taken:
                    self.release(other)
                return None
            taken.append(address)
        return taken or None

    def take_wanted(self, wanted: list[str]) -> list[str] | None:
        """These addresses (CIDR), and a free one of each family that none of them is of; None when a family has none
        left. Raises ValueError naming an address that is not to be had.
        """
        taken: list[str] = []
        for text in wanted:
            pool = next((pool for pool in self.pools if pool.claim(text)), None)
            if pool is None:
                for other in taken:
                    self.release(other)
                raise ValueError(text)
            taken.append(f"{text}/{pool.network.prefixlen}")
        have = {ipaddress.ip_interface(address).version for address in taken}
        for version in sorted({pool.network.version for pool in self.pools} - have):
            address = self._take(version)
            if address is None:
                for other in taken:
                    self.release(other)
                return None
            taken.append(address)
        return taken or None

    @property
    def vip_versions(self) -> list[int]:
        """The versions of IP in which a service has a virtual address here. Of the mesh's own network nobody asks for
        one: it only is shown, as in Swarm.
        """
        versions: list[int] = sorted({pool.network.version for pool in self.pools})
        return versions[:1] if self.network.spec.ingress else versions

    def take_vip(self, version: int) -> str | None:
        """One free address (CIDR) for a service."""
        return self._take(version)

    def claim(self, address: str) -> bool:
        """Mark an address as used; False when that is impossible."""
        return any(pool.claim(address) for pool in self.pools)

    def release(self, address: str) -> None:
        """Give an address back."""
        for pool in self.pools:
            pool.release(address)

    def _take(self, version: int) -> str | None:
        for pool in self.pools:
            if pool.network.version == version and (address := pool.take()) is not None:
                return address
        return None


def _pool(config: IPAMConfig) -> AddressPool:
    return AddressPool(config.subnet, config.ip_range, (config.gateway, *config.auxiliary_addresses.values()))
