"""Child processes, awaited by pidfd, and what they say through pipes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence

from enxame.engine.spawning import Program, start_program

_DEFAULT_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
#: More than any of our tools says; what is beyond is dropped.
_CAPTURE_LIMIT = 1 << 20


def watch_end(pid: int, ended: asyncio.Future[None]) -> int:
    """Resolve ``ended`` when process ``pid`` ends. Returns the pidfd, which the caller closes with :func:`unwatch`.

    Raises:
        ProcessLookupError: there is no such process.
    """
    pidfd = os.pidfd_open(pid)

    def readable() -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        if not ended.done():
            ended.set_result(None)

    asyncio.get_running_loop().add_reader(pidfd, readable)
    return pidfd


def unwatch(pidfd: int) -> None:
    """Give back a pidfd of :func:`watch_end`."""
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)


class Process:
    """A child of ours. ``wait`` returns its exit code, 128 + n when signal n ended it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pidfd = watch_end(pid, self._ended)
        self._code: int | None = None

    @property
    def ended(self) -> bool:
        """It has been reaped."""
        return self._code is not None

    async def wait(self) -> int:
        """The exit code; may be awaited by several."""
        await asyncio.shield(self._ended)
        return self._reap()

    def _reap(self) -> int:
        if self._code is None:
            _, status = os.waitpid(self.pid, 0)
            unwatch(self._pidfd)
            code = os.waitstatus_to_exitcode(status)
            self._code = code if code >= 0 else 128 - code
        return self._code

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self._code is None:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                return

    async def end(self) -> int:
        """Kill it and reap it."""
        self.signal(signal.SIGKILL)
        return await self.wait()


async def spawn(
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    inherit: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    new_session: bool = False,
) -> Process:
    """Start ``argv[0]``. Streams that are None are ``/dev/null``.

    ``inherit`` are further descriptors that the child gets under the same numbers.

    Raises:
        OSError: it could not be started.
    """
    variables = _DEFAULT_ENV if env is None else env
    return Process(await start_program(Program(argv, (stdin, stdout, stderr), inherit, variables, new_session)))


class PipeReader:
    """The read end of a pipe as chunks; closes it at the end or with :meth:`close`."""

    def __init__(self, descriptor: int, limit: int = 65536) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._limit = limit
        self._draining = False
        self._waiting: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        while self._descriptor >= 0:
            try:
                data = os.read(self._descriptor, self._limit)
            except BlockingIOError:
                if self._draining:
                    return b""
                await self._wait()
                continue
            except OSError:  # EIO: the other side of a terminal has gone
                data = b""
            if not data:
                self.close()
            return data
        return b""

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        descriptor = self._descriptor
        loop.add_reader(descriptor, _resolve, self._waiting)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if self._descriptor >= 0:
                loop.remove_reader(descriptor)

    async def read_all(self, limit: int = _CAPTURE_LIMIT) -> bytes:
        """Everything until the end; of more than ``limit`` bytes only the first are kept."""
        kept = bytearray()
        while data := await self.read():
            kept += data[: limit - len(kept)]
        return bytes(kept)

    def drain_and_end(self) -> None:
        """From now on an empty pipe is the end, even when somebody still holds its other side."""
        self._draining = True
        if self._waiting is not None:
            _resolve(self._waiting)

    def close(self) -> None:
        """Stop reading. Idempotent."""
        if self._waiting is not None:
            _resolve(self._waiting)
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def wait_writable(descriptor: int) -> None:
    """Return when a write would not block."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


async def run(argv: Sequence[str], *, timeout: float) -> tuple[int, str]:
    """Run a tool to its end; returns its exit code and what it said (both streams).

    Raises:
        TimeoutError: it took longer than ``timeout`` seconds and was killed.
        OSError: it could not be started.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    reader = PipeReader(read_end)
    try:
        try:
            process = await spawn(argv, stdout=write_end, stderr=write_end)
        finally:
            os.close(write_end)
        try:
            async with asyncio.timeout(timeout):
                output = await reader.read_all()
                code = await process.wait()
        except BaseException:
            await asyncio.shield(process.end())
            raise
        return code, output.decode(errors="replace")
    finally:
        reader.close()
