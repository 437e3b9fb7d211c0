"""Keeps every container's way to services' virtual addresses in step with the tables of its networks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from enxame.engine.networks.tables import KnownTable, NetworkTables, TableChange
from enxame.model.dispatch import NetworkEndpoint, NetworkService
from enxame.network import virtual_services
from enxame.network.namespace_rules import Change, NamespaceRules, transaction_of
from enxame.network.nft_messages import Message
from enxame.network.rtnetlink import Address
from enxame.network.virtual_services import Chain, Services, VirtualService

_log = logging.getLogger(__name__)

#: The service's label that keeps a client with one backend: ``source``.
AFFINITY_LABEL: Final = "enxame.network.affinity"
#: Chains that are kept in a namespace though no service there needs them: services that grow and shrink will.
SPARE_CHAINS: Final = 8


def is_sticky(service: NetworkService) -> bool:
    """Whether a client is to stay with a backend."""
    return service.labels.get(AFFINITY_LABEL, "").strip().lower() == "source"


def first_of_each(addresses: Iterable[str]) -> tuple[Address, ...]:
    """The first IPv4 and the first IPv6 address, as far as there are such."""
    found: dict[int, Address] = {}
    for text in addresses:
        plain = text.partition("/")[0]
        with suppress(AddressValueError):
            address = IPv6Address(plain) if ":" in plain else IPv4Address(plain)
            found.setdefault(address.version, address)
    return tuple(found.values())


@dataclass(slots=True)
class _Client:
    """A container: its namespace, its networks, and the chains that are there. ``unsure``: an earlier daemon's rules
    are there, and stay until all tables were told.
    """

    path: Path
    networks: tuple[str, ...]
    chains: set[Chain] = field(default_factory=set)
    unsure: bool = False


@dataclass(slots=True)
class _OnNetwork:
    """A network's virtual addresses, and the endpoints that serve, by service. ``versions`` of IP that the network has
    here. ``whole``: what leads from nothing to all of it, once somebody needed that.
    """

    versions: tuple[int, ...]
    services: dict[Address, VirtualService] = field(default_factory=dict)
    addresses_of: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    serving: dict[str, dict[str, tuple[Address, ...]]] = field(default_factory=dict)
    #: How many services need each chain.
    chains: Counter[Chain] = field(default_factory=Counter)
    whole: list[Message] | None = None


class VirtualAddresses:
    """``versions`` of IP in which containers on a network reach its services by virtual addresses; empty: in none."""

    def __init__(
        self, rules: NamespaceRules, tables: NetworkTables, versions: Callable[[str], tuple[int, ...]]
    ) -> None:
        self._rules = rules
        self._tables = tables
        self._versions = versions
        self._networks: dict[str, _OnNetwork] = {}
        self._clients: dict[str, _Client] = {}
        tables.subscribe(self._changed)

    def connected(self, container_id: str, path: Path, networks: Iterable[str]) -> list[Change]:
        """What a container needs that is on these networks now, and was on others or on none."""
        mine = tuple(network_id for network_id in networks if self._versions(network_id))
        known = self._clients.pop(container_id, None)
        if mine:
            client = self._clients[container_id] = _Client(path, mine)
            return [self._whole(client, fresh=known is None)]
        return [Change(path, transaction_of(_removed()))] if known is not None else []

    def found(self, container_id: str, path: Path, networks: Iterable[str]) -> list[Change]:
        """What a container needs that an earlier daemon connected."""
        mine = tuple(network_id for network_id in networks if self._versions(network_id))
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
        versions: set[int] = set()
        for network_id in client.networks:
            known = self._on(network_id)
            versions.update(known.versions)
            if known.whole is None:
                known.whole = virtual_services.difference({}, known.services)
            elements += known.whole
            client.chains |= known.chains.keys()
        messages = [] if fresh else _removed()
        for version in sorted(versions):
            messages += virtual_services.install(version)
        messages += virtual_services.add_chains(sorted(client.chains))
        messages += elements
        return Change(client.path, transaction_of(messages), tracks=True)

    def _on(self, network_id: str) -> _OnNetwork:
        known = self._networks.get(network_id)
        if known is None:
            known = self._networks[network_id] = _OnNetwork(self._versions(network_id))
            table = self._tables.get(network_id)
            if table is not None:
                _take(known, table, set(table.services) | _services_of(table.endpoints.values()))
        return known

    async def _changed(self, changes: Sequence[TableChange]) -> None:
        for change in changes:
            if self._versions(change.network_id) or change.network_id in self._networks:
                await self._change(change)

    async def _change(self, change: TableChange) -> None:
        known = self._networks.get(change.network_id)
        if known is None:
            known = self._networks[change.network_id] = _OnNetwork(self._versions(change.network_id))
        turns = [endpoint for turn in change.endpoints.values() for endpoint in turn if endpoint is not None]
        before, after = _take(known, change.table, set(change.services) | _services_of(turns), turns)
        if change.gone:
            del self._networks[change.network_id]
        messages = virtual_services.difference(before, after)
        turned = virtual_services.lost(before, after)
        left = [old for old, new in change.endpoints.values() if new is None and old is not None]
        gone = {
            address for old in left for address in first_of_each(old.addresses) if address.version in known.versions
        }
        needed = virtual_services.chains_of(after)
        made: dict[tuple[frozenset[Chain], frozenset[Chain]], bytes] = {}
        programmed: list[Change] = []
        for client in list(self._clients.values()):
            if change.network_id not in client.networks:
                continue
            if client.unsure:
                programmed += self._sure(client)
                continue
            if not messages and not gone:
                continue
            chains = frozenset(needed - client.chains), self._spare(client)
            if chains not in made:
                made[chains] = transaction_of(_with_chains(*chains, messages))
            client.chains = (client.chains | chains[0]) - chains[1]
            programmed.append(Change(client.path, made[chains], turned=turned - gone, gone=gone))
        await self._program(programmed)

    def _spare(self, client: _Client) -> frozenset[Chain]:
        """Chains to take away: those that none of its services needs, when they are many."""
        known = (self._networks.get(network_id) for network_id in client.networks)
        spare = client.chains.difference(*(network.chains for network in known if network is not None))
        return frozenset(spare) if len(spare) > SPARE_CHAINS else frozenset()

    async def _program(self, changes: Sequence[Change]) -> None:
        refused = set(await self._rules.apply(changes))
        if refused:
            # What is there is not what we thought: all of it again.
            wrong = [client for client in self._clients.values() if client.path in refused]
            await self._rules.apply([self._whole(client, fresh=False) for client in wrong])


def _removed() -> list[Message]:
    return [message for version in (4, 6) for message in virtual_services.remove(version)]


def _with_chains(needed: frozenset[Chain], spare: frozenset[Chain], messages: Sequence[Message]) -> list[Message]:
    chains = virtual_services.add_chains(sorted(needed))
    return [*chains, *messages, *virtual_services.remove_chains(sorted(spare))]


def _take(
    known: _OnNetwork, table: KnownTable, service_ids: Iterable[str], turned: Iterable[NetworkEndpoint] | None = None
) -> tuple[Services, Services]:
    """Bring services in line with a table; those that may have changed, before and after. ``turned``: only these
    endpoints may have changed.
    """
    for endpoint in table.endpoints.values() if turned is None else turned:
        now = table.endpoints.get(endpoint.id)
        serving = known.serving.setdefault(endpoint.service_id, {})
        addresses = first_of_each(now.addresses) if now is not None and now.serving else ()
        if addresses:
            serving[endpoint.id] = addresses
        else:
            serving.pop(endpoint.id, None)
            if not serving:
                del known.serving[endpoint.service_id]
    before: dict[Address, VirtualService] = {}
    after: dict[Address, VirtualService] = {}
    services = {service_id: table.services.get(service_id) for service_id in service_ids}
    known.whole = None
    for service_id in services:
        # All first: another service may have the address now.
        for address in known.addresses_of.pop(service_id, ()):
            before[address] = known.services.pop(address)
            if before[address].backends:
                known.chains[address.version, before[address].chain] -= 1
    for service_id, service in services.items():
        if service is None or service.mode == "dnsrr":
            continue
        answering = {address for addresses in known.serving.get(service_id, {}).values() for address in addresses}
        mine = [vip for vip in first_of_each((service.vip, service.vip6)) if vip.version in known.versions]
        for vip in mine:
            old = before.get(vip)
            backends = virtual_services.in_order(
                old.backends if old is not None else (), {item for item in answering if item.version == vip.version}
            )
            new = known.services[vip] = after[vip] = VirtualService(backends, is_sticky(service))
            if new.backends:
                known.chains[vip.version, new.chain] += 1
        known.addresses_of[service_id] = tuple(mine)
    known.chains = +known.chains
    return before, after


def _services_of(endpoints: Iterable[NetworkEndpoint]) -> set[str]:
    return {endpoint.service_id for endpoint in endpoints if endpoint.service_id}


__all__ = ["AFFINITY_LABEL", "Services", "VirtualAddresses", "first_of_each", "is_sticky"]
