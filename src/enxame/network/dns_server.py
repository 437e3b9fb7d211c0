"""The resolver that containers find at 127.0.0.11: our names from memory, all others from elsewhere.

One server for all containers, in the event loop. In each container's namespace are two sockets on a port outside the
ephemeral range, and two rules that rewrite port 53 of 127.0.0.11 to it and back, without tracking connections: port 53
stays free for the container's own programs. Sockets end with the daemon; the next one opens them again, and clients ask
again meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from enxame.network import dns_wire
from enxame.network.dns_forwarding import NewSocket, Unanswered, forward, receive_framed, send_framed
from enxame.network.dns_wire import Question

_log = logging.getLogger(__name__)

ADDRESS: Final = "127.0.0.11"
#: Where its sockets are.
PORT: Final = 61053
#: Datagrams answered before others of the event loop get their turn.
_BURST: Final = 32
_LARGEST_QUERY: Final = 4096
_MOST_FORWARDED: Final = 256
_MOST_CONNECTIONS: Final = 32
_IDLE_SECONDS: Final = 10.0


class Names(Protocol):
    """What one container can see."""

    def addresses(self, name: str) -> tuple[list[bytes], list[bytes]] | None:
        """The IPv4 and IPv6 addresses of a name, packed; both empty: the name is ours, but nobody has it now. None:
        not ours.
        """
        ...

    def name_of(self, address: bytes) -> str | None:
        """The name of a packed address; empty: certainly none. None: not ours."""
        ...


@dataclass(slots=True)
class Client:
    """One container. ``servers`` are the resolvers for names that are not ours; empty: there are none to ask."""

    names: Names
    servers: Sequence[str]
    udp: socket.socket
    tcp: socket.socket
    forwarded: int = 0
    connections: int = 0
    work: set[asyncio.Task[None]] = field(default_factory=set)


def open_sockets() -> tuple[socket.socket, socket.socket]:
    """The UDP and the TCP socket, in the namespace of the calling thread. Raises OSError."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        udp.bind((ADDRESS, PORT))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((ADDRESS, PORT))
        tcp.listen(_MOST_CONNECTIONS)
    except OSError:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


class DnsServer:
    """See the module. Clients are known by any key."""

    def __init__(self, new_socket: NewSocket) -> None:
        self._new_socket = new_socket
        self._clients: dict[str, Client] = {}

    def serve(
        self, key: str, names: Names, servers: Sequence[str], sockets: tuple[socket.socket, socket.socket]
    ) -> None:
        """Answer on a container's sockets from now on; they are ours."""
        self.leave(key)
        client = Client(names, servers, *sockets)
        self._clients[key] = client
        loop = asyncio.get_running_loop()
        loop.add_reader(client.udp, self._read, client)
        loop.add_reader(client.tcp, self._accept, client)

    def serves(self, key: str) -> bool:
        """Whether the container is a client."""
        return key in self._clients

    def set_servers(self, key: str, servers: Sequence[str]) -> None:
        """Whom to ask for other names from now on."""
        if (client := self._clients.get(key)) is not None:
            client.servers = servers

    def leave(self, key: str) -> None:
        """Stop answering a container. Idempotent."""
        client = self._clients.pop(key, None)
        if client is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(client.udp)
        loop.remove_reader(client.tcp)
        client.udp.close()
        client.tcp.close()
        for work in client.work:
            work.cancel()

    async def close(self) -> None:
        """Stop answering everybody."""
        work = [task for client in self._clients.values() for task in client.work]
        for key in list(self._clients):
            self.leave(key)
        await asyncio.gather(*work, return_exceptions=True)

    def _read(self, client: Client) -> None:
        udp = client.udp
        for _ in range(_BURST):
            try:
                query, source = udp.recvfrom(_LARGEST_QUERY)
            except OSError:
                return
            question = dns_wire.parse_query(query)
            reply = _from_names(client.names, query, question) if question is not None else None
            if reply is None:
                reply = self._elsewhere(client, query, question, source)
            if reply is not None:
                with contextlib.suppress(OSError):
                    udp.sendto(reply, source)

    def _elsewhere(
        self, client: Client, query: bytes, question: Question | None, source: tuple[str, int]
    ) -> bytes | None:
        """Begin to ask others; an answer only when that cannot be."""
        if len(query) < 12 or query[2] & 0x80:
            return None  # an answer, or noise: answering it might never end
        if not client.servers or client.forwarded >= _MOST_FORWARDED:
            return dns_wire.failure(query, question)
        client.forwarded += 1
        self._begin(client, self._forward_datagram(client, query, question, source))
        return None

    def _begin(self, client: Client, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="name resolution")
        client.work.add(task)
        task.add_done_callback(client.work.discard)

    async def _forward_datagram(
        self, client: Client, query: bytes, question: Question | None, source: tuple[str, int]
    ) -> None:
        try:
            try:
                reply = await forward(query, client.servers, self._new_socket, over_tcp=False)
            except Unanswered:
                reply = dns_wire.failure(query, question)
            with contextlib.suppress(OSError):
                client.udp.sendto(reply, source)
        finally:
            client.forwarded -= 1

    def _accept(self, client: Client) -> None:
        try:
            connection, _ = client.tcp.accept()
        except OSError:
            return
        connection.setblocking(False)
        if client.connections >= _MOST_CONNECTIONS:
            connection.close()
            return
        client.connections += 1
        self._begin(client, self._converse(client, connection))

    async def _converse(self, client: Client, connection: socket.socket) -> None:
        """Answer the queries of one connection until it ends, or is silent too long."""
        try:
            while True:
                async with asyncio.timeout(_IDLE_SECONDS):
                    query = await receive_framed(connection)
                    await send_framed(connection, await self._reply(client, query))
        except (OSError, TimeoutError, EOFError):
            pass
        finally:
            connection.close()
            client.connections -= 1

    async def _reply(self, client: Client, query: bytes) -> bytes:
        if len(query) < 12:
            raise EOFError
        question = dns_wire.parse_query(query)
        reply = _from_names(client.names, query, question, size=65535) if question is not None else None
        if reply is not None:
            return reply
        try:
            return await forward(query, client.servers, self._new_socket, over_tcp=True)
        except Unanswered:
            return dns_wire.failure(query, question)


def _from_names(names: Names, query: bytes, question: Question, *, size: int = 0) -> bytes | None:
    """The answer when the question is about our names; of a name of ours we also say what it has not."""
    if question.type == dns_wire.PTR:
        address = dns_wire.reverse_address(question.name)
        name = names.name_of(address.packed) if address is not None else None
        if name is None:
            return None
        if not name:
            return dns_wire.answer(query, question, code=dns_wire.NXDOMAIN)
        return dns_wire.answer(query, question, [dns_wire.domain_name(name)], size=size)
    found = names.addresses(question.name)
    if found is None:
        return None
    records = {dns_wire.A: found[0], dns_wire.AAAA: found[1]}.get(question.type, [])
    if len(records) > 1:
        records = random.sample(records, len(records))
    return dns_wire.answer(query, question, records, size=size)
