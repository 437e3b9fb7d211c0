"""A client's hold on the standard streams of a container or of an exec."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

from enxame.engine.processes import PipeReader, Process, wait_writable
from enxame.model.stream import STDERR, STDOUT

#: conmon's own buffer: larger packets would be cut.
_PACKET = 8192
_QUEUED_FRAMES = 32


class Attachment(ABC):
    """``tty``: one stream, bytes as they are. Close it when the client goes; the process goes on."""

    tty: bool

    @abstractmethod
    def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """What the process writes, 1 stdout, 2 stderr; ends when the process does. To be iterated once."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Give the process input. Bytes that nobody will read any more are dropped."""

    @abstractmethod
    async def close_stdin(self) -> None:
        """Tell the process that no more input comes."""

    @abstractmethod
    async def close(self) -> None:
        """Let go. Idempotent."""


class ContainerAttachment(Attachment):
    """Through conmon's attach socket. It may be made before the container starts: :meth:`connect` comes then."""

    def __init__(
        self, *, tty: bool, stdin: bool, streams: frozenset[int], past: AsyncIterator[tuple[int, bytes]] | None
    ) -> None:
        self.tty = tty
        self._stdin = stdin
        self._streams = streams
        self._past = past
        self._socket: socket.socket | None = None
        self._connected: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._closed = False
        #: Called when the client lets go.
        self.released: Callable[[ContainerAttachment], None] = lambda _: None

    def connect(self, bundle: Path) -> None:
        """Join the monitor's socket. Raises OSError when there is no monitor."""
        if self._closed or self._socket is not None:
            return
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            # By way of the directory's descriptor: the whole path may be longer than a socket's name can be.
            made.connect(f"/proc/self/fd/{directory}/attach")
            made.setblocking(False)
        except OSError:
            made.close()
            raise
        finally:
            os.close(directory)
        self._socket = made
        if not self._connected.done():
            self._connected.set_result(True)

    def abandon(self) -> None:
        """The container will not start: the stream ends."""
        if not self._connected.done():
            self._connected.set_result(False)

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """See :class:`Attachment`."""
        if self._past is not None:
            async for frame in self._past:
                yield frame
        if not await asyncio.shield(self._connected):
            return
        loop = asyncio.get_running_loop()
        while self._socket is not None:
            try:
                packet = await loop.sock_recv(self._socket, 65536)
            except OSError:
                return
            if not packet:
                return
            stream = STDERR if packet[0] == 3 else STDOUT
            if stream in self._streams:
                yield stream, packet[1:]

    async def write(self, data: bytes) -> None:
        """See :class:`Attachment`."""
        if not self._stdin or not await asyncio.shield(self._connected):
            return
        for begin in range(0, len(data), _PACKET):
            packet = data[begin : begin + _PACKET]
            while self._socket is not None:
                try:
                    self._socket.send(packet, socket.MSG_NOSIGNAL)
                    break
                except BlockingIOError:
                    await wait_writable(self._socket.fileno())
                except OSError:  # the process has ended
                    return

    async def close_stdin(self) -> None:
        """See :class:`Attachment`."""
        if self._stdin and await asyncio.shield(self._connected) and self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """See :class:`Attachment`."""
        self._closed = True
        self.drop()
        self.released(self)

    def drop(self) -> None:
        """End the connection to the monitor; the client's stream ends. Idempotent."""
        self.abandon()
        if self._socket is not None:
            found, self._socket = self._socket, None
            with contextlib.suppress(OSError):
                # A reader that waits on it is woken by this; closing alone would leave it waiting.
                found.shutdown(socket.SHUT_RDWR)
            asyncio.get_running_loop().remove_reader(found.fileno())
            found.close()


class ProcessAttachment(Attachment):
    """Pipes (or a terminal) of a runtime process that runs an exec. ``epilogue`` is told after the end."""

    def __init__(
        self, process: Process, *, tty: bool, stdin: int, outputs: dict[int, PipeReader], keeper: int = -1
    ) -> None:
        self.tty = tty
        self._process = process
        self._stdin = stdin
        self._outputs = outputs
        self._keeper = keeper
        #: Last words of the engine itself: why the exec did not start.
        self.epilogue: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        #: Runs the emptying of the streams after the client has gone; without it they are closed at once.
        self.linger: Callable[[Coroutine[None, None, None]], object] | None = None
        self._lingering = False
        if stdin >= 0:
            os.set_blocking(stdin, False)

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """See :class:`Attachment`."""
        queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(_QUEUED_FRAMES)

        async def pump(stream: int, reader: PipeReader) -> None:
            while data := await reader.read():
                await queue.put((stream, data))

        async def finish() -> None:
            async with asyncio.TaskGroup() as group:
                pumps = [group.create_task(pump(stream, reader)) for stream, reader in self._outputs.items()]
                await self._process.wait()
                # What it wrote is in the pipes; a child that it left behind must not keep the client waiting.
                for reader in self._outputs.values():
                    reader.drain_and_end()
                await asyncio.wait(pumps) if pumps else None
            await queue.put((STDOUT, await self.epilogue))
            await queue.put((0, b""))

        work = asyncio.get_running_loop().create_task(finish())
        try:
            while True:
                stream, data = await queue.get()
                if not stream:
                    return
                if data:
                    yield stream, data
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        """See :class:`Attachment`."""
        view = memoryview(data)
        while view and self._stdin >= 0:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await wait_writable(self._stdin)
            except OSError:  # the process has closed its input
                return

    async def close_stdin(self) -> None:
        """See :class:`Attachment`."""
        if self._stdin >= 0 and not self.tty:
            asyncio.get_running_loop().remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    async def close(self) -> None:
        """See :class:`Attachment`."""
        await self.close_stdin()
        if self._process.ended or self.linger is None:
            self._release()
        elif not self._lingering:
            self._lingering = True
            self.linger(self._drain())

    async def _drain(self) -> None:
        """Take what the process writes until it ends: it shall notice nothing of its client's leaving.

        (And crun turns in circles at full speed when the terminal it copies from is hung up.)
        """

        async def discard(reader: PipeReader) -> None:
            while await reader.read():
                pass

        try:
            async with asyncio.TaskGroup() as group:
                for reader in self._outputs.values():
                    group.create_task(discard(reader))
                await self._process.wait()
                for reader in self._outputs.values():
                    reader.drain_and_end()
        finally:
            self._release()

    def _release(self) -> None:
        for reader in self._outputs.values():
            reader.close()
        if self._keeper >= 0:
            if self._stdin == self._keeper:
                self._stdin = -1
            os.close(self._keeper)
            self._keeper = -1
