"""Containers on networks: connecting, releasing, and finding them again after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import msgspec

from enxame.engine.background import BackgroundTasks
from enxame.engine.networks import definitions, name_files
from enxame.engine.networks.endpoints import bare_endpoint, parse_mac, resource, take_address, way_out
from enxame.engine.networks.port_requests import PortRequest, parse_port, parse_requests
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.engine.networks.sandbox_records import PublishedRecord, SandboxFiles, SandboxRecord
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.model.container import EndpointSettings, PortBinding
from enxame.network.bridge import mac_of
from enxame.network.dataplane import LINK_PREFIX, Attachment, DataPlane
from enxame.network.held_ports import HeldPort, HeldPorts, PortTaken
from enxame.network.ipam import AddressPool
from enxame.network.namespaces import Namespace
from enxame.network.ports import PublishedPort

_log = logging.getLogger(__name__)

_LINK_ID_LENGTH: Final = 10
_ANY: Final = "0.0.0.0"

#: action, network, container id
Announce = Callable[[str, ActiveNetwork, str], None]


@dataclass(slots=True)
class _Plan:
    """A connection in the making; what it holds is given back when it fails."""

    networks: list[ActiveNetwork] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    endpoints: dict[str, EndpointSettings] = field(default_factory=dict)
    held: list[HeldPort] = field(default_factory=list)
    published: list[PublishedPort] = field(default_factory=list)
    bound: dict[str, list[PortBinding]] = field(default_factory=dict)


class Sandboxes:
    """The network side of every container of this machine."""

    def __init__(
        self,
        registry: NetworkRegistry,
        dataplane: DataPlane,
        held_ports: HeldPorts,
        files: SandboxFiles,
        announce: Announce,
    ) -> None:
        self._registry = registry
        self._dataplane = dataplane
        self._held_ports = held_ports
        self._files = files
        self._announce = announce
        self._records: dict[str, SandboxRecord] = {}
        self._held: dict[str, list[HeldPort]] = {}
        #: Why a swarm network could not be made here, by its id.
        self.missing: dict[str, str] = {}
        self._background = BackgroundTasks()
        self._going: set[asyncio.Task[None]] = set()

    @property
    def records(self) -> Collection[SandboxRecord]:
        """Everything that is connected."""
        return self._records.values()

    def load(self) -> None:
        """Take over what an earlier run of the daemon connected: addresses, ports."""
        for record in self._files.load():
            self._records[record.container_id] = record
            for name, endpoint in record.info.endpoints.items():
                network = self._registry.by_id(endpoint.network_id) or self._registry.by_name(name)
                if network is None:
                    _log.error("container %s is on the network %s, which is not defined", record.name, name)
                    continue
                if network.pool is not None and endpoint.ip_address:
                    with contextlib.suppress(EnxameError):  # two records with one address: both run already
                        network.pool.take(IPv4Address(endpoint.ip_address))
                network.endpoints[record.container_id] = resource(record.name, endpoint)
            self._held[record.container_id] = [
                self._held_ports.hold(
                    port.protocol, IPv4Address(port.host_ip) if port.host_ip else None, port.host_port, insist=True
                )
                for port in record.published
            ]

    def find(self, container_id: str) -> SandboxRecord | None:
        """A container's connection."""
        return self._records.get(container_id)

    async def connect(self, container_id: str, request: SandboxRequest) -> SandboxInfo:
        """Make a container's network side: all or nothing. One that an earlier start left is replaced.

        Raises:
            NotFound: a network does not exist.
            EnxameError: an address or a port is not to be had, or the kernel refuses.
        """
        await self.release(container_id)
        mode = request.network_mode.partition(":")[0]
        if mode == "container":
            return self._share(request.network_mode.partition(":")[2])
        if mode == "host" or "host" in request.endpoints:
            record = SandboxRecord(container_id=container_id, name=request.name, info=self._host_info(request))
        elif mode == "none" or "none" in request.endpoints:
            record = await self._connect_none(container_id, request)
        else:
            record = await self._connect_bridges(container_id, request)
        self._records[container_id] = record
        try:
            self._files.save(record)
        except OSError as error:
            await self.release(container_id)
            raise EnxameError(f"store the network of container {request.name}: {error.strerror}") from error
        for name, endpoint in record.info.endpoints.items():
            network = self._registry.by_id(endpoint.network_id) or self._registry.find(name)
            network.endpoints[container_id] = resource(request.name, endpoint)
            self._announce("connect", network, container_id)
        return record.info

    async def release(self, container_id: str) -> None:
        """Undo :meth:`connect`. Idempotent.

        When it returns, ports are closed and free, and the networks are left. The links go a little later: the
        kernel takes tens of milliseconds for them, in which nobody need wait. Until then the addresses rest.
        """
        record = self._records.pop(container_id, None)
        if record is None:
            return
        places: list[tuple[AddressPool, IPv4Address]] = []
        for endpoint in record.info.endpoints.values():
            network = self._registry.by_id(endpoint.network_id)
            if network is None:
                continue
            network.endpoints.pop(container_id, None)
            if network.pool is not None and endpoint.ip_address:
                places.append((network.pool, IPv4Address(endpoint.ip_address)))
            self._announce("disconnect", network, container_id)
        going = self._background.start(self._detach(record, places), f"removing the links of {record.name}")
        self._going.add(going)
        going.add_done_callback(self._going.discard)
        try:
            await self._dataplane.unpublish([port.port() for port in record.published])
            await self._dataplane.forget([address for _, address in places])
        finally:
            for held in self._held.pop(container_id, ()):
                self._held_ports.give_back(held)
            self._files.discard(container_id)

    async def settled(self) -> None:
        """Wait until the links of everything that was released are gone."""
        if self._going:
            await asyncio.wait(self._going)

    async def _detach(self, record: SandboxRecord, places: Sequence[tuple[AddressPool, IPv4Address]]) -> None:
        namespaces = [Path(record.info.netns_path)] if record.info.netns_path else []
        await self._dataplane.detach(record.links, namespaces)
        for pool, address in places:
            pool.give_back(address)

    def _share(self, owner_id: str) -> SandboxInfo:
        owner = self._records.get(owner_id)
        if owner is None:
            raise NotFound(f"cannot join network of a non running container: {owner_id}")
        return SandboxInfo(
            netns_path=owner.info.netns_path,
            sandbox_id=owner.info.sandbox_id,
            hosts=owner.info.hosts,
            resolv_conf=owner.info.resolv_conf,
        )

    def _host_info(self, request: SandboxRequest) -> SandboxInfo:
        network = self._registry.find("host")
        return SandboxInfo(
            endpoints={"host": bare_endpoint(network)},
            hosts=name_files.host_hosts_text(request.extra_hosts),
            resolv_conf=name_files.resolv_text(
                servers=request.dns, search=request.dns_search, options=request.dns_options, keep_loopback=True
            ),
        )

    async def _connect_none(self, container_id: str, request: SandboxRequest) -> SandboxRecord:
        namespace = await self._dataplane.take_namespace()
        try:
            await self._apply_sysctls(namespace, request)
        except BaseException:
            await self._dataplane.detach([], [namespace.path])
            raise
        finally:
            namespace.close()
        info = SandboxInfo(
            netns_path=str(namespace.path),
            sandbox_id=namespace.id,
            endpoints={"none": bare_endpoint(self._registry.find("none"))},
            hosts=name_files.hosts_text((), request.hostname, request.domainname, request.extra_hosts),
            resolv_conf=_resolv(request),
        )
        return SandboxRecord(container_id=container_id, name=request.name, info=info)

    async def _connect_bridges(self, container_id: str, request: SandboxRequest) -> SandboxRecord:
        plan = _Plan()
        try:
            try:
                self._plan_endpoints(plan, container_id, request)
            except EnxameError:
                if not self._going:
                    raise
                # The address may be one that still rests.
                self._give_back(plan, container_id)
                plan = _Plan()
                await self.settled()
                self._plan_endpoints(plan, container_id, request)
            self._plan_ports(plan, request)
            namespace = await self._dataplane.take_namespace()
        except BaseException:
            self._give_back(plan, container_id)
            raise
        try:
            await _all(self._dataplane.attach(namespace, plan.attachments), self._dataplane.publish(plan.published))
            await self._apply_sysctls(namespace, request)
        except BaseException:
            await self._undo(plan, namespace, container_id)
            raise
        finally:
            namespace.close()
        self._held[container_id] = plan.held
        addresses = [endpoint.ip_address for endpoint in plan.endpoints.values()]
        gateway = next((item.gateway for item in plan.endpoints.values() if item.gateway), "")
        info = SandboxInfo(
            netns_path=str(namespace.path),
            sandbox_id=namespace.id,
            endpoints=plan.endpoints,
            ports=plan.bound,
            hosts=name_files.hosts_text(addresses, request.hostname, request.domainname, request.extra_hosts, gateway),
            resolv_conf=_resolv(request),
        )
        return SandboxRecord(
            container_id=container_id,
            name=request.name,
            info=info,
            links=[attachment.link for attachment in plan.attachments],
            published=[PublishedRecord.of(port) for port in plan.published],
        )

    def _network(self, ref: str) -> ActiveNetwork:
        if ref in self.missing and self._registry.by_id(ref) is None:
            raise EnxameError(self.missing[ref])
        # "default" is what clients call the default bridge.
        return self._registry.find("bridge" if ref == "default" else ref)

    def _plan_endpoints(self, plan: _Plan, container_id: str, request: SandboxRequest) -> None:
        wanted = request.endpoints or {request.network_mode or "default": EndpointSettings()}
        found = [(self._network(ref), settings) for ref, settings in wanted.items()]
        exit_ = way_out([network for network, _ in found])
        for number, (network, settings) in enumerate(found):
            if network.pool is None or network.bridge is None:
                raise InvalidArgument(f"a container cannot be on {network.resource.name} and on other networks")
            if container_id in network.endpoints:
                raise InvalidArgument(f"the network {network.resource.name} is named twice")
            address = take_address(network, settings)
            endpoint_id = secrets.token_hex(32)
            mac = parse_mac(settings.mac_address) if settings.mac_address else mac_of(address)
            gateway = None if network.resource.internal else network.pool.gateway
            plan.networks.append(network)
            plan.attachments.append(
                Attachment(
                    link=f"{LINK_PREFIX}{endpoint_id[:_LINK_ID_LENGTH]}",
                    inner=f"eth{number}",
                    bridge=network.bridge,
                    address=network.pool.interface(address),
                    mac=mac,
                    gateway=gateway,
                    default=network is exit_,
                )
            )
            endpoint = msgspec.structs.replace(
                settings,
                network_id=network.resource.id,
                endpoint_id=endpoint_id,
                gateway=str(gateway) if gateway is not None else "",
                ip_address=str(address),
                ip_prefix_len=network.pool.subnet.prefixlen,
                mac_address=mac.hex(":"),
            )
            plan.endpoints[network.resource.name] = endpoint
            network.endpoints[container_id] = resource(request.name, endpoint)

    def _plan_ports(self, plan: _Plan, request: SandboxRequest) -> None:
        target = next((item for item in plan.attachments if item.default), plan.attachments[0])
        number = plan.attachments.index(target)
        default_ip = definitions.host_binding(plan.networks[number].resource)
        wanted = parse_requests(
            request.port_bindings,
            request.exposed_ports,
            publish_all=request.publish_all,
            default_ip=IPv4Address(default_ip) if default_ip not in ("", _ANY) else None,
        )
        for key in request.exposed_ports:
            port, protocol = parse_port(key)
            plan.bound.setdefault(f"{port}/{protocol}", [])
        for port_request in wanted:
            try:
                held = self._hold(port_request)
            except PortTaken as error:
                endpoint = list(plan.endpoints.values())[number]
                raise EnxameError(
                    "driver failed programming external connectivity on endpoint "
                    f"{request.name} ({endpoint.endpoint_id}): {error.message}"
                ) from error
            plan.held.append(held)
            plan.published.append(
                PublishedPort(held.protocol, held.host_ip, held.port, target.address.ip, port_request.container_port)
            )
            place = PortBinding(host_ip=str(held.host_ip or _ANY), host_port=str(held.port))
            plan.bound.setdefault(port_request.key, []).append(place)

    def _hold(self, wanted: PortRequest) -> HeldPort:
        for port in range(wanted.first, wanted.last + 1):
            try:
                return self._held_ports.hold(wanted.protocol, wanted.host_ip, port)
            except PortTaken:
                if port == wanted.last:
                    raise
        raise AssertionError("a range has at least one port")

    async def _apply_sysctls(self, namespace: Namespace, request: SandboxRequest) -> None:
        settings = {name: value for name, value in request.sysctls.items() if name.startswith("net.")}
        if settings:
            await self._dataplane.write_settings(namespace.path, settings)

    async def _undo(self, plan: _Plan, namespace: Namespace, container_id: str) -> None:
        try:
            # Only one of attach and publish may have failed; what was not done cannot be undone, and need not.
            with contextlib.suppress(EnxameError):
                await self._dataplane.unpublish(plan.published)
            await self._dataplane.detach([item.link for item in plan.attachments], [namespace.path])
        finally:
            self._give_back(plan, container_id)

    def _give_back(self, plan: _Plan, container_id: str) -> None:
        for held in plan.held:
            self._held_ports.give_back(held)
        for network in plan.networks:
            network.leave(container_id)


async def _all(*work: Awaitable[None]) -> None:
    """Run side by side, wait for all, then raise the first error."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def _resolv(request: SandboxRequest) -> str:
    return name_files.resolv_text(servers=request.dns, search=request.dns_search, options=request.dns_options)


def published_ports(records: Iterable[SandboxRecord]) -> list[PublishedPort]:
    """All that should be published."""
    return [port.port() for record in records for port in record.published]
