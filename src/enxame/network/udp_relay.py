"""Published UDP ports over IPv6: what :mod:`enxame.network.relay` is for TCP. Every client gets a socket of its own
towards the container; one that is silent for long is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from typing import Any, Final

from enxame.network.relay import NewSocket

__all__ = ["UdpRelay", "bind_udp"]

_DATAGRAM: Final = 1 << 16
_MOST_CLIENTS: Final = 1024
#: Seconds; dockerd's proxy has the same.
_SILENCE: Final = 90.0
_MOST_WAITING: Final = 64
_CONTROL: Final = socket.CMSG_SPACE(20)


def bind_udp(host: str, port: int) -> socket.socket | None:
    """A socket for a UDP port of an IPv6 address (``::``: of all); None where this machine has no IPv6.

    Raises:
        OSError: the port is in use, or the address is not this machine's.
    """
    try:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError:
        return None
    try:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Answers leave from the address that was asked.
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        opened.bind((host, port))
    except OSError as error:
        opened.close()
        if host == "::" and error.errno == errno.EADDRNOTAVAIL:
            return None
        reason = os.strerror(error.errno or 0).lower()
        raise OSError(error.errno, f"listen udp6 [{host}]:{port}: bind: {reason}") from error
    return opened


class UdpRelay:
    """One port; datagrams go to ``target`` (IPv4 address, port) and the answers back."""

    def __init__(self, bound: socket.socket, target: tuple[str, int], new_socket: NewSocket) -> None:
        self._bound = bound
        self._target = target
        self._new_socket = new_socket
        self._clients: dict[tuple[Any, bytes], asyncio.Queue[bytes]] = {}
        self._work: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(bound, self._read)

    def close(self) -> None:
        """Close the port and forget its clients. Idempotent."""
        if self._bound.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._bound)
            self._bound.close()
        for work in self._work:
            work.cancel()

    def _read(self) -> None:
        try:
            data, control, _, client = self._bound.recvmsg(_DATAGRAM, _CONTROL)
        except OSError:
            return
        asked = next((value for level, kind, value in control if kind == socket.IPV6_PKTINFO), b"")
        key = (client, asked)
        queue = self._clients.get(key)
        if queue is None:
            if len(self._clients) >= _MOST_CLIENTS:
                return
            queue = self._clients[key] = asyncio.Queue(_MOST_WAITING)
            work = asyncio.get_running_loop().create_task(self._serve(key, queue), name=f"relay for {client[0]}")
            self._work.add(work)
            work.add_done_callback(self._work.discard)
        with contextlib.suppress(asyncio.QueueFull):  # as a network would: it is lost
            queue.put_nowait(data)

    async def _serve(self, key: tuple[Any, bytes], queue: asyncio.Queue[bytes]) -> None:
        loop = asyncio.get_running_loop()
        try:
            with (
                contextlib.suppress(OSError, TimeoutError),
                await self._new_socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            ):
                await loop.sock_connect(server, self._target)
                back = loop.create_task(self._answers(server, key), name="relay of answers")
                try:
                    while True:
                        async with asyncio.timeout(_SILENCE):
                            data = await queue.get()
                        with contextlib.suppress(OSError):  # nobody listens there, now
                            await loop.sock_sendall(server, data)
                finally:
                    back.cancel()
                    await asyncio.gather(back, return_exceptions=True)
        finally:
            self._clients.pop(key, None)

    async def _answers(self, server: socket.socket, key: tuple[Any, bytes]) -> None:
        loop = asyncio.get_running_loop()
        client, asked = key
        # The address that was asked, on whatever interface the way back leads through.
        source = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, asked[:16] + struct.pack("=i", 0))] if asked else []
        while True:
            try:
                data = await loop.sock_recv(server, _DATAGRAM)
            except OSError:  # the container refused a datagram: the next one may be taken
                await asyncio.sleep(0.01)
                continue
            with contextlib.suppress(OSError):
                self._bound.sendmsg([data], source, 0, client)
