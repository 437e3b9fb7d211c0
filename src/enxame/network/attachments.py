"""Links between containers' namespaces and bridges, with the addresses and routes at their inner ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final

from enxame.errors import EnxameError
from enxame.network import macvlan, rtnetlink
from enxame.network.bridge import Bridge, mac_of
from enxame.network.link_removal import delete_links
from enxame.network.namespaces import Namespace
from enxame.network.netlink import NetlinkSocket, Request
from enxame.network.rtnetlink import Network

#: The index of a bridge's link by its name; None when it is not there.
IndexOf = Callable[[str], int | None]

_SOURCE_TABLE: Final = 1000
_EVERYWHERE: Final = IPv4Network("0.0.0.0/0")
_EVERYWHERE6: Final = IPv6Network("::/0")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A link between a namespace and a bridge.

    ``link`` is its end here, ``inner`` its end inside (``eth`` and a number). ``gateway`` None: no way out of the
    network. Of the attachments with one, the first with ``default`` carries the default route; answers from the
    addresses of the others go out where their questions came in. The same of IPv6: ``gateway6``, ``default6``.
    ``on_link``: other subnets, of both versions, whose addresses are on the same link: no gateway is asked.
    """

    link: str
    inner: str
    bridge: Bridge
    address: IPv4Interface
    mac: bytes = b""
    gateway: IPv4Address | None = None
    default: bool = False
    address6: IPv6Interface | None = None
    gateway6: IPv6Address | None = None
    default6: bool = False
    on_link: tuple[Network, ...] = ()


def attach(routes: NetlinkSocket, namespace: Namespace, attachments: Sequence[Attachment], index_of: IndexOf) -> None:
    """Link a namespace to bridges, whose links ``index_of`` knows; all or nothing. Blocks.

    Raises:
        EnxameError: a bridge is missing, or the kernel refuses.
    """
    requests = [request for item in attachments for request in _links(namespace, item, index_of)]
    try:
        routes.execute(requests)
        default = next((item for item in attachments if item.gateway is not None and item.default), None)
        default6 = next((item for item in attachments if item.gateway6 is not None and item.default6), None)
        for item in attachments:
            _configure(namespace, item, default=item is default, default6=item is default6)
    except EnxameError:
        with contextlib.suppress(EnxameError):
            delete_links(routes, [attachment.link for attachment in attachments])
        raise


def _links(namespace: Namespace, attachment: Attachment, index_of: IndexOf) -> list[Request]:
    bridge = attachment.bridge
    index = index_of(bridge.name)
    if index is None:
        raise EnxameError(f"the bridge {bridge.name} does not exist")
    mac = attachment.mac or mac_of(attachment.address.ip)
    if bridge.parent:
        return [
            macvlan.add_macvlan(
                attachment.inner, parent=index, mode=bridge.mode, mac=mac, mtu=bridge.mtu, namespace_fd=namespace.fd
            )
        ]
    return [
        rtnetlink.add_veth(
            attachment.link,
            namespace_fd=namespace.fd,
            peer_name=attachment.inner,
            peer_mac=mac,
            mtu=bridge.mtu,
            bridge_index=index,
        ),
        rtnetlink.configure_bridge_port(attachment.link, isolated=bridge.isolated),
        rtnetlink.set_up(attachment.link),
    ]


def forget_rules(namespace: Namespace, attachment: Attachment) -> None:
    """Before a link is removed from a namespace that stays: its routing rules. Blocks."""
    table = table_of(attachment)
    rules = [rtnetlink.delete_source_rule(address.ip, table, table) for address in _addresses(attachment)]
    # One with an end here goes with that.
    link = [rtnetlink.delete_link(attachment.inner)] if attachment.bridge.parent else []
    namespace.socket.execute([*rules, *link])


def _configure(namespace: Namespace, attachment: Attachment, *, default: bool, default6: bool) -> None:
    index = _index(namespace, attachment)
    requests = [rtnetlink.add_address(index, address) for address in _addresses(attachment)]
    requests.append(rtnetlink.set_up(attachment.inner))
    requests += [rtnetlink.add_route(network, None, index) for network in attachment.on_link]
    for version, carries in ((4, default), (6, default6)):
        requests += (_default_route if carries else _way_back)(attachment, index, version)
    namespace.socket.execute(requests)


def lead_out(namespace: Namespace, exit_: Attachment | None, others: Sequence[Attachment], version: int) -> None:
    """Lay the default route of a version of IP through ``exit_``; answers from ``others`` go on leaving where their
    questions came in. Blocks.
    """
    requests: list[Request] = []
    for attachment in others:
        requests += _way_back(attachment, _index(namespace, attachment), version)
    if exit_ is not None:
        requests += _default_route(exit_, _index(namespace, exit_), version)
    namespace.socket.execute(requests)


def _way_back(attachment: Attachment, index: int, version: int) -> list[Request]:
    """Answers from an address leave where the questions came in, whichever way the default route goes."""
    address = attachment.address if version == 4 else attachment.address6
    table = table_of(attachment)
    route = _default_route(attachment, index, version, table)
    if not route or address is None:
        return []
    direct = [address.network, *(network for network in attachment.on_link if network.version == version)]
    return [
        *(rtnetlink.add_route(network, None, index, table) for network in direct),
        *route,
        rtnetlink.add_source_rule(address.ip, table, table),
    ]


def _addresses(attachment: Attachment) -> list[IPv4Interface | IPv6Interface]:
    return [attachment.address, *([attachment.address6] if attachment.address6 is not None else [])]


def _default_route(
    attachment: Attachment, index: int, version: int, table: int = rtnetlink.TABLE_MAIN
) -> list[Request]:
    """None where there is no gateway."""
    gateway = attachment.gateway if version == 4 else attachment.gateway6
    everywhere = _EVERYWHERE if version == 4 else _EVERYWHERE6
    return [rtnetlink.add_route(everywhere, gateway, index, table)] if gateway is not None else []


def table_of(attachment: Attachment) -> int:
    """The routing table of a link that does not carry the default route."""
    return _SOURCE_TABLE + int(attachment.inner.removeprefix("eth"))


def _index(namespace: Namespace, attachment: Attachment) -> int:
    body = namespace.socket.get(rtnetlink.get_link(attachment.inner))
    if body is None:
        raise EnxameError(f"the link {attachment.inner} vanished from its namespace")
    return rtnetlink.parse_link(body).index
