"""Taking a connection out of HTTP: attach and exec speak a raw stream in both directions.

The protocol of the transport is swapped for a plain stream, whose ``eof_received`` keeps the connection open: clients
half-close when their stdin ends and go on reading. (aiohttp's own protocol would close it.) Half-close does not work on
asyncio's TLS transports; :mod:`enxame.api.tls` ends TLS before this connection begins.
"""

from __future__ import annotations

import asyncio
import select
from typing import cast

from aiohttp import web

from enxame.api import detach_keys
from enxame.api.attachment import Attachment, Typing
from enxame.api.call import Call
from enxame.api.responses import AlreadyAnswered
from enxame.api.streams import frame, output_type

_READ_SIZE = 64 * 1024

#: Seconds between looks at whether a client that has half-closed is gone.
_HANG_UP_CHECK = 2.0

#: Seconds that a client gets to read the end of the output and to close.
_LINGER = 5.0


class _RawProtocol(asyncio.StreamReaderProtocol):
    """A plain stream in place of HTTP; tells aiohttp's protocol when the connection ends."""

    def __init__(self, reader: asyncio.StreamReader, http: asyncio.Protocol) -> None:
        super().__init__(reader)
        self._http = http

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._http.connection_lost(exc)


async def take_over(call: Call, content_type: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Answer ``101 UPGRADED`` (``200 OK`` to clients that did not ask for an upgrade) and hand out the raw stream."""
    request = call.request
    await request.read()
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("client is gone")
    http = cast("asyncio.Protocol", request.protocol)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_READ_SIZE, loop=loop)
    protocol = _RawProtocol(reader, http)
    if request.headers.get("Upgrade", ""):
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n"
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    transport.resume_reading()
    writer.write(head.encode("ascii"))
    return reader, writer


async def converse(
    call: Call, attachment: Attachment, *, stdin: bool, keys: bytes = detach_keys.DEFAULT
) -> web.StreamResponse:
    """Connect the client with a process until the process's output ends or the client goes.

    Output goes out framed, or raw with a terminal. ``stdin``: whether what the client sends goes to the process; its
    half-close then closes the process's stdin. On a terminal ``keys`` end the conversation and nothing else.
    """
    try:
        reader, writer = await take_over(call, output_type(call, tty=attachment.tty))
    except BaseException:
        await attachment.close()
        raise
    outgoing = asyncio.ensure_future(_show(attachment, writer))
    incoming = asyncio.ensure_future(_feed(reader, Typing(attachment, stdin=stdin, keys=keys)))
    departure = asyncio.ensure_future(_departure(writer, incoming))
    try:
        await asyncio.wait({outgoing, departure}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (outgoing, incoming, departure):
            task.cancel()
        try:
            await asyncio.gather(outgoing, incoming, departure, return_exceptions=True)
            await attachment.close()
            await _part(reader, writer)
        finally:
            writer.close()
    return AlreadyAnswered()


async def _feed(reader: asyncio.StreamReader, typing: Typing) -> bool:
    """Client to process. True: the user wants to leave."""
    while data := await reader.read(_READ_SIZE):
        if await typing.take(data):
            return True
    await typing.end()
    return False


async def _show(attachment: Attachment, writer: asyncio.StreamWriter) -> None:
    """Process to client; ends when the output does."""
    async for stream, data in attachment.frames():
        writer.write(data if attachment.tty else frame(stream, data))
        await writer.drain()


async def _departure(writer: asyncio.StreamWriter, incoming: asyncio.Future[bool]) -> None:
    """Ends when the client is gone altogether. A half-close is none: the client still wants the output."""
    await asyncio.wait({incoming})
    if incoming.exception() is not None or incoming.result():
        return
    while not writer.is_closing():
        if _hung_up(writer):
            return
        try:
            async with asyncio.timeout(_HANG_UP_CHECK):
                await writer.wait_closed()
        except TimeoutError:
            continue
        except OSError:
            return


def _hung_up(writer: asyncio.StreamWriter) -> bool:
    # A half-closed and a closed peer both read as EOF; only poll(2) tells them apart.
    sock = writer.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


async def _part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close so that the client gets the last output: with unread bytes in our socket a close would be a reset."""
    try:
        async with asyncio.timeout(_LINGER):
            await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(_READ_SIZE):
                pass
    except (OSError, TimeoutError, RuntimeError):
        pass
