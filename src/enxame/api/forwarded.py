"""The leader's side of requests that other managers pass on: the same handlers, without a client's connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion11
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from enxame.api.call import Call
from enxame.api.dispatch import hide_secrets, locate
from enxame.api.errors import MAX_BODY, error_response, message_response
from enxame.api.forwarding import MISDIRECTED, Forwarder
from enxame.errors import EnxameError
from enxame.store.backend import CommitInDoubt, NoLeader, NotLeading
from enxame.transport.methods import API_FORWARD, ForwardPart, ForwardRequest
from enxame.transport.peer import Peer, Served

if TYPE_CHECKING:
    from enxame.api.context import ApiContext
    from enxame.api.routing import Operation, Routes

#: Longest piece of an answer: bytes; and pieces that wait for the other manager before their source is held back.
PIECE: Final = 256 * 1024
_WAITING: Final = 4
#: Headers of an answer that are about the connection, not about the answer.
_OF_THE_CONNECTION: Final = frozenset({"connection", "transfer-encoding", "keep-alive"})

_NOT_HERE: Final = ForwardPart(status=MISDIRECTED, whole=True)


class ForwardedApi:
    """Serves ``api.forward``. Refuses everything until :meth:`begin`, and from :meth:`close` on."""

    def __init__(self) -> None:
        self._api: ApiContext | None = None
        self._routes: Routes | None = None
        self._forwarder: Forwarder | None = None
        self._working: set[asyncio.Task[None]] = set()

    def serve(self, served: Served) -> None:
        """Add the method."""
        served.stream(API_FORWARD, self.answer)

    def begin(self, api: ApiContext, routes: Routes, forwarder: Forwarder) -> None:
        """Answer from now on."""
        self._api, self._routes, self._forwarder = api, routes, forwarder

    async def close(self) -> None:
        """Answer no more; what is under way is cut off."""
        self._api = None
        working = list(self._working)
        for task in working:
            task.cancel()
        if working:
            await asyncio.wait(working)

    async def answer(self, peer: Peer, request: ForwardRequest) -> AsyncIterator[ForwardPart]:
        """The answer, in pieces; one that says so when this manager does not lead."""
        api, routes, forwarder = self._api, self._routes, self._forwarder
        if api is None or routes is None or forwarder is None or not _leads(api):
            yield _NOT_HERE
            return
        target = locate(routes, request.method, request.target)
        if isinstance(target, web.Response):
            yield _whole(target)
            return
        found = target.found
        if found is None or not (found[0].leader or found[0].swarm_part):
            yield _whole(message_response(404, "page not found"))
            return
        parts: asyncio.Queue[ForwardPart | None] = asyncio.Queue(_WAITING)
        writer = _PartWriter(parts)
        name = peer.node_id if found[1] == "self" and target.path.startswith("/nodes/") else found[1]
        call = Call(
            api,
            forwarder,
            _request(request, writer),
            name,
            target=request.target,
            raw_query=target.raw_query,
            version=target.version,
        )
        call.object_id, call.looks_only, call.asked_by = request.object_id, request.looks_only, peer.node_id
        work = asyncio.get_running_loop().create_task(
            _work(call, found[0], writer, parts), name=f"forwarded {request.method} {target.path}"
        )
        self._working.add(work)
        work.add_done_callback(self._done)
        try:
            while (part := await parts.get()) is not None:
                yield part
            await work
        finally:
            # What changes something goes on to its end, as for clients that leave.
            if request.method in ("GET", "HEAD"):
                work.cancel()

    def _done(self, work: asyncio.Task[None]) -> None:
        self._working.discard(work)
        if not work.cancelled():
            work.exception()  # who reads the answer is told


def _leads(api: ApiContext) -> bool:
    try:
        return api.membership.leadership.is_leader
    except EnxameError:
        return False


async def _work(
    call: Call, operation: Operation, writer: _PartWriter, parts: asyncio.Queue[ForwardPart | None]
) -> None:
    """Carry a request out; ``None`` ends the pieces. Raises what strikes when a part of the answer is out already."""
    try:
        try:
            response = await operation.handler(call)
        except CommitInDoubt as error:
            await parts.put(ForwardPart(status=error.status, in_doubt=True, whole=True))
            return
        except (NotLeading, NoLeader):
            await parts.put(_NOT_HERE)
            return
        except Exception as error:
            if writer.began:
                raise
            response = error_response(error, call.request.method, call.request.path)
        if not writer.began:
            if call.looks_only:
                hide_secrets(response)
            await _send(response, parts)
    except asyncio.CancelledError:
        if not parts.full():
            parts.put_nowait(None)
        raise
    finally:
        if not asyncio.current_task().cancelling():  # type: ignore[union-attr]
            await parts.put(None)


async def _send(response: web.StreamResponse, parts: asyncio.Queue[ForwardPart | None]) -> None:
    head = _whole(response)
    if len(head.data) <= PIECE:
        await parts.put(head)
        return
    size = {"Content-Length": str(len(head.data))}
    await parts.put(ForwardPart(status=head.status, headers={**head.headers, **size}))
    for start in range(0, len(head.data), PIECE):
        await parts.put(ForwardPart(data=head.data[start : start + PIECE]))


def _whole(response: web.StreamResponse) -> ForwardPart:
    body = response.body if isinstance(response, web.Response) else None
    data = bytes(body) if isinstance(body, (bytes, bytearray)) else b""
    return ForwardPart(status=response.status, headers=_headers(response.headers), data=data, whole=True)


def _headers(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION}


class _PartWriter(AbstractStreamWriter):
    """Takes what a handler sends in pieces."""

    def __init__(self, parts: asyncio.Queue[ForwardPart | None]) -> None:
        self._parts = parts
        self.began = False

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """The first piece."""
        self.began = True
        await self._parts.put(ForwardPart(status=int(status_line.split()[1]), headers=_headers(headers)))

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """One more, or several."""
        for start in range(0, len(chunk), PIECE):
            await self._parts.put(ForwardPart(data=bytes(chunk[start : start + PIECE])))

    async def write_eof(self, chunk: bytes = b"") -> None:
        """The last."""
        if chunk:
            await self.write(chunk)

    async def drain(self) -> None:
        """Writing waits by itself."""

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Nothing is compressed between managers."""

    def enable_chunking(self) -> None:
        """Pieces have a length by themselves."""


class _NoConnection(BaseProtocol):
    """In place of a client's connection, which is another manager's."""

    ssl_context = None
    peername = None
    sockname = None


def _request(request: ForwardRequest, writer: AbstractStreamWriter) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    nobody = _NoConnection(loop)
    body = StreamReader(nobody, limit=MAX_BODY, loop=loop)
    body.feed_data(request.body)
    body.feed_eof()
    message = RawRequestMessage(
        request.method,
        request.target,
        HttpVersion11,
        CIMultiDictProxy(CIMultiDict(request.headers)),
        (),
        False,
        None,
        False,
        False,
        URL(request.target, encoded=True),
    )
    return web.BaseRequest(
        message,
        body,
        cast("web.RequestHandler", nobody),
        writer,
        cast("asyncio.Task[None]", asyncio.current_task()),
        loop,
        client_max_size=MAX_BODY,
    )
