from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from enxame.errors import EnxameError, InvalidArgument, PermissionDenied
from enxame.network.address_pool import AddressPool, AddressPool6
from enxame.network.address_pools import Addresses4, AddressPools


def two() -> Addresses4:
    return AddressPools(
        [
            AddressPool(IPv4Network("10.1.0.0/24"), ip_range=IPv4Network("10.1.0.64/31")),
            AddressPool(IPv4Network("10.2.0.0/29"), gateway=IPv4Address("10.2.0.6"), name="app"),
        ]
    )


def test_addresses_come_from_the_first_subnet_with_a_free_one() -> None:
    pools = two()
    found = [str(pools.take()) for _ in range(3)]
    assert found == ["10.1.0.65", "10.2.0.1", "10.2.0.2"], "the first one's gateway is of its range"
    pools.give_back(IPv4Address("10.1.0.65"))
    assert str(pools.take()) == "10.1.0.65"


def test_only_when_all_subnets_are_full_none_is_left() -> None:
    pools = two()
    for _ in range(6):
        pools.take()
    with pytest.raises(EnxameError, match="no available IPv4 addresses on this network's address pools: app"):
        pools.take()
    assert str(pools.take(IPv4Address("10.1.0.7"))) == "10.1.0.7", "outside the range, but asked for"


def test_an_address_asked_for_may_be_of_any_subnet() -> None:
    pools = two()
    assert str(pools.take(IPv4Address("10.2.0.3"))) == "10.2.0.3"
    assert IPv4Address("10.2.0.3") in pools
    with pytest.raises(PermissionDenied, match="Address already in use"):
        pools.take(IPv4Address("10.2.0.3"))
    for text in ("10.3.0.1", "10.2.0.7"):
        with pytest.raises(InvalidArgument, match=f"Invalid address {text}: It does not belong to any of this"):
            pools.take(IPv4Address(text))
    pools.give_back(IPv4Address("10.2.0.3"))
    pools.give_back(IPv4Address("10.3.0.1"))
    assert IPv4Address("10.2.0.3") not in pools


def test_each_subnet_has_its_gateway_and_prefix() -> None:
    pools = two()
    assert [str(gateway) for gateway in pools.gateways] == ["10.1.0.64/24", "10.2.0.6/29"]
    assert str(pools.gateway_of(IPv4Address("10.2.0.3"))) == "10.2.0.6"
    assert str(pools.interface(IPv4Address("10.2.0.3"))) == "10.2.0.3/29"
    assert pools.is_gateway(IPv4Address("10.2.0.6"))
    assert not pools.is_gateway(IPv4Address("10.2.0.1"))
    pools.give_back(IPv4Address("10.2.0.6"))
    assert IPv4Address("10.2.0.6") in pools
    with pytest.raises(InvalidArgument, match="does not belong"):
        pools.gateway_of(IPv4Address("10.3.0.1"))


def test_ipv6_works_alike() -> None:
    pools = AddressPools([AddressPool6(IPv6Network("fd00:1::/126")), AddressPool6(IPv6Network("fd00:2::/64"))])
    assert [str(pools.take()) for _ in range(3)] == ["fd00:1::2", "fd00:1::3", "fd00:2::2"]
    assert str(pools.interface(IPv6Address("fd00:2::9"))) == "fd00:2::9/64"
    assert pools.subnets == [IPv6Network("fd00:1::/126"), IPv6Network("fd00:2::/64")]
