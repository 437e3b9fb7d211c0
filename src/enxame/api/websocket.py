"""A process's streams over a WebSocket, for clients in browsers: what ``attach`` gives, without its frames' headers."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from enxame.api import detach_keys
from enxame.api.attachment import Attachment, Typing
from enxame.api.call import Call
from enxame.errors import InvalidArgument

__all__ = ["converse_by_websocket"]

#: Seconds between pings: a client that vanished is noticed.
_HEARTBEAT = 30.0
#: Before this version of the API output came as text.
_BINARY_SINCE = (1, 28)


async def converse_by_websocket(
    call: Call, attachment: Attachment, *, stdin: bool, keys: bytes = detach_keys.DEFAULT
) -> web.StreamResponse:
    """Connect a WebSocket's client with a process until its output ends or the client goes.

    Raises:
        InvalidArgument: the request asks for no WebSocket.
    """
    socket = web.WebSocketResponse(heartbeat=_HEARTBEAT, compress=False)
    try:
        if not socket.can_prepare(call.request):
            raise InvalidArgument("bad request: the request asks for no WebSocket")
        await socket.prepare(call.request)
    except BaseException:
        await attachment.close()
        raise
    binary = call.version >= _BINARY_SINCE
    outgoing = asyncio.ensure_future(_show(attachment, socket, binary=binary))
    incoming = asyncio.ensure_future(_feed(socket, Typing(attachment, stdin=stdin, keys=keys)))
    try:
        await asyncio.wait({outgoing, incoming}, return_when=asyncio.FIRST_COMPLETED)
        if outgoing.done():
            # Closes, and waits for the client's answer, which `incoming` would read.
            incoming.cancel()
            await asyncio.gather(incoming, return_exceptions=True)
            await socket.close()
    finally:
        for task in (outgoing, incoming):
            task.cancel()
        await asyncio.gather(outgoing, incoming, return_exceptions=True)
        await attachment.close()
        await socket.close()
    return socket


async def _feed(socket: web.WebSocketResponse, typing: Typing) -> None:
    """Client to process; ends when the client leaves."""
    async for message in socket:
        if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
            continue
        data = message.data.encode() if isinstance(message.data, str) else bytes(message.data)
        if await typing.take(data):
            return


async def _show(attachment: Attachment, socket: web.WebSocketResponse, *, binary: bool) -> None:
    """Process to client; ends when the output does."""
    async for _, data in attachment.frames():
        if binary:
            await socket.send_bytes(data)
        else:
            await socket.send_str(data.decode(errors="replace"))
