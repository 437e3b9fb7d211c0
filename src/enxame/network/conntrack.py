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
_CTA_FILTER: Final = 25
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


def forget_udp_ports(netlink: NetlinkSocket, ports: Iterable[int]) -> None:
    """Delete every tracked UDP conversation that was begun towards one of the ports. Blocks."""
    if _none_tracked():
        return
    requests: list[Request] = []
    for port in ports:
        number = u8(_CTA_PROTO_NUM, socket.IPPROTO_UDP)
        destination = nested(_CTA_TUPLE_PROTO, number, attribute(_CTA_PROTO_DST_PORT, struct.pack("!H", port)))
        by = _BY_PROTOCOL | _BY_DESTINATION_PORT
        requests.append(_delete(_CTA_TUPLE_ORIG, destination, by, f"forget conversations with UDP port {port}"))
    netlink.execute(requests)


def _none_tracked() -> bool:
    try:
        return int(_COUNT.read_text()) == 0
    except (OSError, ValueError):  # the kernel tracks nothing yet
        return True


def _delete(side: int, content: bytes, by: int, what: str) -> Request:
    original, reply = (by, 0) if side == _CTA_TUPLE_ORIG else (0, by)
    payload = (
        bytes([socket.AF_INET, 0, 0, 0])
        + nested(side, content)
        + nested(_CTA_FILTER, u32(_CTA_FILTER_ORIG_FLAGS, original), u32(_CTA_FILTER_REPLY_FLAGS, reply))
    )
    return Request(_CT_DELETE, 0, payload, what, frozenset({errno.ENOENT}))
