"""A manager's port: takes links, finds out who calls, serves them."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final

from enxame.errors import EnxameError
from enxame.transport import identity
from enxame.transport.doorway import Doorway
from enxame.transport.identity import Caller
from enxame.transport.peer import Peer, Served

log = logging.getLogger(__name__)

#: Links without a certificate (nodes that join) that are open at once, and how long one may stay: seconds.
MAX_STRANGERS: Final = 64
STRANGER_DEADLINE: Final = 30.0


class Listener:
    """``admit`` is asked about every caller with a certificate and says as whom it may call; it raises EnxameError for
    those who may not in: that is the answer to whatever they call.
    """

    def __init__(self, served: Served, admit: Callable[[Caller], Caller]) -> None:
        self._served = served
        self._admit = admit
        self._doorway = Doorway(self._accept)
        self._peers: set[Peer] = set()
        self._strangers = 0

    async def listen(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Begin to listen; returns the port. Raises OSError when the address cannot be had."""
        return await self._doorway.open(host, port, context)

    async def close(self) -> None:
        """Stop listening and cut all links."""
        await self._doorway.close()
        for peer in list(self._peers):
            peer.close()
        await self._doorway.emptied()

    def cut(self, node_id: str) -> None:
        """Cut a node's links: it was removed, or its role changed."""
        for peer in list(self._peers):
            if peer.node_id == node_id:
                peer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        who, refusal = Caller(), None
        try:
            who = identity.caller(writer)
            if who.node_id:
                who = self._admit(who)
        except EnxameError as error:
            log.warning("refused node %s at %s: %s", who.node_id, writer.get_extra_info("peername"), error)
            refusal = error
        identity.send_again_soon(writer)
        peer = Peer(
            reader,
            writer,
            self._served,
            node_id=who.node_id,
            role=who.role,
            cluster_id=who.cluster_id,
            refusal=refusal,
        )
        self._peers.add(peer)
        try:
            if who.node_id and refusal is None:
                await peer.run()
            else:
                await self._serve_stranger(peer)
        finally:
            self._peers.discard(peer)

    async def _serve_stranger(self, peer: Peer) -> None:
        """Whoever has no (good) certificate gets little time, and there are never many of them."""
        if self._strangers >= MAX_STRANGERS:
            peer.close()
            return
        self._strangers += 1
        try:
            async with asyncio.timeout(STRANGER_DEADLINE):
                await peer.run()
        except TimeoutError:
            peer.close()
        finally:
            self._strangers -= 1
