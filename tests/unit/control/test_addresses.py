from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enxame.control.addresses import AddressPool
from enxame.control.ports import DYNAMIC_FIRST, DYNAMIC_LAST, NoPortFree, PortTable, PortTaken
from enxame.control.subnets import SubnetPool
from enxame.model.service import PortConfig


@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=60), st.integers(24, 30))
def test_no_address_is_given_twice_and_all_are_given_before_none(steps: list[int | None], length: int) -> None:
    pool = AddressPool(f"10.1.2.0/{length}", reserved=("10.1.2.1",))
    held: list[str] = []
    for step in steps:
        if step is not None and held:
            pool.release(held.pop(step % len(held)))
            continue
        address = pool.take()
        if address is None:
            assert len(held) == 2 ** (32 - length) - 3
        else:
            assert address not in held
            assert ipaddress.ip_interface(address).ip in pool.network
            held.append(address)
    assert len(pool.taken()) == len(held) + 1


def test_a_freed_address_rests_as_long_as_it_can() -> None:
    pool = AddressPool("10.0.0.0/29")
    first = pool.take()
    assert first == "10.0.0.1/29"
    pool.release(first)
    assert [pool.take() for _ in range(6)] == [f"10.0.0.{n}/29" for n in (2, 3, 4, 5, 6, 1)]
    assert pool.take() is None


@pytest.mark.parametrize(
    ("address", "claimed"), [("10.0.0.5/29", True), ("10.0.0.5", True), ("10.0.1.5", False), ("x", False)]
)
def test_only_an_address_of_the_subnet_can_be_claimed(address: str, claimed: bool) -> None:
    pool = AddressPool("10.0.0.0/29")
    assert pool.claim(address) is claimed
    assert not pool.claim(address)


def test_a_range_bounds_what_is_given() -> None:
    pool = AddressPool("10.0.0.0/24", ip_range="10.0.0.8/30")
    assert [pool.take() for _ in range(5)] == [f"10.0.0.{n}/24" for n in (8, 9, 10, 11)] + [None]


def test_addresses_outside_the_range_are_had_by_those_who_ask_and_count_for_nothing() -> None:
    pool = AddressPool("10.0.0.0/24", ip_range="10.0.0.8/31", reserved=("10.0.0.1", "10.0.0.9"))
    assert pool.claim("10.0.0.200")
    assert [pool.take(), pool.take()] == ["10.0.0.8/24", None]
    pool.release("10.0.0.200")
    pool.release("10.0.1.8")
    assert pool.take() is None
    pool.release("10.0.0.8")
    pool.release("10.0.0.8")
    assert [pool.take(), pool.take()] == ["10.0.0.8/24", None]


def test_the_gateway_is_the_first_address_that_is_not_reserved() -> None:
    assert AddressPool("10.0.0.0/24", reserved=("10.0.0.1", "10.0.0.2")).first == "10.0.0.3"
    assert AddressPool("fd00::/64").first == "fd00::1"


def test_version_six_works_alike() -> None:
    pool = AddressPool("fd00::/64", reserved=("fd00::1",))
    assert pool.take() == "fd00::2/64"


def test_subnets_never_overlap() -> None:
    pool = SubnetPool()
    pool.configure(["10.0.0.0/22", "10.5.0.0/24"], 24)
    assert pool.claim("mine", "10.0.1.128/25") is None
    taken = [pool.take(f"n{i}") for i in range(5)]
    assert taken == ["10.0.0.0/24", "10.0.2.0/24", "10.0.3.0/24", "10.5.0.0/24", None]
    assert pool.claim("other", "10.0.2.7/32") == "n1"
    pool.release("n1")
    assert pool.take("n9") == "10.0.2.0/24"


def port(published: int, protocol: str = "tcp") -> PortConfig:
    return PortConfig(protocol=protocol, target_port=80, published_port=published, publish_mode="ingress")


def test_a_port_is_one_services_for_each_protocol() -> None:
    table = PortTable()
    table.assign("a", [port(8080)], [])
    table.assign("b", [port(8080, "udp")], [])
    with pytest.raises(PortTaken) as caught:
        table.assign("b", [port(9090), port(8080)], [])
    assert (caught.value.port, caught.value.owner) == (8080, "a")
    assert table.ledger() == {(8080, "tcp"): "a", (8080, "udp"): "b"}, "nothing changed"
    table.release("a")
    assert table.assign("b", [port(8080)], []) == [port(8080)]


def test_dynamic_ports_run_out_with_a_word() -> None:
    table = PortTable()
    for number in range(DYNAMIC_LAST - DYNAMIC_FIRST + 1):
        assert table.assign(f"s{number}", [port(0)], [])[0].published_port == DYNAMIC_FIRST + number
    with pytest.raises(NoPortFree, match="no dynamic port"):
        table.assign("one more", [port(0)], [])


def test_address_given_back_before_a_restart_rests_after_it() -> None:
    pool = AddressPool("10.0.0.0/24", reserved=("10.0.0.1",))
    for address in ("10.0.0.9", "10.0.0.3"):  # in any order; .4 was given back
        assert pool.claim(address)
    assert pool.take() == "10.0.0.10/24"
