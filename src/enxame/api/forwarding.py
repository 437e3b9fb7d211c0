"""Requests about the swarm, whichever manager they reach: carried out here by the leader, else passed on to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from aiohttp import web

from enxame import errors
from enxame.api.connection import cancelled_on_disconnect
from enxame.api.repeating import IN_DOUBT, NOT_DONE, OUT_OF_SEQUENCE, Repeat, how_to_repeat
from enxame.api.responses import empty_response
from enxame.errors import EnxameError, NotFound, Unavailable
from enxame.manager.leadership import LeadsItself
from enxame.security.ids import new_id
from enxame.store.backend import CommitInDoubt, NoLeader, NotLeading
from enxame.transport.methods import API_FORWARD, ForwardPart, ForwardRequest

if TYPE_CHECKING:
    from enxame.api.call import Call
    from enxame.api.routing import Operation, Routes
    from enxame.manager.leadership import LeaderLocator
    from enxame.transport.peer import Peer

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Longest wait for a leader, and for another one when the first was lost: seconds.
PATIENCE: Final = 5.0
#: Longest wait for the beginning of the leader's answer (moby's swarmRequestTimeout), and for a look at the swarm's
#: part of something that this machine can tell without it: seconds.
ANSWER_DEADLINE: Final = 20.0
GLANCE_DEADLINE: Final = 2.0
#: Requests that are passed on at once; the next ones wait.
MAX_AT_ONCE: Final = 1024
#: Status of an answer that says: this manager does not lead (HTTP's "misdirected request").
MISDIRECTED: Final = 421

#: Between tries, and between looks at whether the manager that was asked still leads: seconds.
_PAUSE: Final = 0.02
_LOOK: Final = 0.2
#: The leader's answer travels on with these.
_HEADERS: Final = ("Content-Type", "X-Registry-Auth")


class _Missed(Exception):
    """Nothing was done; another manager may do it."""


class _InDoubt(Exception):
    """It may have been done."""


class Forwarder:
    """One per API."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)

    async def answer(self, call: Call, operation: Operation) -> web.StreamResponse:
        """Answer a request that is the leader's.

        Raises:
            NoLeader: there is none, and none came within the patience.
            EnxameError: as the handler raises; or the leader was lost and nobody knows whether it was done.
        """
        try:
            leadership = call.api.membership.leadership
        except EnxameError:
            # No manager. The handler says so, in its own order: a malformed request is told first.
            return await operation.handler(call)
        how = how_to_repeat(operation)
        if how is Repeat.BY_ID and not call.object_id:
            call.object_id = new_id()
        loop = asyncio.get_running_loop()
        until, doubt = loop.time() + PATIENCE, False
        while True:
            try:
                answer = await self._attempt(call, operation, leadership, until)
                if doubt and how is Repeat.BY_VERSION and _is_out_of_sequence(answer):
                    raise EnxameError(IN_DOUBT)
                return answer
            except _Missed:
                pass
            except _InDoubt:
                log.warning("%s %s: the leader was lost meanwhile", operation.method, operation.path)
                if how is Repeat.BY_LOOKING:
                    return await self._look(call, operation)
                if not doubt:
                    until, doubt = loop.time() + PATIENCE, True
            except EnxameError as error:
                if doubt and (isinstance(error, NoLeader) or OUT_OF_SEQUENCE in error.message):
                    raise EnxameError(IN_DOUBT) from error
                raise
            if loop.time() >= until:
                raise EnxameError(IN_DOUBT) if doubt else NoLeader()
            await asyncio.sleep(_PAUSE)

    async def ask(self, call: Call, target: str, as_type: type[T], *, method: str = "GET") -> T | None:
        """The leader's answer, for a request that is only partly about the swarm. None when this manager leads itself,
        or when the leader is not in reach: its own copy of the state has to do then.

        Raises:
            EnxameError: what the leader answered, or why this node is no manager.
        """
        leadership = call.api.membership.leadership
        leader = leadership.leader
        if leadership.is_leader or leader is None or leader.node_id == leadership.node_id:
            return None
        request = ForwardRequest(method=method, target=f"/v{call.version[0]}.{call.version[1]}{target}")
        try:
            async with asyncio.timeout(GLANCE_DEADLINE):
                peer = await leadership.link()
                async with aclosing(peer.stream(API_FORWARD, request)) as parts:
                    head = await _first(parts)
                    body = head.data + b"".join([part.data async for part in parts])
        except (_Missed, _InDoubt, TimeoutError, Unavailable) as error:
            log.warning("the leader could not be asked about %s: %s", target, error or type(error).__name__)
            return None
        if head.status >= 400:
            raise _error_of(head.status, body)
        return msgspec.json.decode(body, type=as_type)

    async def _attempt(
        self, call: Call, operation: Operation, leadership: LeaderLocator, until: float
    ) -> web.StreamResponse:
        """Raises _Missed, _InDoubt, NoLeader, and what the handler raises."""
        if leadership.is_leader:
            try:
                return await operation.handler(call)
            except CommitInDoubt as error:
                raise _InDoubt from error
            except (NotLeading, NoLeader) as error:
                raise _Missed from error
        try:
            async with asyncio.timeout_at(until):
                peer = await leadership.link()
        except NoLeader:
            raise
        except (LeadsItself, Unavailable, TimeoutError) as error:
            raise _Missed from error
        async with self._at_once:
            return await _pass_on(call, operation, peer, leadership)

    async def _look(self, call: Call, operation: Operation) -> web.StreamResponse:
        """Whether what a request was to remove is gone, although nobody answered."""
        found = self._routes.find("GET", operation.path)
        assert found is not None, f"{operation.path} can be removed but not looked at"
        try:
            answer = await self.answer(call, found[0])
        except NoLeader as error:
            raise EnxameError(IN_DOUBT) from error
        except NotFound:
            return empty_response(operation.status)
        if answer.status == NotFound.status:
            return empty_response(operation.status)
        raise Unavailable(NOT_DONE)


async def _pass_on(call: Call, operation: Operation, peer: Peer, leadership: LeaderLocator) -> web.StreamResponse:
    headers = call.request.headers
    changes = operation.method not in ("GET", "HEAD")
    request = ForwardRequest(
        method=operation.method,
        target=call.target,
        headers={name: headers[name] for name in _HEADERS if name in headers},
        body=await call.request.read() if changes else b"",
        object_id=call.object_id,
        looks_only=call.looks_only,
    )
    if peer.closed:
        raise _Missed
    async with aclosing(peer.stream(API_FORWARD, request)) as parts:
        try:
            async with _while_it_leads(peer, leadership, ANSWER_DEADLINE):
                head = await _first(parts)
        except (TimeoutError, Unavailable) as error:
            raise (_InDoubt if changes else _Missed) from error
        if head.whole:
            return web.Response(body=head.data, status=head.status, headers=head.headers)
        response = web.StreamResponse(status=head.status, headers=head.headers)
        if "Content-Length" not in head.headers:
            response.enable_chunked_encoding()
        with cancelled_on_disconnect(call.request):
            async with _while_it_leads(peer, leadership, None):
                await response.prepare(call.request)
                await response.write(head.data)
                async for part in parts:
                    await response.write(part.data)
        await response.write_eof()
        return response


async def _first(parts: AsyncGenerator[ForwardPart]) -> ForwardPart:
    """The beginning of an answer. Raises _Missed, _InDoubt, Unavailable."""
    try:
        head = await anext(parts)
    except StopAsyncIteration:
        raise Unavailable("the leader answered nothing") from None
    if head.status == MISDIRECTED:
        raise _Missed
    if head.in_doubt:
        raise _InDoubt
    return head


@asynccontextmanager
async def _while_it_leads(peer: Peer, leadership: LeaderLocator, deadline: float | None) -> AsyncIterator[None]:
    """Ends the block with TimeoutError after ``deadline`` seconds, or soon after another manager came to lead: who was
    asked may be cut off, and would be waited for in vain.
    """
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(deadline)
    looking: asyncio.TimerHandle

    def look() -> None:
        nonlocal looking
        leader = leadership.leader
        if leader is not None and leader.node_id != peer.node_id:
            limit.reschedule(loop.time())
        else:
            looking = loop.call_later(_LOOK, look)

    looking = loop.call_later(_LOOK, look)
    try:
        async with limit:
            yield
    finally:
        looking.cancel()


def _is_out_of_sequence(answer: web.StreamResponse) -> bool:
    body = answer.body if isinstance(answer, web.Response) else None
    return answer.status >= 500 and isinstance(body, bytes) and OUT_OF_SEQUENCE.encode() in body


def _error_of(status: int, body: bytes) -> EnxameError:
    try:
        message = str(msgspec.json.decode(body)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message = f"the swarm's leader answered with status {status}"
    kinds = [getattr(errors, name) for name in errors.__all__]
    found = [kind for kind in kinds if isinstance(kind, type) and getattr(kind, "status", 500) == status != 500]
    made: EnxameError = (found[0] if found else EnxameError)(message)
    return made
