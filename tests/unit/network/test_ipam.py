from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.errors import EnxameError, InvalidArgument
from enxame.network.ipam import DEFAULT_POOLS, SubnetPool, free_subnet, parse_subnet


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
