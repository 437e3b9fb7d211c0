"""VXLAN links and what they must know of other machines' containers, as requests to the kernel. Pure.

A tunnel is one network's port to the other machines. It learns nothing and floods nothing: a frame leaves it only
towards a link address that was programmed, and it answers questions for programmed IP addresses itself.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from enxame.network import netlink
from enxame.network.netlink import Request, attribute, nested, parse_attributes, text, u8, u32
from enxame.network.rtnetlink import Address

_NEW_LINK: Final = 16
_NEW_NEIGHBOUR: Final = 28
_DEL_NEIGHBOUR: Final = 29
_GET_NEIGHBOUR: Final = 30

_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_AF_SPEC: Final = 26
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_INFO_SLAVE_KIND: Final = 4
_IFLA_INFO_SLAVE_DATA: Final = 5
_VXLAN_ID: Final = 1
_VXLAN_LOCAL: Final = 4
_VXLAN_LEARNING: Final = 7
_VXLAN_PROXY: Final = 11
_VXLAN_PORT: Final = 15
_VXLAN_LOCAL6: Final = 17
_BRPORT_LEARNING: Final = 8
_BRPORT_UNICAST_FLOOD: Final = 9
_ADDR_GEN_MODE: Final = 8
_ADDR_GEN_MODE_NONE: Final = 1

_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
_NDA_IFINDEX: Final = 8
_NDA_MASTER: Final = 9
_NUD_REACHABLE: Final = 0x02
_NUD_PERMANENT: Final = 0x80
_NTF_SELF: Final = 0x02
_NTF_MASTER: Final = 0x04
_NTF_EXT_LEARNED: Final = 0x10

_link_header = struct.Struct("=BxHiII")
_neighbour = struct.Struct("=BxxxiHBB")

#: What encapsulation costs, by the version of the addresses between the machines: outer Ethernet, IP, UDP, VXLAN.
OVERHEAD: Final = {4: 50, 6: 70}


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A VXLAN link, the port of a bridge. ``local`` is where its packets come from; None where this machine does not
    have that address itself.
    """

    name: str
    vni: int
    port: int
    local: Address | None


@dataclass(frozen=True, slots=True)
class Remote:
    """A link address on another machine, the IP addresses that it answers for, and where that machine takes packets."""

    mac: bytes
    addresses: tuple[Address, ...]
    machine: Address


@dataclass(frozen=True, slots=True)
class Programmed:
    """What a tunnel knows: machines by link address, which of those the bridge knows, link addresses by IP address."""

    machines: dict[bytes, Address]
    in_bridge: frozenset[bytes]
    neighbours: dict[Address, bytes]


def node_mac(node_id: str) -> bytes:
    """The link address of a machine's own bridges: the same wherever it is computed, and no container's. Only the last
    four bytes differ between machines: as many as the mark of a tracked connection has (:mod:`.answer_rules`).
    """
    return b"\x06\x65" + sha256(node_id.encode()).digest()[:4]


def add_tunnel(tunnel: Tunnel, *, bridge_index: int, mac: bytes, mtu: int) -> Request:
    """Make the link, a port of the bridge but still down."""
    local = b""
    if tunnel.local is not None:
        local = attribute(_VXLAN_LOCAL if tunnel.local.version == 4 else _VXLAN_LOCAL6, tunnel.local.packed)
    data = nested(
        _IFLA_INFO_DATA,
        u32(_VXLAN_ID, tunnel.vni),
        local,
        u8(_VXLAN_LEARNING, 0),
        u8(_VXLAN_PROXY, 1),
        attribute(_VXLAN_PORT, struct.pack("!H", tunnel.port)),
    )
    payload = (
        _link()
        + text(_IFLA_IFNAME, tunnel.name)
        + attribute(_IFLA_ADDRESS, mac)
        + u32(_IFLA_MTU, mtu)
        + u32(_IFLA_MASTER, bridge_index)
        + nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "vxlan"), data)
    )
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    return Request(_NEW_LINK, flags, payload, f"create VXLAN link {tunnel.name} (id {tunnel.vni})")


def configure_port(name: str) -> Request:
    """The bridge learns no address from the tunnel and sends it no frame for addresses that nobody has; the link has
    no IPv6 address of its own.
    """
    payload = (
        _link()
        + text(_IFLA_IFNAME, name)
        + nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_SLAVE_KIND, "bridge"),
            nested(_IFLA_INFO_SLAVE_DATA, u8(_BRPORT_LEARNING, 0), u8(_BRPORT_UNICAST_FLOOD, 0)),
        )
        + nested(_IFLA_AF_SPEC, nested(socket.AF_INET6, u8(_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE)))
    )
    return Request(_NEW_LINK, 0, payload, f"configure bridge port {name}")


def tunnel_of(name: str, body: bytes) -> Tunnel | None:
    """The tunnel that a link is, from the kernel's message; None when it is another kind of link."""
    info = parse_attributes(parse_attributes(body[16:]).get(_IFLA_LINKINFO, b""))
    if info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0") != b"vxlan":
        return None
    data = parse_attributes(info.get(_IFLA_INFO_DATA, b""))
    local: Address | None = None
    if _VXLAN_LOCAL in data:
        local = IPv4Address(data[_VXLAN_LOCAL])
    elif _VXLAN_LOCAL6 in data:
        local = IPv6Address(data[_VXLAN_LOCAL6])
    (vni,) = struct.unpack("=I", data.get(_VXLAN_ID, b"\0\0\0\0"))
    (port,) = struct.unpack("!H", data.get(_VXLAN_PORT, b"\0\0"))
    return Tunnel(name, vni, port, local)


def add_remote(index: int, remote: Remote) -> Iterator[Request]:
    """Lead frames and questions for a remote address; replaces what was programmed for it."""
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
    where = _NTF_SELF | _NTF_MASTER | _NTF_EXT_LEARNED
    yield Request(
        _NEW_NEIGHBOUR,
        flags,
        _neighbour.pack(socket.AF_BRIDGE, index, _NUD_REACHABLE, where, 0)
        + attribute(_NDA_LLADDR, remote.mac)
        + attribute(_NDA_DST, remote.machine.packed),
        "lead a link address to another machine",
    )
    for address in remote.addresses:
        yield Request(
            _NEW_NEIGHBOUR,
            flags,
            _neighbour.pack(_family(address), index, _NUD_PERMANENT, 0, 0)
            + attribute(_NDA_DST, address.packed)
            + attribute(_NDA_LLADDR, remote.mac),
            f"tell the neighbour {address}",
        )


def delete_remote(index: int, mac: bytes, addresses: Iterable[Address] = ()) -> Iterator[Request]:
    """Undo :func:`add_remote`; tolerates that it is gone."""
    gone = frozenset({errno.ENOENT, errno.ENODEV})
    for where in (_NTF_MASTER, _NTF_SELF):
        payload = _neighbour.pack(socket.AF_BRIDGE, index, 0, where, 0) + attribute(_NDA_LLADDR, mac)
        yield Request(_DEL_NEIGHBOUR, 0, payload, "forget a link address", gone)
    for address in addresses:
        yield delete_neighbour(index, address)


def delete_neighbour(index: int, address: Address) -> Request:
    """Answer for an IP address no more; tolerates that it is gone."""
    payload = _neighbour.pack(_family(address), index, 0, 0, 0) + attribute(_NDA_DST, address.packed)
    return Request(
        _DEL_NEIGHBOUR, 0, payload, f"forget the neighbour {address}", frozenset({errno.ENOENT, errno.ENODEV})
    )


def list_forwarding(index: int) -> Request:
    """Ask for all link addresses that a link and its bridge know behind it."""
    return Request(_GET_NEIGHBOUR, 0, _neighbour.pack(socket.AF_BRIDGE, index, 0, 0, 0), "list link addresses")


def list_neighbours(index: int, family: int) -> Request:
    """Ask for all IP addresses that a link knows the link addresses of."""
    payload = _neighbour.pack(family, 0, 0, 0, 0) + u32(_NDA_IFINDEX, index)
    return Request(_GET_NEIGHBOUR, 0, payload, "list neighbours")


def programmed(forwarding: Iterable[bytes], neighbours: Iterable[bytes]) -> Programmed:
    """What a tunnel knows, from the kernel's answers."""
    machines: dict[bytes, Address] = {}
    in_bridge: set[bytes] = set()
    known: dict[Address, bytes] = {}
    for body in forwarding:
        _, _, state, flags, _ = _neighbour.unpack_from(body)
        attributes = parse_attributes(body[_neighbour.size :])
        mac = attributes.get(_NDA_LLADDR, b"")
        if flags & _NTF_SELF and _NDA_DST in attributes:
            machines[mac] = ip_address(attributes[_NDA_DST])
        elif _NDA_MASTER in attributes and not state & _NUD_PERMANENT:  # a permanent one is the link's own
            in_bridge.add(mac)
    for body in neighbours:
        _, _, state, _, _ = _neighbour.unpack_from(body)
        attributes = parse_attributes(body[_neighbour.size :])
        if state & _NUD_PERMANENT and _NDA_DST in attributes and _NDA_LLADDR in attributes:
            known[ip_address(attributes[_NDA_DST])] = attributes[_NDA_LLADDR]
    return Programmed(machines, frozenset(in_bridge), known)


def corrections(index: int, have: Programmed, wanted: Iterable[Remote]) -> list[Request]:
    """What makes a tunnel know ``wanted`` and nothing else."""
    remotes = {remote.mac: remote for remote in wanted}
    neighbours = {address: remote.mac for remote in remotes.values() for address in remote.addresses}
    requests = [
        request
        for mac in (have.machines.keys() | have.in_bridge) - remotes.keys()
        for request in delete_remote(index, mac)
    ]
    requests += [
        delete_neighbour(index, address)
        for address in have.neighbours
        if address not in neighbours and not address.is_multicast  # those are the kernel's own
    ]
    for mac, remote in remotes.items():
        if (
            have.machines.get(mac) != remote.machine
            or mac not in have.in_bridge
            or any(have.neighbours.get(address) != mac for address in remote.addresses)
        ):
            requests += add_remote(index, remote)
    return requests


def _link() -> bytes:
    return _link_header.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
