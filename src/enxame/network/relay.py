"""Published ports over IPv6: connections to this machine's IPv6 addresses are carried to containers over IPv4.

The kernel translates no IPv6 into IPv4, so the bytes go through this program: to the same port of 127.0.0.1, from where
the packet filter leads them to whoever has the port. The client's address is not kept. This is TCP; ``udp_relay`` does
the same for UDP. Connections end with the daemon; ports are opened again by the next. Where a container has an IPv6
address, the packet filter leads there and only what comes from ``::1`` gets here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

_CHUNK: Final = 1 << 16
_BACKLOG: Final = 512
_MOST_CONNECTIONS: Final = 1024
_CONNECT_DEADLINE: Final = 10.0

#: Makes a non-blocking socket of a family and a kind in this machine's namespace.
NewSocket = Callable[[int, int], Awaitable[socket.socket]]


def listen(port: int, host: str = "::") -> socket.socket | None:
    """A socket for a TCP port of an IPv6 address, by default of all of this machine's; None where it has no IPv6.

    Raises:
        OSError: the port is in use, or the address is not this machine's.
    """
    try:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError:
        return None
    try:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        if host == "::" and error.errno == errno.EADDRNOTAVAIL:  # IPv6 is switched off
            return None
        reason = os.strerror(error.errno or 0).lower()
        raise OSError(error.errno, f"listen tcp6 [{host}]:{port}: bind: {reason}") from error
    return opened


class Relay:
    """One port that is listened on; connections go on to ``target`` (IPv4 address, port)."""

    def __init__(self, listening: socket.socket, target: tuple[str, int], new_socket: NewSocket) -> None:
        self._listening = listening
        self._target = target
        self._new_socket = new_socket
        self._work: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(listening, self._accept)

    def close(self) -> None:
        """Close the port and the connections that came in through it. Idempotent."""
        if self._listening.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
        for work in self._work:
            work.cancel()

    def _accept(self) -> None:
        try:
            client, _ = self._listening.accept()
        except OSError:
            return
        client.setblocking(False)
        if len(self._work) >= _MOST_CONNECTIONS:
            client.close()
            return
        work = asyncio.get_running_loop().create_task(self._carry(client), name=f"relay to port {self._target[1]}")
        self._work.add(work)
        work.add_done_callback(self._work.discard)

    async def _carry(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError, TimeoutError),
            await self._new_socket(socket.AF_INET, socket.SOCK_STREAM) as server,
        ):
            async with asyncio.timeout(_CONNECT_DEADLINE):
                await asyncio.get_running_loop().sock_connect(server, self._target)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await _both_ways(client, server)


async def _both_ways(client: socket.socket, server: socket.socket) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_one_way(client, server))
            group.create_task(_one_way(server, client))
    except* OSError:
        pass  # one end was reset: so is the other when it is closed


async def _one_way(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(sink, data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
