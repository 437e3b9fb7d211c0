from __future__ import annotations

from datetime import UTC, datetime

import pytest

from enxame.engine.networks.endpoints import take_address, take_address6, way_out
from enxame.engine.networks.registry import ActiveNetwork
from enxame.errors import InvalidArgument
from enxame.model.container import EndpointIPAMConfig, EndpointSettings
from enxame.model.network import IPAM, IPAMConfig, NetworkResource

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def network(name: str, *, ipv6: bool = False, driver: str = "bridge", **fields: bool) -> ActiveNetwork:
    number = sum(name.encode())
    subnets = [f"10.{number % 256}.0.0/24", *([f"fd00:{number:x}::/64"] if ipv6 else [])]
    config = [IPAMConfig(subnet=subnet) for subnet in subnets]
    return ActiveNetwork.of(
        NetworkResource(
            name=name, id=name * 20, created=NOW, driver=driver, enable_ipv6=ipv6, ipam=IPAM(config=config), **fields
        )
    )


def exits(*networks: ActiveNetwork) -> list[str]:
    """The networks of the default routes, IPv4 and IPv6."""
    places = [(item, EndpointSettings()) for item in networks]
    found = [way_out(places, version) for version in (4, 6)]
    return [item.resource.name if item is not None else "" for item in found]


def test_each_version_of_ip_has_its_way_out_through_a_network_that_has_it() -> None:
    mesh, back, both = network("mesh", ipv6=True, ingress=True), network("back"), network("both", ipv6=True)
    assert exits(mesh) == ["mesh", "mesh"]
    assert exits(mesh, back) == ["back", "mesh"]
    assert exits(mesh, back, both) == ["back", "both"]
    assert exits(back) == ["back", ""]
    assert exits(network("shut", ipv6=True, internal=True), back) == ["back", ""]


def test_an_ipv6_address_of_the_managers_is_not_for_a_machine_without() -> None:
    asked = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv6_address="fd00::9"))
    assert take_address6(network("a", driver="overlay"), asked) is None
    with pytest.raises(InvalidArgument, match="user specified IP address is supported only"):
        take_address6(network("a"), asked)


def test_addresses_of_an_overlay_are_the_managers_and_of_others_this_machines() -> None:
    with pytest.raises(InvalidArgument, match="the manager gave no address"):
        take_address(network("a", driver="overlay"), EndpointSettings())
    assert str(take_address(network("a"), EndpointSettings())).endswith(".0.2")


def test_a_swarm_network_whose_packets_are_too_small_has_no_ipv6_here() -> None:
    options = {"com.docker.network.driver.mtu": "1200"}
    config = [IPAMConfig(subnet=item) for item in ("10.0.0.0/24", "10.0.1.0/24", "fd00::/64", "fd01::/64")]
    made = ActiveNetwork.of(
        NetworkResource(
            name="a", id="a" * 20, driver="overlay", enable_ipv6=True, ipam=IPAM(config=config), options=options
        )
    )
    assert made.pool6 is None
    assert made.bridge is not None
    assert (made.bridge.mtu, made.bridge.gateway6) == (1200, None)
    assert [str(address) for address in made.bridge.addresses] == ["10.0.0.1/24", "10.0.1.1/24"]
