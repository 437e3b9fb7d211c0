"""A small web server for measuring paths to it: ``python network_server.py PORT``."""

import asyncio
import sys
from typing import cast

_BODY = b"x" * 100
_KEEP = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + _BODY
_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n" + _BODY


class _Server(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        if b"Connection: close" in data:
            self.transport.write(_CLOSE)
            self.transport.close()
        else:
            self.transport.write(_KEEP * data.count(b"\r\n\r\n"))


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "0.0.0.0", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main(int(sys.argv[1])))
    except ImportError:
        asyncio.run(main(int(sys.argv[1])))
