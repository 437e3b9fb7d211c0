"""Gives networks their subnets, services their ports and virtual addresses, tasks their addresses.

What is taken is derived from the stored objects, so nothing can leak over a change of leadership. What cannot be had
now waits, says why in the waiting tasks' error, and is tried again as soon as something is given back.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from msgspec.structs import replace

from enxame.control.addresses import AddressPool
from enxame.control.board import Board
from enxame.control.enforcer import REJECTED_BY_ENFORCER
from enxame.control.network_state import VXLAN_OPTION, NetworkState, is_made_by_nodes, is_node_local, predefined
from enxame.control.new_task import vips_by_network
from enxame.control.ports import NoPortFree, PortTable, PortTaken, normal
from enxame.control.subnets import SubnetPool
from enxame.model.attachment import Attachment
from enxame.model.cluster import Driver
from enxame.model.network import IPAMConfig, IPAMOptions, Network
from enxame.model.node import Node
from enxame.model.service import Endpoint, EndpointSpec, Service, TaskSpec, VirtualIP
from enxame.model.task import NetworkAttachment, Task, TaskState, TaskStatus

PENDING_MESSAGE = "pending task scheduling"


class _Wait(Exception):
    """Cannot be allocated now; the text is the user's."""


@dataclass(slots=True)
class _Wanted:
    """A network that the tasks of a service attach to. ``state`` is None for node-local networks."""

    network: Network
    state: NetworkState | None
    aliases: list[str]


class Allocator:
    """Knows what is taken. Called twice in a pass: for networks and services, later for tasks."""

    def __init__(self) -> None:
        self._subnets = SubnetPool()
        self._ports = PortTable()
        self._networks: dict[str, NetworkState] = {}
        #: Addresses by id of task or attachment: (network id, address); virtual ones by service id and network id.
        self._held: dict[str, list[tuple[str, str]]] = {}
        self._vips: dict[str, dict[str, list[str]]] = {}
        self._deleted_services: dict[str, None] = {}
        #: Why each waiting service waits.
        self._waiting_services: dict[str, str] = {}
        self._waiting_networks: dict[str, str] = {}
        self._waiting_tasks: dict[str, None] = {}
        self._freed = False

    def start(self, board: Board) -> None:
        """Derive what is taken from the stored objects."""
        self.__init__()  # type: ignore[misc]
        tx = board.tx
        for network in sorted(tx.all(Network), key=lambda network: (network.created_at, network.id)):
            if is_node_local(network):
                self._claim_asked(network)
            elif network.ipam_options is not None:
                self._adopt_network(network)
        for service in tx.all(Service):
            self._adopt_service(service)
        for task in board.tasks.values():
            self._account(task)
        for attachment in tx.all(Attachment):
            self._account_attachment(attachment)

    def networks_and_services(self, board: Board) -> None:
        """Allocate the pass's dirty networks and services, and those that wait if something was given back."""
        cluster = board.cluster()
        if cluster is not None:
            self._subnets.configure(cluster.default_addr_pool, cluster.subnet_size)
        for network_id in board.dirty_networks:
            self._network(board, network_id)
        for task_id in board.changed:
            self._account_id(board, task_id)
        for service_id in board.dirty_services:
            if board.service(service_id) is None:
                self._forget_service(board, service_id)
        if self._freed or board.dirty_networks:
            for network_id in list(self._waiting_networks):
                self._network(board, network_id)
            board.dirty_services.update(dict.fromkeys(self._waiting_services))
        for service_id in list(board.dirty_services):
            self._service_id(board, service_id)
        if self._freed:
            for service_id in list(self._waiting_services):
                board.dirty_services[service_id] = None
                self._service_id(board, service_id)

    def tasks(self, board: Board) -> None:
        """Allocate new tasks; take back what dead ones held."""
        for task_id in board.changed:
            self._account_id(board, task_id)
        for attachment_id in board.dirty_attachments:
            self._attachment(board, attachment_id)
        for service_id in list(self._deleted_services):
            if service_id not in board.slots:
                self._release_vips(service_id)
                del self._deleted_services[service_id]
        retry = self._freed or board.dirty_services or board.dirty_networks
        todo = {**self._waiting_tasks, **board.changed} if retry else dict(board.changed)
        self._freed = False
        wanted: dict[tuple[str, int], list[_Wanted] | str] = {}
        for task_id in todo:
            task = board.tasks.get(task_id)
            if task is None or task.status.state is not TaskState.NEW or task.desired_state > TaskState.COMPLETE:
                self._waiting_tasks.pop(task_id, None)
                continue
            service = board.service(task.service_id)
            if service is None:
                continue
            key = (service.id, id(task.spec.networks))
            if key not in wanted:
                wanted[key] = self._plan(board, service, task.spec)
            self._task(board, service, task, wanted[key])

    def ledger(self) -> dict[str, object]:
        """All that is taken, by what it is."""
        entries: dict[str, object] = {}
        for network_id, state in self._networks.items():
            for pool in state.pools:
                entries[f"addresses of {network_id} {pool.network}"] = pool.taken()
        for task_id, held in self._held.items():
            entries[f"addresses of task {task_id}"] = held
        for service_id, vips in self._vips.items():
            if vips:
                entries[f"virtual addresses of {service_id}"] = vips
        return {**entries, "ports": self._ports.ledger()}

    # Networks

    def _network(self, board: Board, network_id: str) -> None:
        network = board.tx.get(Network, network_id)
        self._waiting_networks.pop(network_id, None)
        if network is None:
            self._subnets.release(network_id)
            if self._networks.pop(network_id, None) is not None:
                self._freed = True
            return
        if is_node_local(network):
            self._node_local(board, network)
            return
        if network.ipam_options is not None and network.driver_state is not None:
            known = self._networks.get(network_id)
            if known is None:
                self._adopt_network(network)
                self._freed = True
            else:
                known.network = network
            return
        try:
            configs = self._configs(board, network)
            vxlan = self._vxlan_id(network)
        except (_Wait, ValueError) as reason:
            # ValueError: an address that is none. One bad object must not keep the others from being served.
            self._subnets.release(network_id)
            self._waiting_networks[network_id] = str(reason)
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
            self._networks[network_id] = NetworkState(allocated)
        except ValueError as reason:
            self._subnets.release(network_id)
            self._waiting_networks[network_id] = str(reason)
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
                raise _Wait(f"the VXLAN id {asked} is used by another network")
            return int(asked)
        number = self._subnets.take_vxlan_id(network.id)
        if number is None:
            raise _Wait("no VXLAN id is free")
        return number

    def _configs(self, board: Board, network: Network) -> list[IPAMConfig]:
        spec = network.spec.ipam_options
        asked = [config for config in spec.configs if config.subnet] if spec is not None else []
        families = {ipaddress.ip_network(config.subnet, strict=False).version for config in asked}
        if 4 not in families:
            on_nodes = [subnet for node in board.tx.all(Node) for subnet in node.description.subnets]
            subnet = self._subnets.take(network.id, avoid=on_nodes)
            if subnet is None:
                raise _Wait("could not find an available, non-overlapping IPv4 address pool among the defaults")
            asked = [IPAMConfig(subnet=subnet), *asked]
        if network.spec.ipv6_enabled and 6 not in families:
            cluster = board.cluster()
            asked = [*asked, IPAMConfig(subnet=self._subnets.take_ipv6(network.id, cluster.id if cluster else ""))]
        for config in asked:
            other = self._subnets.claim(network.id, config.subnet)
            if other is not None:
                raise _Wait(f"pool {config.subnet} overlaps with that of network {other}")
        return [
            replace(
                config,
                subnet=str(ipaddress.ip_network(config.subnet, strict=False)),
                gateway=config.gateway or _gateway(config),
            )
            for config in asked
        ]

    def _adopt_network(self, network: Network) -> None:
        state = self._networks[network.id] = NetworkState(network)
        for pool in state.pools:
            self._subnets.claim(network.id, str(pool.network))
        options = network.driver_state.options if network.driver_state is not None else {}
        vxlan = options.get(VXLAN_OPTION, "").partition(",")[0]
        if vxlan.isdigit():
            self._subnets.claim_vxlan_id(network.id, int(vxlan))

    # Services

    def _service_id(self, board: Board, service_id: str) -> None:
        service = board.service(service_id)
        if service is not None:
            self._service(board, service)

    def _service(self, board: Board, service: Service) -> None:
        """All or nothing: what the stored endpoint shows stays the service's until the new one is complete."""
        self._waiting_services.pop(service.id, None)
        spec = service.spec.endpoint_spec or EndpointSpec()
        owned = self._ports.owned(service.id)
        held = self._vips.setdefault(service.id, {})
        fresh: list[tuple[str, str]] = []
        try:
            wanted = self._vip_networks(board, service, spec)
            self._take_vips(held, wanted, fresh)
            ports = self._ports.assign(service.id, spec.ports, service.endpoint.ports)
        except (PortTaken, NoPortFree, _Wait) as reason:
            for network_id, address in fresh:
                self._networks[network_id].release(address)
                held[network_id].remove(address)
                if not held[network_id]:
                    del held[network_id]
            self._waiting_services[service.id] = self._explain(board, reason)
            return
        for network_id in set(held) - {state.network.id for state in wanted}:
            for address in held.pop(network_id):
                self._release(network_id, address)
        if set(owned) - set(self._ports.owned(service.id)):
            self._freed = True
        virtual_ips = [
            VirtualIP(network_id=state.network.id, addr=address)
            for state in wanted
            for address in held[state.network.id]
        ] + self._without_address(board, service, spec)
        endpoint = Endpoint(spec=spec, ports=ports, virtual_ips=virtual_ips)
        if endpoint != service.endpoint:
            board.update_service(replace(service, endpoint=endpoint))

    def _without_address(self, board: Board, service: Service, spec: EndpointSpec) -> list[VirtualIP]:
        """The networks where nodes give addresses: there is no virtual one. As Swarm shows it."""
        if (spec.mode or "vip") != "vip":
            return []
        configs = service.spec.task_template.networks or service.spec.networks
        found = dict.fromkeys(self._find(board, config.target)[0].id for config in configs)
        return [VirtualIP(network_id=network_id) for network_id in found if network_id not in self._networks]

    def _vip_networks(self, board: Board, service: Service, spec: EndpointSpec) -> list[NetworkState]:
        if (spec.mode or "vip") != "vip":
            return []
        wanted = []
        if any(normal(port).publish_mode == "ingress" for port in spec.ports):
            wanted.append(self._ingress())
        for config in service.spec.task_template.networks or service.spec.networks:
            state = self._find(board, config.target)[1]
            if state is not None and state not in wanted:
                wanted.append(state)
        return wanted

    @staticmethod
    def _take_vips(held: dict[str, list[str]], wanted: list[NetworkState], fresh: list[tuple[str, str]]) -> None:
        """Take what is missing to one address of each version of IP on each network; it is noted in ``fresh``."""
        for state in wanted:
            have = {ipaddress.ip_interface(address).version for address in held.get(state.network.id, ())}
            for version in state.vip_versions:
                if version in have:
                    continue
                address = state.take_vip(version)
                if address is None:
                    raise _Wait("could not find an available IP while allocating VIP")
                held.setdefault(state.network.id, []).append(address)
                fresh.append((state.network.id, address))

    @staticmethod
    def _explain(board: Board, reason: Exception) -> str:
        if not isinstance(reason, PortTaken):
            return str(reason)
        owner = board.service(reason.owner)
        name = owner.spec.name if owner is not None else reason.owner
        return f"port '{reason.port}' is already in use by service '{name}' ({reason.owner}) as an ingress port"

    def _adopt_service(self, service: Service) -> None:
        ports = [normal(port) for port in service.endpoint.ports if port.published_port]
        try:
            self._ports.assign(service.id, ports, ports)
        except PortTaken as taken:
            self._waiting_services[service.id] = str(taken)
        held = self._vips.setdefault(service.id, {})
        for vip in service.endpoint.virtual_ips:
            state = self._networks.get(vip.network_id)
            if state is not None and state.claim(vip.addr):
                held.setdefault(vip.network_id, []).append(vip.addr)

    def _forget_service(self, board: Board, service_id: str) -> None:
        self._waiting_services.pop(service_id, None)
        if self._ports.owned(service_id):
            self._ports.release(service_id)
            self._freed = True
        if service_id in board.slots:
            self._deleted_services[service_id] = None
        else:
            self._release_vips(service_id)

    def _release_vips(self, service_id: str) -> None:
        for network_id, addresses in self._vips.pop(service_id, {}).items():
            for address in addresses:
                self._release(network_id, address)

    # Tasks

    def _plan(self, board: Board, service: Service, spec: TaskSpec) -> list[_Wanted] | str:
        reason = self._waiting_services.get(service.id)
        if reason is not None:
            return reason
        wanted: list[_Wanted] = []
        try:
            if any(port.publish_mode == "ingress" for port in service.endpoint.ports):
                ingress = self._ingress()
                wanted.append(_Wanted(ingress.network, ingress, []))
            for config in spec.networks:
                network, state = self._find(board, config.target)
                if all(other.network.id != network.id for other in wanted):
                    wanted.append(_Wanted(network, state, config.aliases))
        except _Wait as waiting:
            return str(waiting)
        return wanted

    def _task(self, board: Board, service: Service, task: Task, wanted: list[_Wanted] | str) -> None:
        if isinstance(wanted, str):
            self._wait(board, task, wanted)
            return
        attachments: list[NetworkAttachment] = []
        held: list[tuple[str, str]] = []
        for want in wanted:
            addresses: list[str] = []
            if want.state is not None:
                taken = want.state.take()
                if taken is None:
                    for network_id, address in held:
                        self._networks[network_id].release(address)
                    name = want.network.spec.name
                    self._wait(board, task, f"could not find an available IP on network {name} ({want.network.id})")
                    return
                addresses = taken
                held.extend((want.network.id, address) for address in addresses)
            attachments.append(NetworkAttachment(network=want.network, addresses=addresses, aliases=want.aliases))
        if held:
            self._held[task.id] = held
        self._waiting_tasks.pop(task.id, None)
        endpoint = service.endpoint
        internal = task.internal
        if internal is not None and (endpoint.ports or endpoint.virtual_ips):
            internal = replace(internal, ports=endpoint.ports, virtual_ips=vips_by_network(endpoint))
        board.change(
            task,
            networks_attachments=attachments,
            internal=internal,
            status=TaskStatus(timestamp=board.now.wall, state=TaskState.PENDING, message=PENDING_MESSAGE),
        )

    def _wait(self, board: Board, task: Task, reason: str) -> None:
        self._waiting_tasks[task.id] = None
        if task.status.err != reason:
            status = replace(task.status, timestamp=board.now.wall, err=reason)
            board.change(task, status=status)

    def _account_id(self, board: Board, task_id: str) -> None:
        task = board.tasks.get(task_id)
        if task is None:
            self._take_back(task_id)
            self._waiting_tasks.pop(task_id, None)
        else:
            self._account(task)

    def _account(self, task: Task) -> None:
        state = task.status.state
        # Rejected by the enforcer it may still run: its addresses stay its own until it is deleted.
        if state.is_terminal and task.status.message != REJECTED_BY_ENFORCER:
            self._take_back(task.id)
        elif state is TaskState.NEW:
            if task.desired_state <= TaskState.COMPLETE:
                self._waiting_tasks[task.id] = None
        elif state is TaskState.PENDING and task.desired_state > TaskState.COMPLETE:
            self._take_back(task.id)
        elif task.networks_attachments and task.id not in self._held:
            held = []
            for attachment in task.networks_attachments:
                network = self._networks.get(attachment.network.id)
                if network is not None:
                    held += [(network.network.id, addr) for addr in attachment.addresses if network.claim(addr)]
            if held:
                self._held[task.id] = held

    # Containers outside services

    def _attachment(self, board: Board, attachment_id: str) -> None:
        """Whoever asks waits for the answer: there is one at once, an address or the reason why there is none."""
        attachment = board.tx.get(Attachment, attachment_id)
        if attachment is None:
            self._take_back(attachment_id)
            return
        if attachment.addresses or attachment.err:
            self._account_attachment(attachment)
            return
        network = board.tx.get(Network, attachment.network_id)
        if network is not None and is_node_local(network):
            return  # its node gives it one
        self._take_back(attachment_id)  # it was deleted and is wanted anew
        state = self._networks.get(attachment.network_id)
        addresses: list[str] | None = None
        if state is None:
            reason = self._waiting_networks.get(attachment.network_id, "it has no subnet")
            err = f"network {attachment.network_id} cannot be used: {reason}"
        else:
            err = f"could not find an available IP on network {state.network.spec.name} ({state.network.id})"
            try:
                addresses = state.take_wanted(attachment.wanted)
            except ValueError as taken:
                err = f"requested address {taken} on network {state.network.spec.name} is not available"
        if addresses:
            self._held[attachment_id] = [(attachment.network_id, address) for address in addresses]
            board.tx.update(replace(attachment, addresses=addresses))
        else:
            board.tx.update(replace(attachment, err=err))

    def _account_attachment(self, attachment: Attachment) -> None:
        state = self._networks.get(attachment.network_id)
        if state is None or attachment.id in self._held:
            return
        held = [(attachment.network_id, address) for address in attachment.addresses if state.claim(address)]
        if held:
            self._held[attachment.id] = held

    def _take_back(self, task_id: str) -> None:
        for network_id, address in self._held.pop(task_id, ()):
            self._release(network_id, address)

    def _release(self, network_id: str, address: str) -> None:
        state = self._networks.get(network_id)
        if state is not None:
            state.release(address)
            self._freed = True

    # Finding networks

    def _ingress(self) -> NetworkState:
        for state in self._networks.values():
            if state.network.spec.ingress:
                return state
        raise _Wait("no ingress network found")

    def _find(self, board: Board, target: str) -> tuple[Network, NetworkState | None]:
        network = board.tx.get(Network, target)
        if network is None:
            named = board.tx.find(Network, "name", target)
            network = named[0] if named else predefined(target)
        if network is None:
            raise _Wait(f"network {target} not found")
        if is_node_local(network):
            return network, None
        state = self._networks.get(network.id)
        if state is None:
            reason = self._waiting_networks.get(network.id, "it has no subnet yet")
            raise _Wait(f"network {network.spec.name} cannot be used: {reason}")
        return state.network, state


def _gateway(config: IPAMConfig) -> str:
    """The first address that is nobody's."""
    return AddressPool(config.subnet, reserved=tuple(config.auxiliary_addresses.values())).first
