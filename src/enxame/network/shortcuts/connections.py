"""Which tracked connections may take a shortcut. Blocks, microseconds each.

Those over TCP, established, that the packet filter leads to somewhere else, hides nobody of and leaves the contents
alone. They are told to the kernel as "liberal" (``IP_CT_TCP_FLAG_BE_LIBERAL``): tracking does not see their windows
move, and must take their last packets for what they are. Nor does it see that data is acknowledged, or that they live:
it must not forget them after the five minutes that it waits for an acknowledgement, but when they have been idle as
long as any connection may be.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from enxame.network.netlink import NetlinkError, NetlinkSocket, Request, attribute, nested, parse_attributes, u8
from enxame.network.shortcuts.flow import Endpoint, Flow

_CT_NEW: Final = 1 << 8
_CT_GET: Final = (1 << 8) | 1
_CTA_TUPLE_ORIG: Final = 1
_CTA_TUPLE_REPLY: Final = 2
_CTA_STATUS: Final = 3
_CTA_PROTOINFO: Final = 4
_CTA_TIMEOUT: Final = 7
_CTA_PROTOINFO_TCP: Final = 1
_TCP_STATE: Final = 1
_TCP_FLAGS_ORIGINAL: Final = 4
_TCP_FLAGS_REPLY: Final = 5
_TCP_ESTABLISHED: Final = 3
#: Of a direction: what it is to be, and of which bits: it is liberal, and waits for no acknowledgement.
_BE_LIBERAL: Final = b"\x08\x18"

_TUPLE_IP: Final = 1
_TUPLE_PROTO: Final = 2
#: Source and destination, by version of IP.
_ADDRESSES: Final = {4: (1, 2), 6: (3, 4)}
_PROTO_NUMBER: Final = 1
_PROTO_SOURCE_PORT: Final = 2
_PROTO_DESTINATION_PORT: Final = 3
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}

_ASSURED: Final = 1 << 2
_SEQUENCES_MOVED: Final = 1 << 6
_HELPED: Final = 1 << 13
_SOURCE_TRANSLATED: Final = 1 << 4
_DESTINATION_TRANSLATED: Final = 1 << 5
_TRANSLATED: Final = _SOURCE_TRANSLATED | _DESTINATION_TRANSLATED


def find(netlink: NetlinkSocket, client: Endpoint, asked: Endpoint, least: float) -> Flow | None:
    """The connection, where it may take a shortcut. ``least``: seconds for which tracking keeps it still. Where they
    are few it was reset, though tracking cannot tell whether the reset was forged and leaves it established.
    """
    version = client.address.version
    what = f"look for the connection of {client.address} port {client.port}"
    payload = _header(version) + _tuple(client, asked)
    body = netlink.get(Request(_CT_GET, 0, payload, what, frozenset({errno.ENOENT})))
    if body is None:
        return None
    found = parse_attributes(body[4:])
    (status,) = struct.unpack("!I", found[_CTA_STATUS])
    (seconds,) = struct.unpack("!I", found.get(_CTA_TIMEOUT, bytes(4)))
    if (
        seconds < least
        or not status & _ASSURED
        or status & (_TRANSLATED | _SEQUENCES_MOVED | _HELPED) != _DESTINATION_TRANSLATED
    ):
        return None
    info = parse_attributes(found.get(_CTA_PROTOINFO, b""))
    tcp = parse_attributes(info.get(_CTA_PROTOINFO_TCP, b""))
    if tcp.get(_TCP_STATE, b"\0")[0] != _TCP_ESTABLISHED:
        return None
    backend, answered = _parse_tuple(found[_CTA_TUPLE_REPLY], version)
    return Flow(client, asked, backend) if answered == client else None


def be_liberal(netlink: NetlinkSocket, flow: Flow, seconds: int) -> bool:
    """Before it takes its shortcut, when it has and when it takes it no more; False when it is gone. ``seconds``: how
    long it may be idle from now on.
    """
    flags = nested(
        _CTA_PROTOINFO,
        nested(
            _CTA_PROTOINFO_TCP,
            attribute(_TCP_FLAGS_ORIGINAL, _BE_LIBERAL),
            attribute(_TCP_FLAGS_REPLY, _BE_LIBERAL),
        ),
    )
    timeout = attribute(_CTA_TIMEOUT, struct.pack("!I", seconds))
    payload = _header(flow.client.address.version) + _tuple(flow.client, flow.asked) + flags + timeout
    try:
        netlink.execute([Request(_CT_NEW, 0, payload, f"let {flow.client.address} take a shortcut")])
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def _header(version: int) -> bytes:
    return bytes([_FAMILY[version], 0, 0, 0])


def _tuple(source: Endpoint, destination: Endpoint) -> bytes:
    source_kind, destination_kind = _ADDRESSES[source.address.version]
    return nested(
        _CTA_TUPLE_ORIG,
        nested(
            _TUPLE_IP,
            attribute(source_kind, source.address.packed),
            attribute(destination_kind, destination.address.packed),
        ),
        nested(
            _TUPLE_PROTO,
            u8(_PROTO_NUMBER, socket.IPPROTO_TCP),
            attribute(_PROTO_SOURCE_PORT, source.port.to_bytes(2, "big")),
            attribute(_PROTO_DESTINATION_PORT, destination.port.to_bytes(2, "big")),
        ),
    )


def _parse_tuple(data: bytes, version: int) -> tuple[Endpoint, Endpoint]:
    parts = parse_attributes(data)
    addresses, ports = parse_attributes(parts[_TUPLE_IP]), parse_attributes(parts[_TUPLE_PROTO])
    parse = IPv4Address if version == 4 else IPv6Address
    source, destination = (parse(addresses[kind]) for kind in _ADDRESSES[version])
    return (
        Endpoint(source, int.from_bytes(ports[_PROTO_SOURCE_PORT], "big")),
        Endpoint(destination, int.from_bytes(ports[_PROTO_DESTINATION_PORT], "big")),
    )
