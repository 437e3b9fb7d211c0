"""Keeps every container's way to services' virtual addresses in step with the tables of its networks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Final

from enxame.engine.networks.tables import KnownTable, NetworkTables, TableChange
from enxame.model.dispatch import NetworkEndpoint, NetworkService
from enxame.network import virtual_services
from enxame.network.namespace_rules import Change, NamespaceRules, transaction_of
from enxame.network.nft_messages import Message
from enxame.network.virtual_services import Services, VirtualService

_log = logging.getLogger(__name__)

#: The service's label that keeps a client with one backend: ``source``.
AFFINITY_LABEL: Final = "enxame.network.affinity"


def is_sticky(service: NetworkService) -> bool:
    """Whether a client is to stay with a backend."""
    return service.labels.get(AFFINITY_LABEL, "").strip().lower() == "source"


def ipv4(addresses: Iterable[str]) -> IPv4Address | None:
    """The first IPv4 address."""
    for text in addresses:
        try:
            return IPv4Address(text.partition("/")[0])
        except AddressValueError:
            continue
    return None


@dataclass(slots=True)
class _Client:
    """A container: its namespace, its networks, and the chains that are there. ``unsure``: an earlier daemon's rules
    are there, and stay until all tables were told.
    """

    path: Path
    networks: tuple[str, ...]
    chains: set[str] = field(default_factory=set)
    unsure: bool = False


@dataclass(slots=True)
class _OnNetwork:
    """A network's virtual addresses, and the endpoints that serve, by service. ``whole``: what leads from nothing to
    all of it, once somebody needed that.
    """

    services: dict[IPv4Address, VirtualService] = field(default_factory=dict)
    address_of: dict[str, IPv4Address] = field(default_factory=dict)
    serving: dict[str, dict[str, IPv4Address]] = field(default_factory=dict)
    whole: list[Message] | None = None


class VirtualAddresses:
    """``concerns``: whether containers on a network reach its services by virtual addresses."""

    def __init__(self, rules: NamespaceRules, tables: NetworkTables, concerns: Callable[[str], bool]) -> None:
        self._rules = rules
        self._tables = tables
        self._concerns = concerns
        self._networks: dict[str, _OnNetwork] = {}
        self._clients: dict[str, _Client] = {}
        tables.subscribe(self._changed)

    def connected(self, container_id: str, path: Path, networks: Iterable[str]) -> list[Change]:
        """What a container needs that is on these networks now, and was on others or on none."""
        mine = tuple(network_id for network_id in networks if self._concerns(network_id))
        known = self._clients.pop(container_id, None)
        if mine:
            client = self._clients[container_id] = _Client(path, mine)
            return [self._whole(client, fresh=known is None)]
        return [Change(path, transaction_of(virtual_services.remove()))] if known is not None else []

    def found(self, container_id: str, path: Path, networks: Iterable[str]) -> list[Change]:
        """What a container needs that an earlier daemon connected."""
        mine = tuple(network_id for network_id in networks if self._concerns(network_id))
        if not mine:
            return []
        client = self._clients[container_id] = _Client(path, mine, unsure=True)
        return self._sure(client)

    def _sure(self, client: _Client) -> list[Change]:
        if any(self._tables.get(network_id) is None for network_id in client.networks):
            return []
        client.unsure = False
        return [self._whole(client, fresh=False)]

    def left(self, container_id: str) -> None:
        """A container is gone. Idempotent."""
        self._clients.pop(container_id, None)

    def _whole(self, client: _Client, *, fresh: bool) -> Change:
        elements: list[Message] = []
        client.chains = set()
        for network_id in client.networks:
            known = self._on(network_id)
            if known.whole is None:
                known.whole = virtual_services.difference({}, known.services)
            elements += known.whole
            client.chains |= virtual_services.chains_of(known.services.values())
        messages = [] if fresh else virtual_services.remove()
        messages += virtual_services.install()
        messages += virtual_services.add_chains(sorted(client.chains))
        messages += elements
        return Change(client.path, transaction_of(messages), tracks=True)

    def _on(self, network_id: str) -> _OnNetwork:
        known = self._networks.get(network_id)
        if known is None:
            known = self._networks[network_id] = _OnNetwork()
            table = self._tables.get(network_id)
            if table is not None:
                _take(known, table, set(table.services) | _services_of(table.endpoints.values()))
        return known

    async def _changed(self, changes: Sequence[TableChange]) -> None:
        for change in changes:
            if self._concerns(change.network_id) or change.network_id in self._networks:
                await self._change(change)

    async def _change(self, change: TableChange) -> None:
        known = self._networks.setdefault(change.network_id, _OnNetwork())
        turns = [endpoint for turn in change.endpoints.values() for endpoint in turn if endpoint is not None]
        before, after = _take(known, change.table, set(change.services) | _services_of(turns), turns)
        if change.gone:
            del self._networks[change.network_id]
        messages = virtual_services.difference(before, after)
        turned = virtual_services.lost(before, after)
        gone = {address for old, new in change.endpoints.values() if new is None and (address := _ipv4_of(old))}
        needed = virtual_services.chains_of(after.values())
        made: dict[frozenset[str], bytes] = {}
        programmed: list[Change] = []
        for client in list(self._clients.values()):
            if change.network_id not in client.networks:
                continue
            if client.unsure:
                programmed += self._sure(client)
                continue
            if not messages and not gone:
                continue
            missing = frozenset(needed - client.chains)
            if missing not in made:
                made[missing] = transaction_of(_with_chains(missing, messages))
            client.chains |= missing
            programmed.append(Change(client.path, made[missing], turned=turned - gone, gone=gone))
        await self._program(programmed)

    async def _program(self, changes: Sequence[Change]) -> None:
        refused = set(await self._rules.apply(changes))
        if refused:
            # What is there is not what we thought: all of it again.
            wrong = [client for client in self._clients.values() if client.path in refused]
            await self._rules.apply([self._whole(client, fresh=False) for client in wrong])


def _with_chains(chains: frozenset[str], messages: Sequence[Message]) -> list[Message]:
    return [*virtual_services.add_chains(sorted(chains)), *messages]


def _take(
    known: _OnNetwork, table: KnownTable, service_ids: Iterable[str], turned: Iterable[NetworkEndpoint] | None = None
) -> tuple[Services, Services]:
    """Bring services in line with a table; those that may have changed, before and after. ``turned``: only these
    endpoints may have changed.
    """
    for endpoint in table.endpoints.values() if turned is None else turned:
        now = table.endpoints.get(endpoint.id)
        serving = known.serving.setdefault(endpoint.service_id, {})
        address = ipv4(now.addresses) if now is not None and now.serving else None
        if address is not None:
            serving[endpoint.id] = address
        else:
            serving.pop(endpoint.id, None)
            if not serving:
                del known.serving[endpoint.service_id]
    before: dict[IPv4Address, VirtualService] = {}
    after: dict[IPv4Address, VirtualService] = {}
    services = {service_id: table.services.get(service_id) for service_id in service_ids}
    known.whole = None
    for service_id in services:
        # All first: another service may have the address now.
        address = known.address_of.pop(service_id, None)
        if address is not None:
            before[address] = known.services.pop(address)
    for service_id, service in services.items():
        vip = ipv4([service.vip]) if service is not None and service.mode != "dnsrr" else None
        if service is None or vip is None:
            continue
        old = before.get(vip)
        backends = virtual_services.in_order(
            old.backends if old is not None else (), set(known.serving.get(service_id, {}).values())
        )
        known.address_of[service_id] = vip
        known.services[vip] = after[vip] = VirtualService(backends, is_sticky(service))
    return before, after


def _services_of(endpoints: Iterable[NetworkEndpoint]) -> set[str]:
    return {endpoint.service_id for endpoint in endpoints if endpoint.service_id}


def _ipv4_of(endpoint: NetworkEndpoint | None) -> IPv4Address | None:
    return ipv4(endpoint.addresses) if endpoint is not None else None


__all__ = ["AFFINITY_LABEL", "Services", "VirtualAddresses", "ipv4", "is_sticky"]
