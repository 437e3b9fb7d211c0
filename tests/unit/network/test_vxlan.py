"""What is asked of the kernel for tunnels; the kernel's part is in tests/engine."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from enxame.network import vxlan
from enxame.network.vxlan import Programmed, Remote

MACHINES = [ip_address("192.0.2.1"), ip_address("192.0.2.2")]


def remote(number: int, machine: int = 0) -> Remote:
    return Remote(bytes([2, 0x42, 10, 0, 0, number]), (ip_address(f"10.0.0.{number}"),), MACHINES[machine])


def knowing(*remotes: Remote) -> Programmed:
    return Programmed(
        {item.mac: item.machine for item in remotes},
        frozenset(item.mac for item in remotes),
        {address: item.mac for item in remotes for address in item.addresses},
    )


def test_a_machines_address_is_its_own_and_no_containers() -> None:
    macs = {vxlan.node_mac(f"node{number}") for number in range(1000)}
    assert len(macs) == 1000
    assert {mac[0] for mac in macs} == {6}
    assert {len(mac) for mac in macs} == {6}


def test_nothing_is_asked_when_all_is_known() -> None:
    assert vxlan.corrections(5, knowing(remote(2), remote(3)), [remote(2), remote(3)]) == []


def test_ghosts_go_and_strays_are_led_back() -> None:
    requests = vxlan.corrections(5, knowing(remote(2), remote(3)), [remote(3, machine=1), remote(4)])
    assert [request.what for request in requests] == [
        "forget a link address",
        "forget a link address",
        "forget the neighbour 10.0.0.2",
        "lead a link address to another machine",
        "tell the neighbour 10.0.0.3",
        "lead a link address to another machine",
        "tell the neighbour 10.0.0.4",
    ]


def test_what_only_one_of_bridge_tunnel_and_neighbours_lost_is_put_back() -> None:
    whole = knowing(remote(2))
    for have in (
        Programmed({}, whole.in_bridge, whole.neighbours),
        Programmed(whole.machines, frozenset(), whole.neighbours),
        Programmed(whole.machines, whole.in_bridge, {}),
    ):
        assert len(vxlan.corrections(5, have, [remote(2)])) == 2


@given(st.sets(st.integers(2, 9)), st.sets(st.integers(2, 9)))
def test_no_more_is_asked_than_differs(have: set[int], wanted: set[int]) -> None:
    requests = vxlan.corrections(5, knowing(*map(remote, have)), map(remote, wanted))
    assert len(requests) == 3 * len(have - wanted) + 2 * len(wanted - have)
