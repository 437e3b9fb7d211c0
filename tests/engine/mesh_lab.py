"""What a manager tells a machine of the swarm: networks, services with published ports, their tasks."""

from __future__ import annotations

from dataclasses import dataclass

from enxame.engine.sandbox import SandboxInfo
from enxame.model.container import EndpointIPAMConfig, EndpointSettings
from enxame.model.dispatch import NetworkEndpoint, NetworkService, NetworkTable
from enxame.model.network import IPAMConfig, IPAMOptions, Network, NetworkSpec
from enxame.model.service import PortConfig
from tests.engine.network_machine import Machine


def swarm_network(name: str, subnet: str, *, ingress: bool = False) -> Network:
    gateway = subnet.replace("0/24", "1")
    return Network(
        id=f"{name:0<25}",
        spec=NetworkSpec(name=name, ingress=ingress),
        ipam_options=IPAMOptions(configs=[IPAMConfig(subnet=subnet, gateway=gateway)]),
    )


def at(address: str) -> EndpointSettings:
    return EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address=address))


@dataclass
class Mesh:
    """A service with one published port, and the addresses of its tasks."""

    service: NetworkService
    endpoints: list[NetworkEndpoint]


def ingress(port: int, *addresses: str, target: int = 80, protocol: str = "tcp", service: str = "s1") -> Mesh:
    ports = [PortConfig(protocol=protocol, target_port=target, published_port=port, publish_mode="ingress")]
    return Mesh(
        NetworkService(id=f"{service}-{port}", name=service, ports=ports),
        [
            NetworkEndpoint(
                id=f"{port}-{address}",
                service_id=f"{service}-{port}",
                addresses=[address],
                serving=True,
                ports=ports,
            )
            for address in addresses
        ],
    )


async def tasks(machine: Machine, count: int) -> list[tuple[str, SandboxInfo]]:
    network = swarm_network("ingress", "10.0.0.0/24", ingress=True)
    with machine.lab.within_host():
        await machine.manager.ensure_swarm_network(network)
        await machine.manager.ensure_swarm_network(network)
    made = []
    for number in range(count):
        container_id, info = await machine.connect(
            endpoints={network.id: at(f"10.0.0.{number + 3}")}, waits_to_serve=True
        )
        machine.serve(info.netns_path, 80, f"task{number}")
        made.append((container_id, info))
    return made


async def set_ingress(machine: Machine, *published: Mesh) -> None:
    table = NetworkTable(
        network_id=f"{'ingress':0<25}",
        complete=True,
        services=[mesh.service for mesh in published],
        endpoints=[endpoint for mesh in published for endpoint in mesh.endpoints],
    )
    with machine.lab.within_host():
        await machine.manager.set_network_tables([table], complete=True)
