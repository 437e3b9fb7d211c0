"""A web server that drains as servers should: ``python draining_server.py PORT``.

On SIGTERM it goes on answering whoever is connected, says ``Connection: close`` with each answer, and ends when nobody
is connected any more, or after :data:`PATIENCE`. It takes connections that were made before it was told: its listening
socket is closed only once none came for a moment.
"""

import asyncio
import signal
import socket
import sys
from typing import Final

#: How long clients may take to ask once more, or to go: seconds.
PATIENCE: Final = 5.0
#: How long nobody must have come until the listening socket is closed: seconds.
CALM: Final = 0.1

_HEAD: Final = "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n{}"


class Server:
    """Answers every request with this machine's name."""

    def __init__(self) -> None:
        body = socket.gethostname() + "\n"
        self._keep = _HEAD.format(len(body), "keep-alive", body).encode()
        self._close = _HEAD.format(len(body), "close", body).encode()
        self._draining = asyncio.Event()
        self._connected = 0
        self._last = 0.0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected += 1
        self._last = asyncio.get_running_loop().time()
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                last = self._draining.is_set() or b"connection: close" in request.lower() or b" HTTP/1.0" in request
                writer.write(self._close if last else self._keep)
                await writer.drain()
                if last:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._connected -= 1

    async def run(self, port: int) -> None:
        """Until it is told to end and nobody is left."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._draining.set)
        server = await asyncio.start_server(self._serve, "0.0.0.0", port, backlog=1024)
        await self._draining.wait()
        told = self._last = loop.time()
        while loop.time() < told + PATIENCE and (self._connected or loop.time() < self._last + CALM):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        server.close()


if __name__ == "__main__":
    asyncio.run(Server().run(int(sys.argv[1])))
