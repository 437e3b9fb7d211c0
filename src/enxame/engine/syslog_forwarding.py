"""``--log-driver syslog``: what a container writes goes to a syslog server. The monitor writes a bounded log as ever.
It is read from there, so that nothing is lost while the daemon or the server is away, and ``logs`` works.

How far a container's lines have gone is kept beside its log: the last one's time, and how many of that time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from contextlib import aclosing
from pathlib import Path
from typing import Final

from enxame.engine.container import Container
from enxame.engine.logs import read_log
from enxame.engine.surroundings import Surroundings
from enxame.engine.syslog_messages import SyslogTarget, message, parse_target, tag_of
from enxame.errors import EnxameError
from enxame.model.stream import LogOptions, LogRecord

__all__ = ["SyslogForwarders"]

_log = logging.getLogger(__name__)
_CONNECT_DEADLINE: Final = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: A container that is being removed waits so long, in seconds, for its last lines to be sent.
_LAST_WORDS: Final = 2.0
#: Lines between two notes of how far we are.
_NOTE_EVERY: Final = 256


class SyslogForwarders:
    """One task for each container with the driver, while it runs and until its last line is sent."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, container: Container) -> None:
        """Send what is in the log and, while it runs, what comes. Nothing happens for other drivers."""
        if container.definition.log_driver != "syslog":
            return
        known = self._tasks.get(container.id)
        if known is not None and not known.done():
            known.cancel()
        self._tasks[container.id] = self._around.background.start(
            self._forward(container), f"syslog of {container.id[:12]}"
        )

    async def finish(self, container: Container) -> None:
        """Before the log goes: wait a little for its last lines to be sent."""
        task = self._tasks.pop(container.id, None)
        if task is not None:
            await asyncio.wait({task}, timeout=_LAST_WORDS)
            task.cancel()

    async def _forward(self, container: Container) -> None:
        target = parse_target(container.definition.host.log_config.config)
        progress = _Progress(self._around.records.directory(container.id) / "syslog.sent")
        pause, complained = _FIRST_PAUSE, False
        try:
            while True:
                try:
                    async with asyncio.timeout(_CONNECT_DEADLINE):
                        sender = await _Sender.open(target)
                except (OSError, TimeoutError) as error:
                    if not complained:
                        _log.warning("the syslog server of container %s cannot be reached: %s", container.id, error)
                        complained = True
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                try:
                    with contextlib.closing(sender):
                        await self._send_all(container, target, sender, progress)
                    return
                except OSError as error:
                    _log.warning("the connection of container %s to syslog is lost: %s", container.id, error)
                    pause, complained = _FIRST_PAUSE, False
                    await asyncio.sleep(pause)
        except EnxameError as error:
            _log.error("the lines of container %s do not go to syslog: %s", container.id, error)
        finally:
            progress.write()

    async def _send_all(self, container: Container, target: SyslogTarget, sender: _Sender, progress: _Progress) -> None:
        tag, hostname, pid = tag_of(container.definition), os.uname().nodename, os.getpid()
        records = read_log(
            self._around.log_path(container),
            LogOptions(follow=True),
            running=lambda: container.running or container.starting,
            ended=container.ended,
        )
        unsent = progress.resume()
        async with aclosing(records):
            async for record in records:
                if unsent(record):
                    await sender.send(message(target, record, tag=tag, hostname=hostname, pid=pid))
                    progress.sent(record)


class _Progress:
    """How far the lines of a log have gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp, self._same, self._noted = "", 0, 0
        with contextlib.suppress(OSError, ValueError):
            stamp, same = path.read_text().split()
            self._stamp, self._same = stamp, int(same)

    def resume(self) -> _Unsent:
        """Tells, of records in order from the log's beginning, which are still to be sent."""
        return _Unsent(self._stamp, self._same)

    def sent(self, record: LogRecord) -> None:
        """One more line has gone."""
        self._same = self._same + 1 if record.completed == self._stamp else 1
        self._stamp = record.completed
        self._noted += 1
        if self._noted >= _NOTE_EVERY:
            self.write()

    def write(self) -> None:
        """Note it: a few bytes within a page."""
        self._noted = 0
        if self._stamp:
            with contextlib.suppress(OSError):  # the container is gone
                self._path.write_text(f"{self._stamp} {self._same}")


class _Unsent:
    def __init__(self, stamp: str, same: int) -> None:
        self._stamp, self._left = stamp, same

    def __call__(self, record: LogRecord) -> bool:
        if record.completed != self._stamp:
            return record.completed > self._stamp
        self._left -= 1
        return self._left < 0


class _Sender:
    """A connection to a server."""

    def __init__(self, sock: socket.socket | None, writer: asyncio.StreamWriter | None) -> None:
        self._sock, self._writer = sock, writer

    @classmethod
    async def open(cls, target: SyslogTarget) -> _Sender:
        """Raises OSError."""
        if target.protocol in {"tcp", "tcp+tls"}:
            context = await asyncio.to_thread(_tls, target) if target.protocol == "tcp+tls" else None
            _, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
            return cls(None, writer)
        if target.protocol == "unix":
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(target.host)
                return cls(None, writer)
        loop = asyncio.get_running_loop()
        if target.protocol == "udp":
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
            family, kind, proto, _, address = found[0]
        else:
            family, kind, proto, address = socket.AF_UNIX, socket.SOCK_DGRAM, 0, target.host  # type: ignore[assignment]
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, proto)
        try:
            await loop.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return cls(sock, None)

    async def send(self, data: bytes) -> None:
        """Raises OSError when the server has gone."""
        if self._writer is not None:
            self._writer.write(data)
            await self._writer.drain()
        elif self._sock is not None:
            try:
                await asyncio.get_running_loop().sock_sendall(self._sock, data)
            except OSError as error:
                # A datagram is lost like any other; a server's socket that is gone is another matter.
                if self._sock.family == socket.AF_UNIX:
                    raise
                _log.debug("a line was not taken: %s", error)

    def close(self) -> None:
        """Let go."""
        if self._writer is not None:
            self._writer.close()
        if self._sock is not None:
            self._sock.close()


def _tls(target: SyslogTarget) -> ssl.SSLContext:
    authority, certificate, key = target.certificates
    context = ssl.create_default_context(cafile=authority or None)
    if not target.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context
