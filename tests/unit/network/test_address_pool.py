from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from enxame.errors import EnxameError, InvalidArgument, PermissionDenied
from enxame.network.address_pool import AddressPool, AddressPool6


def test_addresses_go_out_in_turn_after_the_gateway() -> None:
    pool = AddressPool(IPv4Network("172.17.0.0/16"))
    assert str(pool.gateway) == "172.17.0.1"
    first, second = pool.take(), pool.take()
    assert (str(first), str(second)) == ("172.17.0.2", "172.17.0.3")
    pool.give_back(first)
    assert str(pool.take()) == "172.17.0.4", "an address rests before it is used again"


def test_range_limits_what_is_given_but_not_what_may_be_asked_for() -> None:
    pool = AddressPool(
        IPv4Network("10.1.0.0/24"), ip_range=IPv4Network("10.1.0.128/30"), gateway=IPv4Address("10.1.0.1")
    )
    assert [str(pool.take()) for _ in range(4)] == [f"10.1.0.{number}" for number in (128, 129, 130, 131)]
    with pytest.raises(EnxameError, match="no available IPv4 addresses"):
        pool.take()
    assert str(pool.take(IPv4Address("10.1.0.7"))) == "10.1.0.7"


def test_reserved_addresses_are_left_alone() -> None:
    pool = AddressPool(IPv4Network("10.1.0.0/29"), reserved=[IPv4Address("10.1.0.2"), IPv4Address("10.1.0.3")])
    assert [str(pool.take()) for _ in range(3)] == ["10.1.0.4", "10.1.0.5", "10.1.0.6"]


@pytest.mark.parametrize("text", ["10.1.0.0", "10.1.0.255", "10.2.0.1"])
def test_address_outside_the_subnet_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"Invalid address {text}: It does not belong to any of this network's"):
        AddressPool(IPv4Network("10.1.0.0/24")).take(IPv4Address(text))


def test_subnet_without_room_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no room"):
        AddressPool(IPv4Network("10.1.0.0/31"))


def test_an_ipv6_subnet_has_no_broadcast_address_and_no_first_one() -> None:
    pool = AddressPool6(IPv6Network("fd00::/126"))
    assert [str(address) for address in (pool.gateway, pool.take(), pool.take())] == ["fd00::1", "fd00::2", "fd00::3"]
    with pytest.raises(EnxameError, match="no available IPv6 addresses on this network's address pools: fd00::/126"):
        pool.take()
    for text in ("fd00::", "fd01::1"):
        with pytest.raises(InvalidArgument, match=f"Invalid address {text}: It does not belong"):
            pool.take(IPv6Address(text))


class PoolMachine(RuleBasedStateMachine):
    """Against a plain set."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = self.make()
        self.free = set(self.pool.subnet.hosts()) - {self.pool.gateway}
        self.used: set[Any] = set()

    def make(self) -> Any:
        return AddressPool(IPv4Network("10.9.0.0/28"))

    @rule()
    def take_any(self) -> None:
        if not self.free:
            with pytest.raises(EnxameError, match=r"no available IPv[46] addresses"):
                self.pool.take()
            return
        address = self.pool.take()
        assert address in self.free
        self.free.discard(address)
        self.used.add(address)

    @rule(number=st.integers(1, 14))
    def take_one(self, number: int) -> None:
        address = self.pool.subnet.network_address + number
        if address in self.free:
            assert self.pool.take(address) == address
            self.free.discard(address)
            self.used.add(address)
        else:
            with pytest.raises(PermissionDenied, match="Address already in use"):
                self.pool.take(address)

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.used)))
        self.pool.give_back(address)
        self.pool.give_back(address)
        self.used.discard(address)
        self.free.add(address)

    @rule()
    def gateway_stays(self) -> None:
        self.pool.give_back(self.pool.gateway)

    @invariant()
    def what_is_used_is_known(self) -> None:
        assert all(address in self.pool for address in self.used | {self.pool.gateway})
        assert not any(address in self.pool for address in self.free)


class PoolMachine6(PoolMachine):
    """Of IPv6."""

    def make(self) -> Any:
        return AddressPool6(IPv6Network("fd00::/124"))


TestPool = PoolMachine.TestCase
TestPool6 = PoolMachine6.TestCase
