"""What a machine has of links, addresses and ways, as the kernel tells. All of it blocks."""

from __future__ import annotations

from ipaddress import IPv6Network

from enxame.network import rtnetlink
from enxame.network.link_names import BRIDGE_PREFIX
from enxame.network.netlink import NetlinkSocket
from enxame.network.rtnetlink import Address, Link, Route


def ways(kernel: NetlinkSocket, without: frozenset[str]) -> list[Route]:
    """The networks that this machine knows a way to, without the default route and without those of the links named in
    ``without`` and of our bridges.
    """
    ours = _ours(kernel, without)
    found = [rtnetlink.parse_route(body) for body in kernel.dump(rtnetlink.list_routes())]
    return [route for route in found if route.link not in ours and route.destination.prefixlen]


def subnets6(kernel: NetlinkSocket, without: frozenset[str]) -> list[IPv6Network]:
    """What this machine reaches over IPv6 without a router, but over links named in ``without`` and our bridges."""
    ours = _ours(kernel, without)
    found = [rtnetlink.parse_direct6(body) for body in kernel.dump(rtnetlink.list_routes6())]
    return [item[0] for item in found if item is not None and item[1] not in ours]


def links(kernel: NetlinkSocket) -> list[Link]:
    """All of them."""
    return [rtnetlink.parse_link(body) for body in kernel.dump(rtnetlink.list_links())]


def link_with(kernel: NetlinkSocket, address: Address) -> Link | None:
    """The link that has an address; None when none has."""
    for body in kernel.dump(rtnetlink.list_addresses(address.version)):
        index, found = rtnetlink.parse_address(body)
        if found == address:
            return next((link for link in links(kernel) if link.index == index), None)
    return None


def _ours(kernel: NetlinkSocket, without: frozenset[str]) -> set[int]:
    return {link.index for link in links(kernel) if link.name in without or link.name.startswith(BRIDGE_PREFIX)}
