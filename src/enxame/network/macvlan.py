"""Macvlan links: a container on the wire of one of this machine's own links, with a link address of its own. There is
no bridge, no translation, no port of this machine; this machine itself does not reach such a container.
"""

from __future__ import annotations

import errno
from typing import Final

from enxame.errors import EnxameError
from enxame.network import netlink, rtnetlink
from enxame.network.netlink import NetlinkError, NetlinkSocket, Request, attribute, nested, text, u32

__all__ = ["MODES", "add_macvlan", "find_parent"]

MODES: Final = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}

_NEW_LINK: Final = 16
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINK: Final = 5
_IFLA_LINKINFO: Final = 18
_IFLA_NET_NS_FD: Final = 28
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_MACVLAN_MODE: Final = 1
_HEADER: Final = bytes(16)
_PROBE: Final = "enxm-probe"


def add_macvlan(name: str, *, parent: int, mode: str, mac: bytes, mtu: int, namespace_fd: int | None = None) -> Request:
    """A link ``name`` on the link with index ``parent``, born in a namespace (or here)."""
    payload = (
        _HEADER
        + text(_IFLA_IFNAME, name)
        + (attribute(_IFLA_ADDRESS, mac) if mac else b"")
        + (u32(_IFLA_MTU, mtu) if mtu else b"")
        + u32(_IFLA_LINK, parent)
        + (u32(_IFLA_NET_NS_FD, namespace_fd) if namespace_fd is not None else b"")
        + nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_KIND, "macvlan"),
            nested(_IFLA_INFO_DATA, u32(_IFLA_MACVLAN_MODE, MODES[mode])),
        )
    )
    return Request(_NEW_LINK, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, payload, f"create link {name}")


def find_parent(socket: NetlinkSocket, parent: str, mode: str) -> int:
    """The index of a link that macvlan links can be made on: one is made, and removed again. Blocks.

    Raises:
        EnxameError: there is no such link, or the kernel makes none on it.
    """
    body = socket.get(rtnetlink.get_link(parent))
    if body is None:
        raise EnxameError(f"invalid subinterface {parent}: there is no such link on this machine: make it first")
    index = rtnetlink.parse_link(body).index
    if mode == "passthru":  # there can be one alone: that of a container
        return index
    try:
        socket.execute([add_macvlan(_PROBE, parent=index, mode=mode, mac=b"", mtu=0)])
    except NetlinkError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENODEV):
            raise EnxameError(f"this machine's kernel has no macvlan: {error.message}") from error
        raise EnxameError(f"no macvlan link can be made on {parent}: {error.message}") from error
    socket.execute([rtnetlink.delete_link(_PROBE)])
    return index
