"""Forget tracked connections whose way has changed.

A tracked connection keeps the way of its first packet. A UDP client that goes on sending would stay with a container
that was stopped, or never come to one that was started later.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from enxame.network.netlink import NetlinkSocket, Request, attribute, nested, u8, u32

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
_CTA_IP_V4_SRC: Final = 1
_CTA_PROTO_NUM: Final = 1
_CTA_PROTO_DST_PORT: Final = 3
_CTA_FILTER_ORIG_FLAGS: Final = 1
_CTA_FILTER_REPLY_FLAGS: Final = 2
_BY_SOURCE: Final = 1 << 0
_BY_PROTOCOL: Final = 1 << 3
_BY_DESTINATION_PORT: Final = 1 << 5
_COUNT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")


def forget_addresses(netlink: NetlinkSocket, addresses: Iterable[IPv4Address]) -> None:
    """Delete every tracked connection that one of the addresses began or answers. Blocks."""
    if _none_tracked():
        return
    requests: list[Request] = []
    for address in addresses:
        source = nested(_CTA_TUPLE_IP, attribute(_CTA_IP_V4_SRC, address.packed))
        what = f"forget connections of {address}"
        requests.append(_delete(_CTA_TUPLE_ORIG, source, _BY_SOURCE, what))
        requests.append(_delete(_CTA_TUPLE_REPLY, source, _BY_SOURCE, what))
    netlink.execute(requests)


def forget_answers_from(netlink: NetlinkSocket, addresses: Iterable[IPv4Address]) -> None:
    """Delete every tracked connection that one of the addresses answers. Blocks."""
    _forget_to(netlink, addresses, b"", _BY_SOURCE)


def turn_away_from(netlink: NetlinkSocket, addresses: Iterable[IPv4Address]) -> None:
    """Delete what need not stay with addresses that serve no more: conversations over UDP, and connections that got no
    answer yet, which would be tried there again and again. Blocks.
    """
    addresses = list(addresses)
    udp = nested(_CTA_TUPLE_PROTO, u8(_CTA_PROTO_NUM, socket.IPPROTO_UDP))
    _forget_to(netlink, addresses, udp, _BY_SOURCE | _BY_PROTOCOL)
    _forget_to(netlink, addresses, b"", _BY_SOURCE, *_without(_SEEN_REPLY))


def _forget_to(netlink: NetlinkSocket, addresses: Iterable[IPv4Address], content: bytes, by: int, *only: bytes) -> None:
    addresses = list(addresses)
    if not addresses or _none_tracked():
        return
    netlink.execute(
        [
            _delete(
                _CTA_TUPLE_REPLY,
                nested(_CTA_TUPLE_IP, attribute(_CTA_IP_V4_SRC, address.packed)) + content,
                by,
                f"forget connections to {address}",
                *only,
            )
            for address in addresses
        ]
    )


def _without(status: int) -> tuple[bytes, bytes]:
    """Only entries that have not that bit of their status."""
    return attribute(_CTA_STATUS, struct.pack("!I", 0)), attribute(_CTA_STATUS_MASK, struct.pack("!I", status))


def forget_udp_ports(netlink: NetlinkSocket, ports: Iterable[int]) -> None:
    """Delete every tracked UDP conversation that was begun towards one of the ports. Blocks."""
    if _none_tracked():
        return
    netlink.execute([_delete_port(socket.IPPROTO_UDP, port) for port in ports])


def forget_refused(netlink: NetlinkSocket, ports: Iterable[tuple[int, int]]) -> None:
    """Delete what is remembered of connections to ports (protocol number and port) that were not led to a container:
    the next try from the same port is a new connection. Blocks.
    """
    if _none_tracked():
        return
    only = _without(_DESTINATION_TRANSLATED)
    netlink.execute([_delete_port(protocol, port, *only) for protocol, port in ports])


def _delete_port(protocol: int, port: int, *only: bytes) -> Request:
    number = u8(_CTA_PROTO_NUM, protocol)
    destination = nested(_CTA_TUPLE_PROTO, number, attribute(_CTA_PROTO_DST_PORT, struct.pack("!H", port)))
    by = _BY_PROTOCOL | _BY_DESTINATION_PORT
    return _delete(_CTA_TUPLE_ORIG, destination, by, f"forget conversations with port {port}", *only)


def _none_tracked() -> bool:
    try:
        return int(_COUNT.read_text()) == 0
    except (OSError, ValueError):  # the kernel tracks nothing yet
        return True


def _delete(side: int, content: bytes, by: int, what: str, *only: bytes) -> Request:
    original, reply = (by, 0) if side == _CTA_TUPLE_ORIG else (0, by)
    payload = (
        bytes([socket.AF_INET, 0, 0, 0])
        + nested(side, content)
        + nested(_CTA_FILTER, u32(_CTA_FILTER_ORIG_FLAGS, original), u32(_CTA_FILTER_REPLY_FLAGS, reply))
        + b"".join(only)
    )
    return Request(_CT_DELETE, 0, payload, what, frozenset({errno.ENOENT}))
