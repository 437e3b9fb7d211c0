"""Calls and streams over one link. Both sides are alike: each may call what the other serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

import msgspec

from enxame import errors
from enxame.errors import EnxameError, PermissionDenied, Unavailable, Unimplemented
from enxame.model.base import Model
from enxame.transport import frames
from enxame.transport.frames import Frame, Kind, ProtocolError
from enxame.transport.methods import Method

log = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Model)
A = TypeVar("A", bound=Model)

#: Items of a stream that may be on the way; the source waits until the reader asked for more.
WINDOW: Final = 64
#: Longest wait for the answer of a plain call: seconds.
CALL_DEADLINE: Final = 10.0
#: Calls of one peer that are carried out at once. A manager passes on what its clients ask.
MAX_CALLS: Final = 256
MAX_CALLS_OF_MANAGERS: Final = 4096

_ERRORS: Final[Mapping[str, type[EnxameError]]] = {
    name: getattr(errors, name) for name in errors.__all__ if name not in {"NotModified", "rpc_error"}
}

Handler = Callable[["Peer", Any], Awaitable[Model]]
StreamHandler = Callable[["Peer", Any], AsyncIterator[Model]]


class Served:
    """What one side serves: methods with their handlers."""

    def __init__(self) -> None:
        self.methods: dict[str, tuple[Method[Any, Any], Handler | StreamHandler]] = {}

    def call(self, method: Method[Q, A], handler: Callable[[Peer, Q], Awaitable[A]]) -> None:
        """Serve a method that answers once."""
        self.methods[method.name] = (method, handler)

    def stream(self, method: Method[Q, A], handler: Callable[[Peer, Q], AsyncIterator[A]]) -> None:
        """Serve a method that answers with items."""
        self.methods[method.name] = (method, handler)


class Peer:
    """The other end of a link. ``node_id`` and ``role`` are what its certificate says, "" without one; ``address`` is
    the other side's IP, ``local_address`` ours. With a ``refusal`` every call of the other side is answered with it.

    :meth:`run` must be running for anything to happen; when it returns, everything under way has ended.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        served: Served,
        *,
        node_id: str = "",
        role: str = "",
        cluster_id: str = "",
        refusal: EnxameError | None = None,
    ) -> None:
        self.node_id, self.role, self.cluster_id = node_id, role, cluster_id
        self.address, self.local_address = _host(writer, "peername"), _host(writer, "sockname")
        self._refusal = refusal
        self._reader, self._writer, self._served = reader, writer, served
        self._next_call = 0
        self._waiting: dict[int, asyncio.Queue[Frame | None]] = {}
        self._working: dict[int, asyncio.Task[None]] = {}
        self._credit: dict[int, asyncio.Semaphore] = {}
        self._closed = False
        self._max_calls = MAX_CALLS_OF_MANAGERS if role == "manager" else MAX_CALLS

    # Life

    @property
    def closed(self) -> bool:
        """Whether the link has ended: what is called now is not even sent."""
        return self._closed

    async def run(self) -> None:
        """Take frames until the link ends. A link that breaks, or an other side that talks nonsense, ends it too."""
        try:
            while (frame := await frames.read(self._reader)) is not None:
                self._take(frame)
        except (ProtocolError, OSError) as error:
            log.debug("link with %s ended: %s", self.node_id or "somebody", error)
        finally:
            await self._end()

    def close(self) -> None:
        """Cut the link; :meth:`run` returns soon."""
        self._closed = True
        self._writer.transport.abort()

    async def _end(self) -> None:
        self._closed = True
        for queue in self._waiting.values():
            queue.put_nowait(None)
        working = list(self._working.values())
        for task in working:
            task.cancel()
        if working:
            await asyncio.wait(working)
        self._writer.transport.abort()

    # Calling

    async def call(self, method: Method[Q, A], request: Q, *, deadline: float = CALL_DEADLINE) -> A:
        """Ask and wait for the answer.

        Raises:
            EnxameError: what the other side answered.
            Unavailable: the link broke, or no answer came in time.
        """
        number, queue = self._begin(method, request)
        try:
            async with asyncio.timeout(deadline):
                await self._writer.drain()
                frame = await queue.get()
        except TimeoutError:
            self._send_quietly(Frame(Kind.CANCEL, number))
            raise Unavailable(f"{method.name}: no answer within {deadline:g} s") from None
        except OSError as error:
            raise Unavailable(f"{method.name}: the link broke: {error}") from error
        finally:
            del self._waiting[number]
        return _answer(method, frame)

    async def stream(self, method: Method[Q, A], request: Q) -> AsyncGenerator[A]:
        """The items of an answer, until the other side ends it. Leaving early tells it to stop.

        Raises:
            EnxameError: what the other side ended with.
            Unavailable: the link broke.
        """
        number, queue = self._begin(method, request)
        ended = False
        taken = 0
        try:
            while True:
                frame = await queue.get()
                if frame is not None and frame.kind is Kind.END:
                    ended = True
                    return
                if frame is None or frame.kind is Kind.ERROR:
                    ended = True
                item = _answer(method, frame)
                taken += 1
                if taken == WINDOW // 2:
                    self._send_quietly(Frame(Kind.CREDIT, number, str(taken)))
                    taken = 0
                yield item
        finally:
            del self._waiting[number]
            if not ended:
                self._send_quietly(Frame(Kind.CANCEL, number))

    def _begin(self, method: Method[Q, A], request: Q) -> tuple[int, asyncio.Queue[Frame | None]]:
        if self._closed:
            raise Unavailable(f"{method.name}: the link is closed")
        number, self._next_call = self._next_call, self._next_call + 1
        queue: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._waiting[number] = queue
        try:
            self._send(Frame(Kind.CALL, number, method.name, msgspec.Raw(msgspec.msgpack.encode(request))))
        except BaseException:
            del self._waiting[number]
            raise
        return number, queue

    # Being called

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.RESULT | Kind.ITEM | Kind.END | Kind.ERROR:
                queue = self._waiting.get(frame.call)
                if queue is not None:
                    if queue.qsize() > WINDOW:
                        raise ProtocolError("more items than were asked for")
                    queue.put_nowait(frame)
            case Kind.CALL:
                if frame.call in self._working or len(self._working) >= self._max_calls:
                    raise ProtocolError("too many calls at once")
                work = asyncio.get_running_loop().create_task(self._serve(frame), name=f"serve {frame.text}")
                self._working[frame.call] = work
                work.add_done_callback(lambda _done, number=frame.call: self._forget(number))  # type: ignore[misc]
            case Kind.CANCEL:
                if frame.call in self._working:
                    self._working[frame.call].cancel()
            case Kind.CREDIT:
                credit = self._credit.get(frame.call)
                if credit is not None and frame.text.isdigit():
                    for _ in range(min(int(frame.text), WINDOW)):
                        credit.release()

    def _forget(self, number: int) -> None:
        self._working.pop(number, None)
        self._credit.pop(number, None)

    async def _serve(self, frame: Frame) -> None:
        try:
            method, handler = self._lookup(frame.text)
            request = msgspec.msgpack.decode(frame.payload, type=method.request)
            if method.stream:
                await self._serve_stream(frame.call, handler(self, request))  # type: ignore[arg-type]
            else:
                answer = await handler(self, request)  # type: ignore[misc]
                await self._send_item(Kind.RESULT, frame.call, answer)
        except EnxameError as error:
            self._send_quietly(_error_frame(frame.call, type(error).__name__, error.message))
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            self._send_quietly(_error_frame(frame.call, "InvalidArgument", f"{frame.text}: {error}"))
        except (OSError, ProtocolError) as error:
            log.debug("answering %s: %s", frame.text, error)
        except Exception as error:
            log.exception("%s, called by %s, failed", frame.text, self.node_id or "somebody")
            self._send_quietly(_error_frame(frame.call, "EnxameError", f"internal error: {error}"))

    def _lookup(self, name: str) -> tuple[Method[Any, Any], Handler | StreamHandler]:
        if self._refusal is not None:
            raise self._refusal
        found = self._served.methods.get(name)
        if found is None:
            raise Unimplemented(f"{name} is not known here")
        if self.role not in found[0].roles:
            who = f"node {self.node_id} ({self.role})" if self.node_id else "a caller without a certificate"
            raise PermissionDenied(f"{name} is not for {who}")
        return found

    async def _serve_stream(self, number: int, items: AsyncIterator[Model]) -> None:
        credit = self._credit[number] = asyncio.Semaphore(WINDOW)
        async with aclosing(items) as answer:  # type: ignore[type-var]
            async for item in answer:
                await credit.acquire()
                await self._send_item(Kind.ITEM, number, item)
        self._send(Frame(Kind.END, number))

    async def _send_item(self, kind: Kind, number: int, item: Model) -> None:
        self._send(Frame(kind, number, "", msgspec.Raw(msgspec.msgpack.encode(item))))
        await self._writer.drain()

    def _send(self, frame: Frame) -> None:
        self._writer.write(frames.pack(frame))

    def _send_quietly(self, frame: Frame) -> None:
        if not self._closed:
            self._send(frame)


def _host(writer: asyncio.StreamWriter, which: str) -> str:
    name = writer.get_extra_info(which)
    return str(name[0]) if isinstance(name, tuple) else ""


def _error_frame(number: int, name: str, message: str) -> Frame:
    return Frame(Kind.ERROR, number, name, msgspec.Raw(msgspec.msgpack.encode(message)))


def _answer(method: Method[Q, A], frame: Frame | None) -> A:
    if frame is None:
        raise Unavailable(f"{method.name}: the link broke")
    try:
        if frame.kind is Kind.ERROR:
            message = msgspec.msgpack.decode(frame.payload, type=str)
            raise _ERRORS.get(frame.text, EnxameError)(message)
        return msgspec.msgpack.decode(frame.payload, type=method.answer)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EnxameError(f"{method.name}: an answer that cannot be read: {error}") from error
