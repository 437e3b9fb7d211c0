"""Runs the files worker: one process a job, on nobody's event loop, ended with whoever waits for it."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from enxame.engine.processes import PipeReader, Process, spawn, wait_writable
from enxame.errors import EnxameError, InvalidArgument, NotFound, PermissionDenied

__all__ = ["FilesWorker", "WorkerFailure", "files_worker"]

_MODULE: Final = "enxame.engine.files.worker"
#: Seconds until the first word of a worker that has all it needs.
_ANSWER_DEADLINE: Final = 60.0
_LONGEST_ANSWER: Final = 1 << 20
_CHUNK: Final = 1 << 18
_F_SETPIPE_SZ: Final = 1031


class WorkerFailure(Exception):
    """The job failed: ``number`` is the errno, 0 for an archive that is at fault."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.message, self.number = message, number

    def told(self, not_found: str, read_only: str) -> EnxameError:
        """As an error for the user; the two texts are those for what is missing and for what may not be written."""
        match self.number:
            case 0 | errno.ENOTDIR | errno.ELOOP | errno.EINVAL | errno.ENAMETOOLONG:
                return InvalidArgument(self.message)
            case errno.ENOENT:
                return NotFound(not_found)
            case errno.EROFS:
                return PermissionDenied(read_only)
            case errno.EACCES | errno.EPERM:
                return PermissionDenied(self.message)
            case _:
                return EnxameError(self.message)


class _Answer(msgspec.Struct):
    error: str = ""
    errno: int = 0
    stat: dict[str, Any] | None = None


class FilesWorker:
    """A worker at its job. Made by :func:`files_worker`."""

    def __init__(self, process: Process, stdin: int, output: PipeReader, errors: PipeReader) -> None:
        self._process, self._stdin, self._output, self._errors = process, stdin, output, errors
        self._ahead = b""

    async def answer(self, timeout: float | None = _ANSWER_DEADLINE) -> dict[str, Any]:
        """The worker's first line: what it found (``stat`` jobs and ``read``), or nothing.

        Raises:
            WorkerFailure: the job cannot be done.
            EnxameError: the worker died or did not answer.
        """
        try:
            async with asyncio.timeout(timeout):
                while b"\n" not in self._ahead:
                    data = await self._output.read()
                    if not data or len(self._ahead) > _LONGEST_ANSWER:
                        raise EnxameError(await self._last_words())
                    self._ahead += data
        except TimeoutError as error:
            raise EnxameError("the files worker does not answer") from error
        line, _, self._ahead = self._ahead.partition(b"\n")
        answer = msgspec.json.decode(line, type=_Answer)
        if answer.error:
            raise WorkerFailure(answer.error, answer.errno)
        return answer.stat or {}

    async def _last_words(self) -> str:
        await self._process.end()
        self._errors.drain_and_end()
        said = (await self._errors.read_all()).decode(errors="replace").strip().rsplit("\n", 1)[-1]
        return f"the files worker failed: {said or 'it was killed'}"

    async def output(self) -> AsyncIterator[bytes]:
        """What follows the answer. Raises EnxameError when it ends too early."""
        if self._ahead:
            yield self._ahead
        while data := await self._output.read():
            yield data
        if await self._process.wait() != 0:
            raise EnxameError(await self._last_words())

    async def feed(self, stream: AsyncIterator[bytes]) -> None:
        """Give it its standard input. A worker that has stopped reading says why in its answer."""
        try:
            async for chunk in stream:
                view = memoryview(chunk)
                while view:
                    try:
                        view = view[os.write(self._stdin, view) :]
                    except BlockingIOError:
                        await wait_writable(self._stdin)
        except BrokenPipeError:
            pass
        finally:
            os.close(self._stdin)
            self._stdin = -1

    async def close(self) -> None:
        """End it. Idempotent."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        await asyncio.shield(self._process.end())
        self._output.close()
        self._errors.close()


@asynccontextmanager
async def files_worker(job: str, root: dict[str, Any], **words: Any) -> AsyncIterator[FilesWorker]:
    """Start a job; the worker is ended with the block. Raises EnxameError when it cannot be started."""
    theirs: list[int] = []
    try:
        stdin, ours = os.pipe2(os.O_CLOEXEC)
        theirs.append(stdin)
        readers = []
        for _ in range(2):
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            theirs.append(write_end)
            readers.append(PipeReader(read_end, _CHUNK))
            _widen(read_end)
        os.set_blocking(ours, False)
        text = msgspec.json.encode({"job": job, "root": root, "words": words}).decode()
        process = await spawn(
            [sys.executable, "-P", "-m", _MODULE, text],
            stdin=theirs[0],
            stdout=theirs[1],
            stderr=theirs[2],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONUTF8": "1"},
        )
    except OSError as error:
        raise EnxameError(f"cannot start the files worker: {error}") from error
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    worker = FilesWorker(process, ours, *readers)
    try:
        yield worker
    finally:
        await worker.close()


def _widen(pipe: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _CHUNK)
    except OSError:  # the user's share of pipe memory is used up: slower, not wrong
        return
