"""Forget tracked connections of addresses that are gone.

Without it a UDP client that goes on sending would stay with a container that was stopped, as long as it sends.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from enxame.network.netlink import NetlinkSocket, Request, attribute, nested, u32

_CT_DELETE: Final = (1 << 8) | 2
_CTA_TUPLE_ORIG: Final = 1
_CTA_TUPLE_REPLY: Final = 2
_CTA_FILTER: Final = 25
_CTA_TUPLE_IP: Final = 1
_CTA_IP_V4_SRC: Final = 1
_CTA_FILTER_ORIG_FLAGS: Final = 1
_CTA_FILTER_REPLY_FLAGS: Final = 2
_FILTER_SOURCE: Final = 1
_COUNT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")


def forget(netlink: NetlinkSocket, addresses: Iterable[IPv4Address]) -> None:
    """Delete every tracked connection that one of the addresses began or answers. Blocks."""
    try:
        if int(_COUNT.read_text()) == 0:
            return
    except (OSError, ValueError):
        return
    netlink.execute([_delete(address, side) for address in addresses for side in (_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY)])


def _delete(address: IPv4Address, side: int) -> Request:
    original = _FILTER_SOURCE if side == _CTA_TUPLE_ORIG else 0
    reply = _FILTER_SOURCE if side == _CTA_TUPLE_REPLY else 0
    payload = (
        bytes([socket.AF_INET, 0, 0, 0])
        + nested(side, nested(_CTA_TUPLE_IP, attribute(_CTA_IP_V4_SRC, address.packed)))
        + nested(_CTA_FILTER, u32(_CTA_FILTER_ORIG_FLAGS, original), u32(_CTA_FILTER_REPLY_FLAGS, reply))
    )
    return Request(_CT_DELETE, 0, payload, f"forget connections of {address}", frozenset({errno.ENOENT}))
