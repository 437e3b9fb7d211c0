"""Containers on networks: connecting, releasing, and finding them again after a restart. What changes while they are
connected: :mod:`enxame.engine.networks.sandbox_changes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Collection, Iterable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from enxame.engine.background import BackgroundTasks
from enxame.engine.networks.container_rules import ContainerRules
from enxame.engine.networks.endpoints import bare_endpoint, resource
from enxame.engine.networks.name_service import NameService
from enxame.engine.networks.name_texts import NameTexts, host_hosts, host_resolv_conf, lone_hosts, lone_resolv_conf
from enxame.engine.networks.plans import Plan, Planner
from enxame.engine.networks.registry import NetworkRegistry
from enxame.engine.networks.sandbox_changes import WITH_IPV6, Announce, SandboxChanges
from enxame.engine.networks.sandbox_records import SandboxFiles, SandboxRecord
from enxame.engine.networks.sandbox_table import Place, SandboxTable
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.engine.turns import Turns
from enxame.errors import EnxameError, NotFound
from enxame.network.dataplane import DataPlane
from enxame.network.held_ports import HeldPorts
from enxame.network.namespaces import Namespace
from enxame.network.ports import PublishedPort
from enxame.network.rtnetlink import Address

_log = logging.getLogger(__name__)

#: How long the manager's new holder of an address waits for the old one to go, in seconds.
_ADDRESS_DEADLINE: Final = 3.0


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
        self._names = names
        self._rules = rules
        self._announce = announce
        #: Why a swarm network could not be made here, by its id.
        self.missing: dict[str, str] = {}
        self._planner = Planner(registry, held_ports, self.missing)
        self._texts = NameTexts(registry, names)
        self._table = SandboxTable(registry, files, names, held_ports)
        self._background = BackgroundTasks()
        self._going: set[asyncio.Task[None]] = set()
        self._turns = Turns()
        #: Of what is connected.
        self.changes = SandboxChanges(
            self._table,
            registry,
            dataplane,
            planner=self._planner,
            texts=self._texts,
            names=names,
            rules=rules,
            announce=announce,
            turns=self._turns,
        )

    @property
    def records(self) -> Collection[SandboxRecord]:
        """Everything that is connected."""
        return self._table.records.values()

    def load(self) -> None:
        """Take over what an earlier run of the daemon connected: addresses, ports."""
        self._table.load()

    def find(self, container_id: str) -> SandboxRecord | None:
        """A container's connection."""
        return self._table.find(container_id)

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
        try:
            self._table.put(record)
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
        async with self._table.alone(container_id):
            await self._release(container_id)
        self._table.forget_lock(container_id)

    async def _release(self, container_id: str) -> None:
        record = self._table.records.pop(container_id, None)
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
            await self._dataplane.ports.unpublish([port.port() for port in record.published])
            await self._dataplane.ports.forget(addresses)
            await self._turns.wait()  # it has answered for many at once
        finally:
            self._table.give_up(container_id)

    async def one_left(self) -> None:
        """Wait until a container that was released has left its networks for good."""
        await self._table.address_left.wait()

    async def settled(self) -> None:
        """Wait until the links of everything that was released are gone."""
        if self._going:
            await asyncio.wait(self._going)

    async def _detach(self, record: SandboxRecord, places: Sequence[Place]) -> None:
        namespaces = [Path(record.info.netns_path)] if record.info.netns_path else []
        await self._dataplane.detach(record.links, namespaces)
        self._table.leave_addresses(places)

    async def _vacate(self, request: SandboxRequest) -> None:
        """Whoever has an address that the manager gave to another is on its way out, and is waited for."""
        for network, settings in self._planner.wanted(request):
            text = settings.ipam_config.ipv4_address.partition("/")[0] if settings.ipam_config is not None else ""
            if not network.is_overlay or network.pool is None or not text:
                continue
            with contextlib.suppress(TimeoutError, ValueError):
                address = IPv4Address(text)
                async with asyncio.timeout(_ADDRESS_DEADLINE):
                    while address in network.pool and not network.pool.is_gateway(address):
                        await self._table.address_left.wait()

    def _share(self, owner_id: str) -> SandboxInfo:
        owner = self._table.find(owner_id)
        if owner is None:
            raise NotFound(f"cannot join network of a non running container: {owner_id}")
        return SandboxInfo(
            netns_path=owner.info.netns_path,
            sandbox_id=owner.info.sandbox_id,
            hosts=owner.info.hosts,
            resolv_conf=owner.info.resolv_conf,
        )

    def _host_info(self, request: SandboxRequest) -> SandboxInfo:
        endpoints = {"host": bare_endpoint(self._registry.find("host"))}
        return SandboxInfo(endpoints=endpoints, hosts=host_hosts(request), resolv_conf=host_resolv_conf(request))

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
            hosts=lone_hosts(request),
            resolv_conf=lone_resolv_conf(request),
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
                await self._dataplane.write_settings(namespace.path, WITH_IPV6)
            await _all(
                self._dataplane.attach(namespace, plan.attachments),
                self._dataplane.ports.publish([port.port() for port in plan.published]),
                self._names.serve(record),
            )
            await self._rules.connected(record)
            await self._apply_sysctls(namespace, request)
        except BaseException:
            await self._undo(plan, namespace, container_id)
            raise
        finally:
            namespace.close()
        self._table.held[container_id] = plan.held
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
        return self._texts.written(record)

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
                await self._dataplane.ports.unpublish([port.port() for port in plan.published])
            await self._dataplane.detach([item.link for item in plan.attachments], [namespace.path])
        finally:
            self._planner.give_back(plan, container_id)


async def _all(*work: Awaitable[None]) -> None:
    """Run side by side, wait for all, then raise the first error."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def published_ports(records: Iterable[SandboxRecord]) -> list[PublishedPort]:
    """All that should be published."""
    return [port.port() for record in records for port in record.published]
