"""Keeps names and resolvers in step with who is connected: one view for each container on a network with names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from enxame.engine.networks import name_files
from enxame.engine.networks.names import NameTable, View
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.engine.networks.sandbox_records import SandboxRecord
from enxame.engine.networks.swarm_names import SwarmNames
from enxame.engine.networks.tables import NetworkTables
from enxame.errors import EnxameError
from enxame.model.container import EndpointSettings
from enxame.network.dataplane import DataPlane
from enxame.network.dns_server import DnsServer

_log = logging.getLogger(__name__)


class NameService:
    """All names of this machine's containers, and who may ask for them."""

    def __init__(self, registry: NetworkRegistry, dataplane: DataPlane, tables: NetworkTables) -> None:
        self._registry = registry
        self._dataplane = dataplane
        self._table = NameTable()
        self._swarm = SwarmNames(self._table, tables)
        self._server = DnsServer(dataplane.new_socket)
        self._views: dict[str, View] = {}

    def load(self) -> None:
        """Take up what an earlier daemon was told of the swarm's networks."""
        self._swarm.load()

    async def close(self) -> None:
        """Stop answering."""
        await self._server.close()

    def tell(self, record: SandboxRecord) -> None:
        """Publish what a container is called; replaces what was told of it before. Its own view follows."""
        places = self._places(record)
        for network, endpoint in places:
            names = endpoint.dns_names or []
            silent: Sequence[str] = ()
            if record.request.waits_to_serve and (network.has_table or not record.serving):
                shared = frozenset(endpoint.aliases or ())
                names = [name for name in names if name not in shared]
                # What it shares with others is the service's where the manager says when it leads where.
                silent = () if network.has_table else endpoint.aliases or ()
            self._names_of(network)
            self._table.tell(
                network.resource.id,
                record.container_id,
                names,
                _packed(endpoint),
                silent=silent,
            )
        view = self._views.get(record.container_id)
        if view is not None:
            self._look(view, places)
            self._server.set_servers(record.container_id, self._outside(record))

    def forget(self, record: SandboxRecord, network_ids: Sequence[str] | None = None) -> None:
        """A container left these networks (None: all)."""
        for endpoint in record.info.endpoints.values():
            if network_ids is None or endpoint.network_id in network_ids:
                self._table.forget(endpoint.network_id, record.container_id)

    def drop(self, network_id: str) -> None:
        """A network is no more."""
        self._table.drop(network_id)

    def wanted(self, record: SandboxRecord) -> bool:
        """Whether a container is on a network with names."""
        return bool(record.info.netns_path) and bool(self._places(record))

    async def serve(self, record: SandboxRecord, *, again: bool = False) -> None:
        """Answer a container's questions from now on, when it is on a network with names. ``again``: an earlier
        daemon may have done so.

        Raises:
            EnxameError: its namespace has no room for the resolver.
        """
        if not self.wanted(record) or self._server.serves(record.container_id):
            return
        sockets = await self._dataplane.open_resolver(Path(record.info.netns_path), again=again)
        view = self._views[record.container_id] = View()
        self._look(view, self._places(record))
        self._server.serve(record.container_id, view, self._outside(record), sockets)

    async def serve_again(self, records: Sequence[SandboxRecord]) -> None:
        """After a restart of the daemon."""
        for record in records:
            try:
                await self.serve(record, again=True)
            except EnxameError as error:
                _log.error("container %s has no name resolution: %s", record.name, error)

    def leave(self, container_id: str) -> None:
        """Answer a container no more. Idempotent."""
        self._server.leave(container_id)
        self._views.pop(container_id, None)

    def resolv_conf(self, record: SandboxRecord) -> str:
        """The text of a container's resolver file."""
        request = record.request
        if self.wanted(record):
            return name_files.embedded_resolv_text(search=request.dns_search, options=request.dns_options)
        return name_files.resolv_text(servers=request.dns, search=request.dns_search, options=request.dns_options)

    def _places(self, record: SandboxRecord) -> list[tuple[ActiveNetwork, EndpointSettings]]:
        found = ((self._registry.by_id(item.network_id), item) for item in record.info.endpoints.values())
        return [(network, item) for network, item in found if network is not None and network.has_names]

    def _outside(self, record: SandboxRecord) -> list[str]:
        """Whom to ask for other names: nobody for a container that only is on internal networks."""
        networks = [self._registry.by_id(item.network_id) for item in record.info.endpoints.values()]
        if all(network is None or network.resource.internal for network in networks):
            return []
        return name_files.outside_servers(record.request.dns)

    def _names_of(self, network: ActiveNetwork) -> None:
        resource = network.resource
        self._table.network(resource.id, resource.name, whole=not network.has_table)

    def _look(self, view: View, places: Sequence[tuple[ActiveNetwork, EndpointSettings]]) -> None:
        view.clear()
        for network, endpoint in places:
            self._names_of(network)
            names = self._table.network(network.resource.id)
            links = dict(_link(text) for text in endpoint.links or ())
            # On the wire there are others, of whom somebody else may know.
            known = network.bridge is not None and not network.bridge.parent
            view.add(names, links, network.subnets() if known else ())


def _link(text: str) -> tuple[str, str]:
    """``container:alias`` as alias and container; either may have slashes."""
    target, _, alias = text.partition(":")
    target = target.rpartition("/")[2]
    alias = alias.rpartition("/")[2] or target
    if len(target) == 64 and set(target) <= set("0123456789abcdef"):
        target = target[:12]
    return alias.lower(), target.lower()


def _packed(endpoint: EndpointSettings) -> tuple[bytes, bytes]:
    four, six = endpoint.ip_address, endpoint.global_ipv6_address
    return IPv4Address(four).packed if four else b"", IPv6Address(six).packed if six else b""
