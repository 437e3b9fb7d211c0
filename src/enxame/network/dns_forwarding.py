"""Passing questions on to other resolvers, as they came: the first that answers is believed.

A question over UDP goes out from a port of its own, so that nobody who cannot see it can answer it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from enxame.network import dns_wire

#: How long one resolver may take, in seconds; clients ask again after five.
_ANSWER_DEADLINE: Final = 2.0
_LARGEST_ANSWER: Final = 65535
_PORT: Final = 53


class Unanswered(Exception):
    """No resolver gave an answer."""


#: Makes a socket of a family and a kind, non-blocking, in the namespace to ask from.
NewSocket = Callable[[int, int], Awaitable[socket.socket]]


async def forward(message: bytes, servers: Sequence[str], new_socket: NewSocket, *, over_tcp: bool) -> bytes:
    """What the first server that has an answer says. One that fails or refuses is passed over.

    Raises:
        Unanswered: none answered in time.
    """
    refused: bytes | None = None
    for server in servers:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        try:
            with await new_socket(family, socket.SOCK_STREAM if over_tcp else socket.SOCK_DGRAM) as connection:
                async with asyncio.timeout(_ANSWER_DEADLINE):
                    await asyncio.get_running_loop().sock_connect(connection, (server, _PORT))
                    reply = await (_ask_tcp if over_tcp else _ask_udp)(message, connection)
        except (OSError, TimeoutError, EOFError):
            continue
        if dns_wire.code_of(reply) in (dns_wire.NOERROR, dns_wire.NXDOMAIN):
            return reply
        refused = reply
    if refused is not None:
        return refused
    raise Unanswered


async def _ask_udp(message: bytes, connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    # An id of our own: the client's may be easy to guess.
    asked = secrets.token_bytes(2) + message[2:]
    await loop.sock_sendall(connection, asked)
    while True:
        reply = await loop.sock_recv(connection, _LARGEST_ANSWER)
        if len(reply) >= 12 and reply[:2] == asked[:2] and reply[2] & 0x80:
            return message[:2] + reply[2:]


async def _ask_tcp(message: bytes, connection: socket.socket) -> bytes:
    await send_framed(connection, message)
    reply = await receive_framed(connection)
    if len(reply) < 12:
        raise EOFError
    return reply


async def send_framed(connection: socket.socket, message: bytes) -> None:
    """A message with its length before it, as TCP carries them."""
    await asyncio.get_running_loop().sock_sendall(connection, struct.pack("!H", len(message)) + message)


async def receive_framed(connection: socket.socket) -> bytes:
    """The next message. Raises EOFError when there is none, or only a part."""
    (length,) = struct.unpack("!H", await _exactly(connection, 2))
    return await _exactly(connection, length)


async def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = await asyncio.get_running_loop().sock_recv(connection, length - len(data))
        if not more:
            raise EOFError
        data += more
    return data
