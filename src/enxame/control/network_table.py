"""Who is on which swarm network: what nodes need to reach, name and balance each other's containers.

One :class:`NetworkTables` per manager is kept in step with the store; a :class:`TablesTold` per session knows what its
node was told. An event costs what the objects it names are worth, whatever the size of the swarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from enxame.control.network_state import is_node_local, is_on_the_wire
from enxame.model.attachment import Attachment
from enxame.model.dispatch import NetworkEndpoint, NetworkPeer, NetworkService, NetworkTable
from enxame.model.network import Network
from enxame.model.node import Node
from enxame.model.service import PortConfig, Service
from enxame.model.task import NetworkAttachment, Task, TaskState
from enxame.store.interface import Event, View

#: Labels of a service that concern how it is reached.
LABEL_PREFIX: Final = "enxame.network."
_SHORT_ID: Final = 12
_DOWN: Final = "down"


@dataclass(slots=True)
class Changed:
    """What became different on a network, by id; it may be there, or be gone."""

    endpoints: dict[str, None] = field(default_factory=dict)
    services: dict[str, None] = field(default_factory=dict)
    peers: dict[str, None] = field(default_factory=dict)

    def add(self, other: Changed) -> None:
        """Take later changes in."""
        self.endpoints |= other.endpoints
        self.services |= other.services
        self.peers |= other.peers


Changes = dict[str, Changed]


class _OnNetwork:
    """One network. ``everywhere``: all nodes are peers."""

    __slots__ = ("endpoints", "everywhere", "members", "services")

    def __init__(self, *, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.endpoints: dict[str, NetworkEndpoint] = {}
        self.services: dict[str, NetworkService] = {}
        #: How many endpoints each node has.
        self.members: dict[str, int] = {}


class NetworkTables:
    """All networks' tables, from what is stored."""

    def __init__(self, view: View) -> None:
        self._networks: dict[str, _OnNetwork] = {}
        self._nodes: dict[str, NetworkPeer] = {}
        self._endpoints: dict[str, tuple[str, ...]] = {}
        #: Tasks that are about to stop though the store does not say so yet.
        self._withdrawn: set[str] = set()
        self._services: dict[str, tuple[str, ...]] = {}
        changes: Changes = {}
        for node in view.all(Node):
            self._see_node(view, node.id, changes)
        for network in view.all(Network):
            self._see_network(view, network.id, changes)
        for task in view.all(Task):
            self._see_task(view, task.id, changes)
        for attachment in view.all(Attachment):
            self._see_attachment(view, attachment.id, changes)
        for service in view.all(Service):
            self._see_service(view, service.id, changes)

    def apply(self, view: View, events: Iterable[Event]) -> Changes:
        """Take events in; what changed, by network id."""
        changes: Changes = {}
        for event in events:
            obj = event.object
            if isinstance(obj, Task):
                self._see_task(view, obj.id, changes)
            elif isinstance(obj, Service):
                self._see_service(view, obj.id, changes)
            elif isinstance(obj, Node):
                self._see_node(view, obj.id, changes)
            elif isinstance(obj, Attachment):
                self._see_attachment(view, obj.id, changes)
            elif isinstance(obj, Network):
                self._see_network(view, obj.id, changes)
        return changes

    def withdraw(self, view: View, task_id: str) -> Changes:
        """A task serves no more, whatever the store says of it; what changed."""
        changes: Changes = {}
        if task_id in self._endpoints:
            self._withdrawn.add(task_id)
            self._see_task(view, task_id, changes)
        return changes

    def networks_of(self, endpoint_id: str) -> tuple[str, ...]:
        """Where an endpoint is."""
        return self._endpoints.get(endpoint_id, ())

    def complete(self, network_id: str) -> NetworkTable:
        """A network's whole table."""
        known = self._networks.get(network_id, _NOBODY)
        return NetworkTable(
            network_id=network_id,
            complete=True,
            endpoints=list(known.endpoints.values()),
            services=list(known.services.values()),
            peers=[self._nodes[node_id] for node_id in self._peers(known)],
        )

    def difference(self, network_id: str, changed: Changed) -> NetworkTable:
        """What to say to a node that knows everything but ``changed``."""
        known = self._networks.get(network_id, _NOBODY)
        peers = self._peers(known)
        return NetworkTable(
            network_id=network_id,
            endpoints=[known.endpoints[id_] for id_ in changed.endpoints if id_ in known.endpoints],
            removed_endpoints=[id_ for id_ in changed.endpoints if id_ not in known.endpoints],
            services=[known.services[id_] for id_ in changed.services if id_ in known.services],
            removed_services=[id_ for id_ in changed.services if id_ not in known.services],
            peers=[self._nodes[id_] for id_ in changed.peers if id_ in peers],
            removed_peers=[id_ for id_ in changed.peers if id_ not in peers],
        )

    # Inside

    def _peers(self, known: _OnNetwork) -> Mapping[str, object]:
        """Ids of nodes that take part."""
        return self._nodes if known.everywhere else known.members

    def _see_task(self, view: View, task_id: str, changes: Changes) -> None:
        task = view.get(Task, task_id)
        peer = self._nodes.get(task.node_id) if task is not None and _is_placed(task) else None
        now: dict[str, NetworkEndpoint] = {}
        if task is not None and peer is not None:
            for attachment in task.networks_attachments:
                if addresses := _addresses(task, attachment):
                    endpoint = _endpoint(task, attachment, peer, addresses)
                    if task_id in self._withdrawn:
                        endpoint = replace(endpoint, serving=False)
                    now[attachment.network.id] = endpoint
        if not now:
            self._withdrawn.discard(task_id)
        self._replace(task_id, now, changes)

    def _see_attachment(self, view: View, attachment_id: str, changes: Changes) -> None:
        attachment = view.get(Attachment, attachment_id)
        peer = self._nodes.get(attachment.node_id) if attachment is not None and attachment.addresses else None
        network = view.get(Network, attachment.network_id) if attachment is not None else None
        now: dict[str, NetworkEndpoint] = {}
        if attachment is not None and peer is not None and (network is None or has_table(network)):
            now[attachment.network_id] = NetworkEndpoint(
                id=attachment.id,
                node_id=attachment.node_id,
                addresses=_plain(attachment.addresses, peer),
                data_path=peer.data_path,
                names=[attachment.name, attachment.container_id[:_SHORT_ID]],
                aliases=attachment.aliases,
                serving=True,
                link_address=attachment.link_address,
            )
        self._replace(attachment_id, now, changes)

    def _replace(self, endpoint_id: str, now: Mapping[str, NetworkEndpoint], changes: Changes) -> None:
        """An endpoint is on these networks, and on no others."""
        before = self._endpoints.get(endpoint_id, ())
        for network_id in before:
            if network_id not in now:
                known = self._networks[network_id]
                gone = known.endpoints.pop(endpoint_id)
                _of(changes, network_id).endpoints[endpoint_id] = None
                self._count(network_id, known, gone.node_id, -1, changes)
        for network_id, endpoint in now.items():
            known = self._networks.setdefault(network_id, _OnNetwork())
            old = known.endpoints.get(endpoint_id)
            if old == endpoint:
                continue
            known.endpoints[endpoint_id] = endpoint
            _of(changes, network_id).endpoints[endpoint_id] = None
            if old is None or old.node_id != endpoint.node_id:
                self._count(network_id, known, endpoint.node_id, 1, changes)
                if old is not None:
                    self._count(network_id, known, old.node_id, -1, changes)
        if now:
            self._endpoints[endpoint_id] = tuple(now)
        else:
            self._endpoints.pop(endpoint_id, None)
        for network_id in before:
            self._forget_if_empty(network_id)

    @staticmethod
    def _count(network_id: str, known: _OnNetwork, node_id: str, step: int, changes: Changes) -> None:
        before = known.members.get(node_id, 0)
        if before + step:
            known.members[node_id] = before + step
        else:
            del known.members[node_id]
        if not known.everywhere and not (before and before + step):
            _of(changes, network_id).peers[node_id] = None

    def _see_service(self, view: View, service_id: str, changes: Changes) -> None:
        service = view.get(Service, service_id)
        now = _on_networks(view, service) if service is not None else {}
        before = self._services.get(service_id, ())
        for network_id in before:
            if network_id not in now:
                del self._networks[network_id].services[service_id]
                _of(changes, network_id).services[service_id] = None
        for network_id, entry in now.items():
            known = self._networks.setdefault(network_id, _OnNetwork())
            if known.services.get(service_id) != entry:
                known.services[service_id] = entry
                _of(changes, network_id).services[service_id] = None
        if now:
            self._services[service_id] = tuple(now)
        else:
            self._services.pop(service_id, None)
        for network_id in before:
            self._forget_if_empty(network_id)

    def _see_node(self, view: View, node_id: str, changes: Changes) -> None:
        node = view.get(Node, node_id)
        before = self._nodes.get(node_id)
        now = None
        if node is not None and node.status.state != _DOWN and node.data_path_addr:
            description = node.description
            now = NetworkPeer(
                id=node_id,
                name=description.hostname,
                data_path=node.data_path_addr,
                ipv4_only=description.ipv4_only,
            )
        if now == before:
            return
        if now is not None:
            self._nodes[node_id] = now
        else:
            del self._nodes[node_id]
        for network_id, known in self._networks.items():
            if known.everywhere or node_id in known.members:
                _of(changes, network_id).peers[node_id] = None
        for task in view.find(Task, "node_id", node_id):
            self._see_task(view, task.id, changes)
        for attachment in view.find(Attachment, "node_id", node_id):
            self._see_attachment(view, attachment.id, changes)

    def _see_network(self, view: View, network_id: str, changes: Changes) -> None:
        network = view.get(Network, network_id)
        everywhere = network is not None and network.spec.ingress
        known = self._networks.get(network_id)
        if everywhere and (known is None or not known.everywhere):
            known = self._networks.setdefault(network_id, _OnNetwork())
            known.everywhere = True
            _of(changes, network_id).peers.update(dict.fromkeys(self._nodes))
        elif not everywhere and known is not None and known.everywhere:
            known.everywhere = False
            _of(changes, network_id).peers.update(dict.fromkeys(self._nodes))
            self._forget_if_empty(network_id)

    def _forget_if_empty(self, network_id: str) -> None:
        known = self._networks.get(network_id)
        if known is not None and not (known.endpoints or known.services or known.everywhere):
            del self._networks[network_id]


class TablesTold:
    """What a node was told of the tables of its networks."""

    def __init__(self, tables: NetworkTables) -> None:
        self._tables = tables
        self._told: set[str] = set()
        self._outdated: Changes = {}

    def knows(self, network_id: str) -> bool:
        """Whether the node was told of a network."""
        return network_id in self._told

    def changed(self, changes: Changes) -> bool:
        """Take changes in; whether any concerns this node."""
        mine = self._told & changes.keys() if len(changes) > 1 else [id_ for id_ in changes if id_ in self._told]
        for network_id in mine:
            _of(self._outdated, network_id).add(changes[network_id])
        return bool(mine)

    def take(self, begun: Iterable[str], ended: Iterable[str]) -> list[NetworkTable]:
        """What to say now that the node is told of the networks ``begun`` and is to forget ``ended``."""
        outdated, self._outdated = self._outdated, {}
        self._told.difference_update(ended)
        fresh = [network_id for network_id in begun if network_id not in self._told]
        self._told.update(fresh)
        return [
            *(self._tables.complete(network_id) for network_id in fresh),
            *(
                self._tables.difference(network_id, changed)
                for network_id, changed in outdated.items()
                if network_id in self._told and network_id not in fresh
            ),
        ]


_NOBODY: Final = _OnNetwork()


def has_table(network: Network) -> bool:
    """Whether who is on the network is told from node to node: not where a node reaches its own containers alone."""
    return is_on_the_wire(network) or not is_node_local(network)


def _of(changes: Changes, network_id: str) -> Changed:
    found = changes.get(network_id)
    if found is None:
        found = changes[network_id] = Changed()
    return found


def _is_placed(task: Task) -> bool:
    return bool(task.node_id) and task.status.state >= TaskState.ASSIGNED and not task.status.state.is_terminal


def _addresses(task: Task, attachment: NetworkAttachment) -> list[str]:
    """Of a task on a network: as the leader gave them or, on the wire, its node."""
    if not is_node_local(attachment.network):
        return attachment.addresses
    container = task.status.container_status
    if container is None or not is_on_the_wire(attachment.network):
        return []
    return container.addresses.get(attachment.network.id, [])


def _endpoint(task: Task, attachment: NetworkAttachment, peer: NetworkPeer, addresses: list[str]) -> NetworkEndpoint:
    ports: list[PortConfig] = []
    if attachment.network.spec.ingress and task.internal is not None:
        ports = [port for port in task.internal.ports if port.publish_mode == "ingress"]
    return NetworkEndpoint(
        id=task.id,
        node_id=task.node_id,
        service_id=task.service_id,
        addresses=_plain(addresses, peer),
        data_path=peer.data_path,
        names=_names(task),
        aliases=attachment.aliases,
        serving=task.status.state is TaskState.RUNNING and task.desired_state is TaskState.RUNNING,
        ports=ports,
    )


def _plain(addresses: list[str], peer: NetworkPeer) -> list[str]:
    """Those that containers of that node have."""
    return [address.partition("/")[0] for address in addresses if not (peer.ipv4_only and ":" in address)]


def _names(task: Task) -> list[str]:
    service = task.internal.service_name if task.internal is not None else ""
    slot = f"{service}.{task.slot or task.node_id}"
    container = task.status.container_status
    names = [task.name or f"{slot}.{task.id}", slot]
    if container is not None and container.container_id:
        names.append(container.container_id[:_SHORT_ID])
    return names


def _on_networks(view: View, service: Service) -> dict[str, NetworkService]:
    """A service's entries, by network id."""
    vips: dict[str, list[str]] = {}
    for vip in service.endpoint.virtual_ips:
        if not vip.addr:
            continue  # only shown: nodes give no virtual addresses
        vips.setdefault(vip.network_id, []).append(vip.addr.partition("/")[0])
    aliases: dict[str, list[str]] = {network_id: [] for network_id in vips}
    for config in service.spec.task_template.networks or service.spec.networks:
        network = view.get(Network, config.target)
        if network is None:
            network = next(iter(view.find(Network, "name", config.target)), None)
        if network is not None and has_table(network):
            aliases[network.id] = config.aliases
    labels = {name: value for name, value in service.spec.labels.items() if name.startswith(LABEL_PREFIX)}
    published = [port for port in service.endpoint.ports if port.publish_mode == "ingress" and port.published_port]
    entries: dict[str, NetworkService] = {}
    for network_id, mine in aliases.items():
        network = view.get(Network, network_id)
        entries[network_id] = NetworkService(
            id=service.id,
            name=service.spec.name,
            aliases=mine,
            mode=service.endpoint.spec.mode or "vip",
            vip=next((vip for vip in vips.get(network_id, ()) if ":" not in vip), ""),
            vip6=next((vip for vip in vips.get(network_id, ()) if ":" in vip), ""),
            ports=published if network is not None and network.spec.ingress else [],
            labels=labels,
        )
    return entries
