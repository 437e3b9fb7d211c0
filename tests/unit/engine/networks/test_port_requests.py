from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from enxame.engine.networks.port_requests import PortRequest, parse_port, parse_requests
from enxame.errors import InvalidArgument
from enxame.model.container import PortBinding


def parse(key: str, host_port: str = "", host_ip: str = "", **options: object) -> list[PortRequest]:
    return parse_requests({key: [PortBinding(host_ip=host_ip, host_port=host_port)]}, [], publish_all=False, **options)


@pytest.mark.parametrize(
    ("key", "host_port", "host_ip", "expected"),
    [
        ("3000/tcp", "8080", "", PortRequest(3000, "tcp", None, 8080, 8080)),
        ("3000", "8080", "0.0.0.0", PortRequest(3000, "tcp", IPv4Address(0), 8080, 8080)),
        ("3000", "8080", "::1", PortRequest(3000, "tcp", IPv6Address("::1"), 8080, 8080)),
        ("53/udp", "", "", PortRequest(53, "udp", None, 0, 0)),
        ("53/UDP", "0", "", PortRequest(53, "udp", None, 0, 0)),
        ("80/tcp", "8000-8010", "127.0.0.1", PortRequest(80, "tcp", IPv4Address("127.0.0.1"), 8000, 8010)),
    ],
)
def test_bindings(key: str, host_port: str, host_ip: str, expected: PortRequest) -> None:
    assert parse(key, host_port, host_ip) == [expected]


@pytest.mark.parametrize(
    ("key", "host_port", "host_ip"),
    [
        ("x/tcp", "", ""),
        ("0/tcp", "", ""),
        ("65536/tcp", "", ""),
        ("80/icmp", "", ""),
        ("80/tcp", "http", ""),
        ("80/tcp", "70000", ""),
        ("80/tcp", "8010-8000", ""),
        ("80/tcp", "-1", ""),
        ("80/tcp", "²", ""),
        ("80/tcp", "80", "nowhere"),
    ],
)
def test_nonsense_is_refused(key: str, host_port: str, host_ip: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(key, host_port, host_ip)


def test_publish_all_takes_exposed_ports_that_are_not_bound() -> None:
    bindings = {"80/tcp": [PortBinding(host_port="8080")]}
    found = parse_requests(bindings, ["80/tcp", "81/tcp", "82"], publish_all=True)
    assert [(request.key, request.first) for request in found] == [("80/tcp", 8080), ("81/tcp", 0), ("82/tcp", 0)]


def test_exposed_ports_alone_are_not_published() -> None:
    assert parse_requests({}, ["80/tcp"], publish_all=False) == []


def test_binding_without_a_place_means_any_port() -> None:
    assert parse_requests({"80/tcp": []}, [], publish_all=False) == [PortRequest(80, "tcp", None, 0, 0)]


def test_networks_own_address_counts_where_none_is_given() -> None:
    own = IPv4Address("192.0.2.1")
    assert parse("80/tcp", "80", default_ip=own)[0].host_ip == own
    assert parse("80/tcp", "80", "0.0.0.0", default_ip=own)[0].host_ip == IPv4Address(0)


def test_port_texts() -> None:
    assert parse_port("80") == (80, "tcp")
    assert parse_port("132/sctp") == (132, "sctp")
