"""Bodies that grow while they are read: frames of output, lines of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, TypeVar

from aiohttp import web

from enxame.api.call import Call
from enxame.api.connection import cancelled_on_disconnect
from enxame.api.errors import message_of
from enxame.api.responses import stream_response
from enxame.model.base import encode

RAW_STREAM: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM: Final = "application/vnd.docker.multiplexed-stream"
STDOUT: Final = 1
STDERR: Final = 2

#: Bytes that wait for a client before their source is held back.
_BATCH_BYTES: Final = 64 * 1024

T = TypeVar("T")


def frame(stream: int, data: bytes) -> bytes:
    """Docker's frame: stream number, three zeros, length (big endian), data."""
    return b"%c\0\0\0%b%b" % (stream, len(data).to_bytes(4, "big"), data)


def output_type(call: Call, *, tty: bool) -> str:
    """Content type of a container's output. Clients before 1.42 know one name for both kinds."""
    return MULTIPLEXED_STREAM if not tty and call.version >= (1, 42) else RAW_STREAM


async def stream_bytes(call: Call, content_type: str, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    """Send ``chunks`` as they come; headers at once. What comes in one go is sent in one go. A client that reads slowly
    slows the source; one that leaves ends it.
    """
    response = stream_response(content_type)
    batch = _Batch()
    with cancelled_on_disconnect(call.request):
        await response.prepare(call.request)
        source = asyncio.ensure_future(_collect(chunks, batch))
        try:
            while data := await batch.take():
                await response.write(data)
            await source
        finally:
            source.cancel()
            await asyncio.wait({source})
    await response.write_eof()
    return response


async def _collect(chunks: AsyncIterator[bytes], batch: _Batch) -> None:
    try:
        async with closing_on_exit(chunks) as source:
            async for chunk in source:
                await batch.put(chunk)
    finally:
        batch.end()


class _Batch:
    """Chunks between their source and a slower sink: taken all at once, bounded in bytes."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._ended = False
        self._some = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, chunk: bytes) -> None:
        """Add; waits only while the batch is full."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._some.set()
        if self._size >= _BATCH_BYTES:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._some.set()

    async def take(self) -> bytes:
        """Everything that is there, once there is something; empty at the end."""
        await self._some.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if not self._ended:
            self._some.clear()
        self._room.set()
        return data


async def stream_json(call: Call, items: AsyncIterator[Any]) -> web.StreamResponse:
    """Send objects as lines of JSON as they come; headers at once."""

    async def lines() -> AsyncIterator[bytes]:
        async with closing_on_exit(items) as source:
            async for item in source:
                yield encode(item) + b"\n"

    return await stream_bytes(call, "application/json", lines())


async def first_of(items: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same items, once the source has shown that it works: errors before its first item are raised here and can
    still become a status. (The source may be waiting for its first item for long: only for those that answer at once.)
    """
    try:
        first = await anext(items)
    except StopAsyncIteration:
        return nothing()

    async def chained() -> AsyncIterator[T]:
        async with closing_on_exit(items) as source:
            yield first
            async for item in source:
                yield item

    return chained()


async def nothing() -> AsyncIterator[Any]:
    """No items."""
    return
    yield


def closing_on_exit(source: AsyncIterator[T]) -> Any:
    """Async context that closes a generator in the end, whoever ends it; other iterators are left alone."""
    return aclosing(source) if hasattr(source, "aclose") else _Plain(source)


class _Plain:
    def __init__(self, source: Any) -> None:
        self._source = source

    async def __aenter__(self) -> Any:
        return self._source

    async def __aexit__(self, *_: object) -> None:
        return None


class ProgressStream:
    """Progress messages of a long call (pull, load) as lines of JSON.

    The source reports through :meth:`report`, which never blocks: what a slow client has not read yet is kept once a
    layer, the newest state alone, so that memory stays bounded by the number of layers.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._pending: dict[Any, Any] = {}
        self._serial = 0
        self._wake = asyncio.Event()

    def report(self, message: Any) -> None:
        """Take a message (a struct or dict of Docker's JSON progress form)."""
        layer = getattr(message, "id", "") or (message.get("id", "") if isinstance(message, dict) else "")
        self._serial += 1
        key = (layer, getattr(message, "status", None)) if layer else self._serial
        self._pending.pop(key, None)
        self._pending[key] = message
        self._wake.set()

    async def run(self, work: Callable[[], Any]) -> web.StreamResponse:
        """Do ``await work()`` and send what it reports meanwhile.

        An error before the first message is raised (it becomes a status); later ones become a line with
        ``errorDetail``, as Docker does.
        """
        task = asyncio.ensure_future(work())
        response: web.StreamResponse | None = None
        try:
            with cancelled_on_disconnect(self._call.request):
                while True:
                    wake = asyncio.ensure_future(self._wake.wait())
                    try:
                        await asyncio.wait({task, wake}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        wake.cancel()
                    self._wake.clear()
                    if response is None and (self._pending or (task.done() and task.exception() is None)):
                        response = stream_response("application/json")
                        await response.prepare(self._call.request)
                    if response is not None and self._pending:
                        pending, self._pending = self._pending, {}
                        await response.write(b"".join(encode(item) + b"\r\n" for item in pending.values()))
                    if task.done() and not self._pending:
                        break
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=10)
        error = task.exception()
        if response is None:
            await task
            raise AssertionError("unreachable: a task without error has a response")
        if isinstance(error, Exception):
            text = message_of(error, f"{self._call.request.method} {self._call.request.path}")
            code = getattr(error, "exit_code", 0)
            detail = {"code": code, "message": text} if code else {"message": text}
            await response.write(encode({"errorDetail": detail, "error": text}) + b"\r\n")
        await response.write_eof()
        return response
