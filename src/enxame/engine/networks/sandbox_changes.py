"""What changes while a container is connected: networks join and leave, its name, whether it serves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from enxame.engine.networks.container_rules import ContainerRules
from enxame.engine.networks.endpoints import way_out
from enxame.engine.networks.name_service import NameService
from enxame.engine.networks.name_texts import NameTexts
from enxame.engine.networks.plans import Plan, Planner, attachments_of, dns_names, free_number, led_to, port_target
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.engine.networks.sandbox_records import SandboxRecord
from enxame.engine.networks.sandbox_table import Place, SandboxTable
from enxame.engine.sandbox import SandboxInfo
from enxame.engine.turns import Turns
from enxame.errors import EnxameError, NotFound, PermissionDenied
from enxame.model.container import EndpointSettings
from enxame.network.dataplane import DataPlane

__all__ = ["WITH_IPV6", "Announce", "SandboxChanges"]

_log = logging.getLogger(__name__)

#: In a container's namespace, should this machine's default be otherwise. Its addresses are unique by our bookkeeping.
WITH_IPV6: Final = {
    **{f"net.ipv6.conf.{links}.disable_ipv6": "0" for links in ("all", "default")},
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
}

#: action, network, container id
Announce = Callable[[str, ActiveNetwork, str], None]


class SandboxChanges:
    """Each is whole or not at all."""

    def __init__(
        self,
        table: SandboxTable,
        registry: NetworkRegistry,
        dataplane: DataPlane,
        *,
        planner: Planner,
        texts: NameTexts,
        names: NameService,
        rules: ContainerRules,
        announce: Announce,
        turns: Turns,
    ) -> None:
        self._table = table
        self._registry = registry
        self._dataplane = dataplane
        self._planner = planner
        self._texts = texts
        self._names = names
        self._rules = rules
        self._announce = announce
        self._turns = turns

    async def join(self, container_id: str, ref: str, settings: EndpointSettings) -> SandboxInfo:
        """Put a connected container on another network.

        Raises:
            NotFound: no such network.
            PermissionDenied: it is on it already.
            EnxameError: an address is not to be had, or the kernel refuses; nothing changed.
        """
        network = self._planner.network(ref)
        async with self._table.alone(container_id):
            record = self._record_with_namespace(container_id)
            if container_id in network.endpoints:
                raise PermissionDenied(
                    f"endpoint with name {record.name} already exists in network {network.resource.name}"
                )
            joined = await self._join(record, network, settings)
            self._table.keep(joined)
        self._announce("connect", network, container_id)
        return joined.info

    async def _join(self, record: SandboxRecord, network: ActiveNetwork, settings: EndpointSettings) -> SandboxRecord:
        before = attachments_of(record, self._registry)
        places = [*((other, endpoint) for other, endpoint, _ in before), (network, settings)]
        exits = way_out(places), way_out(places, 6)
        number = free_number(record.interfaces)
        path = Path(record.info.netns_path)
        plan, ports = Plan(), Plan()
        try:
            self._planner.endpoint(
                plan, record.container_id, record.request, network, settings, number=number, exits=exits
            )
            info = replace(record.info, endpoints={**record.info.endpoints, **plan.endpoints})
            joined = replace(record, info=info, interfaces={**record.interfaces, **plan.interfaces()})
            if not record.published:  # so far they had nowhere to lead to
                self._plan_ports(ports, joined)
                joined = replace(joined, published=ports.published, info=replace(info, ports=ports.bound))
            if plan.attachments[0].address6 is not None:
                await self._dataplane.write_settings(path, WITH_IPV6)
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
            await self._dataplane.ports.publish([port.port() for port in ports.published])
        except BaseException:
            await self._dataplane.detach([item.link for item in plan.attachments], [])
            self._planner.give_ports_back(ports)
            self._planner.give_back(plan, record.container_id)
            raise
        if ports.held:
            self._table.held[record.container_id] = ports.held
        return await self._led_to_exit(self._texts.written(joined))

    def _plan_ports(self, plan: Plan, record: SandboxRecord) -> None:
        for network, endpoint, attachment in attachments_of(record, self._registry):
            plan.networks.append(network)
            plan.attachments.append(attachment)
            plan.endpoints[network.resource.name] = endpoint
        self._planner.ports(plan, record.request)

    async def part(self, container_id: str, network: ActiveNetwork) -> SandboxInfo:
        """Take a connected container off a network.

        Raises:
            EnxameError: it is not on it, or the kernel refuses.
        """
        async with self._table.alone(container_id):
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
            parted = await self._led_to_exit(self._texts.written(parted))
            await self._rules.connected(parted)
            self._table.keep(parted)
            network.endpoints.pop(container_id, None)
            await self._dataplane.ports.forget(
                [leaving.address.ip, *([leaving.address6.ip] if leaving.address6 else [])]
            )
            # Waited for: the name of the link inside is free afterwards.
            await self._dataplane.detach([leaving.link], [])
            if network.pool is not None:
                left: list[Place] = [partial(network.pool.give_back, leaving.address.ip)]
                if network.pool6 is not None and leaving.address6 is not None:
                    left.append(partial(network.pool6.give_back, leaving.address6.ip))
                self._table.leave_addresses(left)
        self._announce("disconnect", network, container_id)
        return parted.info

    async def rename(self, container_id: str, name: str) -> SandboxInfo | None:
        """Let a container be found by another name. None for one that is not connected."""
        if container_id not in self._table.records:
            return None
        async with self._table.alone(container_id):
            record = self._table.find(container_id)
            if record is None:
                return None
            request = replace(record.request, name=name)
            endpoints = {
                network: replace(item, dns_names=dns_names(container_id, request, item)) if item.dns_names else item
                for network, item in record.info.endpoints.items()
            }
            renamed = replace(record, name=name, request=request, info=replace(record.info, endpoints=endpoints))
            self._table.keep(renamed)
            return renamed.info

    async def set_serving(self, container_id: str, serving: bool) -> None:
        """Whether a container's aliases lead to it. Nothing happens for one that is not connected."""
        if container_id not in self._table.records:
            return
        await self._turns.wait()
        async with self._table.alone(container_id):
            record = self._table.find(container_id)
            if record is not None and record.serving != serving:
                try:
                    self._table.keep(replace(record, serving=serving))
                except OSError as error:
                    # What is told now is told; only a restart of the daemon would not know it.
                    _log.error("the record of %s cannot be written: %s", record.name, error)
                    self._names.tell(self._table.records[container_id])

    async def _led_to_exit(self, record: SandboxRecord) -> SandboxRecord:
        """Published ports follow the default route; without any network there are none."""
        places = attachments_of(record, self._registry)
        target = port_target([item for _, _, item in places])
        before = [port.port() for port in record.published]
        if target is None:
            await self._dataplane.ports.unpublish(before)
            self._table.give_ports_back(record.container_id)
            return replace(record, published=[], info=replace(record.info, ports={}))
        published = led_to(record.published, target)
        if published != record.published:
            await self._dataplane.ports.republish(before, [port.port() for port in published])
        return replace(record, published=published)

    def _record_with_namespace(self, container_id: str) -> SandboxRecord:
        record = self._table.find(container_id)
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
