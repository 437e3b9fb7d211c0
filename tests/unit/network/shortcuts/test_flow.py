from __future__ import annotations

import struct
import sys
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from enxame.network.rtnetlink import Address
from enxame.network.shortcuts import flow
from enxame.network.shortcuts.flow import Endpoint, Flow

ports = st.integers(1, 65535)


def endpoints(version: int) -> st.SearchStrategy[Endpoint]:
    addresses = st.integers(0, 2 ** (32 if version == 4 else 128) - 1)
    make: type[IPv4Address | IPv6Address] = IPv4Address if version == 4 else IPv6Address
    return st.builds(Endpoint, addresses.map(make), ports)


def flows(version: int) -> st.SearchStrategy[Flow]:
    return st.builds(Flow, endpoints(version), endpoints(version), endpoints(version))


some_flow = st.sampled_from([4, 6]).flatmap(flows)


@given(some_flow)
def test_keys_come_back_as_they_were(item: Flow) -> None:
    (there, _), (back, _) = item.entries()
    assert flow.parse_key(there) == (item.client, item.asked)
    assert flow.parse_key(back) == (item.backend, item.client)
    assert len(there) == flow.KEY.size == 40


def test_versions_of_ip_are_kept_apart() -> None:
    four, six = Endpoint(IPv4Address("1.2.3.4"), 80), Endpoint(IPv6Address(b"\1\2\3\4" + bytes(12)), 80)
    assert flow.key(four, four) != flow.key(six, six)


def checksum(data: bytes) -> int:
    """RFC 1071, as it is written there."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def changed(old: int, difference: int) -> int:
    """A checksum in network order after a change whose difference is in the machine's."""
    own = int.from_bytes(old.to_bytes(2, "big"), sys.byteorder)
    new = folded((own ^ 0xFFFF) + difference) ^ 0xFFFF
    return int.from_bytes(new.to_bytes(2, sys.byteorder), "big")


def segment(source: Endpoint, destination: Endpoint, content: bytes, check: int = 0) -> bytes:
    return struct.pack("!HHIIHHHH", source.port, destination.port, 1, 2, 5 << 12, 100, check, 0) + content


def tcp_checksum(source: Endpoint, destination: Endpoint, content: bytes) -> int:
    length = 20 + len(content)
    pseudo = struct.pack("!BBH", 0, 6, length) if source.address.version == 4 else struct.pack("!II", length, 6)
    return checksum(source.address.packed + destination.address.packed + pseudo + segment(source, destination, content))


def port_difference(old: int, new: int) -> int:
    """What the kernel's helper adds for a port."""
    (gone,), (come,) = struct.unpack("=H", old.to_bytes(2, "big")), struct.unpack("=H", new.to_bytes(2, "big"))
    return int(come + (gone ^ 0xFFFF))


def same(one: int, other: int) -> bool:
    """In one's complement there are two zeros."""
    return one == other or {one, other} == {0, 0xFFFF}


def translations(item: Flow) -> list[tuple[tuple[Endpoint, Endpoint], tuple[Endpoint, Endpoint], Endpoint, Endpoint]]:
    """Of both directions: source and destination before and after, which is replaced, and by which."""
    return [
        ((item.client, item.asked), (item.client, item.backend), item.asked, item.backend),
        ((item.backend, item.client), (item.asked, item.client), item.backend, item.asked),
    ]


@given(some_flow, st.binary(max_size=30))
def test_a_changed_checksum_is_the_one_that_computing_it_anew_gives(item: Flow, content: bytes) -> None:
    for (_, value), (before, after, old, new) in zip(item.entries(), translations(item), strict=True):
        address, port, side, _, difference = flow.VALUE.unpack(value)
        assert address[: len(new.address.packed)] == new.address.packed
        assert int.from_bytes(port, "big") == new.port
        assert side == (flow.DESTINATION if before[1] == old else flow.SOURCE) or before[0] == before[1]
        found = changed(tcp_checksum(*before, content), difference)
        found = changed(found, port_difference(old.port, new.port))
        assert same(found, tcp_checksum(*after, content))


def ip_header(source: Address, destination: Address, hops: int, check: int = 0) -> bytes:
    return struct.pack("!BBHHHBBH", 0x45, 0, 60, 7, 0x4000, hops, 6, check) + source.packed + destination.packed


@given(flows(4), st.integers(2, 255))
def test_the_header_of_version_4_has_one_hop_less_and_a_checksum_for_it(item: Flow, hops: int) -> None:
    for (_, value), (before, after, _, _) in zip(item.entries(), translations(item), strict=True):
        (difference,) = struct.unpack_from("=H", value, flow.VALUE_HEADER_DIFFERENCE)
        old = checksum(ip_header(before[0].address, before[1].address, hops))
        new = checksum(ip_header(after[0].address, after[1].address, hops - 1))
        assert same(changed(old, difference), new)


@given(some_flow)
def test_fields_are_where_the_program_looks_for_them(item: Flow) -> None:
    for _, value in item.entries():
        address, port, side, header, difference = flow.VALUE.unpack(value)
        assert value[flow.VALUE_ADDRESS :][:16] == address
        assert value[flow.VALUE_PORT :][:2] == port
        assert value[flow.VALUE_SIDE] == side
        assert struct.unpack_from("=H", value, flow.VALUE_HEADER_DIFFERENCE) == (header,)
        assert struct.unpack_from("=I", value, flow.VALUE_DIFFERENCE) == (difference,)
