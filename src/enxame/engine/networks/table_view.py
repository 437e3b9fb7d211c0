"""Who is on a swarm network, as ``network inspect`` shows it. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from enxame.engine.networks.tables import KnownTable
from enxame.model.dispatch import NetworkEndpoint, NetworkService
from enxame.model.network import NetworkResource, PeerInfo, ServiceEndpoint, ServiceOnNetwork


def with_table(resource: NetworkResource, table: KnownTable | None, *, verbose: bool) -> NetworkResource:
    """The network with the machines that take part and, with ``verbose``, its services; containers outside services are
    as of one without a name.
    """
    if table is None:
        return resource
    peers = sorted(table.peers.values(), key=lambda peer: (peer.name, peer.id))
    shown = replace(resource, peers=[PeerInfo(name=f"{peer.name}-{peer.id[:12]}", ip=peer.data_path) for peer in peers])
    if not verbose:
        return shown
    endpoints: dict[str, list[NetworkEndpoint]] = {}
    for endpoint in table.endpoints.values():
        if endpoint.serving:
            endpoints.setdefault(endpoint.service_id, []).append(endpoint)
    services = sorted(table.services.values(), key=lambda service: service.name)
    if "" in endpoints:
        services = [NetworkService(), *services]
    return replace(shown, services={item.name: _service(item, endpoints.get(item.id, [])) for item in services})


def _service(service: NetworkService, endpoints: list[NetworkEndpoint]) -> ServiceOnNetwork:
    return ServiceOnNetwork(
        vip=service.vip or "<nil>",
        vip6=service.vip6,
        ports=[f"Target: {port.target_port}, Publish: {port.published_port}" for port in service.ports],
        tasks=[
            ServiceEndpoint(
                name=endpoint.names[0] if endpoint.names else "",
                endpoint_id=endpoint.id,
                endpoint_ip=next((item for item in endpoint.addresses if ":" not in item), ""),
                endpoint_ipv6=next((item for item in endpoint.addresses if ":" in item), ""),
                info={"Host IP": endpoint.data_path},
            )
            for endpoint in sorted(endpoints, key=lambda item: item.names)
        ],
    )
