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

from enxame.network import conntrack_messages as ct
from enxame.network.netlink import NetlinkSocket, Request, attribute, nested, u8, u32
from enxame.network.rtnetlink import Address

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
            for side in (ct.ORIGINAL, ct.REPLY)
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
    udp = nested(ct.TUPLE_PROTOCOL, u8(ct.PROTOCOL_NUMBER, socket.IPPROTO_UDP))
    _forget_to(netlink, addresses, udp, _BY_SOURCE | _BY_PROTOCOL)
    _forget_to(netlink, addresses, b"", _BY_SOURCE, *_without(ct.SEEN_REPLY))


def _forget_to(netlink: NetlinkSocket, addresses: Iterable[Address], content: bytes, by: int, *only: bytes) -> None:
    addresses = list(addresses)
    if not addresses or _none_tracked():
        return
    netlink.execute(
        [
            _delete(
                ct.REPLY,
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
    return nested(ct.TUPLE_IP, attribute(ct.ADDRESSES[address.version][0], address.packed))


def _without(status: int) -> tuple[bytes, bytes]:
    """Only entries that have not that bit of their status."""
    return attribute(ct.STATUS, struct.pack("!I", 0)), attribute(ct.STATUS_MASK, struct.pack("!I", status))


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
    only = _without(ct.DESTINATION_TRANSLATED)
    netlink.execute([request for protocol, port in ports for request in _delete_port(protocol, port, *only)])


def _delete_port(protocol: int, port: int, *only: bytes) -> list[Request]:
    """Of both versions of IP."""
    number = u8(ct.PROTOCOL_NUMBER, protocol)
    destination = nested(ct.TUPLE_PROTOCOL, number, attribute(ct.DESTINATION_PORT, struct.pack("!H", port)))
    by = _BY_PROTOCOL | _BY_DESTINATION_PORT
    what = f"forget conversations with port {port}"
    return [_delete(ct.ORIGINAL, destination, by, what, *only, version=version) for version in ct.VERSIONS]


def _none_tracked() -> bool:
    try:
        return int(_COUNT.read_text()) == 0
    except (OSError, ValueError):  # the kernel tracks nothing yet
        return True


def _delete(side: int, content: bytes, by: int, what: str, *only: bytes, version: int) -> Request:
    original, reply = (by, 0) if side == ct.ORIGINAL else (0, by)
    payload = (
        ct.header(version)
        + nested(side, content)
        + nested(ct.FILTER, u32(_CTA_FILTER_ORIG_FLAGS, original), u32(_CTA_FILTER_REPLY_FLAGS, reply))
        + b"".join(only)
    )
    return Request(ct.DELETE, 0, payload, what, frozenset({errno.ENOENT}))
