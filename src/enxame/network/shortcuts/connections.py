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

from enxame.network import conntrack_messages as ct
from enxame.network.netlink import NetlinkError, NetlinkSocket, Request, attribute, nested, parse_attributes, u8
from enxame.network.shortcuts.flow import Endpoint, Flow

_CTA_PROTOINFO_TCP: Final = 1
_TCP_STATE: Final = 1
_TCP_FLAGS_ORIGINAL: Final = 4
_TCP_FLAGS_REPLY: Final = 5
_TCP_ESTABLISHED: Final = 3
#: Of a direction: what it is to be, and of which bits: it is liberal, and waits for no acknowledgement.
_BE_LIBERAL: Final = b"\x08\x18"


_TRANSLATED: Final = ct.SOURCE_TRANSLATED | ct.DESTINATION_TRANSLATED


def find(netlink: NetlinkSocket, client: Endpoint, asked: Endpoint, least: float) -> Flow | None:
    """The connection, where it may take a shortcut. ``least``: seconds for which tracking keeps it still. Where they
    are few it was reset, though tracking cannot tell whether the reset was forged and leaves it established.
    """
    version = client.address.version
    what = f"look for the connection of {client.address} port {client.port}"
    payload = ct.header(version) + _tuple(client, asked)
    body = netlink.get(Request(ct.GET, 0, payload, what, frozenset({errno.ENOENT})))
    if body is None:
        return None
    found = parse_attributes(body[4:])
    (status,) = struct.unpack("!I", found[ct.STATUS])
    (seconds,) = struct.unpack("!I", found.get(ct.TIMEOUT, bytes(4)))
    if (
        seconds < least
        or not status & ct.ASSURED
        or status & (_TRANSLATED | ct.SEQUENCES_MOVED | ct.HELPED) != ct.DESTINATION_TRANSLATED
    ):
        return None
    info = parse_attributes(found.get(ct.PROTOCOL_STATE, b""))
    tcp = parse_attributes(info.get(_CTA_PROTOINFO_TCP, b""))
    if tcp.get(_TCP_STATE, b"\0")[0] != _TCP_ESTABLISHED:
        return None
    backend, answered = _parse_tuple(found[ct.REPLY], version)
    return Flow(client, asked, backend) if answered == client else None


def be_liberal(netlink: NetlinkSocket, flow: Flow, seconds: int) -> bool:
    """Before it takes its shortcut, when it has and when it takes it no more; False when it is gone. ``seconds``: how
    long it may be idle from now on.
    """
    flags = nested(
        ct.PROTOCOL_STATE,
        nested(
            _CTA_PROTOINFO_TCP,
            attribute(_TCP_FLAGS_ORIGINAL, _BE_LIBERAL),
            attribute(_TCP_FLAGS_REPLY, _BE_LIBERAL),
        ),
    )
    timeout = attribute(ct.TIMEOUT, struct.pack("!I", seconds))
    payload = ct.header(flow.client.address.version) + _tuple(flow.client, flow.asked) + flags + timeout
    try:
        netlink.execute([Request(ct.NEW, 0, payload, f"let {flow.client.address} take a shortcut")])
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def _tuple(source: Endpoint, destination: Endpoint) -> bytes:
    source_kind, destination_kind = ct.ADDRESSES[source.address.version]
    return nested(
        ct.ORIGINAL,
        nested(
            ct.TUPLE_IP,
            attribute(source_kind, source.address.packed),
            attribute(destination_kind, destination.address.packed),
        ),
        nested(
            ct.TUPLE_PROTOCOL,
            u8(ct.PROTOCOL_NUMBER, socket.IPPROTO_TCP),
            attribute(ct.SOURCE_PORT, source.port.to_bytes(2, "big")),
            attribute(ct.DESTINATION_PORT, destination.port.to_bytes(2, "big")),
        ),
    )


def _parse_tuple(data: bytes, version: int) -> tuple[Endpoint, Endpoint]:
    parts = parse_attributes(data)
    addresses, ports = parse_attributes(parts[ct.TUPLE_IP]), parse_attributes(parts[ct.TUPLE_PROTOCOL])
    parse = IPv4Address if version == 4 else IPv6Address
    source, destination = (parse(addresses[kind]) for kind in ct.ADDRESSES[version])
    return (
        Endpoint(source, int.from_bytes(ports[ct.SOURCE_PORT], "big")),
        Endpoint(destination, int.from_bytes(ports[ct.DESTINATION_PORT], "big")),
    )
