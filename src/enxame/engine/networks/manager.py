"""The networks of this machine, as the API and the container engine see them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Protocol

import msgspec

from enxame.engine.networks import definitions
from enxame.engine.networks.attachments import Attacher, Attachments
from enxame.engine.networks.container_rules import ContainerRules
from enxame.engine.networks.encryption import Encryption
from enxame.engine.networks.local_networks import UNCHANGED, DefaultBridge, LocalNetworks
from enxame.engine.networks.name_service import NameService
from enxame.engine.networks.overlays import Overlays
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry, matches, render
from enxame.engine.networks.sandbox_records import SandboxFiles, namespaces_of
from enxame.engine.networks.sandboxes import Sandboxes, published_ports
from enxame.engine.networks.swarm_networks import SwarmNetworks
from enxame.engine.networks.swarm_ports import IngressPortsTaken, IngressProblem, SwarmPorts
from enxame.engine.networks.table_files import TableFiles
from enxame.engine.networks.table_view import with_table
from enxame.engine.networks.tables import NetworkTables
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.errors import EnxameError, NotFound, PermissionDenied, Unavailable
from enxame.model.attachment import Attachment
from enxame.model.container import EndpointIPAMConfig, EndpointSettings
from enxame.model.dispatch import DataPath, NetworkTable
from enxame.model.filters import Filters
from enxame.model.network import Network, NetworkCreateRequest, NetworkResource, NetworksPruneReport
from enxame.network.dataplane import DataPlane, KernelState
from enxame.network.held_ports import HeldPorts
from enxame.network.ipam import DEFAULT_POOLS, SubnetPool

__all__ = ["IngressPortsTaken", "IngressProblem", "NetworkManager"]

_log = logging.getLogger(__name__)


class Publish(Protocol):
    """Where events go: :meth:`enxame.engine.events.EventBus.publish`."""

    def __call__(self, type_: str, action: str, actor_id: str, attributes: dict[str, str], scope: str = ...) -> None:
        """Tell of one."""


def _wall() -> datetime:
    return datetime.now(UTC)


class NetworkManager:
    """Bridges, ``host``, ``none``, the local side of swarm networks, and the containers on them.

    Everything is made in the network namespace of the thread that calls :meth:`start`. Subnets that
    nobody chose come from ``pools``.
    """

    def __init__(
        self,
        data_root: Path,
        exec_root: Path,
        *,
        publish: Publish,
        default_bridge: DefaultBridge = UNCHANGED,
        mesh_shortcuts: bool = True,
        pools: Sequence[SubnetPool] = DEFAULT_POOLS,
        wall: Callable[[], datetime] = _wall,
    ) -> None:
        self._exec_root = exec_root
        self._publish_event = publish
        self._wall = wall
        self._registry = NetworkRegistry(data_root / "networks")
        self._dataplane = DataPlane(exec_root, mesh_shortcuts=mesh_shortcuts)
        self._held_ports = HeldPorts(self._dataplane.new_socket)
        records = exec_root / "networks"
        #: Who is on the swarm's networks; parts that need it subscribe.
        self._tables = NetworkTables(TableFiles(records / "tables"))
        self._rules = ContainerRules(self._registry, self._tables, self._dataplane.rules)
        self._names = NameService(self._registry, self._dataplane, self._tables)
        self._sandboxes = Sandboxes(
            self._registry,
            self._dataplane,
            self._held_ports,
            SandboxFiles(records / "sandboxes"),
            self._names,
            self._rules,
            self._announce,
        )
        self._swarm_ports = SwarmPorts(self._held_ports, self._dataplane, self._tables, self._node_id)
        self._encryption = Encryption(self._registry, self._dataplane, self._tables)
        self._overlays = Overlays(records / "data-path.json", self._registry, self._dataplane, self._tables)
        #: What this machine reached without a router when the daemon started.
        self._reached: list[IPv4Network | IPv6Network] = []
        #: Swarm networks that were told of, by id.
        self._told: dict[str, ActiveNetwork] = {}
        self._attachments = Attachments(self._registry, lambda: self._sandboxes.records, self.ensure_swarm_network)
        self._local = LocalNetworks(
            self._registry, self._dataplane, self._names, default_bridge=default_bridge, pools=pools, wall=wall
        )
        self._swarm = SwarmNetworks(
            self._local,
            self._registry,
            self._dataplane,
            overlays=self._overlays,
            encryption=self._encryption,
            swarm_ports=self._swarm_ports,
            tables=self._tables,
            expected=self._attachments.expects,
            one_left=self._sandboxes.one_left,
            missing=self._sandboxes.missing,
        )

    async def start(self) -> None:
        """Take over what runs, without disturbing it, and remove what is left of what does not.

        Raises:
            EnxameError: the kernel refuses what the daemon cannot do without.
        """
        await self._dataplane.open()
        await self._overlays.load()
        self._registry.load()
        self._told = {item.resource.id: item for item in self._registry if item.resource.scope == "swarm"}
        self._tables.load()
        self._names.load()
        self._sandboxes.load()
        await self._local.define_predefined()
        reached = await self._dataplane.routes(without=self._local.bridge_names())
        self._reached = [route.destination for route in reached if route.direct and not route.destination.is_loopback]
        self._reached += await self._dataplane.subnets6(without=self._local.bridge_names())
        services = self._swarm_ports.load()
        await self._dataplane.start(
            KernelState(
                bridges=[network.bridge for network in self._registry if network.bridge is not None],
                namespaces=namespaces_of(self._sandboxes.records),
                links=frozenset(link for record in self._sandboxes.records for link in record.links),
                published=published_ports(self._sandboxes.records),
                services=services,
            )
        )
        await self._encryption.load()
        await self._names.serve_again(list(self._sandboxes.records))
        await self._rules.found(list(self._sandboxes.records))

    async def stop(self) -> None:
        """Let go; containers and their traffic go on."""
        await self._swarm_ports.close()
        await self._overlays.close()
        await self._names.close()
        await self._sandboxes.settled()
        self._held_ports.close()
        await self._dataplane.stop()

    # Networks

    def list(self, filters: Filters) -> list[NetworkResource]:
        """This machine's networks that match, without their containers, by name. Swarm networks are among them
        where this machine takes part in them.
        """
        found = [network for network in self._registry if matches(network, filters, self._wall())]
        return sorted((network.resource for network in found), key=lambda resource: resource.name)

    def inspect(self, ref: str, verbose: bool = False) -> NetworkResource:
        """One network with its containers; of a swarm network also the machines that take part, and with ``verbose``
        the services.

        Raises:
            NotFound: ``network X not found``.
        """
        network = self._registry.find(ref)
        return with_table(render(network), self._tables.get(network.resource.id), verbose=verbose)

    def subnets(self) -> Sequence[str]:
        """What swarm networks must not overlap with here: what this machine reaches without a router, and its own
        networks.
        """
        own = [subnet for item in self._registry if not item.is_overlay for subnet in item.subnets()]
        return sorted({str(subnet) for subnet in [*self._reached, *own] if subnet.prefixlen < subnet.max_prefixlen})

    @property
    def has_ipv6(self) -> bool:
        """Whether containers of this machine have IPv6 on the swarm's networks."""
        return self._dataplane.has_ipv6

    def known(self, ref: str) -> NetworkResource | None:
        """A network of this machine; None when there is none of that name or id here (a swarm's may be elsewhere)."""
        try:
            return self._registry.find(ref).resource
        except NotFound:
            return None

    async def create(self, request: NetworkCreateRequest) -> str:
        """Make a bridge network; returns its id.

        Raises:
            Conflict: the name is taken.
            EnxameError: a bad request, no free subnet, or the kernel refuses.
        """
        network = await self._local.create(request)
        if not network.resource.config_only:
            self._announce("create", network, "")
        return network.resource.id

    async def remove(self, ref: str) -> None:
        """Remove a network that nobody uses.

        Raises:
            NotFound: there is none.
            PermissionDenied: it is predefined or in use.
        """
        network = await self._local.remove(ref)
        self._announce("destroy", network, "")

    async def prune(self, filters: Filters) -> NetworksPruneReport:
        """Remove all user-defined networks of this machine that nobody uses; configurations stay."""
        removed: list[str] = []
        for network in list(self._registry):
            resource = network.resource
            if resource.scope != "local" or resource.name in definitions.PREDEFINED or network.endpoints:
                continue
            if not resource.config_only and matches(network, filters, self._wall()):
                # One that somebody took or removed meanwhile is none of ours.
                with contextlib.suppress(PermissionDenied, NotFound):
                    await self.remove(resource.id)
                    removed.append(resource.name)
        self._publish_event("network", "prune", "", {"reclaimed": "0"})
        return NetworksPruneReport(networks_deleted=removed)

    # Containers

    async def connect(self, container_id: str, request: SandboxRequest) -> SandboxInfo:
        """Make a container's namespace, links, addresses and published ports: all or nothing.

        Raises:
            NotFound: a network does not exist.
            EnxameError: an address or a port is not to be had, or the kernel refuses.
        """
        request, attached = await self._attachments.attach_all(container_id, request)
        for refused in self._swarm.refused(request.endpoints):
            with contextlib.suppress(EnxameError):  # when it fails again, the container is told why
                await self.ensure_swarm_network(refused)
        try:
            info = await self._sandboxes.connect(container_id, request)
        except BaseException:
            await self._attachments.detach(container_id, attached)
            raise
        self._attachments.settle(container_id)
        await self._attachments.tell(self._sandboxes.find(container_id))
        return info

    async def release(self, container_id: str) -> None:
        """Undo :meth:`connect`. Idempotent."""
        attached = self._attachments.networks_of(self._sandboxes.find(container_id))
        await self._sandboxes.release(container_id)
        await self._attachments.detach(container_id, attached)

    async def join(self, container_id: str, ref: str, settings: EndpointSettings) -> SandboxInfo:
        """Put a connected container on another network; what it has then.

        Raises:
            NotFound: no such network.
            PermissionDenied: it is on it already, or cannot be on several.
            EnxameError: an address is not to be had, or the kernel refuses; nothing changed.
        """
        record = self._sandboxes.find(container_id)
        given = None
        there = self.known(ref)
        if record is not None and (there is None or there.id not in self._attachments.networks_of(record)):
            given = await self._attachments.attach(container_id, record.name, ref, settings)
        if given is None:
            return await self._sandboxes.changes.join(container_id, ref, settings)
        network_id, settled = given
        try:
            info = await self._sandboxes.changes.join(container_id, network_id, settled)
        except BaseException:
            await self._attachments.detach(container_id, [network_id])
            raise
        self._attachments.settle(container_id)
        await self._attachments.tell(self._sandboxes.find(container_id))
        return info

    async def part(self, container_id: str, ref: str) -> SandboxInfo:
        """Take a connected container off a network; what it has then.

        Raises:
            NotFound: no such network.
            EnxameError: it is not on it.
        """
        network = self._registry.find(ref)
        attached = self._attachments.networks_of(self._sandboxes.find(container_id))
        info = await self._sandboxes.changes.part(container_id, network)
        if network.resource.id in attached:
            await self._attachments.detach(container_id, [network.resource.id])
        return info

    async def rename(self, container_id: str, name: str) -> SandboxInfo | None:
        """Let a connected container be found by another name; what it has then. None: it is not connected."""
        return await self._sandboxes.changes.rename(container_id, name)

    async def set_serving(self, container_id: str, serving: bool) -> None:
        """Whether the aliases of a container that ``waits_to_serve`` lead to it: from when it runs and is healthy,
        until it is told to stop. Idempotent.
        """
        await self._sandboxes.changes.set_serving(container_id, serving)

    async def restore(self, container_id: str, info: SandboxInfo) -> None:
        """After a restart of the daemon, for a container that still runs: :meth:`start` has taken its network side
        over; this only tells when that is not so.
        """
        if self._sandboxes.find(container_id) is None and info.endpoints:
            _log.error(
                "the network of container %s was lost: its record under %s is missing", container_id, self._exec_root
            )

    async def forget_others(self, containers: Collection[str]) -> None:
        """Release what belongs to none of ``containers`` (ids, running or not): those were removed, or were being made,
        when the daemon ended.
        """
        for record in list(self._sandboxes.records):
            if record.container_id not in containers:
                _log.info("releasing the network of %s, which is no container any more", record.name)
                await self.release(record.container_id)

    # Swarm

    async def set_data_path(self, data_path: DataPath) -> None:
        """Where this machine takes packets for its containers, as other machines see it. Idempotent.

        Raises:
            EnxameError: some network could not be led there; the others were.
        """
        await self._swarm.set_data_path(data_path)

    async def encryption_problem(self) -> str:
        """Why this machine cannot encrypt packets between machines; empty when it can."""
        return await self._dataplane.encryption_problem()

    async def ensure_swarm_network(self, network: Network) -> None:
        """Make the local side of a swarm network, or bring it up to date. Idempotent.

        Raises:
            InvalidArgument: the manager gave it no subnet.
            EnxameError: the kernel refuses.
        """
        await self._swarm.ensure(network)
        made = self._registry.by_id(network.id)
        if made is not None and network.id not in self._told:
            self._told[network.id] = made
            self._announce("create", made, "")

    def set_attacher(self, attacher: Attacher) -> None:
        """Who asks the manager for addresses of containers outside services."""
        self._attachments.attacher = attacher

    def unset_attacher(self, attacher: Attacher) -> None:
        """It asks no more; nothing happens when another has taken its place."""
        if self._attachments.attacher is attacher:
            self._attachments.attacher = None

    async def compare_attachments(self, known: Sequence[Attachment]) -> None:
        """The manager knows these containers outside services on this machine: tell it which are no more, and ask for
        those that it does not know. One whose address is not to be had any more is taken off its network.

        Raises:
            Unavailable: the manager is out of reach; the next session begins with this again.
        """
        gone, missing = self._attachments.differences(known)
        for item in gone:
            await self._attachments.detach(item.container_id, [item.network_id])
        for record, network_id in missing:
            endpoint = next(item for item in record.info.endpoints.values() if item.network_id == network_id)
            addresses = EndpointIPAMConfig(ipv4_address=endpoint.ip_address, ipv6_address=endpoint.global_ipv6_address)
            settings = msgspec.structs.replace(endpoint, ipam_config=addresses)
            try:
                await self._attachments.attach(record.container_id, record.name, network_id, settings)
            except Unavailable:
                raise
            except EnxameError as error:
                _log.error("container %s is taken off its network: %s", record.name, error)
                await self.leave_swarm_networks([record.container_id])
        for record, _ in missing:
            self._attachments.settle(record.container_id)

    async def leave_swarm_networks(self, container_ids: Collection[str] | None = None) -> None:
        """Take containers outside services (None: all) off the swarm's networks."""
        for record in list(self._sandboxes.records):
            if container_ids is None or record.container_id in container_ids:
                for network_id in self._attachments.networks_of(record):
                    network = self._registry.by_id(network_id)
                    if network is not None:
                        await self._sandboxes.changes.part(record.container_id, network)

    async def remove_swarm_network(self, network_id: str) -> None:
        """Remove the local side of a swarm network. Idempotent.

        Raises:
            PermissionDenied: containers are still on it.
        """
        await self._swarm.remove(network_id)
        gone = self._told.pop(network_id, None)
        if gone is not None:
            self._announce("destroy", gone, "")

    async def set_network_tables(self, tables: Sequence[NetworkTable], *, complete: bool) -> None:
        """Who is on the swarm's networks, on all nodes. ``complete``: there are no other tables than these.

        Raises:
            EnxameError: some of it could not be programmed; the rest was.
        """
        await self._tables.set(tables, complete=complete)

    # Inside

    def _node_id(self) -> str:
        underlay = self._registry.underlay
        return underlay.node_id if underlay is not None else ""

    def _announce(self, action: str, network: ActiveNetwork, container_id: str) -> None:
        attributes = {"name": network.resource.name, "type": network.resource.driver}
        if container_id:
            attributes["container"] = container_id
        self._publish_event("network", action, network.resource.id, attributes)
