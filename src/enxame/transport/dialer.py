"""Links from a node to a manager."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from enxame.errors import EnxameError, Unavailable
from enxame.transport import identity
from enxame.transport.peer import Peer, Served

CONNECT_DEADLINE: Final = 5.0
#: Where there are others to be tried: enough for a first packet that was lost.
SHORT_CONNECT_DEADLINE: Final = 2.0
#: Longer: thousands of nodes that come at once are all let in, one after the other.
HANDSHAKE_DEADLINE: Final = 30.0
#: Back-off between tries to reach a manager: seconds (swarmkit agent/session.go).
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 8.0
#: What OpenSSL calls the alert of a manager that has too many callers (see :mod:`enxame.transport.doorway`).
_BUSY: Final = "TLSV1_ALERT_INTERNAL_ERROR"


@asynccontextmanager
async def link(
    address: str, context: ssl.SSLContext, served: Served | None = None, *, connect_deadline: float = CONNECT_DEADLINE
) -> AsyncIterator[Peer]:
    """A link to ``host:port``, cut when the block ends. ``served`` is what the other side may call here.

    Where the context verifies, the other side must be a manager.

    Raises:
        Unavailable: nobody there, or somebody who cannot prove to be a manager of this swarm.
    """
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(connect_deadline):
            connected = await _connect(host.strip("[]"), int(port))
        async with asyncio.timeout(HANDSHAKE_DEADLINE):
            reader, writer = await asyncio.open_connection(sock=connected, ssl=context, server_hostname="")
    except ssl.SSLError as error:
        if error.reason == _BUSY:
            raise Unavailable(f"{address} has too many callers at the moment") from error
        raise Unavailable(f"{address} did not prove to be a manager of this swarm: {error.reason}") from error
    except (OSError, TimeoutError, ValueError) as error:
        raise Unavailable(f"cannot reach {address}: {_reason(error)}") from error
    try:
        who = identity.caller(writer) if context.verify_mode is ssl.CERT_REQUIRED else identity.Caller(role="manager")
        if who.role != "manager":
            raise Unavailable(f"{address} is no manager")
    except EnxameError:
        writer.transport.abort()
        raise
    identity.send_again_soon(writer)
    peer = Peer(reader, writer, served or Served(), node_id=who.node_id, role=who.role, cluster_id=who.cluster_id)
    running = asyncio.get_running_loop().create_task(peer.run(), name=f"link to {address}")
    try:
        yield peer
    finally:
        peer.close()
        await asyncio.wait({running})


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        await loop.sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def next_delay(delay: float, random: float) -> float:
    """How long to wait after a failed try, given the wait before and a number from 0 to 1: doubled, with jitter."""
    return min(max(delay * 2, FIRST_DELAY), LONGEST_DELAY) * (0.5 + random / 2)


def spread(period: float, random: float) -> float:
    """How much longer a node waits whose session has ended, as all others' may have: the manager names the longer a
    period (seconds) the more nodes there are, and takes them up again within about one.
    """
    return max(0.0, period - 1.0) * random


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)
