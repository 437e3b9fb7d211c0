"""The bridges of one machine, each with the rules that belong to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

from enxame.errors import EnxameError
from enxame.network import rtnetlink, ruleset
from enxame.network.bridge import Bridge, make_bridge, remove_bridge
from enxame.network.ipv6_forwarding import Ipv6Forwarding
from enxame.network.kernel_thread import KernelThread
from enxame.network.netlink import NetlinkSocket
from enxame.network.nftables import Nftables, NftablesError

_log = logging.getLogger(__name__)


class Bridges:
    """See :mod:`enxame.network.bridge`."""

    def __init__(self, kernel: KernelThread, nftables: Nftables, ipv6: Ipv6Forwarding) -> None:
        self._kernel = kernel
        self._nftables = nftables
        self._ipv6 = ipv6
        self._known: dict[str, tuple[Bridge, int]] = {}
        #: A bridge is not removed while it is made: who comes second would take what the first one has just made.
        self._lock = asyncio.Lock()

    def index_of(self, name: str) -> int | None:
        """The link that containers' links are made on, of a bridge that is there."""
        known = self._known.get(name)
        return known[1] if known is not None else None

    async def start(self, bridges: Iterable[Bridge]) -> str:
        """Make bridges; the text of their rules."""
        for bridge in bridges:
            try:
                index = await self._make(bridge)
            except EnxameError as error:
                # The other networks are to work; containers of this one get the error when they start.
                _log.error("bridge %s cannot be made: %s", bridge.name, error)
                continue
            self._known[bridge.name] = (bridge, index)
        return "".join(ruleset.add_bridge(bridge) for bridge, _ in self._known.values())

    async def ensure(self, bridge: Bridge) -> None:
        """Make a bridge; nothing happens when it already is so.

        Raises:
            EnxameError: the kernel refuses.
        """
        async with self._lock:
            await self._ensure(bridge)

    async def _ensure(self, bridge: Bridge) -> None:
        known = self._known.get(bridge.name)
        if known is not None and known[0] == bridge:
            return
        if known is not None and known[0].tunnel is not None and known[0].tunnel != bridge.tunnel:
            await self._kernel.with_routes(partial(_delete_link, known[0].tunnel.name))
        try:
            index = await self._make(bridge)
        except EnxameError:
            if known is None and bridge.tunnel is not None:  # else it may be a link of somebody else
                await self._kernel.with_routes(lambda kernel: remove_bridge(kernel, bridge))
            raise
        text = ruleset.add_bridge(bridge)
        if known is not None:
            remaining = [other for other, _ in self._known.values() if other.name != bridge.name]
            text = ruleset.delete_bridge(known[0], remaining) + text
        try:
            await self._nftables.run(text)
        except NftablesError:
            if known is None:
                await self._kernel.with_routes(lambda kernel: remove_bridge(kernel, bridge))
            raise
        self._known[bridge.name] = (bridge, index)

    async def remove(self, name: str) -> None:
        """Remove a bridge and its rules. Idempotent. Once begun it is done: a cancellation is raised afterwards."""
        removal = asyncio.create_task(self._remove(name), name=f"remove {name}")
        try:
            await asyncio.shield(removal)
        except asyncio.CancelledError:
            await asyncio.wait({removal})
            if not removal.cancelled() and (error := removal.exception()) is not None:
                _log.error("bridge %s could not be removed: %s", name, error)
            raise

    async def _remove(self, name: str) -> None:
        async with self._lock:
            known = self._known.pop(name, None)
            if known is None:
                return
            await self._nftables.run(ruleset.delete_bridge(known[0], [other for other, _ in self._known.values()]))
            await self._kernel.with_routes(lambda kernel: remove_bridge(kernel, known[0]))

    async def _make(self, bridge: Bridge) -> int:
        return await self._kernel.with_routes(lambda kernel: self._make_now(kernel, bridge))

    def _make_now(self, kernel: NetlinkSocket, bridge: Bridge) -> int:
        index = make_bridge(kernel, bridge)
        if bridge.gateway6 is not None and not bridge.parent:
            self._ipv6.switch_on()
        return index


def _delete_link(name: str, kernel: NetlinkSocket) -> None:
    kernel.execute([rtnetlink.delete_link(name)])
