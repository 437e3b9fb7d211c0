"""What runs on a manager: the swarm's state, its port, this node's own agent, and all that leads while it leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from enxame.control.now import Now
from enxame.errors import EnxameError, Unavailable
from enxame.manager.admission import managers_of
from enxame.manager.leader_link import LeaderLink
from enxame.manager.manager import Manager
from enxame.manager.remote_logs import task_log_reader
from enxame.membership import node_files, swarm_events
from enxame.membership.addresses import host_of
from enxame.membership.autolock import Autolock
from enxame.membership.founding import public
from enxame.membership.lead_or_follow import again_and_again, lead_or_follow, within
from enxame.membership.leading import Leading
from enxame.membership.leave_warning import leave_warning
from enxame.membership.manager_joining import ManagerJoining
from enxame.membership.manager_port import ManagerPort
from enxame.membership.member_files import MemberFiles
from enxame.membership.member_plan import MemberPlan, manager_trouble
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.own_node import OwnMachine, OwnNode
from enxame.membership.own_part import OwnPart
from enxame.membership.recovery import REVISION_GAP
from enxame.membership.self_description import Shown
from enxame.membership.state_file import NodeState
from enxame.membership.state_keys import StateKeys
from enxame.membership.survivor import bring_home
from enxame.membership.swarm_state import SwarmState
from enxame.model.cluster import Cluster, PeerNode, SwarmInfo
from enxame.model.node import Node
from enxame.security import ca
from enxame.security.tokens import JoinToken
from enxame.store.backend import NoLeader
from enxame.store.interface import View
from enxame.store.watch import WatchLagged
from enxame.transport.identity import Identity
from enxame.transport.methods import (
    CA_RENEW,
    NODE_DESCRIBE,
    NodeNews,
    RenewRequest,
    SessionNews,
)
from enxame.transport.peer import Served

log = logging.getLogger(__name__)

#: Longest wait for another manager to lead, when there is one within reach: seconds.
HAND_OVER_DEADLINE: Final = 10.0
#: When it leaves: longest wait for each thing that is to be done by others. Seconds.
PART_DEADLINE: Final = 8.0
#: The same when its daemon only stops.
STOP_DEADLINE: Final = 3.0


class ManagerParts:
    """Built for one membership, started once, and ended by :meth:`stop` or :meth:`leave`. ``change_role`` is told when
    the swarm wants this node to be a worker; its certificate is one of a worker then. ``serve_api`` adds the method by
    which other managers pass requests on. ``keys`` are this node's, open.
    """

    def __init__(
        self,
        state: NodeState,
        machine: OwnMachine,
        *,
        peer_port: int,
        member_files: MemberFiles,
        change_role: Callable[[str], None],
        serve_api: Callable[[Served], None],
        keys: StateKeys,
        new_id: Callable[[], str],
        now: Callable[[], Now],
    ) -> None:
        self._machine = machine
        self._directory = directory = machine.directory
        self._change_role = change_role
        self._serve_api = serve_api
        self._new_id = new_id
        self._now = now
        self._keys = keys
        self._member_files = member_files
        self._own = own = OwnIdentity(directory, keys, member_files)
        self._plan = plan = MemberPlan(state, member_files.paths, peer_port)
        joining = ManagerJoining(
            directory,
            plan,
            keys=keys,
            managers=lambda: self._node.session.managers,
            context=lambda: own.client_context,
            roots=lambda: own.identity.believed if own.identity is not None else "",
        )
        self._swarm = swarm = SwarmState(
            directory, state.node_id, keys=keys, member=plan, join=joining.join, wall=machine.wall
        )
        self._link = LeaderLink(state.node_id, swarm, view=self._view, context=lambda: own.client_context)
        self.leadership = self._link
        #: Its session is with the manager that leads, while that is another one.
        self._node = OwnNode(
            state,
            machine,
            own,
            shown=self._shown,
            heard=self._heard,
            own_address=state.advertise_addr,
            trouble=lambda: swarm.trouble,
        )
        self._part = OwnPart(
            directory,
            swarm,
            joining,
            own,
            incarnation=lambda: self._incarnation,
            moved=lambda: self._node.state.moved,
        )
        self._port: ManagerPort | None = None
        self._leading: Leading | None = None
        self._manager: Manager | None = None
        self._opened = asyncio.Event()

    # -- what others ask

    @property
    def manager(self) -> Manager:
        """The manager's side. Raises NoLeader while the swarm's state is not there."""
        if self._manager is None:
            raise Unavailable(self._node.error) if self._node.error else NoLeader()
        return self._manager

    def info(self) -> SwarmInfo:
        """What ``GET /info`` says of the swarm."""
        view = self._view()
        managers = managers_of(view) if view is not None else [PeerNode(addr=a) for a in self._node.session.managers]
        cluster = next(iter(view.all(Cluster)), None) if view is not None else None
        return SwarmInfo(
            node_id=self._node.state.node_id,
            node_addr=host_of(self._node.state.advertise_addr),
            local_node_state="error" if self._node.error else "active" if view is not None else "pending",
            control_available=True,
            error=self._node.error,
            remote_managers=managers,
            nodes=sum(1 for _ in view.all(Node)) if view is not None else 0,
            managers=len(managers),
            cluster=public(cluster) if cluster else None,
            warnings=self._warnings(),
        )

    def _warnings(self) -> list[str]:
        backups = self._manager.backup_schedules.warnings() if self._manager is not None else []
        return [*(self._leading.warnings() if self._leading is not None else []), *backups]

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
        await self._node.agent.start()
        own = await self._own.load()
        if self._swarm.kind == "sqlite":
            await self._take_up()
        elif own is None:
            raise EnxameError(f"this node's certificate is missing below {self._directory}")
        else:
            self._node.keep_running(self._part.take_up(self._take_up), "swarm state")
        self._node.keep_running(lead_or_follow(self._swarm, self._lead, self._node.session.run), "leader or follower")
        self._node.keep_running(self._link.run(), "link to the leader")

    async def settled(self) -> None:
        """Wait until the state is there, or the swarm refused this node. Raises EnxameError then."""
        await self._node.settled()

    async def introduced(self) -> None:
        """Wait until the swarm knows this manager's certificate. That changes the cluster: a client that read it before
        would find its first update out of sequence.
        """
        async with self._swarm.store.watch(Cluster) as watch:
            while not any(
                cluster.internal is not None and self._node.state.node_id in cluster.internal.manager_certificates
                for cluster in self._swarm.store.view.all(Cluster)
            ):
                with suppress(WatchLagged):
                    await watch.next()

    async def stop(self) -> None:
        """End all of it; containers go on. Another manager leads, if there is one, and hears that this daemon will be
        back, unless the machine itself goes down.
        """
        if self._swarm.leads and await self._swarm.hand_over(HAND_OVER_DEADLINE):
            await within(STOP_DEADLINE, self._node.session.opened.wait())
        await self._node.say_back_soon()
        await self._stop()

    async def _stop(self) -> None:
        if self._port is not None:
            await self._port.close()
        await self._node.end_loops()
        await self._node.agent.stop()
        await self._swarm.close()
        await asyncio.to_thread(self._member_files.remove)

    async def leave(self, patience: float) -> None:
        """Remove this node's tasks, which may take so many seconds to stop, and networks, let the managers that stay go
        on without this one, then end.
        """
        try:
            if self._swarm.leads:
                await self._swarm.hand_over(HAND_OVER_DEADLINE)
            others = await self._others_lead()
            if others:
                await within(PART_DEADLINE, self._node.session.opened.wait())
                await self._node.agent.withdraw_everything()
                await self._node.session.end_work()
            else:
                # Nobody else is there to give this node tasks, or to be told.
                await self._node.end_loops()
            await self._node.agent.remove_everything(patience)
            if others:
                await self._node.session.say_goodbye()
                await within(PART_DEADLINE, self._part.given_up(self._link))
        finally:
            await self._stop()

    async def _others_lead(self) -> bool:
        """Whether another manager leads, or is about to."""
        if self._swarm.etcd is None or self._swarm.leads:
            return False
        try:
            return (await self._link.known(PART_DEADLINE)).node_id != self._node.state.node_id
        except NoLeader:
            return False

    # -- the state

    def _view(self) -> View | None:
        return self._swarm.store.view if self._swarm.is_open else None

    async def _take_up(self) -> None:
        await self._swarm.open()
        store = self._swarm.store
        port = ManagerPort(
            self._swarm,
            self._node.state,
            self._own,
            self._link,
            joined=self._joined,
            tell=self._tell,
            rng=self._machine.rng,
            wall=self._machine.wall,
        )
        self._serve_api(port.served)
        await port.start()
        self._port = port
        self._leading = Leading(
            self._swarm,
            self._node.state,
            self._node.agent,
            front=port.front,
            listener=port.listener,
            changing=port.changing,
            describe=lambda: self._node.described(self._shown()),
            new_id=self._new_id,
            rng=self._machine.rng,
            now=self._now,
            context=lambda: self._own.client_context,
        )
        autolock = Autolock(self._keys, self._own, store, renew_key=self._swarm.renew_key)
        self._manager = Manager(
            store,
            node_id=self._node.state.node_id,
            new_id=self._new_id,
            wall=self._machine.wall,
            read_log=task_log_reader(self._node.state.node_id, self._machine.executor.read_log, port.front.peer),
            node_files=lambda: node_files.collect(self._node.state, self._own.identity),
            leads=lambda: self._link.is_leader,
            manager_trouble=self._leading.manager_trouble,
            own_trouble=manager_trouble,
            own=lambda: self._own.identity,
            settled=autolock.apply,
        )
        run = self._node.keep_running
        run(again_and_again("manager port", port.run), "manager port")
        run(swarm_events.publish(store, self._machine.engine.events), "swarm events")
        run(self._remember_managers(), "managers")
        run(again_and_again("the lock", autolock.follow), "autolock")
        run(self._part.mind_recoveries(self._start_over), "recoveries")
        run(again_and_again("the schedule of backups", self._manager.backup_schedules.run), "backups")
        await self._node.remember(replace(self._node.state, moved=False))
        self._opened.set()
        self._node.taken()

    async def in_touch(self) -> bool:
        """Whether this manager has the swarm's state, or knows that it has no part in it."""
        return self._opened.is_set()

    def is_of(self, token: JoinToken) -> bool:
        """Whether a join token is of this node's swarm."""
        return self._own.is_of(token)

    async def look_at(self, addresses: Sequence[str]) -> None:
        """The swarm's managers may be found there; returns when this one has its part in the agreement again."""
        self._node.session.look_at(addresses)
        await self._opened.wait()

    async def salvage(self) -> None:
        """Instead of :meth:`start`: make this manager's state one that needs no others. Raises EnxameError, OSError."""
        await self._own.load()
        try:
            await bring_home(self._directory, self._plan, gap=REVISION_GAP)
        finally:
            await asyncio.to_thread(self._member_files.remove)

    @property
    def _incarnation(self) -> int:
        """Of the swarm's state as it is here."""
        view = self._view()
        cluster = next(iter(view.all(Cluster)), None) if view is not None else None
        if cluster is None or cluster.internal is None:
            return self._node.state.incarnation
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

    def _shown(self) -> Shown:
        return self._port.certificate.shown() if self._port is not None else self._own.shown

    async def _tell(self, shown: Shown) -> None:
        description = self._node.described(shown)
        dispatcher = self._leading.dispatcher if self._leading is not None else None
        if dispatcher is not None:
            await dispatcher.describe(self._node.state.node_id, description)
        elif self._node.session.peer is not None:
            await self._node.session.peer.call(NODE_DESCRIBE, NodeNews(description=description))
        else:
            raise Unavailable("no manager is in reach")

    async def _heard(self, news: SessionNews, _address: str) -> None:
        self._node.error = ""
        managers = [manager.addr for manager in news.managers]
        await self._node.remember(replace(self._node.state, managers=managers, incarnation=news.incarnation))
        if news.spec.role == "worker" and not news.manages and self._node.session.peer is not None:
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
                        if known != self._node.state.managers:
                            self._node.session.managers = known
                            await self._node.remember(replace(self._node.state, managers=known))
                        await watch.next()
                except WatchLagged:
                    continue

    async def _become_worker(self, news: SessionNews) -> None:
        peer = self._node.session.peer
        if peer is None:
            return
        key, request = await asyncio.to_thread(ca.new_signing_request)
        answer = await peer.call(CA_RENEW, RenewRequest(signing_request=request))
        if answer.role == "worker":
            await self._own.replace(Identity(answer.certificate, key, answer.root or news.root, answer.next_root))
            self._change_role("worker")
