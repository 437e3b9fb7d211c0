from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from enxame.network import ports, ruleset
from enxame.network.bridge import Bridge, mac_of
from enxame.network.ports import PublishedPort
from enxame.network.vxlan import Tunnel

BRIDGE = Bridge("enx-back", IPv4Interface("172.18.0.1/16"))
WIDE = Bridge(
    "wide",
    IPv4Interface("10.1.0.1/24"),
    tunnel=Tunnel("enxt-1", 1, 4789, None),
    gateway6=IPv6Interface("fd00:1::1/64"),
    further=(IPv4Interface("10.2.0.9/16"), IPv6Interface("fd00:2::1/64")),
)


def test_table_is_replaced_in_the_transaction_that_makes_it() -> None:
    text = ruleset.table(forward_others=True)
    assert (
        text.index("add table inet enxame\n")
        < text.index("delete table inet enxame\n")
        < text.index("table inet enxame {")
    )
    assert "delete table inet enxame-user" not in text


def test_machine_that_was_no_router_drops_what_is_not_for_containers() -> None:
    def forward(text: str) -> list[str]:
        chain = text[text.index("chain forward {") :]
        return [line.strip() for line in chain[: chain.index("}")].splitlines() if line.strip()]

    assert forward(ruleset.table(forward_others=False))[-1] == "meta nfproto ipv4 drop"
    assert forward(ruleset.table(forward_others=True, forward_others6=False))[-1] == "meta nfproto ipv6 drop"
    assert forward(ruleset.table(forward_others=True))[-1] == "iifname @bridges accept"


def test_a_bridges_elements_are_deleted_whether_they_are_there_or_not() -> None:
    for bridge in (
        BRIDGE,
        Bridge("b", BRIDGE.gateway, internal=True),
        Bridge("b", BRIDGE.gateway, isolated=True),
        Bridge("b", BRIDGE.gateway, masquerade=False),
        Bridge("b", BRIDGE.gateway, gateway6=IPv6Interface("fd00::1/64")),
        replace(WIDE, tunnel=None),
    ):
        added = ruleset.add_bridge(bridge)
        assert ruleset.delete_bridge(bridge) == added + added.replace("add ", "delete ")


def test_a_port_of_tunnels_is_known_until_the_last_bridge_with_it_goes() -> None:
    one, two, other = (
        Bridge(f"enx-{number}", BRIDGE.gateway, tunnel=Tunnel(f"enxt-{number}", number, port, None))
        for number, port in ((1, 4789), (2, 4789), (3, 4790))
    )
    assert "add element inet enxame tunnels { 4789 }\n" in ruleset.add_bridge(one)
    assert "tunnels" not in ruleset.delete_bridge(one, [two, other])
    assert "delete element inet enxame tunnels { 4789 }\n" in ruleset.delete_bridge(one, [BRIDGE, other])


def test_ports_of_ipv6_have_maps_of_their_own_and_those_that_are_carried_none() -> None:
    container = IPv6Address("fd00::2")
    everywhere = PublishedPort("tcp", None, 80, container, 8080)
    all_of_six = PublishedPort("udp", IPv6Address(0), 53, container, 53)
    here = PublishedPort("tcp", IPv6Address("2001:db8::1"), 81, container, 8080)
    carried = PublishedPort("tcp", IPv6Address("::1"), 82, IPv4Address("172.17.0.2"), 8080)
    assert ports.publish([everywhere, all_of_six, here, carried]) == (
        "add element inet enxame published6 { tcp . 80 : fd00::2 . 8080, udp . 53 : fd00::2 . 53 }\n"
        "add element inet enxame published6_at { 2001:db8::1 . tcp . 81 : fd00::2 . 8080 }\n"
    )


def test_internal_network_is_not_masqueraded() -> None:
    assert "masqueraded" in ruleset.add_bridge(BRIDGE)
    internal = ruleset.add_bridge(Bridge("b", BRIDGE.gateway, internal=True))
    assert "masqueraded" not in internal
    assert "add element inet enxame internal" in internal


def test_all_subnets_of_a_network_are_in_the_sets_of_their_version() -> None:
    text = ruleset.add_bridge(WIDE)
    for name, elements in (
        ("local_sources", '"wide" . 10.1.0.0/24, "wide" . 10.2.0.0/16'),
        ("local_sources6", '"wide" . fd00:1::/64, "wide" . fd00:2::/64'),
        ("masqueraded", "10.1.0.0/24, 10.2.0.0/16"),
        ("masqueraded6", "fd00:1::/64, fd00:2::/64"),
        ("swarm_sources", "10.1.0.0/24, 10.2.0.0/16"),
        ("swarm_sources6", "fd00:1::/64, fd00:2::/64"),
    ):
        assert f"add element inet enxame {name} {{ {elements} }}\n" in text


def test_published_ports_become_elements_of_their_maps() -> None:
    everywhere = PublishedPort("tcp", None, 8080, IPv4Address("172.17.0.2"), 80)
    here = PublishedPort("udp", IPv4Address("127.0.0.1"), 53, IPv4Address("172.17.0.2"), 5353)
    assert ports.publish([everywhere, here]) == (
        "add element inet enxame published { tcp . 8080 : 172.17.0.2 . 80 }\n"
        "add element inet enxame published_at { 127.0.0.1 . udp . 53 : 172.17.0.2 . 5353 }\n"
    )
    assert ports.unpublish([everywhere, here]) == (
        "delete element inet enxame published { tcp . 8080 }\n"
        "delete element inet enxame published_at { 127.0.0.1 . udp . 53 }\n"
    )
    assert ports.publish([]) == ""


def test_link_address_follows_from_the_address() -> None:
    assert mac_of(IPv4Address("172.17.0.2")).hex(":") == "02:42:ac:11:00:02"
