"""The data plane of one daemon: what should be in the kernel is put there, what should not is taken away.

It knows no containers and no policy: bridges, namespaces, links between them, published ports and services come in,
are programmed, and outlive the daemon. Everything is in the network namespace that :meth:`DataPlane.start` runs in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Final, TypeVar

from enxame.errors import EnxameError
from enxame.network import (
    conntrack,
    dns_server,
    encryption,
    ingress,
    macvlan,
    ports,
    resolver_rules,
    rtnetlink,
    ruleset,
    xfrm,
)
from enxame.network.bridge import Bridge, mac_of, make_bridge, remove_bridge
from enxame.network.docker_firewall import DockerFirewall
from enxame.network.encryption import Wanted
from enxame.network.ingress import PortKey, Published
from enxame.network.ipv6_forwarding import Ipv6Forwarding
from enxame.network.namespace_rules import NamespaceRules, transaction_of
from enxame.network.namespaces import Namespace, NamespacePool
from enxame.network.netlink import NetlinkSocket, Request
from enxame.network.nftables import Nftables, NftablesError
from enxame.network.ports import PublishedPort
from enxame.network.rtnetlink import Address, Link, Network, Route
from enxame.network.shortcuts.shortcuts import Shortcuts
from enxame.network.tunnels import Tunnels

__all__ = ["BRIDGE_PREFIX", "LINK_PREFIX", "TUNNEL_PREFIX", "Attachment", "DataPlane", "KernelState", "table_of"]

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: Our links' names begin so (systemd's ``enx<mac>`` have no dash).
BRIDGE_PREFIX: Final = "enx-"
LINK_PREFIX: Final = "enxv-"
TUNNEL_PREFIX: Final = "enxt-"

_NETLINK_NETFILTER: Final = 12
_DYING_GROUP: Final = 0x656E78
_SOURCE_TABLE: Final = 1000
_POOL_SIZE: Final = 16
_NOBODY: Final = Published()
_CONNECTIONS: Final = {"tcp": socket.IPPROTO_TCP, "sctp": socket.IPPROTO_SCTP}
_EVERYWHERE: Final = IPv4Network("0.0.0.0/0")
_EVERYWHERE6: Final = IPv6Network("::/0")
_IP_FORWARD: Final = Path("/proc/sys/net/ipv4/ip_forward")


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


@dataclass(frozen=True, slots=True)
class KernelState:
    """All that should exist at start; what is ours and not in it is removed."""

    bridges: Sequence[Bridge] = ()
    namespaces: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()
    published: Sequence[PublishedPort] = ()
    services: Mapping[PortKey, Published] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Removal:
    links: list[str]
    done: asyncio.Future[None]


class DataPlane:
    """See the module. ``exec_root`` is the daemon's directory for what a reboot may forget."""

    def __init__(self, exec_root: Path, *, mesh_shortcuts: bool = True) -> None:
        self._exec_root = exec_root
        self._pool = NamespacePool(exec_root / "netns", _POOL_SIZE)
        self._nftables = Nftables()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="enxame-netlink")
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="enxame-removal")
        self._bridges: dict[str, tuple[Bridge, int]] = {}
        self._services: dict[PortKey, Published] = {}
        self._services_lock = asyncio.Lock()
        #: A bridge is not removed while it is made: who comes second would take what the first one has just made.
        self._bridges_lock = asyncio.Lock()
        self._dying: list[_Removal] = []
        self._reaper: asyncio.Task[None] | None = None
        self._forward_others = True
        self._ipv6 = Ipv6Forwarding(exec_root)
        self._route: NetlinkSocket | None = None
        self._filter: NetlinkSocket | None = None
        self._removal: NetlinkSocket | None = None
        self._encryption: NetlinkSocket | None = None
        self._claim: socket.socket | None = None
        #: What the bridges' tunnels know of other machines.
        self.tunnels = Tunnels(self._with_routes)
        self._docker_firewall = DockerFirewall(self._with_filter)
        self._shortcuts = Shortcuts(self._call, allowed=mesh_shortcuts)
        #: Rules inside containers' namespaces.
        self.rules = NamespaceRules()

    async def open(self) -> None:
        """Connect to the kernel; :meth:`routes` works from here on.

        Raises:
            EnxameError: no permission, a library is missing, or another daemon works in this network namespace.
        """
        self._claim = _claim_namespace()
        await self._nftables.start()
        self._forward_others = await self._call(self._open)
        await self._call(self._ipv6.look)
        # Threads take the network namespace of who starts them: all of them start here.
        await self.rules.start()
        await asyncio.get_running_loop().run_in_executor(self._remover, self._open_removal)

    async def start(self, state: KernelState) -> None:
        """Bring the kernel to ``state``; what already is as it should be is not disturbed.

        Raises:
            EnxameError: the kernel refuses (a name or an address is in use).
        """
        await self._call(lambda: self._remove_leftovers(state))
        for bridge in state.bridges:
            try:
                index = await self._call(partial(self._make_bridge, bridge))
            except EnxameError as error:
                # The other networks are to work; containers of this one get the error when they start.
                _log.error("bridge %s cannot be made: %s", bridge.name, error)
                continue
            self._bridges[bridge.name] = (bridge, index)
        self._services = dict(state.services)
        await self._nftables.run(
            ruleset.table(forward_others=self._forward_others, forward_others6=self._ipv6.forward_others)
            + "".join(ruleset.add_bridge(bridge) for bridge, _ in self._bridges.values())
            + ports.publish(state.published)
            + ingress.difference({}, self._services, start=_any_start())
        )
        await self._pool.start(state.namespaces)
        self._docker_firewall.start()
        await self._shortcuts.set_ports(_answered_ports(self._services))

    async def stop(self) -> None:
        """Stop working; what is in the kernel stays and goes on."""
        await self._docker_firewall.stop()
        await self._shortcuts.stop()
        await self._pool.stop()
        if self._reaper is not None:
            await asyncio.gather(self._reaper, return_exceptions=True)
        await self._nftables.stop()
        await self.rules.stop()
        await self._call(self._close)
        self._executor.shutdown()
        self._remover.shutdown()
        if self._claim is not None:
            self._claim.close()

    async def routes(self, *, without: frozenset[str]) -> list[Route]:
        """The networks that this machine knows a way to, without the default route and without those of the links
        named in ``without`` and of our bridges.
        """

        def work() -> list[Route]:
            links = [rtnetlink.parse_link(body) for body in self._routes().dump(rtnetlink.list_links())]
            ours = {link.index for link in links if link.name in without or link.name.startswith(BRIDGE_PREFIX)}
            found = [rtnetlink.parse_route(body) for body in self._routes().dump(rtnetlink.list_routes())]
            return [route for route in found if route.link not in ours and route.destination.prefixlen]

        return await self._call(work)

    async def subnets6(self, *, without: frozenset[str]) -> list[IPv6Network]:
        """What this machine reaches over IPv6 without a router, but over links named in ``without`` and our bridges."""

        def work() -> list[IPv6Network]:
            links = [rtnetlink.parse_link(body) for body in self._routes().dump(rtnetlink.list_links())]
            ours = {link.index for link in links if link.name in without or link.name.startswith(BRIDGE_PREFIX)}
            found = [rtnetlink.parse_direct6(body) for body in self._routes().dump(rtnetlink.list_routes6())]
            return [item[0] for item in found if item is not None and item[1] not in ours]

        return await self._call(work) if self._ipv6.is_on else []

    async def ensure_bridge(self, bridge: Bridge) -> None:
        """Make a bridge; nothing happens when it already is so.

        Raises:
            EnxameError: the kernel refuses.
        """
        async with self._bridges_lock:
            await self._ensure_bridge(bridge)

    async def _ensure_bridge(self, bridge: Bridge) -> None:
        known = self._bridges.get(bridge.name)
        if known is not None and known[0] == bridge:
            return
        if known is not None and known[0].tunnel is not None and known[0].tunnel != bridge.tunnel:
            await self._call(partial(self._routes().execute, [rtnetlink.delete_link(known[0].tunnel.name)]))
        try:
            index = await self._call(lambda: self._make_bridge(bridge))
        except EnxameError:
            if known is None and bridge.tunnel is not None:  # else it may be a link of somebody else
                await self._call(lambda: remove_bridge(self._routes(), bridge))
            raise
        text = ruleset.add_bridge(bridge)
        if known is not None:
            remaining = [other for other, _ in self._bridges.values() if other.name != bridge.name]
            text = ruleset.delete_bridge(known[0], remaining) + text
        try:
            await self._nftables.run(text)
        except NftablesError:
            if known is None:
                await self._call(lambda: remove_bridge(self._routes(), bridge))
            raise
        self._bridges[bridge.name] = (bridge, index)

    async def remove_bridge(self, name: str) -> None:
        """Remove a bridge and its rules. Idempotent. Once begun it is done: a cancellation is raised afterwards."""
        removal = asyncio.create_task(self._remove_bridge(name), name=f"remove {name}")
        try:
            await asyncio.shield(removal)
        except asyncio.CancelledError:
            await asyncio.wait({removal})
            if not removal.cancelled() and (error := removal.exception()) is not None:
                _log.error("bridge %s could not be removed: %s", name, error)
            raise

    async def _remove_bridge(self, name: str) -> None:
        async with self._bridges_lock:
            known = self._bridges.pop(name, None)
            if known is None:
                return
            await self._nftables.run(ruleset.delete_bridge(known[0], [other for other, _ in self._bridges.values()]))
            await self._call(lambda: remove_bridge(self._routes(), known[0]))

    @property
    def has_ipv6(self) -> bool:
        """Whether IPv6 is switched on here, as :meth:`open` found it."""
        return self._ipv6.is_on

    async def encryption_problem(self) -> str:
        """Why this machine's kernel cannot encrypt packets between machines; empty when it can."""
        return await self._call(lambda: encryption.problem(self._xfrm()))

    async def encrypts(self) -> bool:
        """Whether a daemon before this one encrypted packets."""
        return encryption.TABLE in await self._nftables.query("list tables")

    async def encrypt(self, wanted: Wanted) -> None:
        """Encrypt so, and let nothing of those networks in or out that is not.

        Raises:
            EnxameError: the kernel refuses.
        """
        await self._nftables.run(encryption.rules(wanted.ids, wanted.port))
        await self._call(lambda: encryption.program(self._xfrm(), wanted))

    async def link_with(self, address: Address) -> Link | None:
        """The link of this machine that has an address; None when none has."""

        def work() -> Link | None:
            for body in self._routes().dump(rtnetlink.list_addresses(address.version)):
                index, found = rtnetlink.parse_address(body)
                if found == address:
                    links = (rtnetlink.parse_link(item) for item in self._routes().dump(rtnetlink.list_links()))
                    return next((link for link in links if link.index == index), None)
            return None

        return await self._call(work)

    async def take_namespace(self) -> Namespace:
        """A namespace of the pool; the caller removes it by :meth:`detach`."""
        return await self._pool.take()

    async def open_namespace(self, path: Path) -> Namespace:
        """A namespace that is in use."""
        return await self._pool.open(path)

    async def write_settings(self, path: Path, settings: Mapping[str, str]) -> None:
        """``net.*`` sysctls inside a namespace."""
        await self._pool.write_settings(path, settings)

    async def attach(self, namespace: Namespace, attachments: Sequence[Attachment]) -> None:
        """Link a namespace to bridges; all or nothing.

        Raises:
            EnxameError: a bridge is missing, or the kernel refuses.
        """
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._attach, namespace, attachments)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            # Who undoes this must not overtake it.
            await asyncio.wait([work])
            raise

    async def lead_out(
        self, path: Path, exit_: Attachment | None, others: Sequence[Attachment], *, version: int = 4
    ) -> None:
        """Lay the default route of the namespace at ``path`` and of a version of IP through ``exit_``; answers from
        ``others`` go on leaving where their questions came in.
        """
        namespace = await self._pool.open(path)
        try:
            await self._call(lambda: _lead_out(namespace, exit_, others, version))
        finally:
            namespace.close()

    async def forget_rules(self, path: Path, attachment: Attachment) -> None:
        """Before a link is removed from the namespace at ``path``, which stays: its routing rules."""
        namespace = await self._pool.open(path)
        table = table_of(attachment)
        try:
            await self._call(
                lambda: namespace.socket.execute(
                    [
                        *(rtnetlink.delete_source_rule(address.ip, table, table) for address in _addresses(attachment)),
                        # One with an end here goes with that.
                        *([rtnetlink.delete_link(attachment.inner)] if attachment.bridge.parent else []),
                    ]
                )
            )
        finally:
            namespace.close()

    async def open_resolver(self, path: Path, *, again: bool = False) -> tuple[socket.socket, socket.socket]:
        """The sockets of the resolver in the namespace at ``path``, and the rules that lead port 53 to them. ``again``:
        the rules may be there.

        Raises:
            EnxameError: a program of the container has the port that is ours, or the kernel refuses.
        """
        rules = transaction_of(resolver_rules.install(again=again))
        try:
            return await self.rules.inside(path, rules, dns_server.open_sockets)
        except OSError as error:
            raise EnxameError(f"open the resolver's sockets in {path}: {error.strerror}") from error

    async def new_socket(self, family: int, kind: int) -> socket.socket:
        """A non-blocking socket of this machine's namespace."""
        return await self._call(lambda: socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))

    async def forget(self, addresses: Sequence[Address]) -> None:
        """Forget tracked connections of addresses whose containers are gone."""
        if addresses and self._filter is not None:
            await self._shortcuts.forget(addresses)
            await self._call(partial(conntrack.forget_addresses, self._filter, addresses))

    async def detach(self, links: Iterable[str], namespaces: Iterable[Path]) -> None:
        """Remove links and the names of namespaces; takes tens of milliseconds. Idempotent."""
        await self._pool.remove(namespaces)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dying.append(_Removal(list(links), done))
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap(), name="link removal")
        await done

    async def publish(self, published: Sequence[PublishedPort]) -> None:
        """Open ports. Raises NftablesError; then none is open."""
        await self._nftables.run(ports.publish(published))
        await self._forget_udp({port.host_port for port in published if port.protocol == "udp"})

    async def republish(self, before: Sequence[PublishedPort], after: Sequence[PublishedPort]) -> None:
        """Lead ports elsewhere, in one step."""
        await self._nftables.run(ports.unpublish(before) + ports.publish(after))
        await self._forget_udp({port.host_port for port in after if port.protocol == "udp"})

    async def unpublish(self, published: Sequence[PublishedPort]) -> None:
        """Close ports that are open."""
        await self._nftables.run(ports.unpublish(published))

    async def set_services(self, services: Mapping[PortKey, Published], *, gone: Iterable[Address] = ()) -> None:
        """Set who answers each published service port; only what differs is programmed, in one transaction. What is
        tracked of backends that are ``gone`` is forgotten, and conversations over UDP with those that answer no more.
        """
        async with self._services_lock:
            text = ingress.difference(self._services, services, start=_any_start())
            await self._nftables.run(text)
            before, self._services = self._services, dict(services)
            await self._shortcuts.set_ports(_answered_ports(services))
        begun = {key for key in services if services[key].backends and not before.get(key, _NOBODY).backends}
        turned = ingress.lost(before, services)
        gone = set(gone)
        await self._shortcuts.forget(gone)
        if self._filter is not None and (begun or turned or gone):
            await self._call(partial(_forget_ways, self._filter, begun, turned, gone))

    async def _forget_udp(self, ports: set[int]) -> None:
        if self._filter is not None and ports:
            await self._call(partial(conntrack.forget_udp_ports, self._filter, ports))

    async def _reap(self) -> None:
        """Removals that come together go together: the kernel's grace period is waited for once."""
        while self._dying:
            batch, self._dying = self._dying, []
            links = [link for removal in batch for link in removal.links]
            error: EnxameError | None = None
            try:
                await asyncio.get_running_loop().run_in_executor(self._remover, self._remove_links, links)
            except EnxameError as refused:
                error = refused
            for removal in batch:
                if removal.done.done():
                    continue
                if error is None:
                    removal.done.set_result(None)
                else:
                    removal.done.set_exception(error)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _with_filter(self, work: Callable[[NetlinkSocket], T]) -> T:
        kernel = self._filter
        if kernel is None:
            raise EnxameError("the data plane is not started")
        return await self._call(lambda: work(kernel))

    async def _with_routes(self, work: Callable[[NetlinkSocket], T]) -> T:
        return await self._call(lambda: work(self._routes()))

    # What follows runs in the worker thread.

    def _open(self) -> bool:
        self._route = NetlinkSocket()
        self._filter = NetlinkSocket(_NETLINK_NETFILTER)
        marker = self._exec_root / "forwarding-switched-on"
        try:
            if _IP_FORWARD.read_text().strip() == "0":
                self._exec_root.mkdir(parents=True, exist_ok=True)
                marker.touch()
                _IP_FORWARD.write_text("1")
        except OSError as error:
            raise EnxameError(f"switch on IPv4 forwarding ({_IP_FORWARD}): {error.strerror}") from error
        return not marker.exists()

    def _close(self) -> None:
        for connection in (self._route, self._filter, self._removal, self._encryption):
            if connection is not None:
                connection.close()

    def _xfrm(self) -> NetlinkSocket:
        if self._encryption is None:
            try:
                self._encryption = NetlinkSocket(xfrm.NETLINK_XFRM)
            except OSError as error:
                raise EnxameError(f"this machine's kernel has no IPsec: {error.strerror}") from error
        return self._encryption

    def _routes(self) -> NetlinkSocket:
        if self._route is None:
            raise EnxameError("the data plane is not started")
        return self._route

    def _make_bridge(self, bridge: Bridge) -> int:
        index = make_bridge(self._routes(), bridge)
        if bridge.gateway6 is not None and not bridge.parent:
            self._ipv6.switch_on()
        return index

    def _remove_leftovers(self, state: KernelState) -> None:
        bridges = {bridge.name for bridge in state.bridges}
        tunnels = {bridge.tunnel.name for bridge in state.bridges if bridge.tunnel is not None}
        links = [rtnetlink.parse_link(body) for body in self._routes().dump(rtnetlink.list_links())]
        stale = [
            link.name
            for link in links
            if (link.kind == "veth" and link.name.startswith(LINK_PREFIX) and link.name not in state.links)
            or (link.kind == "bridge" and link.name.startswith(BRIDGE_PREFIX) and link.name not in bridges)
            or (link.kind == "vxlan" and link.name.startswith(TUNNEL_PREFIX) and link.name not in tunnels)
        ]
        if stale:
            _log.info("removing links left over from before: %s", ", ".join(stale))
            _delete_links(self._routes(), stale)

    def _open_removal(self) -> None:
        self._removal = NetlinkSocket()

    def _remove_links(self, names: Sequence[str]) -> None:
        """In the removers' thread: the kernel's grace periods must not hold up who starts."""
        if self._removal is not None:
            _delete_links(self._removal, names)

    def _attach(self, namespace: Namespace, attachments: Sequence[Attachment]) -> None:
        requests: list[Request] = []
        for attachment in attachments:
            bridge = attachment.bridge
            known = self._bridges.get(bridge.name)
            if known is None:
                raise EnxameError(f"the bridge {bridge.name} does not exist")
            mac = attachment.mac or mac_of(attachment.address.ip)
            if bridge.parent:
                requests.append(
                    macvlan.add_macvlan(
                        attachment.inner,
                        parent=known[1],
                        mode=bridge.mode,
                        mac=mac,
                        mtu=bridge.mtu,
                        namespace_fd=namespace.fd,
                    )
                )
                continue
            requests += [
                rtnetlink.add_veth(
                    attachment.link,
                    namespace_fd=namespace.fd,
                    peer_name=attachment.inner,
                    peer_mac=mac,
                    mtu=bridge.mtu,
                    bridge_index=known[1],
                ),
                rtnetlink.configure_bridge_port(attachment.link, isolated=bridge.isolated),
                rtnetlink.set_up(attachment.link),
            ]
        try:
            self._routes().execute(requests)
            default = next((item for item in attachments if item.gateway is not None and item.default), None)
            default6 = next((item for item in attachments if item.gateway6 is not None and item.default6), None)
            for item in attachments:
                _configure(namespace, item, default=item is default, default6=item is default6)
        except EnxameError:
            with contextlib.suppress(EnxameError):
                _delete_links(self._routes(), [attachment.link for attachment in attachments])
            raise


def _forget_ways(
    kernel: NetlinkSocket, begun: Iterable[PortKey], turned: Iterable[Address], gone: Iterable[Address]
) -> None:
    conntrack.forget_udp_ports(kernel, [port for protocol, port in begun if protocol == "udp"])
    conntrack.forget_refused(kernel, [(_CONNECTIONS[key[0]], key[1]) for key in begun if key[0] in _CONNECTIONS])
    conntrack.turn_away_from(kernel, turned)
    conntrack.forget_answers_from(kernel, gone)


def _answered_ports(services: Mapping[PortKey, Published]) -> set[int]:
    """Of TCP."""
    return {port for (protocol, port), published in services.items() if protocol == "tcp" and published.backends}


def _delete_links(route: NetlinkSocket, names: Sequence[str]) -> None:
    if len(names) == 1:
        route.execute([rtnetlink.delete_link(names[0])])
    elif names:
        marks = [rtnetlink.set_group(name, _DYING_GROUP) for name in names]
        route.execute([*marks, rtnetlink.delete_group(_DYING_GROUP)])


def _any_start() -> int:
    return random.getrandbits(32)


def _claim_namespace() -> socket.socket:
    """Two daemons would take each other's links for leftovers. Abstract names belong to a network namespace, and go
    with the process.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        claim.bind("\0enxame/network")
    except OSError as error:
        claim.close()
        raise EnxameError(
            "another enxamed works in this network namespace: stop it, or give this one a namespace of its own"
        ) from error
    return claim


def _configure(namespace: Namespace, attachment: Attachment, *, default: bool, default6: bool) -> None:
    index = _index(namespace, attachment)
    requests = [rtnetlink.add_address(index, address) for address in _addresses(attachment)]
    requests.append(rtnetlink.set_up(attachment.inner))
    requests += [rtnetlink.add_route(network, None, index) for network in attachment.on_link]
    for version, carries in ((4, default), (6, default6)):
        requests += (_default_route if carries else _way_back)(attachment, index, version)
    namespace.socket.execute(requests)


def _lead_out(namespace: Namespace, exit_: Attachment | None, others: Sequence[Attachment], version: int) -> None:
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
