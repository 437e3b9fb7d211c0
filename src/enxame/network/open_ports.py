"""The ports of one machine that lead to containers and to services' tasks, and what is tracked of their connections."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from enxame.network import conntrack, ingress, ports
from enxame.network.ingress import PortKey, Published
from enxame.network.kernel_thread import KernelThread
from enxame.network.netlink import NetlinkSocket
from enxame.network.nftables import Nftables
from enxame.network.ports import PublishedPort
from enxame.network.rtnetlink import Address
from enxame.network.shortcuts.shortcuts import Shortcuts

_NOBODY: Final = Published()
_CONNECTIONS: Final = {"tcp": socket.IPPROTO_TCP, "sctp": socket.IPPROTO_SCTP}


class OpenPorts:
    """See :mod:`enxame.network.ports` and :mod:`enxame.network.ingress`."""

    def __init__(self, kernel: KernelThread, nftables: Nftables, shortcuts: Shortcuts) -> None:
        self._kernel = kernel
        self._nftables = nftables
        self._shortcuts = shortcuts
        self._services: dict[PortKey, Published] = {}
        self._lock = asyncio.Lock()

    def start(self, published: Sequence[PublishedPort], services: Mapping[PortKey, Published]) -> str:
        """The text of the rules of all that is open from the start."""
        self._services = dict(services)
        return ports.publish(published) + ingress.difference({}, self._services, start=_any_start())

    async def started(self) -> None:
        """The rules are there."""
        await self._shortcuts.set_ports(_answered_ports(self._services))

    async def forget(self, addresses: Sequence[Address]) -> None:
        """Forget tracked connections of addresses whose containers are gone."""
        if addresses:
            await self._shortcuts.forget(addresses)
            await self._kernel.with_filter(lambda kernel: conntrack.forget_addresses(kernel, addresses))

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
        async with self._lock:
            text = ingress.difference(self._services, services, start=_any_start())
            await self._nftables.run(text)
            before, self._services = self._services, dict(services)
            await self._shortcuts.set_ports(_answered_ports(services))
        begun = {key for key in services if services[key].backends and not before.get(key, _NOBODY).backends}
        turned = ingress.lost(before, services)
        gone = set(gone)
        await self._shortcuts.forget(gone)
        if begun or turned or gone:
            await self._kernel.with_filter(lambda kernel: _forget_ways(kernel, begun, turned, gone))

    async def _forget_udp(self, numbers: set[int]) -> None:
        if numbers:
            await self._kernel.with_filter(lambda kernel: conntrack.forget_udp_ports(kernel, numbers))


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


def _any_start() -> int:
    return random.getrandbits(32)
