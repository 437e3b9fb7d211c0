"""What tunnels know of other machines' containers: programmed in batches, compared with the kernel when told anew."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final, Protocol, TypeVar

from enxame.errors import EnxameError
from enxame.network import rtnetlink, vxlan
from enxame.network.netlink import NetlinkError, NetlinkSocket, Request
from enxame.network.vxlan import Remote

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: One turn in the netlink thread (about 10 ms): others that wait for it are not held up for longer.
_TURN: Final = 1000


class OnKernel(Protocol):
    """Runs work with the socket, in its thread."""

    def __call__(self, work: Callable[[NetlinkSocket], T]) -> Awaitable[T]:
        """The work's result."""


class Tunnels:
    """Tunnels by name; each exists since its bridge was made (see :mod:`enxame.network.bridge`)."""

    def __init__(self, on_kernel: OnKernel) -> None:
        self._on_kernel = on_kernel

    async def set_all(self, name: str, remotes: Sequence[Remote]) -> int:
        """Make a tunnel know these and nothing else; how many requests that took.

        Raises:
            EnxameError: there is no such tunnel, or the kernel refuses some (the others were done).
        """
        requests = await self._on_kernel(partial(_compare, name, remotes))
        await self._run(name, requests)
        return len(requests)

    async def change(self, name: str, gone: Sequence[Remote], come: Sequence[Remote]) -> None:
        """Make a tunnel forget ``gone``, then know ``come``.

        Raises:
            EnxameError: as :meth:`set_all`.
        """
        index = await self._on_kernel(partial(_index, name))
        requests = [request for remote in gone for request in vxlan.delete_remote(index, remote.mac, remote.addresses)]
        requests += [request for remote in come for request in vxlan.add_remote(index, remote)]
        await self._run(name, requests)

    async def _run(self, name: str, requests: Sequence[Request]) -> None:
        waiting = iter(requests)
        refused: list[NetlinkError] = []
        while turn := list(islice(waiting, _TURN)):
            refused += await self._on_kernel(partial(_execute, turn))
        if refused:
            raise EnxameError(f"{len(refused)} of {len(requests)} entries of tunnel {name} were refused: {refused[0]}")


def _execute(requests: Sequence[Request], kernel: NetlinkSocket) -> list[NetlinkError]:
    return [error for error in kernel.try_all(requests) if error is not None]


def _index(name: str, kernel: NetlinkSocket) -> int:
    body = kernel.get(rtnetlink.get_link(name))
    if body is None:
        raise EnxameError(f"the tunnel {name} does not exist")
    return rtnetlink.parse_link(body).index


def _compare(name: str, remotes: Sequence[Remote], kernel: NetlinkSocket) -> list[Request]:
    index = _index(name, kernel)
    neighbours = [
        body
        for family in (socket.AF_INET, socket.AF_INET6)
        for body in kernel.dump(vxlan.list_neighbours(index, family))
    ]
    have = vxlan.programmed(kernel.dump(vxlan.list_forwarding(index)), neighbours)
    requests = vxlan.corrections(index, have, remotes)
    if requests and have.machines:
        _log.info("tunnel %s: %d corrections to what the kernel had", name, len(requests))
    return requests
