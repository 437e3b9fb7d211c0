"""Answers to connections through the routing mesh go back to the machine that they came in at. Pure.

The client's own address reaches the container, so addresses do not tell which machine has the other end of the
translation. The link address of the first packet does: every machine's bridges have one of their own
(:func:`enxame.network.vxlan.node_mac`). In the container's namespace its last four bytes become the mark of the tracked
connection, and the mark becomes the last four bytes of where answers are sent. No list of machines is needed.

Two machines may send a connection of the same client and port; the kernel tells them apart by a zone for each machine,
and changes the client's port (not its address) for one of them.

A container with other networks answers UDP from the address that its default route suggests. There, datagrams from the
mesh are given that address as destination, so that answers are recognised, and led back by the mark. Its default routes
for the two versions of IP may go through different networks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from enxame.network import nft_messages as nft
from enxame.network.nft_messages import INET, IPV4, IPV6, NETDEV, R0, Message
from enxame.network.rtnetlink import Address

TABLE: Final = "enxame-mesh"
#: The mark by which packets of a container's own are routed as answers to the mesh.
ROUTING_MARK: Final = 0x656E78
_TCP: Final = b"\x06"
_UDP: Final = b"\x11"
_PRIORITY_RAW: Final = -300
_PRIORITY_MANGLE: Final = -150
_PRIORITY_DESTINATION: Final = -100
_PRIORITY_SOURCE: Final = 100
_FAMILIES: Final = {4: IPV4, 6: IPV6}
_ETHERNET_DESTINATION: Final = 0
_ETHERNET_SOURCE: Final = 6


@dataclass(frozen=True, slots=True)
class Door:
    """A container's link to the ingress network. ``datagrams_to``: the addresses it answers datagrams from, one of a
    version of IP, where they are not the link's own.
    """

    link: str
    datagrams_to: tuple[Address, ...] = ()


def remove() -> list[Message]:
    """Undo :func:`install`; nothing need be there."""
    return [
        change
        for family in (IPV4, INET, NETDEV)  # IPV4: of daemons that knew the mesh over IPv4 alone
        for change in (nft.add_table(family, TABLE), nft.delete_table(family, TABLE))
    ]


def install(door: Door) -> list[Message]:
    """All rules of a container, in a namespace that has none."""
    link = door.link.encode().ljust(16, b"\0")
    comes_in = (nft.load_meta(nft.META_INTERFACE_IN), nft.compare(link))
    messages = [
        nft.add_table(INET, TABLE),
        nft.add_base_chain(INET, TABLE, "zones", "filter", nft.PREROUTING, _PRIORITY_RAW),
        nft.add_rule(
            INET,
            TABLE,
            "zones",
            *comes_in,
            nft.load_payload(nft.LINK, _ETHERNET_SOURCE + 4, 2),
            nft.store_ct(nft.CT_ZONE, original=True),
        ),
        # A chain of this kind sees only a connection's first packet.
        nft.add_base_chain(INET, TABLE, "begin", "nat", nft.PREROUTING, _PRIORITY_DESTINATION - 1),
        nft.add_rule(
            INET,
            TABLE,
            "begin",
            *comes_in,
            nft.load_payload(nft.LINK, _ETHERNET_SOURCE + 2, 4),
            nft.store_ct(nft.CT_MARK),
        ),
        # Without rules: that there is one lets the kernel change ports of connections that would be confused.
        nft.add_base_chain(INET, TABLE, "distinguish", "nat", nft.INPUT, _PRIORITY_SOURCE),
        nft.add_base_chain(INET, TABLE, "leave", "filter", nft.POSTROUTING, _PRIORITY_MANGLE),
        nft.add_rule(
            INET,
            TABLE,
            "leave",
            nft.load_meta(nft.META_INTERFACE_OUT),
            nft.compare(link),
            nft.load_ct(nft.CT_MARK),
            nft.store_meta(nft.META_MARK),
        ),
        # Tracked connections cannot be asked for here, hence the packet's mark in between.
        nft.add_table(NETDEV, TABLE),
        nft.add_base_chain(NETDEV, TABLE, "answers", "filter", nft.EGRESS, 0, door.link),
        nft.add_rule(
            NETDEV,
            TABLE,
            "answers",
            nft.load_meta(nft.META_MARK),
            nft.compare(bytes(4), equal=False),
            nft.store_payload(nft.LINK, _ETHERNET_DESTINATION + 2, 4),
        ),
    ]
    if door.datagrams_to:
        messages += _datagrams(comes_in, door.datagrams_to)
    return messages


def _datagrams(comes_in: tuple[bytes, ...], addresses: Iterable[Address]) -> list[Message]:
    messages = [nft.add_base_chain(INET, TABLE, "datagrams", "nat", nft.PREROUTING, _PRIORITY_DESTINATION)]
    messages += [
        nft.add_rule(
            INET,
            TABLE,
            "datagrams",
            *comes_in,
            nft.load_meta(nft.META_FAMILY),
            nft.compare(bytes((_FAMILIES[address.version],))),
            nft.load_meta(nft.META_PROTOCOL),
            nft.compare(_UDP),
            nft.immediate(address.packed),
            nft.translate_destination(family=_FAMILIES[address.version]),
        )
        for address in addresses
    ]
    messages += [
        nft.add_base_chain(INET, TABLE, "route", "route", nft.OUTPUT, _PRIORITY_MANGLE),
        nft.add_rule(
            INET,
            TABLE,
            "route",
            # A TCP connection has its link's address, and the route that belongs to that: no need to look for one with
            # every packet.
            nft.load_meta(nft.META_PROTOCOL),
            nft.compare(_TCP, equal=False),
            nft.load_ct(nft.CT_MARK),
            nft.compare(bytes(4), equal=False),
            nft.immediate(struct.pack("=I", ROUTING_MARK), R0),
            nft.store_meta(nft.META_MARK),
        ),
    ]
    return messages
