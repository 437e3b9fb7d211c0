"""Who answers which published port of the routing mesh, from the tables of ingress networks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from enxame.engine.networks.tables import KnownTable
from enxame.engine.networks.virtual_addresses import AFFINITY_LABEL, first_of_each
from enxame.model.dispatch import NetworkEndpoint, NetworkService
from enxame.model.service import PortConfig
from enxame.network.ingress import Backend, PortKey, Published
from enxame.network.rtnetlink import Address

#: The service's label for whom a machine sends connections to: with ``local`` only to its own tasks.
POLICY_LABEL: Final = "enxame.network.ingress"

_Target = tuple[int, str, int]
#: The service and who answers, by port.
Wanted = dict[PortKey, tuple[str, Published]]


class PublishedServices:
    """Kept in step with one network's table. ``node_id``: this machine."""

    def __init__(self) -> None:
        self._serving: dict[str, dict[str, NetworkEndpoint]] = {}
        self._of_service: dict[str, Wanted] = {}

    @property
    def wanted(self) -> Wanted:
        """All ports."""
        return {key: entry for ports in self._of_service.values() for key, entry in ports.items()}

    def take(
        self,
        table: KnownTable,
        endpoints: Iterable[NetworkEndpoint],
        service_ids: Iterable[str],
        node_id: str,
    ) -> bool:
        """Bring in line with a table in which nothing else changed than these; whether any port did."""
        dirty = dict.fromkeys(service_ids)
        for endpoint in endpoints:
            now = table.endpoints.get(endpoint.id)
            serving = self._serving.setdefault(endpoint.service_id, {})
            if now is not None and now.serving and now.ports:
                serving[endpoint.id] = now
            else:
                serving.pop(endpoint.id, None)
                if not serving:
                    del self._serving[endpoint.service_id]
            dirty[endpoint.service_id] = None
        changed = False
        for service_id in dirty:
            service = table.services.get(service_id)
            ports = self._ports(service, node_id) if service is not None else {}
            if ports != self._of_service.get(service_id, {}):
                changed = True
                if ports:
                    self._of_service[service_id] = ports
                else:
                    del self._of_service[service_id]
        return changed

    def _ports(self, service: NetworkService, node_id: str) -> Wanted:
        serving = list(self._serving.get(service.id, {}).values())
        if service.labels.get(POLICY_LABEL, "").strip().lower() == "local":
            serving = [endpoint for endpoint in serving if endpoint.node_id == node_id]
        sticky = service.labels.get(AFFINITY_LABEL, "").strip().lower() == "source"
        addresses: dict[_Target, set[Address]] = {}
        for endpoint in serving:
            own = first_of_each(endpoint.addresses)
            for target in set(map(_target, endpoint.ports)):
                addresses.setdefault(target, set()).update(own)
        found: Wanted = {}
        for port in service.ports:
            backends = [Backend(address, port.target_port) for address in addresses.get(_target(port), ())]
            # In a fixed order, so that equal sets compare equal.
            key = port.protocol or "tcp", port.published_port
            found[key] = service.id, Published(tuple(sorted(backends, key=lambda backend: backend.order)), sticky)
        return found


def _target(port: PortConfig) -> _Target:
    """A task takes part with the ports that it was made with."""
    return port.published_port, port.protocol or "tcp", port.target_port
