"""The data plane of one daemon: what should be in the kernel is put there, what should not is taken away.

It knows no containers and no policy: bridges, namespaces, links between them, published ports and services come in,
are programmed, and outlive the daemon. Everything is in the network namespace that :meth:`DataPlane.start` runs in.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from pathlib import Path
from typing import Final

from enxame.errors import EnxameError
from enxame.network import dns_server, encryption, resolver_rules, ruleset, surroundings
from enxame.network.attachments import Attachment, attach, forget_rules, lead_out
from enxame.network.bridge import Bridge
from enxame.network.bridges import Bridges
from enxame.network.docker_firewall import DockerFirewall
from enxame.network.encryption import Wanted
from enxame.network.ingress import PortKey, Published
from enxame.network.ipv6_forwarding import Ipv6Forwarding
from enxame.network.kernel_thread import KernelThread
from enxame.network.link_names import BRIDGE_PREFIX, LINK_PREFIX, TUNNEL_PREFIX
from enxame.network.link_removal import LinkRemoval, delete_links
from enxame.network.namespace_rules import NamespaceRules, transaction_of
from enxame.network.namespaces import Namespace, NamespacePool
from enxame.network.netlink import NetlinkSocket
from enxame.network.nftables import Nftables
from enxame.network.open_ports import OpenPorts
from enxame.network.ports import PublishedPort
from enxame.network.rtnetlink import Address, Link, Route
from enxame.network.shortcuts.shortcuts import Shortcuts
from enxame.network.tunnels import Tunnels

__all__ = ["DataPlane", "KernelState"]

_log = logging.getLogger(__name__)

_POOL_SIZE: Final = 16
_IP_FORWARD: Final = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True, slots=True)
class KernelState:
    """All that should exist at start; what is ours and not in it is removed."""

    bridges: Sequence[Bridge] = ()
    namespaces: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()
    published: Sequence[PublishedPort] = ()
    services: Mapping[PortKey, Published] = field(default_factory=dict)


class DataPlane:
    """See the module. ``exec_root`` is the daemon's directory for what a reboot may forget."""

    def __init__(self, exec_root: Path, *, mesh_shortcuts: bool = True) -> None:
        self._exec_root = exec_root
        self._pool = NamespacePool(exec_root / "netns", _POOL_SIZE)
        self._nftables = Nftables()
        self._kernel = KernelThread()
        self._removal = LinkRemoval()
        self._forward_others = True
        self._ipv6 = Ipv6Forwarding(exec_root)
        self._claim: socket.socket | None = None
        #: What the bridges' tunnels know of other machines.
        self.tunnels = Tunnels(self._kernel.with_routes)
        self._docker_firewall = DockerFirewall(self._kernel.with_filter)
        self._shortcuts = Shortcuts(self._kernel.call, allowed=mesh_shortcuts)
        #: The networks' bridges.
        self.bridges = Bridges(self._kernel, self._nftables, self._ipv6)
        #: What is published here.
        self.ports = OpenPorts(self._kernel, self._nftables, self._shortcuts)
        #: Rules inside containers' namespaces.
        self.rules = NamespaceRules()

    async def open(self) -> None:
        """Connect to the kernel; :meth:`routes` works from here on.

        Raises:
            EnxameError: no permission, a library is missing, or another daemon works in this network namespace.
        """
        self._claim = _claim_namespace()
        await self._nftables.start()
        await self._kernel.open()
        self._forward_others = await self._kernel.call(self._switch_on_forwarding)
        await self._kernel.call(self._ipv6.look)
        # Threads take the network namespace of who starts them: all of them start here.
        await self.rules.start()
        await self._removal.open()

    async def start(self, state: KernelState) -> None:
        """Bring the kernel to ``state``; what already is as it should be is not disturbed.

        Raises:
            EnxameError: the kernel refuses (a name or an address is in use).
        """
        await self._kernel.with_routes(lambda kernel: _remove_leftovers(kernel, state))
        bridges = await self.bridges.start(state.bridges)
        await self._nftables.run(
            ruleset.table(forward_others=self._forward_others, forward_others6=self._ipv6.forward_others)
            + bridges
            + self.ports.start(state.published, state.services)
        )
        await self._pool.start(state.namespaces)
        self._docker_firewall.start()
        await self.ports.started()

    async def stop(self) -> None:
        """Stop working; what is in the kernel stays and goes on."""
        await self._docker_firewall.stop()
        await self._shortcuts.stop()
        await self._pool.stop()
        await self._removal.close()
        await self._nftables.stop()
        await self.rules.stop()
        await self._kernel.close()
        if self._claim is not None:
            self._claim.close()

    async def routes(self, *, without: frozenset[str]) -> list[Route]:
        """The networks that this machine knows a way to, without the default route and without those of the links
        named in ``without`` and of our bridges.
        """
        return await self._kernel.with_routes(lambda kernel: surroundings.ways(kernel, without))

    async def subnets6(self, *, without: frozenset[str]) -> list[IPv6Network]:
        """What this machine reaches over IPv6 without a router, but over links named in ``without`` and our bridges."""
        if not self._ipv6.is_on:
            return []
        return await self._kernel.with_routes(lambda kernel: surroundings.subnets6(kernel, without))

    async def link_with(self, address: Address) -> Link | None:
        """The link of this machine that has an address; None when none has."""
        return await self._kernel.with_routes(lambda kernel: surroundings.link_with(kernel, address))

    @property
    def has_ipv6(self) -> bool:
        """Whether IPv6 is switched on here, as :meth:`open` found it."""
        return self._ipv6.is_on

    async def encryption_problem(self) -> str:
        """Why this machine's kernel cannot encrypt packets between machines; empty when it can."""
        return await self._kernel.with_xfrm(encryption.problem)

    async def encrypts(self) -> bool:
        """Whether a daemon before this one encrypted packets."""
        return encryption.TABLE in await self._nftables.query("list tables")

    async def encrypt(self, wanted: Wanted) -> None:
        """Encrypt so, and let nothing of those networks in or out that is not.

        Raises:
            EnxameError: the kernel refuses.
        """
        await self._nftables.run(encryption.rules(wanted.ids, wanted.port))
        await self._kernel.with_xfrm(lambda kernel: encryption.program(kernel, wanted))

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
        kernel, bridges = self._kernel, self.bridges
        await kernel.finish(lambda: attach(kernel.routes, namespace, attachments, bridges.index_of))

    async def lead_out(
        self, path: Path, exit_: Attachment | None, others: Sequence[Attachment], *, version: int = 4
    ) -> None:
        """Lay the default route of the namespace at ``path`` and of a version of IP through ``exit_``; answers from
        ``others`` go on leaving where their questions came in.
        """
        namespace = await self._pool.open(path)
        try:
            await self._kernel.call(lambda: lead_out(namespace, exit_, others, version))
        finally:
            namespace.close()

    async def forget_rules(self, path: Path, attachment: Attachment) -> None:
        """Before a link is removed from the namespace at ``path``, which stays: its routing rules."""
        namespace = await self._pool.open(path)
        try:
            await self._kernel.call(lambda: forget_rules(namespace, attachment))
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
        return await self._kernel.call(lambda: socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))

    async def detach(self, links: Iterable[str], namespaces: Iterable[Path]) -> None:
        """Remove links and the names of namespaces; takes tens of milliseconds. Idempotent."""
        await self._pool.remove(namespaces)
        await self._removal.remove(links)

    def _switch_on_forwarding(self) -> bool:
        """Whether it was on, so that this machine may be a router for others."""
        marker = self._exec_root / "forwarding-switched-on"
        try:
            if _IP_FORWARD.read_text().strip() == "0":
                self._exec_root.mkdir(parents=True, exist_ok=True)
                marker.touch()
                _IP_FORWARD.write_text("1")
        except OSError as error:
            raise EnxameError(f"switch on IPv4 forwarding ({_IP_FORWARD}): {error.strerror}") from error
        return not marker.exists()


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


def _remove_leftovers(kernel: NetlinkSocket, state: KernelState) -> None:
    bridges = {bridge.name for bridge in state.bridges}
    tunnels = {bridge.tunnel.name for bridge in state.bridges if bridge.tunnel is not None}
    stale = [
        link.name
        for link in surroundings.links(kernel)
        if (link.kind == "veth" and link.name.startswith(LINK_PREFIX) and link.name not in state.links)
        or (link.kind == "bridge" and link.name.startswith(BRIDGE_PREFIX) and link.name not in bridges)
        or (link.kind == "vxlan" and link.name.startswith(TUNNEL_PREFIX) and link.name not in tunnels)
    ]
    if stale:
        _log.info("removing links left over from before: %s", ", ".join(stale))
        delete_links(kernel, stale)
