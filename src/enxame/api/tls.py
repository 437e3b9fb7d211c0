"""Mutual TLS in front of a plain connection, with half-close.

asyncio's and uvloop's TLS transports end both directions when a client closes one, so that ``docker --tls run -i``
would lose its output. Here TLS ends in memory BIOs, and what comes out of them goes over a socket pair to the HTTP
server: a ``close_notify`` of the client becomes a half-close of that socket and the other way round.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

_log = logging.getLogger(__name__)

_CHUNK: Final = 64 * 1024
#: Seconds that a client gets to prove who it is.
HANDSHAKE_TIMEOUT: Final = 10.0


def server_context(cert: str, key: str, ca: str | None) -> ssl.SSLContext:
    """A server's context: certificate and key (paths); with ``ca`` clients must show a certificate that it signed.

    Raises:
        OSError, ssl.SSLError: a file is missing or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
    return context


class _Channel:
    """TLS over one TCP connection, for one reader and one writer at a time."""

    def __init__(self, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """Agree on keys, verify the client."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                if not await self._fill():
                    raise ConnectionResetError("connection closed during the TLS handshake") from None
            except ssl.SSLError:
                await self.flush()
                raise
            else:
                await self.flush()
                return

    async def read(self) -> bytes:
        """Plain bytes; empty when the client has closed its direction."""
        while True:
            try:
                return self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self.flush()
                if not await self._fill():
                    # A TCP close without close_notify: what was read so far was authentic; the HTTP framing tells
                    # whether it was whole.
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def write(self, data: bytes) -> None:
        """Encrypt and send."""
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        await self.flush()

    async def close_write(self) -> None:
        """Tell the client that nothing more comes; it may go on sending."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        await self.flush()
        if self._writer.can_write_eof():
            self._writer.write_eof()

    async def flush(self) -> None:
        """Send what TLS has to say."""
        data = self._outgoing.read()
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def _fill(self) -> bool:
        data = await self._reader.read(_CHUNK)
        if data:
            self._incoming.write(data)
            return True
        self._incoming.write_eof()
        return False


class TlsTerminator:
    """Ends TLS for accepted connections and passes each on as one end of a socket pair."""

    def __init__(self, context: ssl.SSLContext, accept: Callable[[socket.socket], Awaitable[object]]) -> None:
        self._context = context
        self._accept = accept

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one TCP connection to its end (the callback of ``asyncio.start_server``)."""
        peer = writer.get_extra_info("peername")
        try:
            await self._relay(reader, writer)
        except (ssl.SSLError, OSError, TimeoutError) as error:
            _log.info("TLS connection of %s ended: %s", peer, error or type(error).__name__)
        finally:
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = _Channel(self._context, reader, writer)
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            await channel.handshake()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        try:
            await self._accept(theirs)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        plain_reader, plain_writer = await asyncio.open_unix_connection(sock=ours)
        try:
            inward = asyncio.ensure_future(_inward(channel, plain_writer))
            outward = asyncio.ensure_future(_outward(channel, plain_reader))
            try:
                # When the server has ended its direction it has closed the connection: the request is over.
                done, _ = await asyncio.wait({inward, outward}, return_when=asyncio.FIRST_COMPLETED)
                if outward not in done and inward.exception() is None:
                    await asyncio.wait({outward})
            finally:
                inward.cancel()
                outward.cancel()
                results = await asyncio.gather(inward, outward, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result
        finally:
            plain_writer.close()


async def _inward(channel: _Channel, plain: asyncio.StreamWriter) -> None:
    while data := await channel.read():
        plain.write(data)
        await plain.drain()
    plain.write_eof()


async def _outward(channel: _Channel, plain: asyncio.StreamReader) -> None:
    while data := await plain.read(_CHUNK):
        await channel.write(data)
    await channel.close_write()
