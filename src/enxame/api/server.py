"""The listeners of the Engine API: unix sockets, TCP, TCP with mutual TLS."""

from __future__ import annotations

import asyncio
import errno
import grp
import logging
import os
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from enxame.api.connection import Connection
from enxame.api.context import ApiContext
from enxame.api.dispatch import Dispatcher
from enxame.api.errors import MAX_BODY
from enxame.api.forwarded import ForwardedApi
from enxame.api.forwarding import Forwarder
from enxame.api.metrics import MetricsHandler
from enxame.api.resources import all_routes
from enxame.api.tls import TlsTerminator

RequestFactory = Callable[
    [RawRequestMessage, StreamReader, web.RequestHandler, AbstractStreamWriter, "asyncio.Task[None]"], web.BaseRequest
]

_log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
#: Bytes of a request line or header: filters of a long table and registry credentials are in them.
_MAX_LINE: Final = 256 * 1024
#: Unix socket: the owner and the group give orders, nobody else.
_SOCKET_MODE: Final = 0o660


class ApiServer:
    """Serves the API on any number of listeners, which may be added at any time, and to other managers through
    ``forwarded``.
    """

    def __init__(self, api: ApiContext, forwarded: ForwardedApi | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        routes, make = all_routes(), _request_factory(loop)
        forwarder = Forwarder(routes)
        self._forwarded = forwarded
        if forwarded is not None:
            forwarded.begin(api, routes, forwarder)
        #: By whether it only serves those who look.
        self._http = {
            looks_only: web.Server(Dispatcher(api, routes, forwarder, looks_only=looks_only), request_factory=make)
            for looks_only in (False, True)
        }
        self._metrics = web.Server(MetricsHandler(api))
        self._listeners: list[asyncio.AbstractServer] = []
        self._socket_files: list[tuple[Path, int]] = []

    async def listen_unix(self, path: str | Path, *, group: str | int | None = None, looks_only: bool = False) -> None:
        """Listen on a unix socket (mode 0660, ``group`` by name or number). A dead daemon's socket file is replaced.
        ``looks_only``: see :mod:`enxame.api.read_only`.

        Raises:
            OSError: the path cannot be used, or somebody is listening there.
            KeyError: no such group.
        """
        path = Path(path)
        gid = -1 if group is None else group if isinstance(group, int) else grp.getgrnam(group).gr_gid
        await self._loop.run_in_executor(None, _clear_dead_socket, path)
        sock = _bind_unix(path, gid)
        self._socket_files.append((path, path.stat().st_ino))
        await self._listen(sock, None, looks_only)
        _log.info("API listening on unix://%s%s", path, ", read-only" if looks_only else "")

    async def listen_tcp(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, looks_only: bool = False
    ) -> int:
        """Listen on an address; returns the port (of use with port 0). Without ``tls`` everybody who reaches it is
        root on this machine; the log and ``info`` say so.
        """
        server: asyncio.AbstractServer
        if tls is None:
            server = await self._loop.create_server(self._protocol(looks_only), host, port, backlog=_BACKLOG)
        else:
            terminator = TlsTerminator(tls, self._acceptor(looks_only))
            server = await asyncio.start_server(terminator, host, port, backlog=_BACKLOG)
        self._listeners.append(server)
        sockets = getattr(server, "sockets", ())
        port = int(sockets[0].getsockname()[1]) if sockets else port
        if tls is not None:
            _log.info("API listening on %s:%d with TLS", host, port)
        elif looks_only:
            _log.warning("read-only API listening on %s:%d without encryption", host, port)
        else:
            _log.warning(
                "API listening on %s:%d without encryption: whoever reaches it is root on this machine", host, port
            )
        return port

    async def listen_metrics(self, host: str, port: int) -> int:
        """Serve :mod:`enxame.api.metrics` on an address; returns the port."""
        server = await self._loop.create_server(self._metrics, host, port, backlog=_BACKLOG)
        self._listeners.append(server)
        port = int(server.sockets[0].getsockname()[1])
        _log.info("metrics at http://%s:%d/metrics", host, port)
        return port

    async def listen_socket(
        self, sock: socket.socket, *, tls: ssl.SSLContext | None = None, looks_only: bool = False
    ) -> None:
        """Listen on a bound socket that the service manager handed over; TLS is for those of the network."""
        sock.setblocking(False)
        is_unix = sock.family == socket.AF_UNIX
        _log.info("API listening on %s, handed over%s", sock.getsockname(), ", read-only" if looks_only else "")
        await self._listen(sock, None if is_unix else tls, looks_only)

    async def _listen(self, sock: socket.socket, tls: ssl.SSLContext | None, looks_only: bool) -> None:
        server: asyncio.AbstractServer
        if tls is not None:
            terminator = TlsTerminator(tls, self._acceptor(looks_only))
            server = await asyncio.start_server(terminator, sock=sock, backlog=_BACKLOG)
        elif sock.family == socket.AF_UNIX:
            server = await self._loop.create_unix_server(self._protocol(looks_only), sock=sock, backlog=_BACKLOG)
        else:
            server = await self._loop.create_server(self._protocol(looks_only), sock=sock, backlog=_BACKLOG)
        self._listeners.append(server)

    async def close(self, deadline: float = 10.0) -> None:
        """Stop listening, give requests under way ``deadline`` seconds, end the rest (open streams among them)."""
        for listener in self._listeners:
            listener.close()
        for path, inode in self._socket_files:
            with suppress(OSError):
                # Only if it is still ours: a newer daemon may have replaced it.
                if path.stat().st_ino == inode:
                    path.unlink()
        servers = [*self._http.values(), self._metrics]
        for http in servers:
            http.pre_shutdown()
        if self._forwarded is not None:
            await self._forwarded.close()
        await asyncio.gather(*(http.shutdown(deadline) for http in servers))
        self._listeners.clear()
        self._socket_files.clear()

    def _protocol(self, looks_only: bool) -> Callable[[], Connection]:
        http = self._http[looks_only]

        def connection() -> Connection:
            return Connection(
                http,
                loop=self._loop,
                logger=_log,
                access_log=None,  # type: ignore[arg-type]
                max_line_size=_MAX_LINE,
                max_field_size=_MAX_LINE,
                auto_decompress=False,
            )

        return connection

    def _acceptor(self, looks_only: bool) -> Callable[[socket.socket], Awaitable[object]]:
        protocol = self._protocol(looks_only)
        return lambda sock: self._loop.connect_accepted_socket(protocol, sock)


def _request_factory(loop: asyncio.AbstractEventLoop) -> RequestFactory:
    def make(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)

    return make


def _clear_dead_socket(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "is there and is no socket", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(FileNotFoundError):
                path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another daemon is listening", str(path))


def _bind_unix(path: Path, gid: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect before the mode is right.
    before = os.umask(0o777)
    try:
        sock.bind(str(path))
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    if gid >= 0:
        path.chmod(0)
        os.chown(path, -1, gid)
    path.chmod(_SOCKET_MODE)
    sock.setblocking(False)
    return sock
