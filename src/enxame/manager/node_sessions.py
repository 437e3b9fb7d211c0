"""The sessions of remote nodes: what they are told, what they report, and when their links are cut."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from enxame.errors import InvalidArgument, Unavailable
from enxame.manager import attachments
from enxame.manager.admission import managers_of, was_removed
from enxame.manager.dispatcher import Dispatcher, NodeSession
from enxame.manager.failure_detector import FailureDetector
from enxame.model.attachment import Attached, AttachRequest, DetachRequest
from enxame.model.cluster import Cluster, ClusterSecrets
from enxame.model.dispatch import Assignments
from enxame.model.node import Node
from enxame.store.interface import Action, Event
from enxame.store.store import Store
from enxame.store.watch import WatchLagged
from enxame.transport.listener import Listener
from enxame.transport.methods import (
    NODE_ACKNOWLEDGE,
    NODE_ASSIGNMENTS,
    NODE_ATTACH,
    NODE_DESCRIBE,
    NODE_DETACH,
    NODE_HEARTBEAT,
    NODE_LEAVE,
    NODE_REPORT,
    NODE_SESSION,
    NODE_WITHDRAW,
    Acknowledgement,
    Beat,
    Heartbeat,
    LeaveRequest,
    NodeNews,
    Nothing,
    SessionNews,
    SessionRequest,
    StatusReport,
    Withdrawal,
)
from enxame.transport.peer import Peer, Served

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Open:
    """One node's session. ``node`` is what feeds it, once it was registered. ``heard``: when it last gave a sign of
    life (monotonic); ``trouble``, of a manager, and ``manager_trouble``, of any node, are what it said.
    """

    peer: Peer
    heard: float
    manager_trouble: str = ""
    trouble: str = ""
    node: NodeSession | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    assigning: bool = False


class NodeSessions:
    """One per manager. A node has one session; a later one takes the place of the one before. ``superseded`` is told
    the incarnation when a node knows a higher one: the swarm was recovered elsewhere.
    """

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        detector: FailureDetector,
        *,
        superseded: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._detector = detector
        self._superseded = superseded
        self._open: dict[str, _Open] = {}
        self._common = SessionNews()

    def serve(self, served: Served) -> None:
        """Add the methods."""
        self._common = self._news_for_all()
        served.stream(NODE_SESSION, self._session)
        served.stream(NODE_ASSIGNMENTS, self._assignments)
        served.call(NODE_REPORT, self._report)
        served.call(NODE_HEARTBEAT, self._heartbeat)
        served.call(NODE_WITHDRAW, self._withdraw)
        served.call(NODE_ACKNOWLEDGE, self._acknowledge)
        served.call(NODE_ATTACH, self._attach)
        served.call(NODE_DETACH, self._detach)
        served.call(NODE_LEAVE, self._leave)
        served.call(NODE_DESCRIBE, self._describe)

    def peer(self, node_id: str) -> Peer:
        """The link that a node opened. Raises Unavailable when there is none."""
        session = self._open.get(node_id)
        if session is None:
            raise Unavailable(f"node {node_id} is not available")
        return session.peer

    def trouble(self, node_id: str, within: float) -> str:
        """Why a manager has no part in the managers' agreement, as far as is known here; empty when it has.

        ``within``: seconds since its last sign of life.
        """
        session = self._open.get(node_id)
        if session is None or asyncio.get_running_loop().time() - session.heard > within:
            return "it was not heard of"
        return session.trouble

    def manager_trouble(self, node_id: str) -> str:
        """Why a node could not become a manager; empty when it could."""
        session = self._open.get(node_id)
        return f"node {node_id} is not available" if session is None else session.manager_trouble

    def close(self) -> None:
        """Cut all sessions: another manager leads."""
        for session in list(self._open.values()):
            session.peer.close()

    async def follow(self, listener: Listener) -> None:
        """Tell sessions what concerns them, and cut those of removed nodes, until cancelled."""
        while True:
            async with self._store.watch(Node, Cluster) as watch:
                self._common = self._news_for_all()
                for node_id in list(self._open):
                    self._look_again(node_id, listener)
                try:
                    while True:
                        touched = set()
                        events = await watch.next()
                        for event in events:
                            if isinstance(event.object, Node):
                                touched.add(event.object.id)
                                if event.action is Action.DELETE:
                                    self._detector.forget(event.object.id)
                        if any(map(_concerns_all, events)) and (common := self._news_for_all()) != self._common:
                            self._common = common
                            touched |= set(self._open)
                        for node_id in touched:
                            self._look_again(node_id, listener)
                except WatchLagged:
                    log.warning("news for the nodes' sessions came faster than they could be told; looking again")

    def _look_again(self, node_id: str, listener: Listener) -> None:
        if self._store.view.get(Node, node_id) is None:
            listener.cut(node_id)
        elif node_id in self._open:
            self._open[node_id].changed.set()

    def _secrets(self) -> ClusterSecrets:
        cluster = next(iter(self._store.view.all(Cluster)), None)
        return (cluster.internal if cluster is not None else None) or ClusterSecrets()

    def _news_for_all(self) -> SessionNews:
        secrets = self._secrets()
        return SessionNews(
            managers=managers_of(self._store.view),
            root=secrets.ca_cert,
            next_root=secrets.rotation.ca_cert if secrets.rotation is not None else "",
            incarnation=secrets.incarnation,
        )

    # What nodes call

    async def _session(self, peer: Peer, request: SessionRequest) -> AsyncIterator[SessionNews]:
        before = self._open.get(peer.node_id)
        if before is not None:
            if before.peer is peer:
                raise InvalidArgument("this link has a session already")
            before.peer.close()
        session = self._open[peer.node_id] = _Open(peer, asyncio.get_running_loop().time(), request.manager_trouble)
        try:
            if self._store.view.get(Node, peer.node_id) is None:
                raise was_removed(peer.node_id)
            if request.incarnation > self._secrets().incarnation:
                self._superseded(request.incarnation)
                raise Unavailable(f"node {peer.node_id} follows the swarm as it was recovered elsewhere")
            status = self._detector.register(peer.node_id)
            try:
                session.node = await self._dispatcher.open(peer.node_id, request.description, peer.address, status)
            except BaseException:
                self._detector.turned_away(peer.node_id)
                raise
            told = None
            while True:
                session.changed.clear()
                node = self._store.view.get(Node, peer.node_id)
                if node is None:
                    raise was_removed(peer.node_id)
                news = replace(self._common, manages=node.manager_status is not None, spec=node.spec)
                if news != told:
                    told = news
                    # No news by itself, for it changes with every node that joins: heartbeats are answered with it.
                    yield replace(news, heartbeat_period=self._detector.period)
                await session.changed.wait()
        finally:
            if session.node is not None:
                session.node.close()
            if self._open.get(peer.node_id) is session:
                del self._open[peer.node_id]

    async def _assignments(self, peer: Peer, _request: Nothing) -> AsyncIterator[Assignments]:
        session, node = self._registered(peer)
        if session.assigning:
            raise InvalidArgument("this session follows its assignments already")
        session.assigning = True
        while True:
            yield await node.assignments()

    async def _report(self, peer: Peer, request: StatusReport) -> Nothing:
        _, node = self._registered(peer)
        await node.update_status(request.updates)
        return Nothing()

    async def _heartbeat(self, peer: Peer, request: Beat) -> Heartbeat:
        session, _ = self._registered(peer)
        session.heard, session.trouble = asyncio.get_running_loop().time(), request.trouble
        if not self._detector.beat(peer.node_id):
            raise Unavailable(f"node {peer.node_id} is not registered")
        return Heartbeat(period=self._detector.period)

    async def _describe(self, peer: Peer, request: NodeNews) -> Nothing:
        self._registered(peer)
        await self._dispatcher.describe(peer.node_id, request.description)
        return Nothing()

    async def _withdraw(self, peer: Peer, request: Withdrawal) -> Nothing:
        _, node = self._registered(peer)
        await node.withdraw(request.task_id)
        return Nothing()

    async def _acknowledge(self, peer: Peer, request: Acknowledgement) -> Nothing:
        _, node = self._registered(peer)
        await node.acknowledge(request.number)
        return Nothing()

    async def _attach(self, peer: Peer, request: AttachRequest) -> Attached:
        _, node = self._registered(peer)
        return await node.attach(request)

    async def _detach(self, peer: Peer, request: DetachRequest) -> Nothing:
        _, node = self._registered(peer)
        await node.detach(request)
        return Nothing()

    async def _leave(self, peer: Peer, request: LeaveRequest) -> Nothing:
        self._registered(peer)
        if request.back_within > 0:
            await self._detector.excuse(peer.node_id, request.back_within)
        else:
            await self._detector.leave(peer.node_id)
            await attachments.detach_all(self._store, peer.node_id)
        return Nothing()

    def _registered(self, peer: Peer) -> tuple[_Open, NodeSession]:
        session = self._open.get(peer.node_id)
        if session is None or session.peer is not peer or session.node is None:
            raise Unavailable(f"node {peer.node_id} is not registered")
        return session, session.node


def _concerns_all(event: Event) -> bool:
    """Whether more than one node's session may have something to say because of it."""
    if not isinstance(event.object, Node):
        return True
    before = event.old.manager_status if isinstance(event.old, Node) else None
    after = event.object.manager_status
    return (before or after) is not None and (event.action is Action.DELETE or before != after)
