"""Requests to the kernel's routing tables and links, as pure functions: nothing here touches a socket.

Addresses come as :mod:`ipaddress` objects, links by name where the kernel allows it.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address
from typing import Final

from enxame.network import netlink
from enxame.network.netlink import Request, attribute, nested, parse_attributes, text, u8, u32

_NEW_LINK: Final = 16
_DEL_LINK: Final = 17
_GET_LINK: Final = 18
_NEW_ADDRESS: Final = 20
_GET_ADDRESS: Final = 22
_NEW_ROUTE: Final = 24
_GET_ROUTE: Final = 26
_NEW_RULE: Final = 32
_DEL_RULE: Final = 33

_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_AF_SPEC: Final = 26
_IFLA_GROUP: Final = 27
_IFLA_NET_NS_FD: Final = 28
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_INFO_SLAVE_KIND: Final = 4
_IFLA_INFO_SLAVE_DATA: Final = 5
_VETH_INFO_PEER: Final = 1
_IFLA_BR_FORWARD_DELAY: Final = 1
_IFLA_BR_STP_STATE: Final = 5
_IFLA_BR_MCAST_SNOOPING: Final = 23
_IFLA_BRPORT_MODE: Final = 4
_IFLA_BRPORT_ISOLATED: Final = 33
_IFLA_INET6_ADDR_GEN_MODE: Final = 8
_ADDR_GEN_MODE_NONE: Final = 1

_IFF_UP: Final = 1
_UNICAST: Final = 1
_RTA_DST: Final = 1
_RTA_GATEWAY: Final = 5
_RTA_OIF: Final = 4
_RTA_TABLE: Final = 15
_FRA_SRC: Final = 2
_FRA_PRIORITY: Final = 6
_FRA_FWMARK: Final = 10
_FRA_TABLE: Final = 15
_RTPROT_BOOT: Final = 3
TABLE_MAIN: Final = 254
_IFA_F_NODAD: Final = 0x02

_link_header = struct.Struct("=BxHiII")

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


def _family(address: Address | Interface | Network) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _link_header.pack(socket.AF_UNSPEC, 0, index, flags, change)


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel lists it. ``kind`` is ``veth``, ``bridge``, …, empty for devices; ``master`` an index."""

    index: int
    name: str
    kind: str
    master: int
    mtu: int
    up: bool
    mac: str


@dataclass(frozen=True, slots=True)
class Route:
    """An IPv4 route; ``destination`` is ``0.0.0.0/0`` for the default one, ``link`` an index, ``direct`` without a
    gateway between.
    """

    destination: IPv4Network
    link: int
    direct: bool


def add_bridge(name: str, mac: bytes, mtu: int) -> Request:
    """A bridge that forwards at once (no spanning tree); tolerates that the name exists."""
    data = nested(
        _IFLA_INFO_DATA,
        u32(_IFLA_BR_FORWARD_DELAY, 0),
        u32(_IFLA_BR_STP_STATE, 0),
        u8(_IFLA_BR_MCAST_SNOOPING, 0),
    )
    payload = (
        _header()
        + text(_IFLA_IFNAME, name)
        + attribute(_IFLA_ADDRESS, mac)
        + u32(_IFLA_MTU, mtu)
        + nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "bridge"), data)
    )
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    return Request(_NEW_LINK, flags, payload, f"create bridge {name}", frozenset({errno.EEXIST}))


def add_veth(name: str, *, namespace_fd: int, peer_name: str, peer_mac: bytes, mtu: int, bridge_index: int) -> Request:
    """A pair of links: ``name`` here, a port of the bridge but still down; ``peer_name`` in the other namespace."""
    peer = (
        _header()
        + text(_IFLA_IFNAME, peer_name)
        + attribute(_IFLA_ADDRESS, peer_mac)
        + u32(_IFLA_MTU, mtu)
        + u32(_IFLA_NET_NS_FD, namespace_fd)
    )
    data = nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer))
    payload = (
        _header()
        + text(_IFLA_IFNAME, name)
        + u32(_IFLA_MTU, mtu)
        + u32(_IFLA_MASTER, bridge_index)
        + nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "veth"), data)
    )
    return Request(_NEW_LINK, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, payload, f"create link {name}")


def configure_bridge_port(name: str, *, isolated: bool) -> Request:
    """Hairpin on (a container may reach its own published port through a bridge that passes packets to the
    firewall), no IPv6 address of its own. ``isolated`` ports only talk to the bridge itself.
    """
    payload = (
        _header()
        + text(_IFLA_IFNAME, name)
        + nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_SLAVE_KIND, "bridge"),
            nested(_IFLA_INFO_SLAVE_DATA, u8(_IFLA_BRPORT_MODE, 1), u8(_IFLA_BRPORT_ISOLATED, int(isolated))),
        )
        + nested(_IFLA_AF_SPEC, nested(socket.AF_INET6, u8(_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE)))
    )
    return Request(_NEW_LINK, 0, payload, f"configure bridge port {name}")


def set_up(name: str) -> Request:
    """Switch a link on."""
    return Request(_NEW_LINK, 0, _header(0, _IFF_UP, _IFF_UP) + text(_IFLA_IFNAME, name), f"set link {name} up")


def change_link(name: str, *, mac: bytes, mtu: int) -> Request:
    """Give a link another link address and another greatest size of packets."""
    payload = _header() + text(_IFLA_IFNAME, name) + attribute(_IFLA_ADDRESS, mac) + u32(_IFLA_MTU, mtu)
    return Request(_NEW_LINK, 0, payload, f"change link {name}")


def set_group(name: str, group: int) -> Request:
    """Put a link into a group; tolerates that it is gone."""
    payload = _header() + text(_IFLA_IFNAME, name) + u32(_IFLA_GROUP, group)
    return Request(_NEW_LINK, 0, payload, f"mark link {name}", frozenset({errno.ENODEV}))


def delete_group(group: int) -> Request:
    """Remove all links of a group at once: the kernel waits once for all of them, not for each."""
    payload = _header() + u32(_IFLA_GROUP, group)
    return Request(_DEL_LINK, 0, payload, "remove links", frozenset({errno.ENODEV}))


def delete_link(name: str) -> Request:
    """Remove a link; tolerates that it is gone."""
    return Request(_DEL_LINK, 0, _header() + text(_IFLA_IFNAME, name), f"remove link {name}", frozenset({errno.ENODEV}))


def get_link(name: str) -> Request:
    """Ask for one link by name; nothing comes when there is none."""
    return Request(_GET_LINK, 0, _header() + text(_IFLA_IFNAME, name), f"find link {name}", frozenset({errno.ENODEV}))


def list_links() -> Request:
    """Ask for all links."""
    return Request(_GET_LINK, 0, _header(), "list links")


def add_address(index: int, address: Interface) -> Request:
    """Give a link an address with its on-link route; IPv6 without waiting for duplicate detection."""
    packed = address.ip.packed
    payload = struct.pack("=BBBBI", _family(address), address.network.prefixlen, 0, 0, index)
    payload += attribute(2, packed)
    if address.version == 4:
        payload += attribute(1, packed)
        broadcast = address.network.broadcast_address
        if address.network.prefixlen < 31:
            payload += attribute(4, broadcast.packed)
    else:
        payload += attribute(1, packed) + u32(8, _IFA_F_NODAD)
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
    return Request(_NEW_ADDRESS, flags, payload, f"add address {address}", frozenset({errno.EEXIST}))


def list_addresses(version: int) -> Request:
    """Ask for all addresses of a version of IP."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return Request(_GET_ADDRESS, 0, struct.pack("=BBBBI", family, 0, 0, 0, 0), "list addresses")


def parse_address(body: bytes) -> tuple[int, Address]:
    """A link's index and an address of its own, from the kernel's message."""
    (index,) = struct.unpack_from("=I", body, 4)
    attributes = parse_attributes(body[8:])
    # Of a point-to-point link IFA_ADDRESS is the other end's.
    return index, ip_address(attributes.get(2) or attributes[1])


def add_route(destination: Network, gateway: Address | None, index: int, table: int = TABLE_MAIN) -> Request:
    """A unicast route; ``gateway`` None: directly on the link."""
    scope = 0 if gateway is not None else 253
    payload = struct.pack(
        "=BBBBBBBBI",
        _family(destination),
        destination.prefixlen,
        0,
        0,
        table if table < 256 else 0,
        _RTPROT_BOOT,
        scope,
        1,
        0,
    )
    if destination.prefixlen:
        payload += attribute(_RTA_DST, destination.network_address.packed)
    if gateway is not None:
        payload += attribute(_RTA_GATEWAY, gateway.packed)
    payload += u32(_RTA_OIF, index) + u32(_RTA_TABLE, table)
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
    return Request(_NEW_ROUTE, flags, payload, f"add route {destination}")


def add_source_rule(source: Address, table: int, priority: int) -> Request:
    """Packets from ``source`` look in ``table``."""
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    tolerated = frozenset({errno.EEXIST})
    return Request(_NEW_RULE, flags, _source_rule(source, table, priority), f"add rule from {source}", tolerated)


def delete_source_rule(source: Address, table: int, priority: int) -> Request:
    """Undo :func:`add_source_rule`; tolerates that it is gone."""
    tolerated = frozenset({errno.ENOENT})
    return Request(_DEL_RULE, 0, _source_rule(source, table, priority), f"remove rule from {source}", tolerated)


def _source_rule(source: Address, table: int, priority: int) -> bytes:
    payload = struct.pack(
        "=BBBBBBBBI", _family(source), 0, source.max_prefixlen, 0, table if table < 256 else 0, 0, 0, 1, 0
    )
    return payload + attribute(_FRA_SRC, source.packed) + u32(_FRA_TABLE, table) + u32(_FRA_PRIORITY, priority)


def add_mark_rule(mark: int, table: int, version: int = 4) -> Request:
    """Packets of a version of IP with ``mark`` look in ``table``."""
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    payload = _mark_rule(mark, table, version)
    return Request(_NEW_RULE, flags, payload, f"add rule for mark {mark}", frozenset({errno.EEXIST}))


def delete_mark_rule(mark: int, table: int, version: int = 4) -> Request:
    """Undo :func:`add_mark_rule`; tolerates that it is gone."""
    payload = _mark_rule(mark, table, version)
    return Request(_DEL_RULE, 0, payload, f"remove rule for mark {mark}", frozenset({errno.ENOENT}))


def _mark_rule(mark: int, table: int, version: int) -> bytes:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    payload = struct.pack("=BBBBBBBBI", family, 0, 0, 0, table if table < 256 else 0, 0, 0, 1, 0)
    return payload + u32(_FRA_FWMARK, mark) + u32(_FRA_TABLE, table) + u32(_FRA_PRIORITY, table)


def list_routes() -> Request:
    """Ask for all IPv4 routes."""
    return Request(_GET_ROUTE, 0, struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")


def list_routes6() -> Request:
    """Ask for all IPv6 routes."""
    return Request(_GET_ROUTE, 0, struct.pack("=BBBBBBBBI", socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")


def parse_link(body: bytes) -> Link:
    """A link from the kernel's message."""
    _, _, index, flags, _ = _link_header.unpack_from(body)
    attributes = parse_attributes(body[16:])
    info = parse_attributes(attributes.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=_text(attributes.get(_IFLA_IFNAME, b"")),
        kind=_text(info.get(_IFLA_INFO_KIND, b"")),
        master=_number(attributes.get(_IFLA_MASTER, b"")),
        mtu=_number(attributes.get(_IFLA_MTU, b"")),
        up=bool(flags & _IFF_UP),
        mac=attributes.get(_IFLA_ADDRESS, b"").hex(":"),
    )


def parse_route(body: bytes) -> Route:
    """An IPv4 route from the kernel's message."""
    prefix = body[1]
    attributes = parse_attributes(body[12:])
    destination = IPv4Network((attributes.get(_RTA_DST, b"\0\0\0\0"), prefix))
    return Route(destination, _number(attributes.get(_RTA_OIF, b"")), _RTA_GATEWAY not in attributes)


def parse_direct6(body: bytes) -> tuple[IPv6Network, int] | None:
    """From the kernel's message of an IPv6 route: a subnet without a router between, and the index of its link. None
    for what is no such route: the machine's own addresses, what every link has.
    """
    prefix, kind = body[1], body[7]
    attributes = parse_attributes(body[12:])
    if kind != _UNICAST or not prefix or _RTA_DST not in attributes or _RTA_GATEWAY in attributes:
        return None
    destination = IPv6Network((attributes[_RTA_DST], prefix))
    if destination.is_link_local or destination.is_multicast:
        return None
    return destination, _number(attributes.get(_RTA_OIF, b""))


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _number(data: bytes) -> int:
    return int(struct.unpack("=I", data)[0]) if len(data) == 4 else 0
