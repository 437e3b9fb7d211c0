"""Names on swarm networks, as the manager's tables have them: services, their tasks, and containers of all machines."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from enxame.engine.networks.names import NameTable
from enxame.engine.networks.tables import KnownTable, NetworkTables, TableChange
from enxame.model.dispatch import NetworkEndpoint, NetworkService

_log = logging.getLogger(__name__)
_ROUND_ROBIN: Final = "dnsrr"


class SwarmNames:
    """Keeps a table of names in step. A service's name leads to its virtual address, or else to its tasks; only those
    that serve are named. What others begin with a name of ours is answered at once, even when nobody bears it now.
    """

    def __init__(self, names: NameTable, tables: NetworkTables) -> None:
        self._names = names
        self._tables = tables
        tables.subscribe(self._changed)

    def load(self) -> None:
        """Take up what an earlier daemon was told."""
        for table in self._tables:
            self._tell_all(table)

    async def _changed(self, changes: Sequence[TableChange]) -> None:
        for change in changes:
            self._change(change)

    def _tell_all(self, table: KnownTable) -> None:
        self._names.network(table.network_id).whole = True
        for service in table.services.values():
            self._tell_service(table, service)
        for endpoint in table.endpoints.values():
            self._tell_endpoint(table, endpoint)

    def _change(self, change: TableChange) -> None:
        table, network_id = change.table, change.network_id
        for id_, (_, endpoint) in change.endpoints.items():
            if endpoint is None:
                self._names.forget(network_id, _endpoint_key(id_))
            else:
                self._tell_endpoint(table, endpoint)
        turned: set[str] = set()
        for id_, (before, service) in change.services.items():
            if service is None:
                self._names.forget(network_id, _service_key(id_))
            else:
                self._tell_service(table, service)
            if before is None or service is None or _of_tasks(before) != _of_tasks(service):
                turned.add(id_)
        for endpoint in table.endpoints.values() if turned else ():
            if endpoint.service_id in turned:
                self._tell_endpoint(table, endpoint)
        if not change.gone:
            self._names.network(network_id).whole = True

    def _tell_service(self, table: KnownTable, service: NetworkService) -> None:
        shared = [service.name, *service.aliases]
        tasks = f"tasks.{service.name}"
        if service.mode == _ROUND_ROBIN or not service.vip:
            self._names.tell(table.network_id, _service_key(service.id), (), (b"", b""), silent=[*shared, tasks])
        else:
            addresses = packed(vip for vip in (service.vip, service.vip6) if vip)
            self._names.tell(table.network_id, _service_key(service.id), shared, addresses, silent=[tasks])

    def _tell_endpoint(self, table: KnownTable, endpoint: NetworkEndpoint) -> None:
        service = table.services.get(endpoint.service_id)
        names = [*endpoint.names, *(_of_tasks(service) if service is not None else ())]
        if service is None:
            names += endpoint.aliases
        spoken, silent = (names, ()) if endpoint.serving else ((), names)
        addresses = packed(endpoint.addresses)
        self._names.tell(table.network_id, _endpoint_key(endpoint.id), spoken, addresses, silent=silent)


def packed(addresses: Iterable[str]) -> tuple[bytes, bytes]:
    """The first IPv4 and the first IPv6 address; empty for none."""
    four, six = b"", b""
    for text in addresses:
        try:
            address = ip_address(text.partition("/")[0])
        except ValueError:
            _log.error("the manager named an address that is none: %s", text)
            continue
        if isinstance(address, IPv4Address):
            four = four or address.packed
        elif isinstance(address, IPv6Address):
            six = six or address.packed
    return four, six


def _of_tasks(service: NetworkService) -> tuple[str, ...]:
    """The names of a service that lead to its tasks."""
    tasks = f"tasks.{service.name}"
    if service.mode == _ROUND_ROBIN or not service.vip:
        return (tasks, service.name, *service.aliases)
    return (tasks,)


def _service_key(service_id: str) -> str:
    return f"service {service_id}"


def _endpoint_key(endpoint_id: str) -> str:
    return f"endpoint {endpoint_id}"
