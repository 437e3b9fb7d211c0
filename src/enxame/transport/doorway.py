"""Lets connections in by TLS, few at a time: a crowd that comes at once does not slow down everybody's handshake.

A connection waits until it has said something, then in line for its handshake. The line is fair between addresses. Who
would wait for too long is told at once to come again (a TLS alert), so that nobody gives up after costing a handshake.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import struct
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

log = logging.getLogger(__name__)

#: Handshakes that are under way at once, and how many of them one address may have: some are kept for others.
MOST_HANDSHAKES: Final = 32
MOST_OF_ONE_ADDRESS: Final = 24
#: How long a connection may be silent, and how long its handshake may take once it is its turn: seconds.
HELLO_DEADLINE: Final = 10.0
HANDSHAKE_DEADLINE: Final = 10.0
#: Newcomers are sent away while the first in line has waited for so long: seconds. Half of a caller's patience.
LONGEST_WAIT: Final = 15.0
#: Connections that have not been let in yet; the next ones wait in the kernel.
MOST_WAITING: Final = 8192
#: Wait after the system had no descriptor left: seconds.
_OUT_OF_DESCRIPTORS: Final = 0.2
_BACKLOG: Final = 4096
#: TLS: fatal alert "internal error". No other alert of OpenSSL's says "not now"; see :data:`enxame.transport.dialer`.
BUSY_ALERT: Final = bytes((21, 3, 3, 0, 2, 2, 80))
_ESTABLISHED: Final = 1  # of TCP's states (netinet/tcp.h)

LetIn = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Guest:
    """A connection that is not let in yet. ``since``: when it got in line."""

    connection: socket.socket
    address: str
    since: float = 0.0
    in_line: bool = False
    silent: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Line:
    """Who waits for a handshake: each address in its turn, each address' connections in order."""

    by_address: OrderedDict[str, deque[_Guest]] = field(default_factory=OrderedDict)
    arrived: deque[_Guest] = field(default_factory=deque)

    def add(self, guest: _Guest) -> None:
        guest.in_line = True
        self.by_address.setdefault(guest.address, deque()).append(guest)
        self.arrived.append(guest)

    def next(self, may: Callable[[str], bool]) -> _Guest | None:
        """The next one of an address that may; that address goes to the end. None: nobody may."""
        address = next(filter(may, self.by_address), None)
        if address is None:
            return None
        guests = self.by_address[address]
        guest = guests.popleft()
        guest.in_line = False
        if guests:
            self.by_address.move_to_end(address)
        else:
            del self.by_address[address]
        return guest

    def oldest(self) -> _Guest | None:
        """Who waits longest."""
        while self.arrived and not self.arrived[0].in_line:
            self.arrived.popleft()
        return self.arrived[0] if self.arrived else None

    def guests(self) -> list[_Guest]:
        """All of them."""
        return [guest for guests in self.by_address.values() for guest in guests]


class Doorway:
    """``let_in`` gets each connection whose handshake is done; the connection is the doorway's until it returns."""

    def __init__(self, let_in: LetIn) -> None:
        self._let_in = let_in
        self._context: ssl.SSLContext | None = None
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._silent: set[_Guest] = set()
        self._line = _Line()
        #: Handshakes under way, by address.
        self._shaking: dict[str, int] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._room = asyncio.Event()
        self._inside: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Connections that are not let in yet."""
        return self._waiting

    async def open(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Begin to listen; returns the port. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._context = context
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                self._sockets.append(_listen(socket.socket(family, kind, protocol), address))
        except BaseException:
            self._close_sockets()
            raise
        self._accepting = [loop.create_task(self._accept(listening)) for listening in self._sockets]
        return int(self._sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, send those who wait away, and break off handshakes. Who is inside stays."""
        for task in self._accepting:
            task.cancel()
        if self._accepting:
            await asyncio.wait(self._accepting)
        self._close_sockets()
        for guest in [*self._silent, *self._line.guests()]:
            self._dismiss(guest)
        self._line = _Line()
        handshakes = list(self._handshakes)
        for task in handshakes:
            task.cancel()
        if handshakes:
            await asyncio.wait(handshakes)

    async def emptied(self) -> None:
        """Wait until all those inside have gone."""
        if self._inside:
            await asyncio.wait(self._inside)

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            listening.close()
        self._sockets = []

    # Outside

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.warning("no connection can be accepted: %s", error.strerror)
                    await asyncio.sleep(_OUT_OF_DESCRIPTORS)
                continue
            self._greet(connection, address)
            if self._waiting >= MOST_WAITING:
                self._room.clear()
                await self._room.wait()

    def _greet(self, connection: socket.socket, address: Any) -> None:
        loop = asyncio.get_running_loop()
        guest = _Guest(connection, str(address[0]))
        self._silent.add(guest)
        self._waiting += 1
        guest.silent = loop.call_later(HELLO_DEADLINE, self._dismiss, guest)
        loop.add_reader(connection, self._spoke, guest)

    def _spoke(self, guest: _Guest) -> None:
        loop = asyncio.get_running_loop()
        self._hear(guest)
        oldest = self._line.oldest()
        if oldest is not None and loop.time() - oldest.since > LONGEST_WAIT:
            self._one_less()
            _send_away(guest.connection)
            return
        guest.since = loop.time()
        self._line.add(guest)
        self._next()

    def _hear(self, guest: _Guest) -> None:
        if guest.silent is not None:
            guest.silent.cancel()
            guest.silent = None
            asyncio.get_running_loop().remove_reader(guest.connection)
        self._silent.discard(guest)

    def _dismiss(self, guest: _Guest) -> None:
        self._hear(guest)
        self._one_less()
        guest.connection.close()

    def _one_less(self) -> None:
        self._waiting -= 1
        self._room.set()

    # In the doorway

    def _next(self) -> None:
        while len(self._handshakes) < MOST_HANDSHAKES:
            guest = self._line.next(self._may)
            if guest is None:
                return
            if not _still_there(guest.connection):
                self._dismiss(guest)
                continue
            self._shaking[guest.address] = self._shaking.get(guest.address, 0) + 1
            task = asyncio.get_running_loop().create_task(self._receive(guest), name=f"link from {guest.address}")
            self._handshakes.add(task)
            task.add_done_callback(self._inside.discard)

    def _may(self, address: str) -> bool:
        return self._shaking.get(address, 0) < MOST_OF_ONE_ADDRESS

    async def _receive(self, guest: _Guest) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            streams = await self._shake_hands(guest.connection)
            self._inside.add(task)
        except (OSError, TimeoutError) as error:
            log.debug("no handshake with %s: %s", guest.address, error)
            return
        finally:
            if task not in self._inside:
                guest.connection.close()
            self._handshakes.discard(task)
            self._one_less()
            self._shaking[guest.address] -= 1
            if not self._shaking[guest.address]:
                del self._shaking[guest.address]
            self._next()
        await self._let_in(*streams)

    async def _shake_hands(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        async with asyncio.timeout(HANDSHAKE_DEADLINE):
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _listen(listening: socket.socket, address: Any) -> socket.socket:
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _send_away(connection: socket.socket) -> None:
    try:
        # What was not read when a connection is closed would take the alert with it.
        connection.recv(1 << 16)
        connection.send(BUSY_ALERT)
    except OSError:
        pass
    finally:
        connection.close()


def _still_there(connection: socket.socket) -> bool:
    """Whether the other side has not given up meanwhile."""
    try:
        (state,) = struct.unpack("B", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))
    except OSError:
        return False
    return bool(state == _ESTABLISHED)
