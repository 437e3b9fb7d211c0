"""What runs on the manager that leads, and nowhere else; begun when it gains leadership, ended when it loses it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final

from enxame.agent.agent import Agent
from enxame.control.leader import Leader
from enxame.control.now import Now
from enxame.manager.dispatcher import Dispatcher, NodeSession
from enxame.manager.failure_detector import FailureDetector, patience
from enxame.manager.leader_loop import LeaderLoop
from enxame.manager.node_sessions import NodeSessions
from enxame.manager.session_front import SessionFront
from enxame.membership.addresses import host_of
from enxame.membership.former_manager import superseded_warning, tell_former_manager
from enxame.membership.manager_keeper import ManagerKeeper
from enxame.membership.own_task import in_own_task
from enxame.membership.state_file import NodeState
from enxame.membership.swarm_state import SwarmState
from enxame.model.cluster import Cluster
from enxame.model.node import NodeDescription
from enxame.transport.listener import Listener

log = logging.getLogger(__name__)

#: Without a leader for longer than this (seconds), nodes have begun to ask less often.
TAKEOVER: Final = 3.0
#: Wait before a part that broke is started again: seconds.
RESTART_DELAY: Final = 1.0


class Leading:
    """``describe`` says what this machine offers; ``changing`` is held while the managers change. :meth:`run` may run
    again and again, once at a time.
    """

    def __init__(
        self,
        swarm: SwarmState,
        state: NodeState,
        agent: Agent,
        *,
        front: SessionFront,
        listener: Listener,
        changing: asyncio.Lock,
        describe: Callable[[], NodeDescription],
        new_id: Callable[[], str],
        rng: Callable[[], float],
        now: Callable[[], Now],
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        self._swarm = swarm
        self._state = state
        self._agent = agent
        self._front = front
        self._listener = listener
        self._changing = changing
        self._describe = describe
        self._new_id = new_id
        self._rng = rng
        self._now = now
        self._context = context
        #: The highest incarnation of the swarm that a node told of; higher than the own one: it goes on elsewhere.
        self._elsewhere = 0
        #: While it runs.
        self.dispatcher: Dispatcher | None = None
        self._detector: FailureDetector | None = None
        self._sessions: NodeSessions | None = None

    def joined(self, node_id: str) -> None:
        """A node was let in: it must report soon."""
        if self._detector is not None:
            self._detector.expect(node_id)

    def manager_trouble(self, node_id: str) -> str:
        """Why a node could not become a manager; empty when it could."""
        return self._sessions.manager_trouble(node_id) if self._sessions is not None else ""

    def warnings(self) -> list[str]:
        """What users of this manager are to know."""
        return [superseded_warning(self._elsewhere)] if self._elsewhere > self._incarnation() else []

    def _superseded(self, incarnation: int) -> None:
        if incarnation > self._elsewhere:
            self._elsewhere = incarnation
            log.error("%s", superseded_warning(incarnation).removeprefix("WARNING: "))

    def _incarnation(self) -> int:
        cluster = next(iter(self._swarm.store.view.all(Cluster)), None)
        return cluster.internal.incarnation if cluster is not None and cluster.internal is not None else 0

    async def run(self) -> None:
        """Lead until cancelled. Raises when a commit is refused, because another manager leads by now."""
        store = self._swarm.store
        detector = FailureDetector(store, self._state.node_id, lambda: self._now().mono, self._listener.cut)
        dispatcher = Dispatcher(store)
        sessions = NodeSessions(store, dispatcher, detector, superseded=self._superseded)
        keeper = ManagerKeeper(
            self._swarm,
            self._state.node_id,
            addr=self._state.advertise_addr,
            trouble=lambda node_id: sessions.trouble(node_id, 2 * detector.period),
            changing=self._changing,
        )
        recovered = patience(next(iter(store.view.all(Cluster)), None), self._now().wall)
        await detector.start(takeover=self._swarm.leaderless_for < TAKEOVER, patience=recovered)
        self._detector, self.dispatcher, self._sessions = detector, dispatcher, sessions
        self._front.lead(sessions)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(LeaderLoop(store, Leader(self._new_id, self._rng), self._now).run(), name="leader")
                group.create_task(dispatcher.run(), name="dispatcher")
                group.create_task(detector.run(), name="failure detector")
                group.create_task(sessions.follow(self._listener), name="node sessions")
                group.create_task(keeper.run(), name="managers")
                group.create_task(self._serve_own_node(dispatcher), name="own node")
                if former := self._state.former:
                    telling = tell_former_manager(former, self._context, self._incarnation)
                    group.create_task(telling, name="word to the former manager")
        finally:
            self._detector = self.dispatcher = self._sessions = None
            self._front.follow()

    async def _serve_own_node(self, dispatcher: Dispatcher) -> None:
        host = host_of(self._state.advertise_addr)
        session = await dispatcher.open(self._state.node_id, self._describe(), host)
        try:
            while True:
                await self._work(session)
        finally:
            session.close()

    async def _work(self, session: NodeSession) -> None:
        try:
            await in_own_task(self._agent.run(session), "agent")
        except Exception:
            log.exception("this node's agent broke off; it starts again in %g s", RESTART_DELAY)
            await asyncio.sleep(RESTART_DELAY)
            session.restart()
