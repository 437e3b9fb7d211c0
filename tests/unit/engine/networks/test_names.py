from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from enxame.engine.networks.names import NameTable, View

ONE, TWO = (IPv4Address("10.0.0.2").packed, b""), (IPv4Address("10.0.0.3").packed, b"")


def view(table: NameTable, **links: str) -> View:
    made = View()
    made.add(table.network("n1", "app"), links, [IPv4Network("10.0.0.0/24"), IPv6Network("fd00::/64")])
    return made


@pytest.mark.timeout(60)  # what is quadratic takes hours
def test_hundreds_of_thousands_of_names_are_looked_at_once() -> None:
    many = [f"a{number}" for number in range(200_000)]
    table = NameTable()
    table.tell("n1", "a", many, ONE, silent=many)
    table.forget("n1", "a")


def test_several_bear_one_name_and_each_takes_its_own_away() -> None:
    table = NameTable()
    asker = view(table)
    table.tell("n1", "a", ["a", "pool"], ONE)
    table.tell("n1", "b", ["b", "Pool"], TWO)
    assert asker.addresses("pool") == ([ONE[0], TWO[0]], [])
    table.forget("n1", "a")
    assert asker.addresses("pool") == ([TWO[0]], [])
    table.forget("n1", "b")
    table.forget("n1", "b")
    assert asker.addresses("pool") is None


def test_silent_name_is_known_but_empty_until_somebody_answers() -> None:
    table = NameTable()
    asker = view(table)
    table.tell("n1", "a", ["a"], ONE, silent=["web"])
    assert asker.addresses("web") == ([], [])
    table.tell("n1", "b", ["b", "web"], TWO)
    assert asker.addresses("web") == ([TWO[0]], [])


def test_name_with_its_network() -> None:
    table = NameTable()
    asker = view(table)
    table.tell("n1", "a", ["web", "a.b"], ONE)
    for name in ("web.app", "a.b", "a.b.app"):
        assert asker.addresses(name) == ([ONE[0]], []), name
    for name in ("web.other", "app", ".app"):
        assert asker.addresses(name) is None, name


def test_link_is_another_name_for_its_asker() -> None:
    table = NameTable()
    table.tell("n1", "a", ["postgres"], ONE)
    assert view(table, db="postgres").addresses("db") == ([ONE[0]], [])
    assert view(table).addresses("db") is None


def test_reverse_names_and_what_certainly_has_none() -> None:
    table = NameTable()
    asker = view(table)
    table.tell("n1", "a", ["web"], ONE)
    assert asker.name_of(ONE[0]) == "web.app"
    assert asker.name_of(TWO[0]) == ""
    assert asker.name_of(IPv4Address("192.0.2.1").packed) is None


def test_reverse_names_of_ipv6_addresses() -> None:
    table = NameTable()
    asker = view(table)
    table.tell("n1", "a", ["web"], (ONE[0], IPv6Address("fd00::2").packed))
    assert asker.addresses("web") == ([ONE[0]], [IPv6Address("fd00::2").packed])
    assert asker.name_of(IPv6Address("fd00::2").packed) == "web.app"
    assert asker.name_of(IPv6Address("fd00::3").packed) == ""
    assert asker.name_of(IPv6Address("2001:db8::1").packed) is None
