from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from enxame.errors import EnxameError, InvalidArgument, PermissionDenied
from enxame.network.ipam import DEFAULT_POOLS, AddressPool, SubnetPool, free_subnet, parse_subnet


def test_first_subnet_is_dockers() -> None:
    assert free_subnet(DEFAULT_POOLS, []) == IPv4Network("172.17.0.0/16")


def test_default_pools_hold_31_networks_and_then_say_so() -> None:
    taken: list[IPv4Network] = []
    for _ in range(31):
        taken.append(free_subnet(DEFAULT_POOLS, taken))
    assert taken[14:17] == [IPv4Network(text) for text in ("172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20")]
    with pytest.raises(EnxameError, match="could not find an available, non-overlapping IPv4 address pool"):
        free_subnet(DEFAULT_POOLS, taken)


subnets = st.builds(
    lambda number, prefix: IPv4Network((number, prefix), strict=False),
    st.integers(int(IPv4Address("10.0.0.0")), int(IPv4Address("10.0.255.255"))),
    st.integers(18, 30),
)


@given(st.lists(subnets, max_size=30))
def test_free_subnet_overlaps_nothing_that_is_taken(taken: list[IPv4Network]) -> None:
    pools = [SubnetPool(IPv4Network("10.0.0.0/16"), 24)]
    try:
        found = free_subnet(pools, taken)
    except EnxameError:
        assert all(any(part.overlaps(other) for other in taken) for part in pools[0].base.subnets(new_prefix=24))
    else:
        assert not any(found.overlaps(other) for other in taken)


@pytest.mark.parametrize("text", ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/24x", "fd00::/64", "x/24"])
def test_bad_subnet_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid CIDR block notation"):
        parse_subnet(text)


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


class PoolMachine(RuleBasedStateMachine):
    """Against a plain set."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = AddressPool(IPv4Network("10.9.0.0/28"))
        self.free = set(self.pool.subnet.hosts()) - {self.pool.gateway}
        self.used: set[IPv4Address] = set()

    @rule()
    def take_any(self) -> None:
        if not self.free:
            with pytest.raises(EnxameError, match="no available IPv4 addresses"):
                self.pool.take()
            return
        address = self.pool.take()
        assert address in self.free
        self.free.discard(address)
        self.used.add(address)

    @rule(number=st.integers(1, 14))
    def take_one(self, number: int) -> None:
        address = IPv4Address("10.9.0.0") + number
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


TestPool = PoolMachine.TestCase
