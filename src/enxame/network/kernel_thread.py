"""The thread that talks to the kernel over netlink, one request after the other, in the machine's network namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from enxame.errors import EnxameError
from enxame.network import xfrm
from enxame.network.netlink import NETFILTER, NetlinkSocket

T = TypeVar("T")


class KernelThread:
    """Works in the network namespace of whoever calls :meth:`open`."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="enxame-netlink")
        self._route: NetlinkSocket | None = None
        self._filter: NetlinkSocket | None = None
        self._xfrm: NetlinkSocket | None = None

    async def open(self) -> None:
        """Connect. Raises EnxameError when there is no permission."""
        await self.call(self._open)

    async def close(self) -> None:
        """Part; no work can be done any more."""
        await self.call(self._close)
        self._executor.shutdown()

    async def call(self, work: Callable[[], T]) -> T:
        """Run work in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def finish(self, work: Callable[[], T]) -> T:
        """Run work that a cancellation does not overtake: who undoes it comes afterwards."""
        running = asyncio.get_running_loop().run_in_executor(self._executor, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    async def with_routes(self, work: Callable[[NetlinkSocket], T]) -> T:
        """Run work with the socket of links, addresses and routes."""
        return await self.call(lambda: work(self.routes))

    async def with_filter(self, work: Callable[[NetlinkSocket], T]) -> T:
        """Run work with the socket of the packet filter and of tracked connections."""
        return await self.call(lambda: work(_opened(self._filter)))

    async def with_xfrm(self, work: Callable[[NetlinkSocket], T]) -> T:
        """Run work with the socket of IPsec. Raises EnxameError when the kernel has none."""
        return await self.call(lambda: work(self._ipsec()))

    @property
    def routes(self) -> NetlinkSocket:
        """The socket of links, addresses and routes, for work that runs in the thread."""
        return _opened(self._route)

    def _open(self) -> None:
        self._route = NetlinkSocket()
        self._filter = NetlinkSocket(NETFILTER)

    def _close(self) -> None:
        for connection in (self._route, self._filter, self._xfrm):
            if connection is not None:
                connection.close()
        self._route = self._filter = self._xfrm = None

    def _ipsec(self) -> NetlinkSocket:
        if self._xfrm is None:
            try:
                self._xfrm = NetlinkSocket(xfrm.NETLINK_XFRM)
            except OSError as error:
                raise EnxameError(f"this machine's kernel has no IPsec: {error.strerror}") from error
        return self._xfrm


def _opened(connection: NetlinkSocket | None) -> NetlinkSocket:
    if connection is None:
        raise EnxameError("the data plane is not started")
    return connection
