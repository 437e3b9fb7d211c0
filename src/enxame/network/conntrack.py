"""Forget tracked connections whose way has changed.

A tracked connection keeps the way of its first packet. A UDP client that goes on sending would stay with a container
that was stopped, or never come to one that was started later.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from enxame.network.netlink import NetlinkSocket, Request, attribute, nested, u8, u32
from enxame.network.rtnetlink import Address

_CT_DELETE: Final = (1 << 8) | 2
_CTA_TUPLE_ORIG: Final = 1
_CTA_TUPLE_REPLY: Final = 2
_CTA_STATUS: Final = 3
_CTA_FILTER: Final = 25
_CTA_STATUS_MASK: Final = 26
_SEEN_REPLY: Final = 1 << 1
_DESTINATION_TRANSLATED: Final = 1 << 5
_CTA_TUPLE_IP: Final = 1
_CTA_TUPLE_PROTO: Final = 2
#: The source's attribute, by version of IP.
_CTA_IP_SRC: Final = {4: 1, 6: 3}
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_CTA_PROTO_NUM: Final = 1
_CTA_PROTO_DST_PORT: Final = 3
_CTA_FILTER_ORIG_FLAGS: Final = 1
_CTA_FILTER_REPLY_FLAGS: Final = 2
_BY_SOURCE: Final = 1 << 0
_BY_PROTOCOL: Final = 1 << 3
_BY_DESTINATION_PORT: Final = 1 << 5
_COUNT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")


def forget_addresses(netlink: NetlinkSocket, addresses: Iterable[Address]) -> None:
    """Delete every tracked connection that one of the addresses began or answers. Blocks."""
    if _none_tracked():
        return
    netlink.execute(
        [
            _delete(side, _source(address), _BY_SOURCE, f"forget connections of {address}", version=address.version)
            for address in addresses
            for side in (_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY)
        ]
    )


def forget_answers_from(netlink: NetlinkSocket, addresses: Iterable[Address]) -> None:
    """Delete every tracked connection that one of the addresses answers. Blocks."""
    _forget_to(netlink, addresses, b"", _BY_SOURCE)


def turn_away_from(netlink: NetlinkSocket, addresses: Iterable[Address]) -> None:
    """Delete what need not stay with addresses that serve no more: conversations over UDP, and connections that got no
    answer yet, which would be tried there again and again. Blocks.
    """
    addresses = list(addresses)
    udp = nested(_CTA_TUPLE_PROTO, u8(_CTA_PROTO_NUM, socket.IPPROTO_UDP))
    _forget_to(netlink, addresses, udp, _BY_SOURCE | _BY_PROTOCOL)
    _forget_to(netlink, addresses, b"", _BY_SOURCE, *_without(_SEEN_REPLY))


def _forget_to(netlink: NetlinkSocket, addresses: Iterable[Address], content: bytes, by: int, *only: bytes) -> None:
    addresses = list(addresses)
    if not addresses or _none_tracked():
        return
    netlink.execute(
        [
            _delete(
                _CTA_TUPLE_REPLY,
                _source(address) + content,
                by,
                f"forget connections to {address}",
                *only,
                version=address.version,
            )
            for address in addresses
        ]
    )


def _source(address: Address) -> bytes:
    return nested(_CTA_TUPLE_IP, attribute(_CTA_IP_SRC[address.version], address.packed))


def _without(status: int) -> tuple[bytes, bytes]:
    """Only entries that have not that bit of their status."""
    return attribute(_CTA_STATUS, struct.pack("!I", 0)), attribute(_CTA_STATUS_MASK, struct.pack("!I", status))


def forget_udp_ports(netlink: NetlinkSocket, ports: Iterable[int]) -> None:
    """Delete every tracked UDP conversation that was begun towards one of the ports. Blocks."""
    if _none_tracked():
        return
    netlink.execute([request for port in ports for request in _delete_port(socket.IPPROTO_UDP, port)])


def forget_refused(netlink: NetlinkSocket, ports: Iterable[tuple[int, int]]) -> None:
    """Delete what is remembered of connections to ports (protocol number and port) that were not led to a container:
    the next try from the same port is a new connection. Blocks.
    """
    if _none_tracked():
        return
    only = _without(_DESTINATION_TRANSLATED)
    netlink.execute([request for protocol, port in ports for request in _delete_port(protocol, port, *only)])


def _delete_port(protocol: int, port: int, *only: bytes) -> list[Request]:
    """Of both versions of IP."""
    number = u8(_CTA_PROTO_NUM, protocol)
    destination = nested(_CTA_TUPLE_PROTO, number, attribute(_CTA_PROTO_DST_PORT, struct.pack("!H", port)))
    by = _BY_PROTOCOL | _BY_DESTINATION_PORT
    what = f"forget conversations with port {port}"
    return [_delete(_CTA_TUPLE_ORIG, destination, by, what, *only, version=version) for version in _FAMILY]


def _none_tracked() -> bool:
    try:
        return int(_COUNT.read_text()) == 0
    except (OSError, ValueError):  # the kernel tracks nothing yet
        return True


def _delete(side: int, content: bytes, by: int, what: str, *only: bytes, version: int) -> Request:
    original, reply = (by, 0) if side == _CTA_TUPLE_ORIG else (0, by)
    payload = (
        bytes([_FAMILY[version], 0, 0, 0])
        + nested(side, content)
        + nested(_CTA_FILTER, u32(_CTA_FILTER_ORIG_FLAGS, original), u32(_CTA_FILTER_REPLY_FLAGS, reply))
        + b"".join(only)
    )
    return Request(_CT_DELETE, 0, payload, what, frozenset({errno.ENOENT}))
