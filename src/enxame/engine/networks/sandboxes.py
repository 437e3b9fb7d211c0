"""Containers on networks: connecting, releasing, and finding them again after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from enxame.engine.background import BackgroundTasks
from enxame.engine.networks import name_files
from enxame.engine.networks.container_rules import ContainerRules
from enxame.engine.networks.endpoints import bare_endpoint, resource, way_out
from enxame.engine.networks.name_service import NameService
from enxame.engine.networks.plans import Plan, Planner, attachments_of, dns_names, free_number, led_to, port_target
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.engine.networks.sandbox_records import SandboxFiles, SandboxRecord
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.engine.turns import Turns
from enxame.errors import EnxameError, NotFound, PermissionDenied
from enxame.model.container import EndpointSettings
from enxame.network.dataplane import DataPlane
from enxame.network.held_ports import HeldPort, HeldPorts
from enxame.network.namespaces import Namespace
from enxame.network.ports import PublishedPort
from enxame.network.rtnetlink import Address

_log = logging.getLogger(__name__)

#: How long the manager's new holder of an address waits for the old one to go, in seconds.
_ADDRESS_DEADLINE: Final = 3.0

#: In a container's namespace, should this machine's default be otherwise. Its addresses are unique by our bookkeeping.
_WITH_IPV6: Final = {
    **{f"net.ipv6.conf.{links}.disable_ipv6": "0" for links in ("all", "default")},
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
}

#: Gives an address back.
Place = Callable[[], None]

#: action, network, container id
Announce = Callable[[str, ActiveNetwork, str], None]


class Sandboxes:
    """The network side of every container of this machine."""

    def __init__(  # noqa: PLR0917 - parts, not settings
        self,
        registry: NetworkRegistry,
        dataplane: DataPlane,
        held_ports: HeldPorts,
        files: SandboxFiles,
        names: NameService,
        rules: ContainerRules,
        announce: Announce,
    ) -> None:
        self._registry = registry
        self._dataplane = dataplane
        self._held_ports = held_ports
        self._files = files
        self._names = names
        self._rules = rules
        self._announce = announce
        self._records: dict[str, SandboxRecord] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._held: dict[str, list[HeldPort]] = {}
        #: Why a swarm network could not be made here, by its id.
        self.missing: dict[str, str] = {}
        self._planner = Planner(registry, held_ports, self.missing)
        self._address_left = asyncio.Event()
        self._background = BackgroundTasks()
        self._going: set[asyncio.Task[None]] = set()
        self._turns = Turns()

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
                if network.pool6 is not None and endpoint.global_ipv6_address:
                    with contextlib.suppress(EnxameError):
                        network.pool6.take(IPv6Address(endpoint.global_ipv6_address))
                network.endpoints[record.container_id] = resource(record.name, endpoint)
            self._held[record.container_id] = [
                self._held_ports.hold(
                    port.protocol,
                    ip_address(port.host_ip) if port.host_ip else None,
                    port.host_port,
                    insist=True,
                    target=(port.target_ip, port.target_port),
                )
                for port in record.published
                if not port.companion
            ]
            self._names.tell(record)

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
            await self._vacate(request)
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
        self._names.tell(record)
        return record.info

    async def release(self, container_id: str) -> None:
        """Undo :meth:`connect`. Idempotent.

        When it returns, ports are closed and free, and the networks are left. The links go a little later: the
        kernel takes tens of milliseconds for them, in which nobody need wait. Until then the addresses rest.
        """
        async with self._alone(container_id):
            await self._release(container_id)
        self._locks.pop(container_id, None)

    async def _release(self, container_id: str) -> None:
        record = self._records.pop(container_id, None)
        if record is None:
            return
        self._names.forget(record)
        self._names.leave(container_id)
        self._rules.left(container_id)
        places: list[Place] = []
        addresses: list[Address] = []
        for endpoint in record.info.endpoints.values():
            network = self._registry.by_id(endpoint.network_id)
            if network is None:
                continue
            network.endpoints.pop(container_id, None)
            if network.pool is not None and endpoint.ip_address:
                address = IPv4Address(endpoint.ip_address)
                addresses.append(address)
                places.append(partial(network.pool.give_back, address))
            if network.pool6 is not None and endpoint.global_ipv6_address:
                address6 = IPv6Address(endpoint.global_ipv6_address)
                addresses.append(address6)
                places.append(partial(network.pool6.give_back, address6))
            self._announce("disconnect", network, container_id)
        going = self._background.start(self._detach(record, places), f"removing the links of {record.name}")
        self._going.add(going)
        going.add_done_callback(self._going.discard)
        try:
            await self._dataplane.unpublish([port.port() for port in record.published])
            await self._dataplane.forget(addresses)
            await self._turns.wait()  # it has answered for many at once
        finally:
            for held in self._held.pop(container_id, ()):
                self._held_ports.give_back(held)
            self._files.discard(container_id)

    def _alone(self, container_id: str) -> asyncio.Lock:
        """Changes of one container's connection wait for each other."""
        return self._locks.setdefault(container_id, asyncio.Lock())

    async def settled(self) -> None:
        """Wait until the links of everything that was released are gone."""
        if self._going:
            await asyncio.wait(self._going)

    async def _detach(self, record: SandboxRecord, places: Sequence[Place]) -> None:
        namespaces = [Path(record.info.netns_path)] if record.info.netns_path else []
        await self._dataplane.detach(record.links, namespaces)
        self._leave_addresses(places)

    def _leave_addresses(self, places: Iterable[Place]) -> None:
        for give_back in places:
            give_back()
        self._address_left.set()
        self._address_left = asyncio.Event()

    async def _vacate(self, request: SandboxRequest) -> None:
        """Whoever has an address that the manager gave to another is on its way out, and is waited for."""
        for network, settings in self._planner.wanted(request):
            text = settings.ipam_config.ipv4_address.partition("/")[0] if settings.ipam_config is not None else ""
            if network.resource.scope != "swarm" or network.pool is None or not text:
                continue
            with contextlib.suppress(TimeoutError, ValueError):
                address = IPv4Address(text)
                async with asyncio.timeout(_ADDRESS_DEADLINE):
                    while address in network.pool and address != network.pool.gateway:
                        await self._address_left.wait()

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
        return SandboxRecord(container_id=container_id, name=request.name, request=request, info=info)

    async def _connect_bridges(self, container_id: str, request: SandboxRequest) -> SandboxRecord:
        planner, plan = self._planner, Plan()
        try:
            try:
                planner.endpoints(plan, container_id, request)
            except EnxameError:
                if not self._going:
                    raise
                # The address may be one that still rests.
                planner.give_back(plan, container_id)
                plan = Plan()
                await self.settled()
                planner.endpoints(plan, container_id, request)
            planner.ports(plan, request)
            namespace = await self._dataplane.take_namespace()
        except BaseException:
            planner.give_back(plan, container_id)
            raise
        try:
            record = self._planned(plan, namespace, container_id, request)
            if any(item.address6 is not None for item in plan.attachments):
                await self._dataplane.write_settings(namespace.path, _WITH_IPV6)
            await _all(
                self._dataplane.attach(namespace, plan.attachments),
                self._dataplane.publish([port.port() for port in plan.published]),
                self._names.serve(record),
            )
            await self._rules.connected(record)
            await self._apply_sysctls(namespace, request)
        except BaseException:
            await self._undo(plan, namespace, container_id)
            raise
        finally:
            namespace.close()
        self._held[container_id] = plan.held
        return record

    def _planned(self, plan: Plan, namespace: Namespace, container_id: str, request: SandboxRequest) -> SandboxRecord:
        info = SandboxInfo(
            netns_path=str(namespace.path),
            sandbox_id=namespace.id,
            endpoints=plan.endpoints,
            ports=plan.bound,
        )
        record = SandboxRecord(
            container_id=container_id,
            name=request.name,
            request=request,
            info=info,
            interfaces=plan.interfaces(),
            published=plan.published,
        )
        return self._with_files(record)

    def _with_files(self, record: SandboxRecord) -> SandboxRecord:
        """With the texts of the container's files."""
        request, info = record.request, record.info
        endpoints = info.endpoints.values()
        addresses = [
            address for item in endpoints for address in (item.ip_address, item.global_ipv6_address) if address
        ]
        gateway = next((endpoint.gateway for endpoint in endpoints if endpoint.gateway), "")
        extra = [*request.extra_hosts, *self._linked_hosts(record)]
        hosts = name_files.hosts_text(addresses, request.hostname, request.domainname, extra, gateway)
        return replace(record, info=replace(info, hosts=hosts, resolv_conf=self._names.resolv_conf(record)))

    def _linked_hosts(self, record: SandboxRecord) -> list[str]:
        """On the default bridge, where there is no resolver of ours, links are lines of the hosts file."""
        bridge = self._registry.by_name("bridge")
        if bridge is None or record.container_id not in bridge.endpoints:
            return []
        lines: list[str] = []
        for link in record.request.links:
            target, _, alias = link.partition(":")
            target, alias = target.lstrip("/"), alias.rpartition("/")[2]
            for container_id, endpoint in bridge.endpoints.items():
                if target == endpoint.name or (len(target) >= 12 and container_id.startswith(target)):
                    address = endpoint.ipv4_address.partition("/")[0]
                    names = dict.fromkeys((alias or endpoint.name, container_id[:12], endpoint.name))
                    lines += [f"{name}:{address}" for name in names]
        return lines

    # Changes of a connection

    async def join(self, container_id: str, ref: str, settings: EndpointSettings) -> SandboxInfo:
        """Put a connected container on another network.

        Raises:
            NotFound: no such network.
            PermissionDenied: it is on it already.
            EnxameError: an address is not to be had, or the kernel refuses; nothing changed.
        """
        network = self._planner.network(ref)
        async with self._alone(container_id):
            record = self._record_with_namespace(container_id)
            if container_id in network.endpoints:
                raise PermissionDenied(
                    f"endpoint with name {record.name} already exists in network {network.resource.name}"
                )
            joined = await self._join(record, network, settings)
            self._keep(joined)
        self._announce("connect", network, container_id)
        return joined.info

    async def _join(self, record: SandboxRecord, network: ActiveNetwork, settings: EndpointSettings) -> SandboxRecord:
        before = attachments_of(record, self._registry)
        places = [*((other, endpoint) for other, endpoint, _ in before), (network, settings)]
        exits = way_out(places), way_out(places, 6)
        number = free_number(record.interfaces)
        path = Path(record.info.netns_path)
        plan = Plan()
        try:
            self._planner.endpoint(
                plan, record.container_id, record.request, network, settings, number=number, exits=exits
            )
            info = replace(record.info, endpoints={**record.info.endpoints, **plan.endpoints})
            joined = replace(record, info=info, interfaces={**record.interfaces, **plan.interfaces()})
            if plan.attachments[0].address6 is not None:
                await self._dataplane.write_settings(path, _WITH_IPV6)
            namespace = await self._dataplane.open_namespace(path)
            try:
                await self._dataplane.attach(namespace, plan.attachments)
            finally:
                namespace.close()
            for version, exit_ in zip((4, 6), exits, strict=True):
                if exit_ is network:
                    others = [item for _, _, item in before]
                    await self._dataplane.lead_out(path, plan.attachments[0], others, version=version)
            await self._names.serve(joined)
            await self._rules.connected(joined)
        except BaseException:
            await self._dataplane.detach([item.link for item in plan.attachments], [])
            self._planner.give_back(plan, record.container_id)
            raise
        return await self._led_to_exit(self._with_files(joined))

    async def part(self, container_id: str, network: ActiveNetwork) -> SandboxInfo:
        """Take a connected container off a network.

        Raises:
            EnxameError: it is not on it, or the kernel refuses.
        """
        async with self._alone(container_id):
            record = self._record_with_namespace(container_id)
            places = attachments_of(record, self._registry)
            leaving = next((item for other, _, item in places if other is network), None)
            if leaving is None:
                raise EnxameError(f"container {container_id} is not connected to network {network.resource.name}")
            self._names.forget(record, [network.resource.id])
            endpoints = {
                name: item for name, item in record.info.endpoints.items() if item.network_id != network.resource.id
            }
            interfaces = {id_: item for id_, item in record.interfaces.items() if id_ != network.resource.id}
            parted = replace(record, info=replace(record.info, endpoints=endpoints), interfaces=interfaces)
            path = Path(record.info.netns_path)
            await self._dataplane.forget_rules(path, leaving)
            stay = [item for _, _, item in attachments_of(parted, self._registry)]
            if leaving.default:
                await self._dataplane.lead_out(path, next((item for item in stay if item.default), None), [])
            if leaving.default6:
                exit6 = next((item for item in stay if item.default6), None)
                await self._dataplane.lead_out(path, exit6, [], version=6)
            parted = await self._led_to_exit(self._with_files(parted))
            await self._rules.connected(parted)
            self._keep(parted)
            network.endpoints.pop(container_id, None)
            await self._dataplane.forget([leaving.address.ip, *([leaving.address6.ip] if leaving.address6 else [])])
            # Waited for: the name of the link inside is free afterwards.
            await self._dataplane.detach([leaving.link], [])
            if network.pool is not None:
                left: list[Place] = [partial(network.pool.give_back, leaving.address.ip)]
                if network.pool6 is not None and leaving.address6 is not None:
                    left.append(partial(network.pool6.give_back, leaving.address6.ip))
                self._leave_addresses(left)
        self._announce("disconnect", network, container_id)
        return parted.info

    async def rename(self, container_id: str, name: str) -> SandboxInfo | None:
        """Let a container be found by another name. None for one that is not connected."""
        if container_id not in self._records:
            return None
        async with self._alone(container_id):
            record = self._records.get(container_id)
            if record is None:
                return None
            request = replace(record.request, name=name)
            endpoints = {
                network: replace(item, dns_names=dns_names(container_id, request, item)) if item.dns_names else item
                for network, item in record.info.endpoints.items()
            }
            renamed = replace(record, name=name, request=request, info=replace(record.info, endpoints=endpoints))
            self._keep(renamed)
            return renamed.info

    async def set_serving(self, container_id: str, serving: bool) -> None:
        """Whether a container's aliases lead to it. Nothing happens for one that is not connected."""
        if container_id not in self._records:
            return
        await self._turns.wait()
        async with self._alone(container_id):
            record = self._records.get(container_id)
            if record is not None and record.serving != serving:
                try:
                    self._keep(replace(record, serving=serving))
                except OSError as error:
                    # What is told now is told; only a restart of the daemon would not know it.
                    _log.error("the record of %s cannot be written: %s", record.name, error)
                    self._names.tell(self._records[container_id])

    async def _led_to_exit(self, record: SandboxRecord) -> SandboxRecord:
        """Published ports follow the default route; without any network there are none."""
        places = attachments_of(record, self._registry)
        target = port_target([item for _, _, item in places])
        before = [port.port() for port in record.published]
        if target is None:
            await self._dataplane.unpublish(before)
            for held in self._held.pop(record.container_id, ()):
                self._held_ports.give_back(held)
            return replace(record, published=[], info=replace(record.info, ports={}))
        published = led_to(record.published, target)
        if published != record.published:
            await self._dataplane.republish(before, [port.port() for port in published])
        return replace(record, published=published)

    def _record_with_namespace(self, container_id: str) -> SandboxRecord:
        record = self._records.get(container_id)
        if record is None:
            raise NotFound(f"container {container_id} is not connected to any network")
        shown = set(record.info.endpoints)
        if "host" in shown:
            raise PermissionDenied("container cannot be disconnected from host network or connected to host network")
        if "none" in shown:
            raise PermissionDenied(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
            )
        return record

    def _keep(self, record: SandboxRecord) -> None:
        self._records[record.container_id] = record
        self._files.save(record)
        for endpoint in record.info.endpoints.values():
            network = self._registry.by_id(endpoint.network_id)
            if network is not None:
                network.endpoints[record.container_id] = resource(record.name, endpoint)
        self._names.tell(record)

    async def _apply_sysctls(self, namespace: Namespace, request: SandboxRequest) -> None:
        settings = {name: value for name, value in request.sysctls.items() if name.startswith("net.")}
        if settings:
            await self._dataplane.write_settings(namespace.path, settings)

    async def _undo(self, plan: Plan, namespace: Namespace, container_id: str) -> None:
        self._names.leave(container_id)
        self._rules.left(container_id)
        try:
            # Only one of attach and publish may have failed; what was not done cannot be undone, and need not.
            with contextlib.suppress(EnxameError):
                await self._dataplane.unpublish([port.port() for port in plan.published])
            await self._dataplane.detach([item.link for item in plan.attachments], [namespace.path])
        finally:
            self._planner.give_back(plan, container_id)


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
