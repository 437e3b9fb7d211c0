"""What nodes call on any manager: the one that leads serves them, the others say where it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeVar

from enxame.errors import Unavailable
from enxame.manager.leader_link import LeaderLink
from enxame.manager.node_sessions import NodeSessions
from enxame.model.base import Model
from enxame.model.dispatch import Assignments
from enxame.transport import methods
from enxame.transport.methods import (
    NODE_ASSIGNMENTS,
    NODE_SESSION,
    Method,
    Nothing,
    SessionNews,
    SessionRequest,
)
from enxame.transport.peer import Peer, Served

Q = TypeVar("Q", bound=Model)
A = TypeVar("A", bound=Model)

#: Plain calls of nodes: all of them are the leader's to answer.
_CALLS: Final[tuple[Method[Any, Any], ...]] = tuple(
    method
    for method in vars(methods).values()
    if isinstance(method, Method) and method.name.startswith("node.") and not method.stream
)

#: How long a node that asks for a session is kept waiting for a leader: seconds. An election takes about one.
PATIENCE: Final = 5.0


class SessionFront:
    """One per manager."""

    def __init__(self, leadership: LeaderLink) -> None:
        self._leadership = leadership
        self._sessions: NodeSessions | None = None
        self._methods = Served().methods

    def lead(self, sessions: NodeSessions) -> None:
        """This manager leads: nodes are served from now on."""
        served = Served()
        sessions.serve(served)
        self._sessions, self._methods = sessions, served.methods

    def follow(self) -> None:
        """This manager does not lead: nodes are sent to the one that does."""
        sessions, self._sessions, self._methods = self._sessions, None, {}
        if sessions is not None:
            sessions.close()

    def serve(self, served: Served) -> None:
        """Add the methods."""
        served.stream(NODE_SESSION, self._session)
        served.stream(NODE_ASSIGNMENTS, self._assignments)
        for method in _CALLS:
            served.call(method, partial(self._call, method))

    def peer(self, node_id: str) -> Peer:
        """The link that a node opened. Raises Unavailable when there is none."""
        if self._sessions is None:
            raise Unavailable(f"node {node_id} is not available: this manager does not lead the swarm")
        return self._sessions.peer(node_id)

    async def _session(self, peer: Peer, request: SessionRequest) -> AsyncGenerator[SessionNews]:
        if self._sessions is None:
            leader = await self._leadership.known(PATIENCE)
            if leader.node_id != self._leadership.node_id:
                yield SessionNews(redirect=leader.addr)
                return
        # This manager has just begun to lead: its part for the nodes is there in a moment, or the node asks again.
        async for item in self._stream(NODE_SESSION, peer, request):
            yield item

    async def _assignments(self, peer: Peer, request: Nothing) -> AsyncGenerator[Assignments]:
        async for item in self._stream(NODE_ASSIGNMENTS, peer, request):
            yield item

    async def _stream(self, method: Method[Q, A], peer: Peer, request: Q) -> AsyncGenerator[A]:
        async with aclosing(self._handler(method)(peer, request)) as items:
            async for item in items:
                yield item

    async def _call(self, method: Method[Q, A], peer: Peer, request: Q) -> A:
        answer: A = await self._handler(method)(peer, request)
        return answer

    def _handler(self, method: Method[Q, A]) -> Callable[[Peer, Q], Any]:
        found = self._methods.get(method.name)
        if found is None:
            raise Unavailable("this manager does not lead the swarm")
        return found[1]
