"""What runs on a manager: the store, the leader's loop, the dispatcher, its port, and this node's own agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from enxame.agent.agent import Agent
from enxame.agent.container_executor import ContainerExecutor
from enxame.agent.database import TaskDatabase
from enxame.agent.payloads import PayloadFiles
from enxame.control.leader import Leader
from enxame.control.now import Now
from enxame.engine.engine import Engine
from enxame.manager.admission import managers_of
from enxame.manager.dispatcher import Dispatcher, NodeSession
from enxame.manager.events import event_messages
from enxame.manager.leader_loop import LeaderLoop
from enxame.manager.leadership import AlwaysLeads, LeaderLocator
from enxame.manager.manager import Manager
from enxame.manager.remote_logs import task_log_reader
from enxame.membership import node_files
from enxame.membership.addresses import host_of
from enxame.membership.founding import STATE_DATABASE, public
from enxame.membership.manager_port import ManagerPort
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.self_description import described
from enxame.membership.state_file import NodeState
from enxame.model.cluster import Cluster, SwarmInfo
from enxame.model.node import Node
from enxame.store.sqlite import SqliteBackend
from enxame.store.store import Store
from enxame.store.watch import WatchLagged

log = logging.getLogger(__name__)

TASK_DATABASE: Final = "tasks.db"

#: Wait before a part that broke is started again: seconds.
RESTART_DELAY: Final = 1.0


class ManagerParts:
    """Built for one membership, started once, and ended by :meth:`stop` or :meth:`leave`."""

    def __init__(
        self,
        state: NodeState,
        *,
        directory: Path,
        engine: Engine,
        payloads: PayloadFiles,
        executor: ContainerExecutor,
        new_id: Callable[[], str],
        rng: Callable[[], float],
        now: Callable[[], Now],
        wall: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._engine = engine
        self._executor = executor
        self._store = Store(SqliteBackend(directory / STATE_DATABASE), wall=wall)
        self._loop = LeaderLoop(self._store, Leader(new_id, rng), now)
        self._dispatcher = Dispatcher(self._store)
        self._agent = Agent(
            executor=executor,
            networks=engine.networks,
            database=TaskDatabase(directory / TASK_DATABASE),
            payloads=payloads,
            wall=wall,
        )
        self._own = OwnIdentity(directory)
        self._port = ManagerPort(
            self._store, self._dispatcher, state, self._own, new_id=new_id, rng=rng, now=now, wall=wall
        )
        self.manager = Manager(
            self._store,
            node_id=state.node_id,
            new_id=new_id,
            wall=wall,
            read_log=task_log_reader(state.node_id, executor.read_log, self._port.sessions.peer),
            node_files=lambda: node_files.collect(state, directory),
            leads=lambda: self.leadership.is_leader,
            own=lambda: self._own.identity,
        )
        self.leadership: LeaderLocator = AlwaysLeads(state.node_id, state.advertise_addr)
        self._session: NodeSession | None = None
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Load the state, adopt this node's tasks, and begin to lead.

        Raises:
            EnxameError: the state is damaged, or the port is taken.
        """
        await self._store.start()
        await self._port.start()
        await self._agent.start()
        host = host_of(self._state.advertise_addr)
        description = described(self._executor.describe(), self._state, self._own.tls_info)
        self._session = await self._dispatcher.open(self._state.node_id, description, host)
        loop = asyncio.get_running_loop()
        self._running = [
            loop.create_task(self._loop.run(), name="leader"),
            loop.create_task(self._dispatcher.run(), name="dispatcher"),
            loop.create_task(self._serve_own_node(self._session), name="own node"),
            loop.create_task(self._publish_events(), name="swarm events"),
            loop.create_task(self._serve_nodes(), name="manager port"),
            loop.create_task(self._make_backups(), name="scheduled backups"),
        ]

    def info(self) -> SwarmInfo:
        """What ``GET /info`` says of the swarm."""
        view = self._store.view
        managers = managers_of(view)
        cluster = next(iter(view.all(Cluster)), None)
        return SwarmInfo(
            node_id=self._state.node_id,
            node_addr=host_of(self._state.advertise_addr),
            local_node_state="active",
            control_available=True,
            remote_managers=managers,
            nodes=sum(1 for _ in view.all(Node)),
            managers=len(managers),
            cluster=public(cluster) if cluster else None,
            warnings=self.manager.backup_schedules.warnings(),
        )

    async def settled(self) -> None:
        """It is, once it is started."""

    async def stop(self) -> None:
        """End all of it; containers go on."""
        await self._port.close()
        await self._end_loops()
        await self._agent.stop()
        await self._store.close()

    async def leave(self) -> None:
        """Remove this node's tasks and networks, then end."""
        await self._port.close()
        await self._end_loops()
        try:
            await self._agent.remove_everything()
        finally:
            await self.stop()

    async def _end_loops(self) -> None:
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        if self._session is not None:
            self._session.close()
            self._session = None

    async def _serve_own_node(self, session: NodeSession) -> None:
        while True:
            try:
                await self._agent.run(session)
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("this node's agent broke off; it starts again in %g s", RESTART_DELAY)
                await asyncio.sleep(RESTART_DELAY)
                session.restart()

    async def _serve_nodes(self) -> None:
        while True:
            try:
                await self._port.run()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("serving the swarm's nodes broke off; it starts again in %g s", RESTART_DELAY)
                await asyncio.sleep(RESTART_DELAY)

    async def _make_backups(self) -> None:
        while True:
            try:
                await self.manager.backup_schedules.run()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the schedule of backups broke off; it starts again in %g s", RESTART_DELAY)
                await asyncio.sleep(RESTART_DELAY)

    async def _publish_events(self) -> None:
        """What happens to the swarm's objects, on this manager's event stream."""
        while True:
            try:
                async with self._store.watch() as watch:
                    while True:
                        for event in await watch.next():
                            for message in event_messages(event):
                                self._engine.events.publish(
                                    message.type, message.action, message.id, message.attributes, scope="swarm"
                                )
            except WatchLagged:
                log.warning("events of the swarm were produced faster than they could be told; some are left out")
