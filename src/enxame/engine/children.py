"""Tools that work beside the daemon, with pipes to their streams. They end with the block that uses them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from enxame.engine.processes import Process, spawn, wait_writable
from enxame.errors import EnxameError

__all__ = ["PIPE", "STDOUT", "Child", "child"]

#: For a stream: a pipe to it.
PIPE: Final = -1
#: For standard error: where standard output goes.
STDOUT: Final = -2
_LINE_LIMIT: Final = 1 << 16


class Child:
    """A tool at work. ``stdout`` and ``stderr`` are there where they are pipes."""

    def __init__(self, process: Process, stdin: int) -> None:
        self._process = process
        self._stdin = stdin
        self._stdout: asyncio.StreamReader | None = None
        self._stderr: asyncio.StreamReader | None = None
        self.returncode: int | None = None
        self._transports: list[asyncio.ReadTransport] = []

    @property
    def stdout(self) -> asyncio.StreamReader:
        """What it writes; only with a pipe."""
        assert self._stdout is not None
        return self._stdout

    @property
    def stderr(self) -> asyncio.StreamReader:
        """What it complains of; only with a pipe."""
        assert self._stderr is not None
        return self._stderr

    async def read_from(self, stdout: int, stderr: int, limit: int) -> None:
        """Take over the pipes' ends (-1: there is none)."""
        if stdout >= 0:
            self._stdout = await self._reader(stdout, limit)
        if stderr >= 0:
            self._stderr = await self._reader(stderr, limit)

    async def _reader(self, descriptor: int, limit: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=limit)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        self._transports.append(transport)
        return reader

    async def write(self, data: bytes) -> None:
        """Give it all of ``data`` on its standard input; nothing happens when it reads no more."""
        view = memoryview(data)
        try:
            while view and self._stdin >= 0:
                try:
                    view = view[os.write(self._stdin, view) :]
                except BlockingIOError:
                    await wait_writable(self._stdin)
        except BrokenPipeError:
            self.close_stdin()

    def close_stdin(self) -> None:
        """Its standard input ends. Idempotent."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    async def communicate(self, data: bytes = b"") -> tuple[bytes, bytes]:
        """Give it ``data``, read all that it says (from pipes) and wait for its end."""

        async def all_of(reader: asyncio.StreamReader | None) -> bytes:
            return await reader.read() if reader is not None else b""

        async def feed() -> None:
            await self.write(data)
            self.close_stdin()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            out, err = group.create_task(all_of(self._stdout)), group.create_task(all_of(self._stderr))
        await self.wait()
        return out.result(), err.result()

    def kill(self) -> None:
        """Nothing happens when it has ended."""
        self._process.signal(9)

    async def wait(self) -> int:
        """The exit code; 128 + n when signal n ended it."""
        self.returncode = await self._process.wait()
        return self.returncode

    async def close(self) -> None:
        """End it and the pipes."""
        self.close_stdin()
        for transport in self._transports:
            transport.close()
        if self.returncode is None:
            self.returncode = await self._process.end()


@asynccontextmanager
async def child(
    *argv: str,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    inherit: Sequence[int] = (),
    limit: int = _LINE_LIMIT,
) -> AsyncIterator[Child]:
    """Start a tool; a stream is ``PIPE``, a descriptor, or None for ``/dev/null``; standard error may be
    ``STDOUT``. It is killed with the block.
    ``limit``: the longest line, in bytes, for those who read lines.

    Raises:
        FileNotFoundError: it is not installed.
        EnxameError: it could not be started.
    """
    ours = [-1, -1, -1]
    theirs: list[int] = []
    streams: list[int | None] = [stdin, stdout, stderr]
    try:
        for number, wanted in enumerate(streams):
            if wanted == PIPE:
                read_end, write_end = os.pipe2(os.O_CLOEXEC)
                ours[number], streams[number] = (read_end, write_end) if number else (write_end, read_end)
                theirs.append(read_end + write_end - ours[number])
        if stderr == STDOUT:
            streams[2] = streams[1]
        process = await spawn(argv, stdin=streams[0], stdout=streams[1], stderr=streams[2], inherit=inherit, env=env)
    except BaseException as error:
        for descriptor in ours:
            with suppress(OSError):
                os.close(descriptor)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise EnxameError(f"cannot start {argv[0]}: {(error.strerror or str(error)).lower()}") from error
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    if ours[0] >= 0:
        os.set_blocking(ours[0], False)
    tool = Child(process, ours[0])
    try:
        await tool.read_from(ours[1], ours[2], limit)
        yield tool
    finally:
        await asyncio.shield(tool.close())
