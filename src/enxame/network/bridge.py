"""A bridge: the switch and gateway of one network on this machine."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path

from enxame.errors import EnxameError
from enxame.network import macvlan, rtnetlink, vxlan
from enxame.network.netlink import NetlinkError, NetlinkSocket
from enxame.network.vxlan import Tunnel


@dataclass(frozen=True, slots=True)
class Bridge:
    """What a bridge is to be.

    ``gateway`` is the bridge's own address with its network's prefix. ``masquerade``: containers reach other machines
    with this machine's address. ``internal``: they reach nobody outside. ``isolated``: not even each other. ``mac`` is
    the bridge's own link address, by default that of its gateway address. ``tunnel``: its port to other machines.
    ``gateway6``: its IPv6 address, if the network has such. ``further``: its addresses in the network's other subnets,
    of both versions. With a ``parent`` there is no bridge: containers get macvlan links of that ``mode`` on this link
    of the machine, and ``gateway`` is somebody else's.
    """

    name: str
    gateway: IPv4Interface
    mtu: int = 1500
    masquerade: bool = True
    internal: bool = False
    isolated: bool = False
    mac: bytes = b""
    tunnel: Tunnel | None = None
    gateway6: IPv6Interface | None = None
    further: tuple[IPv4Interface | IPv6Interface, ...] = ()
    parent: str = ""
    mode: str = ""

    @property
    def own_mac(self) -> bytes:
        """The bridge's own link address."""
        return self.mac or mac_of(self.gateway.ip)

    @property
    def addresses(self) -> list[IPv4Interface | IPv6Interface]:
        """Its own, one for each subnet."""
        first6 = [self.gateway6] if self.gateway6 is not None else []
        return [self.gateway, *first6, *self.further]

    def subnets(self, version: int) -> list[IPv4Network | IPv6Network]:
        """The network's, of a version of IP."""
        return [address.network for address in self.addresses if address.version == version]


def mac_of(address: IPv4Address) -> bytes:
    """The link address that belongs to an IPv4 address: one address never has two, so caches are never stale."""
    return b"\x02\x42" + address.packed


def make_bridge(socket: NetlinkSocket, bridge: Bridge) -> int:
    """Make the bridge, or bring an existing one to what it is to be. Returns its link index. Blocks.

    Raises:
        EnxameError: the kernel refuses, or the name belongs to a link that is no bridge.
    """
    if bridge.parent:
        return macvlan.find_parent(socket, bridge.parent, bridge.mode)
    mac = bridge.own_mac
    socket.execute([rtnetlink.add_bridge(bridge.name, mac, bridge.mtu)])
    body = socket.get(rtnetlink.get_link(bridge.name))
    if body is None:
        raise EnxameError(f"bridge {bridge.name} vanished while it was being made")
    link = rtnetlink.parse_link(body)
    if link.kind != "bridge":
        raise EnxameError(f"cannot create network: the link {bridge.name} exists and is not a bridge")
    if link.mac != mac.hex(":") or link.mtu != bridge.mtu:
        socket.execute([rtnetlink.change_link(bridge.name, mac=mac, mtu=bridge.mtu)])
    settings = Path("/proc/sys/net/ipv4/conf", bridge.name)
    # Lets connections to 127.0.0.1 of this machine be sent on to containers; rules drop what abuses it.
    (settings / "route_localnet").write_text("1")
    if bridge.gateway6 is not None:
        _allow_ipv6(bridge.name)
    addresses = [rtnetlink.add_address(link.index, address) for address in bridge.addresses]
    socket.execute([*addresses, rtnetlink.set_up(bridge.name)])
    if bridge.tunnel is not None:
        _make_tunnel(socket, bridge, bridge.tunnel, link.index)
    return link.index


def remove_bridge(socket: NetlinkSocket, bridge: Bridge) -> None:
    """Remove the bridge and its tunnel. Idempotent. Blocks."""
    names = [bridge.name, *([bridge.tunnel.name] if bridge.tunnel is not None else [])]
    socket.execute([rtnetlink.delete_link(name) for name in names])


def _allow_ipv6(name: str) -> None:
    """Containers' routers are not to tell this machine where to go; addresses are unique by our bookkeeping."""
    settings = Path("/proc/sys/net/ipv6/conf", name)
    try:
        for setting, value in (("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")):
            (settings / setting).write_text(value)
    except OSError as error:
        raise EnxameError(f"this machine has no IPv6: {error.strerror} {error.filename}") from error


def _make_tunnel(socket: NetlinkSocket, bridge: Bridge, tunnel: Tunnel, bridge_index: int) -> None:
    mac = bridge.own_mac
    # Not the bridge's own address: a port with that would be it to the bridge.
    port_mac = bytes([mac[0] ^ 0x08]) + mac[1:]
    body = socket.get(rtnetlink.get_link(tunnel.name))
    if body is not None:
        link = rtnetlink.parse_link(body)
        if vxlan.tunnel_of(tunnel.name, body) == tunnel and link.master == bridge_index:
            if link.mac != port_mac.hex(":") or link.mtu != bridge.mtu:
                socket.execute([rtnetlink.change_link(tunnel.name, mac=port_mac, mtu=bridge.mtu)])
            socket.execute([vxlan.configure_port(tunnel.name), rtnetlink.set_up(tunnel.name)])
            return
        socket.execute([rtnetlink.delete_link(tunnel.name)])
    try:
        socket.execute([vxlan.add_tunnel(tunnel, bridge_index=bridge_index, mac=port_mac, mtu=bridge.mtu)])
        socket.execute([vxlan.configure_port(tunnel.name), rtnetlink.set_up(tunnel.name)])
    except NetlinkError as error:
        socket.try_all([rtnetlink.delete_link(tunnel.name)])
        if error.errno in (errno.EEXIST, errno.EADDRINUSE):
            raise EnxameError(
                f"VXLAN id {tunnel.vni} on UDP port {tunnel.port} is used by another program of this machine: let the "
                "swarm use another port (swarm init --data-path-port)"
            ) from error
        if error.errno in (errno.EOPNOTSUPP, errno.ENODEV):
            raise EnxameError(f"this machine's kernel has no VXLAN: {error.message}") from error
        raise
