"""Networks and services for tests of what the leader gives them, and a look at what they were given."""

from __future__ import annotations

import ipaddress

from msgspec.structs import replace

from enxame.control.network_state import VXLAN_OPTION
from enxame.model.cluster import Driver
from enxame.model.network import ConfigFrom, IPAMConfig, IPAMOptions, Network, NetworkSpec
from enxame.model.node import EngineDescription, NodeDescription, NodeResources, PluginDescription
from enxame.model.service import EndpointSpec, PortConfig, Service
from tests.unit.control.lab import Lab


def network(lab: Lab, name: str, subnet: str = "", *, gateway: str = "") -> Network:
    options = IPAMOptions(configs=[IPAMConfig(subnet=subnet, gateway=gateway)]) if subnet else None
    lab.put(Network(id=f"{name}-id", spec=NetworkSpec(name=name, ipam_options=options)))
    lab.settle()
    found = lab.store.view.get(Network, f"{name}-id")
    assert found is not None
    return found


def subnet(net: Network) -> str:
    assert net.ipam_options is not None
    return net.ipam_options.configs[0].subnet


def configs(lab: Lab, network_id: str) -> list[IPAMConfig]:
    network = lab.store.view.get(Network, network_id)
    assert network is not None
    assert network.ipam_options is not None
    return network.ipam_options.configs


def vxlan_ids(lab: Lab) -> dict[str, str]:
    return {
        network.id: network.driver_state.options[VXLAN_OPTION] if network.driver_state else ""
        for network in lab.store.view.all(Network)
    }


def published(*ports: int, mode: str = "ingress") -> dict[str, EndpointSpec]:
    configs = [PortConfig(target_port=80 + i, published_port=port, publish_mode=mode) for i, port in enumerate(ports)]
    return {"endpoint_spec": EndpointSpec(ports=configs)}


def ports_of(lab: Lab, service: Service) -> list[int]:
    return [port.published_port for port in lab.get(service).endpoint.ports]


def addresses(lab: Lab, service: Service) -> list[str]:
    return [a for t in lab.tasks(service) for attachment in t.networks_attachments for a in attachment.addresses]


def ipv6_network(lab: Lab, name: str, *, ingress: bool = False, subnet: str = "") -> None:
    options = IPAMOptions(configs=[IPAMConfig(subnet=subnet)]) if subnet else None
    spec = NetworkSpec(name=name, ipv6_enabled=True, ingress=ingress, ipam_options=options)
    lab.put(Network(id=f"{name}-id", spec=spec))
    lab.settle()


WIDE = ("192.168.1.0/29", "192.170.0.0/24", "fd00:1::/125", "fd00:2::/64")


def wide_network(lab: Lab, name: str = "wide") -> None:
    configs = [IPAMConfig(subnet=subnet) for subnet in WIDE]
    configs[1] = replace(configs[1], gateway="192.170.0.100", auxiliary_addresses={"router": "192.170.0.1"})
    options = IPAMOptions(configs=configs)
    lab.put(Network(id=name, spec=NetworkSpec(name=name, ipv6_enabled=True, attachable=True, ipam_options=options)))
    lab.settle()


def subnets_of(found: list[str]) -> list[str]:
    """The subnets of addresses, those of IPv4 first, in the order of the network."""
    inside = {str(ipaddress.ip_interface(address).network) for address in found}
    return sorted(inside, key=WIDE.index)


def made_by_nodes(lab: Lab, name: str, driver: str, subnet: str = "") -> Network:
    options = IPAMOptions(driver=Driver(name="default"), configs=[IPAMConfig(subnet=subnet)] if subnet else [])
    spec = NetworkSpec(name=name, driver_configuration=Driver(name=driver), ipam_options=options, scope="swarm")
    lab.put(Network(id=f"{name}-id", spec=replace(spec, config_from=ConfigFrom(network="plan"))))
    lab.settle()
    found = lab.store.view.get(Network, f"{name}-id")
    assert found is not None
    return found


def with_plugin(name: str) -> NodeDescription:
    return NodeDescription(
        hostname="n1",
        engine=EngineDescription(plugins=[PluginDescription(type="Network", name=name)]),
        resources=NodeResources(nano_cpus=4 * 10**9, memory_bytes=8 << 30),
    )
