from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from msgspec.structs import replace

from enxame.engine.networks import definitions
from enxame.engine.networks.moments import parse_moment
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry, matches
from enxame.errors import InvalidArgument, NotFound
from enxame.model.filters import Filters
from enxame.model.network import IPAM, EndpointResource, IPAMConfig, NetworkResource

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def network(name: str, id_: str, subnet: str = "10.0.0.0/24", **options: object) -> ActiveNetwork:
    ipam = IPAM(config=[IPAMConfig(subnet=subnet)])
    return ActiveNetwork.of(NetworkResource(name=name, id=id_, created=NOW, driver="bridge", ipam=ipam, **options))


async def test_networks_are_found_by_id_then_name_then_prefix(tmp_path: Path) -> None:
    registry = NetworkRegistry(tmp_path)
    one, two, three = network("aaa", "abc1" * 16), network("abc", "abd2" * 16), network("x", "eee3" * 16)
    for item in (one, two, three):
        await registry.add(item)
    assert registry.find("abc1" * 16) is one
    assert registry.find("abc") is two, "a name goes before a prefix"
    assert registry.find("eee") is three
    with pytest.raises(InvalidArgument, match=r"network ab is ambiguous \(2 matches"):
        registry.find("ab")
    for ref in ("zzz", ""):
        with pytest.raises(NotFound, match=f"network {ref} not found"):
            registry.find(ref)


async def test_of_two_of_one_name_the_newer_is_meant(tmp_path: Path) -> None:
    registry = NetworkRegistry(tmp_path)
    new, old = network("a", "1" * 25), network("a", "2" * 25)
    new.resource = replace(new.resource, created=NOW + timedelta(seconds=1))
    for item in (old, new):
        await registry.add(item)
    assert registry.find("a") is new
    assert registry.find("2" * 25) is old


async def test_definitions_survive_and_broken_ones_are_kept_aside(tmp_path: Path) -> None:
    registry = NetworkRegistry(tmp_path)
    await registry.add(network("a", "1" * 64, labels={"x": "y"}))
    await registry.add(network("b", "2" * 64))
    await registry.discard("2" * 64)
    (tmp_path / "torn.json").write_text('{"Name": ')
    (tmp_path / "bad.json").write_text(json.dumps({"Id": "3", "IPAM": {"Config": [{"Subnet": "nonsense"}]}}))
    again = NetworkRegistry(tmp_path)
    again.load()
    assert [item.resource for item in again] == [network("a", "1" * 64, labels={"x": "y"}).resource]
    assert set(os.listdir(tmp_path)) == {f"{'1' * 64}.json", "torn.broken", "bad.broken"}


def test_leaving_frees_the_address_once() -> None:
    active = network("a", "1" * 64, subnet="10.0.0.0/30")
    assert active.pool is not None
    address = active.pool.take()
    active.endpoints["c"] = EndpointResource(ipv4_address=f"{address}/30")
    active.leave("c")
    active.leave("c")
    assert active.pool.take() == address


def test_other_subnets_are_on_the_link_of_those_that_have_an_address_of_their_version() -> None:
    subnets = ("10.0.0.0/24", "10.0.1.0/24", "fd00::/64", "fd01::/64")
    ipam = IPAM(config=[IPAMConfig(subnet=subnet) for subnet in subnets])
    active = ActiveNetwork.of(NetworkResource(name="a", id="1" * 64, enable_ipv6=True, ipam=ipam))
    assert [str(subnet) for subnet in active.subnets()] == list(subnets)
    on_link = active.on_link(IPv4Address("10.0.1.7"), IPv6Address("fd00::7"))
    assert [str(subnet) for subnet in on_link] == ["10.0.0.0/24", "fd01::/64"]
    assert [str(subnet) for subnet in active.on_link(IPv4Address("10.0.0.7"), None)] == ["10.0.1.0/24"]
    wire = ActiveNetwork.of(replace(active.resource, driver="macvlan", options={"parent": "eth0"}))
    assert wire.on_link(IPv4Address("10.0.1.7"), IPv6Address("fd00::7")) == ()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"name": ["bac"]}, True),
        ({"name": ["front"]}, False),
        ({"name": ["front", "back"]}, True),
        ({"id": ["111"]}, True),
        ({"id": ["11", "2"]}, True),
        ({"id": ["2"]}, False),
        ({"driver": ["bridge"]}, True),
        ({"driver": ["overlay"]}, False),
        ({"scope": ["local"]}, True),
        ({"scope": ["swarm"]}, False),
        ({"type": ["custom"]}, True),
        ({"type": ["builtin"]}, False),
        ({"label": ["tier"]}, True),
        ({"label": ["tier=back"]}, True),
        ({"label": ["tier=front"]}, False),
        ({"label!": ["tier"]}, False),
        ({"label!": ["other"]}, True),
        ({"dangling": ["true"]}, True),
        ({"dangling": ["false"]}, False),
        ({"until": ["1h"]}, True),
        ({"until": ["3h"]}, False),
    ],
)
def test_filters(filters: dict[str, list[str]], expected: bool) -> None:
    active = network("back", "1" * 64, labels={"tier": "back"})
    parsed = Filters.parse(json.dumps(filters))
    assert matches(active, parsed, NOW + timedelta(hours=2)) is expected


def test_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid filter: 'type'='odd'"):
        matches(network("a", "1" * 64), Filters.parse('{"type": ["odd"]}'), NOW)


def test_predefined_networks_are_builtin_and_never_dangling() -> None:
    host = ActiveNetwork(definitions.without_bridge("host", "host", "1" * 64, NOW))
    assert matches(host, Filters.parse('{"type": ["builtin"]}'), NOW)
    assert not matches(host, Filters.parse('{"dangling": ["true"]}'), NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h30m", NOW - timedelta(minutes=90)),
        ("1.5s", NOW - timedelta(seconds=1.5)),
        (str(NOW.timestamp()), NOW),
        ("2026-01-02T00:00:00Z", NOW),
        ("2026-01-02", NOW),
        ("2026-01-02T01:00:00+01:00", NOW),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "5", "h", "1h 2m", "1e400"])
def test_what_is_no_moment_is_refused_or_a_second_count(text: str) -> None:
    if text == "5":
        assert parse_moment(text, NOW) == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
        return
    with pytest.raises(InvalidArgument, match="failed to parse value as time or duration"):
        parse_moment(text, NOW)
