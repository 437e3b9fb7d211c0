"""A bridge: the switch and gateway of one network on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from enxame.errors import EnxameError
from enxame.network import rtnetlink
from enxame.network.netlink import NetlinkSocket


@dataclass(frozen=True, slots=True)
class Bridge:
    """What a bridge is to be.

    ``gateway`` is the bridge's own address with its network's prefix. ``masquerade``: containers reach other machines
    with this machine's address. ``internal``: they reach nobody outside. ``isolated``: not even each other.
    """

    name: str
    gateway: IPv4Interface
    mtu: int = 1500
    masquerade: bool = True
    internal: bool = False
    isolated: bool = False


def mac_of(address: IPv4Address) -> bytes:
    """The link address that belongs to an IPv4 address: one address never has two, so caches are never stale."""
    return b"\x02\x42" + address.packed


def make_bridge(socket: NetlinkSocket, bridge: Bridge) -> int:
    """Make the bridge, or bring an existing one to what it is to be. Returns its link index. Blocks.

    Raises:
        EnxameError: the kernel refuses, or the name belongs to a link that is no bridge.
    """
    socket.execute([rtnetlink.add_bridge(bridge.name, mac_of(bridge.gateway.ip), bridge.mtu)])
    body = socket.get(rtnetlink.get_link(bridge.name))
    if body is None:
        raise EnxameError(f"bridge {bridge.name} vanished while it was being made")
    link = rtnetlink.parse_link(body)
    if link.kind != "bridge":
        raise EnxameError(f"cannot create network: the link {bridge.name} exists and is not a bridge")
    settings = Path("/proc/sys/net/ipv4/conf", bridge.name)
    # Lets connections to 127.0.0.1 of this machine be sent on to containers; rules drop what abuses it.
    (settings / "route_localnet").write_text("1")
    socket.execute([rtnetlink.add_address(link.index, bridge.gateway), rtnetlink.set_up(bridge.name)])
    return link.index
