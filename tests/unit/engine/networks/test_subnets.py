from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest

from enxame.engine.networks import subnets
from enxame.errors import EnxameError, InvalidArgument, PermissionDenied
from enxame.model.network import IPAM, IPAMConfig
from enxame.network.ipam import DEFAULT_POOLS

TWO = [IPAMConfig(subnet="10.7.0.0/24"), IPAMConfig(subnet="10.8.0.9/24", gateway="10.8.0.254")]
TWO6 = [IPAMConfig(subnet="fd00:7::/64"), IPAMConfig(subnet="fd00:8::/64")]


def settled(*configs: IPAMConfig, own: str = "10.1.0.0/24") -> list[IPAMConfig]:
    return subnets.settled(configs, [IPv4Network(own)], [IPv4Network("172.17.0.0/16")], DEFAULT_POOLS)


def test_only_networks_on_the_wire_have_several_subnets() -> None:
    both = IPAM(config=[TWO6[0], TWO[0], TWO6[1], TWO[1]])
    assert subnets.asked(both, "macvlan") == (TWO, TWO6)
    one_each = IPAM(config=[TWO6[0], TWO[0]])
    assert subnets.asked(one_each, "bridge") == ([TWO[0]], [TWO6[0]])
    for ipam in (IPAM(config=TWO), IPAM(config=[TWO[0], *TWO6])):
        with pytest.raises(PermissionDenied, match=r"^bridge driver doesn't support multiple subnets$"):
            subnets.asked(ipam, "bridge")
        subnets.check(ipam)


def test_all_that_are_asked_for_are_settled_and_overlap_with_nothing() -> None:
    assert [config.subnet for config in settled(*TWO)] == ["10.7.0.0/24", "10.8.0.0/24"]
    assert settled(*TWO)[1].gateway == "10.8.0.254"
    assert [config.subnet for config in subnets.settled6(TWO6, [])] == ["fd00:7::/64", "fd00:8::/64"]
    with pytest.raises(PermissionDenied, match="Pool overlaps"):
        settled(*TWO, own="10.8.0.128/25")
    with pytest.raises(PermissionDenied, match="Pool overlaps"):
        settled(TWO[0], IPAMConfig(subnet="10.7.0.0/25"))
    with pytest.raises(PermissionDenied, match="Pool overlaps"):
        subnets.settled6(TWO6, [IPv6Network("fd00:8::/48")])


@pytest.mark.parametrize(
    "configs",
    [
        [IPAMConfig(gateway="10.0.0.1")],
        [TWO[0], IPAMConfig()],
        [TWO[0], IPAMConfig(subnet="10.9.0.0")],
    ],
)
def test_what_has_no_subnet_is_refused(configs: list[IPAMConfig]) -> None:
    with pytest.raises(EnxameError, match=r"needs a subnet|invalid subnet"):
        settled(*configs)
    with pytest.raises(InvalidArgument, match="CIDR"):
        subnets.check(IPAM(config=[IPAMConfig(subnet="nonsense")]))


def test_without_a_wish_a_free_one_is_found() -> None:
    assert settled() == settled(IPAMConfig()) == [IPAMConfig(subnet="172.18.0.0/16")]
    (config,) = subnets.settled6([], [])
    assert config.subnet.startswith("fd")
