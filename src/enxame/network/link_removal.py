"""Links go in a thread of their own, all that wait together: the kernel takes its time, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from enxame.errors import EnxameError
from enxame.network import rtnetlink
from enxame.network.netlink import NetlinkSocket

_DYING_GROUP: Final = 0x656E78


@dataclass(frozen=True, slots=True)
class _Removal:
    links: list[str]
    done: asyncio.Future[None]


class LinkRemoval:
    """Works in the network namespace of whoever calls :meth:`open`."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="enxame-removal")
        self._socket: NetlinkSocket | None = None
        self._waiting: list[_Removal] = []
        self._reaper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect to the kernel."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._open)

    async def close(self) -> None:
        """Wait for what is on its way, and part."""
        if self._reaper is not None:
            await asyncio.gather(self._reaper, return_exceptions=True)
        self._executor.shutdown()
        if self._socket is not None:
            self._socket.close()

    async def remove(self, links: Iterable[str]) -> None:
        """Remove links; takes tens of milliseconds. Idempotent. Raises EnxameError when the kernel refuses."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Removal(list(links), done))
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap(), name="link removal")
        await done

    async def _reap(self) -> None:
        """Removals that come together go together: the kernel's grace period is waited for once."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            links = [link for removal in batch for link in removal.links]
            error: EnxameError | None = None
            try:
                await asyncio.get_running_loop().run_in_executor(self._executor, self._remove, links)
            except EnxameError as refused:
                error = refused
            for removal in batch:
                if removal.done.done():
                    continue
                if error is None:
                    removal.done.set_result(None)
                else:
                    removal.done.set_exception(error)

    def _open(self) -> None:
        self._socket = NetlinkSocket()

    def _remove(self, names: Sequence[str]) -> None:
        if self._socket is not None:
            delete_links(self._socket, names)


def delete_links(route: NetlinkSocket, names: Sequence[str]) -> None:
    """Remove links in one group: the kernel's grace period is waited for once. Blocks."""
    if len(names) == 1:
        route.execute([rtnetlink.delete_link(names[0])])
    elif names:
        marks = [rtnetlink.set_group(name, _DYING_GROUP) for name in names]
        route.execute([*marks, rtnetlink.delete_group(_DYING_GROUP)])
