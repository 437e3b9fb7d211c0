"""What runs on a manager: the swarm's state, its port, this node's own agent, and all that leads while it leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from enxame.agent.agent import Agent
from enxame.agent.container_executor import ContainerExecutor
from enxame.agent.database import TaskDatabase
from enxame.agent.payloads import PayloadFiles
from enxame.control.now import Now
from enxame.engine.engine import Engine
from enxame.errors import EnxameError, PermissionDenied, Unavailable
from enxame.manager.admission import REMOVED, managers_of
from enxame.manager.leader_link import LeaderLink
from enxame.manager.manager import Manager
from enxame.manager.remote_logs import task_log_reader
from enxame.membership import host_shutdown, node_files, state_file, swarm_events
from enxame.membership.addresses import host_of
from enxame.membership.autolock import Autolock
from enxame.membership.founding import public
from enxame.membership.lead_or_follow import RESTART_DELAY, again_and_again, lead_or_follow, within
from enxame.membership.leading import Leading
from enxame.membership.leave_warning import leave_warning
from enxame.membership.manager_joining import ManagerJoining
from enxame.membership.manager_port import ManagerPort
from enxame.membership.member_files import MemberFiles
from enxame.membership.member_plan import MemberPlan, manager_trouble
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.recovery import REVISION_GAP
from enxame.membership.self_description import Shown, described
from enxame.membership.state_file import NodeState
from enxame.membership.state_keys import StateKeys
from enxame.membership.survivor import bring_home
from enxame.membership.swarm_state import SwarmState
from enxame.membership.worker_session import WorkerSession
from enxame.model.cluster import Cluster, PeerNode, SwarmInfo
from enxame.model.dispatch import Assignments
from enxame.model.node import Node, NodeDescription
from enxame.security import ca
from enxame.security.tokens import JoinToken, root_digest
from enxame.store import pointer as pointers
from enxame.store.backend import NoLeader
from enxame.store.interface import View
from enxame.store.watch import WatchLagged
from enxame.transport.identity import Identity
from enxame.transport.methods import (
    CA_RENEW,
    MANAGER_STANDING,
    NODE_DESCRIBE,
    NodeNews,
    Nothing,
    RenewRequest,
    SessionNews,
)
from enxame.transport.peer import Served

log = logging.getLogger(__name__)

TASK_DATABASE: Final = "tasks.db"

#: When it leaves: longest wait for each thing that is to be done by others. Seconds.
PART_DEADLINE: Final = 4.0
#: The same when its daemon only stops.
STOP_DEADLINE: Final = 1.5
#: Between questions to the others whether this manager still has its part, while its member does not come up: seconds.
ASK_EVERY: Final = 5.0


class ManagerParts:
    """Built for one membership, started once, and ended by :meth:`stop` or :meth:`leave`. ``change_role`` is told when
    the swarm wants this node to be a worker; its certificate is one of a worker then. ``serve_api`` adds the method by
    which other managers pass requests on. ``keys`` are this node's, open.
    """

    def __init__(
        self,
        state: NodeState,
        *,
        directory: Path,
        file: Path,
        engine: Engine,
        payloads: PayloadFiles,
        executor: ContainerExecutor,
        peer_port: int,
        member_files: MemberFiles,
        change_role: Callable[[str], None],
        serve_api: Callable[[Served], None],
        keys: StateKeys,
        new_id: Callable[[], str],
        rng: Callable[[], float],
        now: Callable[[], Now],
        wall: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._directory = directory
        self._file = file
        self._engine = engine
        self._executor = executor
        self._change_role = change_role
        self._serve_api = serve_api
        self._new_id = new_id
        self._rng = rng
        self._now = now
        self._wall = wall
        self._keys = keys
        self._member_files = member_files
        self._own = OwnIdentity(directory, keys, member_files)
        self._plan = plan = MemberPlan(state, member_files.paths, peer_port)
        self._joining = ManagerJoining(
            directory,
            plan,
            keys=keys,
            managers=lambda: self._session.managers,
            context=lambda: self._own.client_context,
            roots=lambda: self._own.identity.believed if self._own.identity is not None else "",
        )
        self._swarm = SwarmState(directory, state.node_id, keys=keys, member=plan, join=self._joining.join, wall=wall)
        self._link = LeaderLink(state.node_id, self._swarm, view=self._view, context=lambda: self._own.client_context)
        self.leadership = self._link
        self._agent = Agent(
            executor=executor,
            networks=engine.networks,
            database=TaskDatabase(directory / TASK_DATABASE),
            payloads=payloads,
            wall=wall,
        )
        #: With the manager that leads, while it is another one.
        self._session = WorkerSession(
            self._agent,
            context=lambda: self._own.client_context,
            describe=self._describe,
            incarnation=lambda: self._state.incarnation,
            read_log=executor.read_log,
            rng=rng,
            managers=state.managers,
            heard=self._heard,
            refused=self._was_refused,
            own=state.advertise_addr,
            trouble=lambda: self._swarm.trouble,
        )
        self._port: ManagerPort | None = None
        self._leading: Leading | None = None
        self._manager: Manager | None = None
        self._opened = asyncio.Event()
        #: Opened, or refused.
        self._settled = asyncio.Event()
        self._error = ""
        self._running: list[asyncio.Task[None]] = []

    # -- what others ask

    @property
    def manager(self) -> Manager:
        """The manager's side. Raises NoLeader while the swarm's state is not there."""
        if self._manager is None:
            raise Unavailable(self._error) if self._error else NoLeader()
        return self._manager

    def info(self) -> SwarmInfo:
        """What ``GET /info`` says of the swarm."""
        view = self._view()
        managers = managers_of(view) if view is not None else [PeerNode(addr=a) for a in self._session.managers]
        cluster = next(iter(view.all(Cluster)), None) if view is not None else None
        return SwarmInfo(
            node_id=self._state.node_id,
            node_addr=host_of(self._state.advertise_addr),
            local_node_state="error" if self._error else "active" if view is not None else "pending",
            control_available=True,
            error=self._error,
            remote_managers=managers,
            nodes=sum(1 for _ in view.all(Node)) if view is not None else 0,
            managers=len(managers),
            cluster=public(cluster) if cluster else None,
            warnings=self._manager.backup_schedules.warnings() if self._manager is not None else [],
        )

    def leave_warning(self) -> str:
        """What a user should know before this manager leaves."""
        view, knows = self._view(), self._link.leader is not None
        statuses = [node.manager_status for node in view.all(Node)] if view is not None and knows else []
        reachability = [status.reachability for status in statuses if status is not None]
        reachable = reachability.count("reachable")
        return leave_warning(reachable, len(reachability) - reachable)

    # -- life

    async def start(self) -> None:
        """Adopt this node's tasks and take up the state, or begin to: with several managers a quorum must be there.

        Raises:
            EnxameError: the state is damaged, or the port is taken.
        """
        await self._agent.start()
        own = await self._own.load()
        loop = asyncio.get_running_loop()
        if self._swarm.kind == "sqlite":
            await self._take_up()
        elif own is None:
            raise EnxameError(f"this node's certificate is missing below {self._directory}")
        else:
            self._running.append(loop.create_task(self._take_up_patiently(), name="swarm state"))
        self._running.append(
            loop.create_task(lead_or_follow(self._swarm, self._lead, self._session.run), name="leader or follower")
        )
        self._running.append(loop.create_task(self._link.run(), name="link to the leader"))

    async def settled(self) -> None:
        """Wait until the state is there, or the swarm refused this node. Raises EnxameError then."""
        await self._settled.wait()
        if self._error:
            raise Unavailable(self._error)

    async def introduced(self) -> None:
        """Wait until the swarm knows this manager's certificate. That changes the cluster: a client that read it before
        would find its first update out of sequence.
        """
        async with self._swarm.store.watch(Cluster) as watch:
            while not any(
                cluster.internal is not None and self._state.node_id in cluster.internal.manager_certificates
                for cluster in self._swarm.store.view.all(Cluster)
            ):
                with suppress(WatchLagged):
                    await watch.next()

    async def stop(self) -> None:
        """End all of it; containers go on. Another manager leads, if there is one, and hears that this daemon will be
        back, unless the machine itself goes down.
        """
        if self._swarm.leads and await self._swarm.resign():
            await within(STOP_DEADLINE, self._swarm.lost.wait())
            await within(STOP_DEADLINE, self._session.opened.wait())
        if not await host_shutdown.is_under_way():
            await self._session.say_back_soon()
        await self._stop()

    async def _stop(self) -> None:
        if self._port is not None:
            await self._port.close()
        await self._end_loops()
        await self._agent.stop()
        await self._swarm.close()
        await asyncio.to_thread(self._member_files.remove)

    async def leave(self) -> None:
        """Remove this node's tasks and networks, let the managers that stay go on without this one, then end."""
        try:
            if self._swarm.leads and await self._swarm.resign():
                await within(PART_DEADLINE, self._swarm.lost.wait())
            others = await self._others_lead()
            if others:
                await within(PART_DEADLINE, self._session.opened.wait())
                await self._session.end_work()
            else:
                # Nobody else is there to give this node tasks, or to be told.
                await self._end_loops()
            await self._agent.remove_everything()
            if others:
                await self._session.say_goodbye()
                await within(PART_DEADLINE, self._let_go())
        finally:
            await self._stop()

    async def _others_lead(self) -> bool:
        """Whether another manager leads, or is about to."""
        if self._swarm.etcd is None or self._swarm.leads:
            return False
        try:
            return (await self._link.known(PART_DEADLINE)).node_id != self._state.node_id
        except NoLeader:
            return False

    async def _let_go(self) -> None:
        """Wait until the others have taken this manager's member out: before, they may need its vote for that."""
        while True:
            try:
                link = await self._link.link()
                if not (await link.call(MANAGER_STANDING, Nothing())).member:
                    return
            except EnxameError as error:
                log.debug("is this manager let go? %s", error)
            await asyncio.sleep(0.05)

    async def _end_loops(self) -> None:
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    # -- the state

    def _view(self) -> View | None:
        return self._swarm.store.view if self._swarm.is_open else None

    async def _take_up(self) -> None:
        await self._swarm.open()
        store = self._swarm.store
        port = ManagerPort(
            self._swarm,
            self._state,
            self._own,
            self._link,
            joined=self._joined,
            tell=self._tell,
            rng=self._rng,
            wall=self._wall,
        )
        self._serve_api(port.served)
        await port.start()
        self._port = port
        self._leading = Leading(
            self._swarm,
            self._state,
            self._agent,
            front=port.front,
            listener=port.listener,
            changing=port.changing,
            describe=self._describe,
            new_id=self._new_id,
            rng=self._rng,
            now=self._now,
        )
        autolock = Autolock(self._keys, self._own, store, renew_key=self._swarm.renew_key)
        self._manager = Manager(
            store,
            node_id=self._state.node_id,
            new_id=self._new_id,
            wall=self._wall,
            read_log=task_log_reader(self._state.node_id, self._executor.read_log, port.front.peer),
            node_files=lambda: node_files.collect(self._state, self._own.identity),
            leads=lambda: self._link.is_leader,
            manager_trouble=self._leading.manager_trouble,
            own_trouble=manager_trouble,
            own=lambda: self._own.identity,
            settled=autolock.apply,
        )
        loop = asyncio.get_running_loop()
        self._running.append(loop.create_task(again_and_again("manager port", port.run), name="manager port"))
        self._running.append(loop.create_task(swarm_events.publish(store, self._engine.events), name="swarm events"))
        self._running.append(loop.create_task(self._remember_managers(), name="managers"))
        self._running.append(loop.create_task(again_and_again("the lock", autolock.follow), name="autolock"))
        self._running.append(loop.create_task(self._mind_recoveries(), name="recoveries"))
        backups = self._manager.backup_schedules.run
        self._running.append(loop.create_task(again_and_again("the schedule of backups", backups), name="backups"))
        self._error = ""
        await self._remember(replace(self._state, moved=False))
        self._opened.set()
        self._settled.set()

    async def _take_up_patiently(self) -> None:
        while not self._opened.is_set():
            if self._swarm.kind == "etcd" and self._state.moved:
                await self._move()
            # Two of three that come back together would be a majority of what was: they ask before they vote.
            if self._swarm.kind == "etcd" and await self._is_superseded():
                await self._forget_part()
            attempt = asyncio.create_task(self._take_up(), name="opening the state")
            try:
                while not attempt.done():
                    await asyncio.wait({attempt}, timeout=ASK_EVERY)
                    if not attempt.done() and await self._lost_its_part():
                        attempt.cancel()
                        await asyncio.wait({attempt})
            finally:
                attempt.cancel()
                await asyncio.wait({attempt})
            if self._opened.is_set():
                return
            if not attempt.cancelled() and (error := attempt.exception()) is not None:
                log.warning("the swarm's state is not there yet: %s", error)
                if not isinstance(error, (EnxameError, OSError, TimeoutError)):
                    log.error("opening the state broke off", exc_info=error)
            if await self._lost_its_part():
                await self._forget_part()
            else:
                await asyncio.sleep(RESTART_DELAY)

    async def _move(self) -> None:
        """The others look for this manager's member at its former address. Once one that leads them is in reach, what
        the member has is not needed: it gives it up, and asks for another one with a certificate of the new address.
        """
        while not await self._is_superseded():
            if await self._joining.standing() is not None:
                try:
                    key, request = await asyncio.to_thread(ca.new_signing_request)
                    answer = await self._joining.certificate(request)
                    own = Identity(answer.certificate, key, answer.root, answer.next_root)
                    await self._own.replace(own)
                    break
                except EnxameError as error:
                    log.warning("this manager gets no certificate for its new address: %s", error)
            await asyncio.sleep(RESTART_DELAY)
        await self._forget_part()

    async def in_touch(self) -> bool:
        """Whether this manager has the swarm's state, or knows that it has no part in it."""
        return self._opened.is_set()

    def is_of(self, token: JoinToken) -> bool:
        """Whether a join token is of this node's swarm."""
        own = self._own.identity
        return own is not None and root_digest(own.root) == token.digest

    async def look_at(self, addresses: Sequence[str]) -> None:
        """The swarm's managers may be found there; returns when this one has its part in the agreement again."""
        self._session.look_at(addresses)
        await self._opened.wait()

    async def _lost_its_part(self) -> bool:
        """Whether the others know no member of this manager's (any more), or have gone on without it."""
        if self._swarm.kind != "etcd" or self._joining.under_way:
            return False
        return await self._is_superseded() or await self._joining.lost_its_part()

    async def _is_superseded(self) -> bool:
        return await self._joining.is_superseded(self._incarnation)

    async def _forget_part(self) -> None:
        """The data of this manager's member is worth nothing any more: it has to join anew."""
        log.warning("this manager has no part in the managers' agreement: it asks for one")
        before = pointers.read(self._directory)
        await asyncio.to_thread(pointers.write, self._directory, replace(pointers.NONE, moves=before.moves))

    async def salvage(self) -> None:
        """Instead of :meth:`start`: make this manager's state one that needs no others. Raises EnxameError, OSError."""
        await self._own.load()
        try:
            await bring_home(self._directory, self._plan, gap=REVISION_GAP)
        finally:
            await asyncio.to_thread(self._member_files.remove)

    async def _mind_recoveries(self) -> None:
        """Give way to a swarm that was recovered without this manager, wherever it leads the former one."""
        while True:
            await asyncio.sleep(ASK_EVERY)
            alone = not self._swarm.leads or self._swarm.etcd is None
            if not alone and await self._is_superseded():
                self._start_over()

    @property
    def _incarnation(self) -> int:
        """Of the swarm's state as it is here."""
        view = self._view()
        cluster = next(iter(view.all(Cluster)), None) if view is not None else None
        if cluster is None or cluster.internal is None:
            return self._state.incarnation
        return cluster.internal.incarnation

    def _start_over(self) -> None:
        log.warning("the swarm was recovered without this manager: it begins anew there")
        self._change_role("manager")

    # -- leading and following

    async def _lead(self) -> None:
        await self._opened.wait()
        assert self._leading is not None
        await self._leading.run()

    def _joined(self, node_id: str) -> None:
        if self._leading is not None:
            self._leading.joined(node_id)

    # -- this node as the leader sees it

    def _describe(self) -> NodeDescription:
        shown = self._port.certificate.shown() if self._port is not None else self._own.shown
        return described(self._executor.describe(), self._state, shown)

    async def _tell(self, shown: Shown) -> None:
        description = described(self._executor.describe(), self._state, shown)
        dispatcher = self._leading.dispatcher if self._leading is not None else None
        if dispatcher is not None:
            await dispatcher.describe(self._state.node_id, description)
        elif self._session.peer is not None:
            await self._session.peer.call(NODE_DESCRIBE, NodeNews(description=description))
        else:
            raise Unavailable("no manager is in reach")

    async def _heard(self, news: SessionNews, _address: str) -> None:
        self._error = ""
        managers = [manager.addr for manager in news.managers]
        await self._remember(replace(self._state, managers=managers, incarnation=news.incarnation))
        if news.spec.role == "worker" and not news.manages and self._session.peer is not None:
            await self._become_worker(news)
        elif self._opened.is_set() and news.incarnation > self._incarnation:
            self._start_over()

    async def _remember_managers(self) -> None:
        """Where the other managers are: to be found when the swarm's state is not there, or says nothing new."""
        while True:
            async with self._swarm.store.watch(Node) as watch:
                try:
                    while True:
                        known = [manager.addr for manager in managers_of(self._swarm.store.view)]
                        if known != self._state.managers:
                            self._session.managers = known
                            await self._remember(replace(self._state, managers=known))
                        await watch.next()
                except WatchLagged:
                    continue

    async def _remember(self, state: NodeState) -> None:
        if state != self._state:
            self._state = state
            with suppress(OSError):  # the disk may be full: the old one has to do
                await asyncio.to_thread(state_file.write, self._file, state)

    async def _become_worker(self, news: SessionNews) -> None:
        peer = self._session.peer
        if peer is None:
            return
        key, request = await asyncio.to_thread(ca.new_signing_request)
        answer = await peer.call(CA_RENEW, RenewRequest(signing_request=request))
        if answer.role == "worker":
            await self._own.replace(Identity(answer.certificate, key, answer.root or news.root, answer.next_root))
            self._change_role("worker")

    async def _was_refused(self, refusal: PermissionDenied) -> None:
        self._error = refusal.message
        self._settled.set()
        if REMOVED in refusal.message:
            # Its tasks run elsewhere by now, and its secrets are not for it any more.
            await self._agent.apply(Assignments(complete=True))
