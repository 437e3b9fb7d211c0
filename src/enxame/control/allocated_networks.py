"""The swarm's networks with what they were given: subnets, gateways, VXLAN ids, and the addresses in them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from msgspec.structs import replace

from enxame.control.addresses import AddressPool
from enxame.control.board import Board
from enxame.control.network_state import VXLAN_OPTION, NetworkState, is_made_by_nodes, is_node_local, predefined
from enxame.control.subnets import SubnetPool
from enxame.model.cluster import Driver
from enxame.model.network import IPAMConfig, IPAMOptions, Network
from enxame.model.node import Node

__all__ = ["AllocatedNetworks", "Wait"]


class Wait(Exception):
    """Cannot be allocated now; the text is the user's."""


class AllocatedNetworks:
    """Knows which subnets, VXLAN ids and addresses are taken. ``freed``: something of anybody's was given back since
    whoever allocates looked last.
    """

    def __init__(self) -> None:
        self.freed = False
        self._subnets = SubnetPool()
        self._states: dict[str, NetworkState] = {}
        #: Why each waiting network waits.
        self._waiting: dict[str, str] = {}

    def start(self, board: Board) -> None:
        """Derive what is taken from the stored networks."""
        for network in sorted(board.tx.all(Network), key=lambda network: (network.created_at, network.id)):
            if is_node_local(network):
                self._claim_asked(network)
            elif network.ipam_options is not None:
                self._adopt(network)

    def configure(self, board: Board) -> None:
        """Take subnets from the pools that the swarm has now."""
        cluster = board.cluster()
        if cluster is not None:
            self._subnets.configure(cluster.default_addr_pool, cluster.subnet_size)

    def __iter__(self) -> Iterator[tuple[str, NetworkState]]:
        return iter(self._states.items())

    def __contains__(self, network_id: str) -> bool:
        return network_id in self._states

    def get(self, network_id: str) -> NetworkState | None:
        """The network with this id, if it has addresses."""
        return self._states.get(network_id)

    def why_not(self, network_id: str) -> str:
        """Why a network has no addresses."""
        return self._waiting.get(network_id, "it has no subnet")

    def undo(self, network_id: str, address: str) -> None:
        """Give an address back that was taken just now: nobody can have missed it."""
        self._states[network_id].release(address)

    def release(self, network_id: str, address: str) -> None:
        """Give an address back."""
        state = self._states.get(network_id)
        if state is not None:
            state.release(address)
            self.freed = True

    def ingress(self) -> NetworkState:
        """The routing mesh's. Raises Wait when there is none."""
        for state in self._states.values():
            if state.network.spec.ingress:
                return state
        raise Wait("no ingress network found")

    def find(self, board: Board, target: str) -> tuple[Network, NetworkState | None]:
        """By id or name; node-local networks have no state. Raises Wait when it is unknown, or has no addresses."""
        network = board.tx.get(Network, target)
        if network is None:
            named = board.tx.find(Network, "name", target)
            network = named[0] if named else predefined(target)
        if network is None:
            raise Wait(f"network {target} not found")
        if is_node_local(network):
            return network, None
        state = self._states.get(network.id)
        if state is None:
            reason = self._waiting.get(network.id, "it has no subnet yet")
            raise Wait(f"network {network.spec.name} cannot be used: {reason}")
        return state.network, state

    def retry(self, board: Board) -> None:
        """Try again what waits."""
        for network_id in list(self._waiting):
            self.allocate(board, network_id)

    def allocate(self, board: Board, network_id: str) -> None:
        """Give a network what it needs, once; or note why that cannot be. What a removed one had is taken back."""
        network = board.tx.get(Network, network_id)
        self._waiting.pop(network_id, None)
        if network is None:
            self._subnets.release(network_id)
            if self._states.pop(network_id, None) is not None:
                self.freed = True
            return
        if is_node_local(network):
            self._node_local(board, network)
            return
        if network.ipam_options is not None and network.driver_state is not None:
            known = self._states.get(network_id)
            if known is None:
                self._adopt(network)
                self.freed = True
            else:
                known.network = network
            return
        try:
            configs = self._configs(board, network)
            vxlan = self._vxlan_id(network)
        except (Wait, ValueError) as reason:
            # ValueError: an address that is none. One bad object must not keep the others from being served.
            self._subnets.release(network_id)
            self._waiting[network_id] = str(reason)
            return
        spec = network.spec
        driver = spec.driver_configuration
        options = {**(driver.options if driver is not None else {}), VXLAN_OPTION: str(vxlan)}
        ipam_driver = spec.ipam_options.driver if spec.ipam_options is not None else Driver()
        allocated = replace(
            network,
            driver_state=Driver(name=(driver.name if driver is not None else "") or "overlay", options=options),
            ipam_options=IPAMOptions(driver=replace(ipam_driver, name=ipam_driver.name or "default"), configs=configs),
        )
        try:
            self._states[network_id] = NetworkState(allocated)
        except ValueError as reason:
            self._subnets.release(network_id)
            self._waiting[network_id] = str(reason)
            return
        board.tx.update(allocated)

    def _node_local(self, board: Board, network: Network) -> None:
        """Nodes give the addresses; a subnet that all of them are to have is no other network's."""
        self._claim_asked(network)
        if network.driver_state is None and is_made_by_nodes(network):
            spec = network.spec
            driver, ipam = spec.driver_configuration or Driver(), spec.ipam_options or IPAMOptions()
            board.tx.update(replace(network, driver_state=driver, ipam_options=replace(ipam, driver=Driver())))

    def _claim_asked(self, network: Network) -> None:
        asked = network.spec.ipam_options
        for config in asked.configs if asked is not None else ():
            if config.subnet:
                self._subnets.claim(network.id, config.subnet)

    def _vxlan_id(self, network: Network) -> int:
        driver = network.spec.driver_configuration
        asked = driver.options.get(VXLAN_OPTION, "").partition(",")[0] if driver is not None else ""
        if asked.isdigit():
            if not self._subnets.claim_vxlan_id(network.id, int(asked)):
                raise Wait(f"the VXLAN id {asked} is used by another network")
            return int(asked)
        number = self._subnets.take_vxlan_id(network.id)
        if number is None:
            raise Wait("no VXLAN id is free")
        return number

    def _configs(self, board: Board, network: Network) -> list[IPAMConfig]:
        spec = network.spec.ipam_options
        asked = [config for config in spec.configs if config.subnet] if spec is not None else []
        families = {ipaddress.ip_network(config.subnet, strict=False).version for config in asked}
        if 4 not in families:
            on_nodes = [subnet for node in board.tx.all(Node) for subnet in node.description.subnets]
            subnet = self._subnets.take(network.id, avoid=on_nodes)
            if subnet is None:
                raise Wait("could not find an available, non-overlapping IPv4 address pool among the defaults")
            asked = [IPAMConfig(subnet=subnet), *asked]
        if network.spec.ipv6_enabled and 6 not in families:
            cluster = board.cluster()
            asked = [*asked, IPAMConfig(subnet=self._subnets.take_ipv6(network.id, cluster.id if cluster else ""))]
        for config in asked:
            other = self._subnets.claim(network.id, config.subnet)
            if other is not None:
                raise Wait(f"pool {config.subnet} overlaps with that of network {other}")
        return [
            replace(
                config,
                subnet=str(ipaddress.ip_network(config.subnet, strict=False)),
                gateway=config.gateway or _gateway(config),
            )
            for config in asked
        ]

    def _adopt(self, network: Network) -> None:
        state = self._states[network.id] = NetworkState(network)
        for pool in state.pools:
            self._subnets.claim(network.id, str(pool.network))
        options = network.driver_state.options if network.driver_state is not None else {}
        vxlan = options.get(VXLAN_OPTION, "").partition(",")[0]
        if vxlan.isdigit():
            self._subnets.claim_vxlan_id(network.id, int(vxlan))


def _gateway(config: IPAMConfig) -> str:
    """The first address that is nobody's."""
    return AddressPool(config.subnet, reserved=tuple(config.auxiliary_addresses.values())).first
