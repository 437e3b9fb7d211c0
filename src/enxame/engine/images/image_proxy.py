"""Streaming single blobs from a registry: a client of ``skopeo experimental-image-proxy``.

``skopeo copy`` would fetch whole images, rewrite their manifests, or fetch again what is here already. The proxy hands
out each blob through a pipe, on request. Protocol: JSON over a SEQPACKET socket, one answer to each request,
descriptors beside it. ``FinishPipe`` waits for the end of a blob, closes its pipe, and tells whether all of it came and
was what its digest says; other requests wait meanwhile, so a proxy serves one blob at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from enxame.engine.children import Child, child
from enxame.engine.images.reference import Reference
from enxame.engine.images.registry import Session, location
from enxame.engine.images.registry_errors import registry_error
from enxame.errors import EnxameError

__all__ = ["ImageProxy"]

#: Seconds for one request, which is at most a few round trips to the registry.
_CALL_DEADLINE: Final = 60.0
#: Seconds that a transfer may stand still.
_STALL_DEADLINE: Final = 60.0
_MESSAGE_LIMIT: Final = 32 * 1024
_PIECE: Final = 1 << 20
#: Seconds between two reports of a transfer's progress.
_REPORT_EVERY: Final = 0.2


class ImageProxy:
    """One image of a registry, opened. Fetches its blobs one after the other."""

    def __init__(self, process: Child, control: socket.socket, reference: Reference) -> None:
        self._process = process
        self._control = control
        self._reference = reference
        self._one_fetch = asyncio.Lock()
        # Its own threads: they wait as long as a download lasts, and the loop's few are everybody's.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="image-proxy")
        self._image: Any = None

    @classmethod
    @asynccontextmanager
    async def open(cls, reference: Reference, session: Session, source: str = "") -> AsyncIterator[ImageProxy]:
        """Open an image whose reference leads to a manifest (not to an index). ``source``: where it is, in skopeo's
        words, when it is not in its registry.

        Raises:
            EnxameError: in Docker's words.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = (*session.command, "experimental-image-proxy", *session.options)
        with ours, theirs:
            async with child(*words, stdin=theirs.fileno(), env=session.environment) as process:
                theirs.close()  # or nobody would hear of the proxy's end
                proxy = cls(process, ours, reference)
                try:
                    await proxy._call("Initialize")
                    proxy._image, _, _ = await proxy._call("OpenImage", source or location(reference))
                    yield proxy
                finally:
                    proxy._kill()
                    proxy._threads.shutdown(wait=False)

    async def manifest(self) -> bytes:
        """The manifest as the source tells it (some make it up when they are asked).

        Raises:
            EnxameError: it cannot be had.
        """
        async with self._one_fetch:
            _, pipe, pipe_id = await self._call("GetManifest", self._image)
            if pipe is None:
                raise EnxameError("skopeo gave no manifest")
            # The pipe ends only with FinishPipe, and that only when all has been read.
            read = asyncio.get_running_loop().run_in_executor(self._threads, _read_all, pipe)
            try:
                await self._call("FinishPipe", pipe_id)
            except BaseException:
                self._kill()
                await asyncio.wait({read})
                raise
            return await read

    async def fetch(self, digest: str, size: int, target: Path, report: Callable[[int], None]) -> None:
        """Write a blob to a new file. ``report`` is told the bytes so far, on the event loop.

        Raises:
            EnxameError: it did not come, or is not what its digest says.
        """
        async with self._one_fetch:
            await self._fetch(digest, size, target, report)

    async def _fetch(self, digest: str, size: int, target: Path, report: Callable[[int], None]) -> None:
        loop = asyncio.get_running_loop()
        _, pipe, pipe_id = await self._call("GetBlob", self._image, digest, size)
        if pipe is None:
            raise EnxameError(f"skopeo gave no data for {digest}")

        def tell(done: int) -> None:
            loop.call_soon_threadsafe(report, done)

        # The thread owns the pipe and ends with it: when the proxy dies, it reads an end of file.
        transfer = loop.run_in_executor(self._threads, _drain, pipe, target, tell)
        finish = asyncio.ensure_future(self._call("FinishPipe", pipe_id, deadline=None))
        both: set[asyncio.Future[Any]] = {transfer, finish}
        try:
            received = await asyncio.shield(transfer)
            await asyncio.shield(finish)
        except OSError as error:
            raise EnxameError(f"cannot keep {digest}: {(error.strerror or str(error)).lower()}") from error
        finally:
            if not (transfer.done() and finish.done()):
                self._kill()
                await asyncio.wait(both)
            for ended in both:
                ended.exception()  # looked at, so that nobody misses it
        if received != size:
            raise EnxameError(f"filesystem layer verification failed for digest {digest}: unexpected EOF")

    def _kill(self) -> None:
        """End the process; threads that wait for it wake up by that."""
        self._process.kill()

    async def _call(
        self, method: str, *arguments: Any, deadline: float | None = _CALL_DEADLINE
    ) -> tuple[Any, int | None, int]:
        self._control.settimeout(deadline)
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._roundtrip, method, arguments)
        try:
            return await asyncio.shield(call)
        finally:
            if not call.done():  # cancelled: the socket is closed soon, by then nobody may wait on it
                self._kill()
                await asyncio.wait({call})
                call.exception()

    def _roundtrip(self, method: str, arguments: tuple[Any, ...]) -> tuple[Any, int | None, int]:
        try:
            self._control.send(json.dumps({"method": method, "args": arguments}).encode())
            message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_LIMIT, 1)
        except OSError as error:
            raise EnxameError(f"skopeo: {method}: {error}") from error
        try:
            answer = json.loads(message)
        except ValueError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            raise EnxameError(f"skopeo ended during {method}") from error
        if not answer.get("success"):
            for descriptor in descriptors:
                os.close(descriptor)
            raise registry_error(str(answer.get("error", "")), self._reference)
        return answer.get("value"), descriptors[0] if descriptors else None, int(answer.get("pipeid", 0))


def _read_all(pipe: int) -> bytes:
    with os.fdopen(pipe, "rb") as file:
        return file.read()


def _drain(pipe: int, target: Path, tell: Callable[[int], None]) -> int:
    """Move all of the pipe into the file, inside the kernel. Returns the bytes."""
    done, reported = 0, time.monotonic()
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    try:
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while True:
                if not poll.poll(_STALL_DEADLINE * 1000):
                    raise EnxameError(f"the registry sent nothing for {_STALL_DEADLINE:.0f} s")
                moved = os.splice(pipe, file, _PIECE)
                if not moved:
                    return done
                done += moved
                if time.monotonic() - reported > _REPORT_EVERY:
                    reported = time.monotonic()
                    tell(done)
        finally:
            os.close(file)
    finally:
        os.close(pipe)
