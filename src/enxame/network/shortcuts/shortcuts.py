"""Keeps the program attached while this machine publishes ports, and tells it which connections are busy.

The daemon alone makes entries. From Linux 6.6 on the program goes with the daemon: while none runs everything passes
the packet filter. On older kernels what a killed daemon leaves is removed by the next one. Where the daemon may not use
eBPF everything always passes the filter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final, Protocol, TypeVar

from enxame.errors import EnxameError
from enxame.network.netlink import NetlinkError, NetlinkSocket
from enxame.network.rtnetlink import Address
from enxame.network.shortcuts import attaching
from enxame.network.shortcuts.kernel_side import KernelSide

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: Seconds between looks at links, users' rules and old connections.
_LOOK_AROUND: Final = 5.0
#: Seconds between two turns, so that many connections which become busy at once take a tenth of a processor at most.
_PAUSE: Final = 0.05


class InThread(Protocol):
    """Runs work in the thread that is in the machine's network namespace."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """The work's result."""


class Shortcuts:
    """See the module. Not ``allowed``: nothing is ever done."""

    def __init__(self, in_thread: InThread, *, allowed: bool = True) -> None:
        self._in_thread = in_thread
        self._allowed = allowed
        self._clean = False
        self._kernel: KernelSide | None = None
        self._watch: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def set_ports(self, ports: Collection[int]) -> None:
        """TCP ports of services that somebody answers. The first call removes what a killed daemon has left."""
        async with self._lock:
            if not self._clean:
                await self._in_thread(_remove_leftovers)
                self._clean = True
            if ports and self._kernel is None and self._allowed:
                await self._open()
            if self._kernel is not None:
                if ports:
                    await self._tell(partial(self._kernel.set_ports, frozenset(ports)))
                else:
                    await self._close()

    async def forget(self, addresses: Collection[Address]) -> None:
        """Before tracked connections that these answer are forgotten: they are to find no way at all."""
        kernel = self._kernel
        if kernel is not None and addresses:
            now = asyncio.get_running_loop().time()
            async with self._lock:
                if kernel is self._kernel:
                    await self._tell(partial(kernel.forget, frozenset(addresses), now))

    async def stop(self) -> None:
        """Everything goes the long way again. Idempotent."""
        async with self._lock:
            await self._close()

    async def _open(self) -> None:
        try:
            self._kernel = await self._in_thread(KernelSide)
        except (EnxameError, OSError) as error:
            self._allowed = False
            _log.info("the routing mesh takes no shortcuts here: %s", error)
            return
        self._watch = asyncio.create_task(self._run(self._kernel), name="shortcuts of the mesh")

    async def _tell(self, work: Callable[[], None]) -> None:
        """What the kernel should know and refuses to be told ends all shortcuts, and nothing else."""
        try:
            await self._in_thread(work)
        except EnxameError as error:
            self._allowed = False
            _log.warning("the routing mesh takes no shortcuts any more: %s", error)
            await self._close()

    async def _close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        if self._kernel is not None:
            kernel, self._kernel = self._kernel, None
            await self._in_thread(kernel.close)

    async def _run(self, kernel: KernelSide) -> None:
        loop = asyncio.get_running_loop()
        next_look = loop.time()
        told = obstacle = ""
        while True:
            more = False
            try:
                if loop.time() >= next_look:
                    next_look = loop.time() + _LOOK_AROUND
                    await self._in_thread(partial(kernel.look_around, loop.time()))
                    if kernel.obstacle != obstacle:
                        obstacle = kernel.obstacle
                        _log.info("the routing mesh takes %s", f"no shortcuts: {obstacle}" if obstacle else "shortcuts")
                more = await self._in_thread(partial(kernel.take, loop.time()))
            except (EnxameError, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("shortcuts of the routing mesh: %s", error)
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_look):
                        await _readable(kernel.ring)
            await asyncio.sleep(_PAUSE)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_reader(descriptor, told.set)
    try:
        await told.wait()
    finally:
        loop.remove_reader(descriptor)


def _remove_leftovers() -> None:
    with contextlib.closing(NetlinkSocket()) as routes, contextlib.suppress(NetlinkError):
        attaching.remove_leftovers(routes)
