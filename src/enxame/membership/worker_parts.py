"""What runs on a worker: its agent, a session with a manager, and the renewal of its certificate."""

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
from enxame.engine.engine import Engine
from enxame.errors import EnxameError, PermissionDenied, Unavailable
from enxame.manager.admission import REMOVED
from enxame.manager.leadership import LeaderLocator
from enxame.manager.manager import Manager
from enxame.membership import host_shutdown, state_file
from enxame.membership.addresses import host_of
from enxame.membership.certificate_files import has_expired
from enxame.membership.certificate_keeper import CertificateKeeper
from enxame.membership.manager_parts import TASK_DATABASE
from enxame.membership.member_plan import manager_trouble
from enxame.membership.own_identity import OwnIdentity
from enxame.membership.self_description import Shown, described
from enxame.membership.state_file import NodeState
from enxame.membership.worker_session import WorkerSession
from enxame.model.cluster import PeerNode, SwarmInfo
from enxame.model.dispatch import Assignments
from enxame.model.node import NodeDescription
from enxame.security import ca
from enxame.security.tokens import JoinToken, root_digest
from enxame.transport.methods import (
    CA_RENEW,
    NODE_DESCRIBE,
    NODE_HEARTBEAT,
    Beat,
    NodeCertificate,
    NodeNews,
    RenewRequest,
    SessionNews,
)
from enxame.transport.peer import Peer

log = logging.getLogger(__name__)

WORKER: Final = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager."
)
CERTIFICATES_EXPIRED: Final = "Swarm certificates have expired. To replace them, leave the swarm and join again."
#: A manager that does not answer for so long is not there, as far as a user is concerned who says where it is: seconds.
PROBE_DEADLINE: Final = 1.5


class NodeRemoved(Unavailable):
    """The swarm's managers do not know this node any more."""


class WorkerParts:
    """Built for one membership, started once, and ended by :meth:`stop` or :meth:`leave`. ``directory`` holds
    ``node.json``, which is kept up to date.
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
        change_role: Callable[[str], None],
        rng: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._directory = directory
        self._file = file
        self._rng = rng
        self._wall = wall
        self._agent = Agent(
            executor=executor,
            networks=engine.networks,
            database=TaskDatabase(directory / TASK_DATABASE),
            payloads=payloads,
            wall=wall,
        )
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
            manager_trouble=lambda: self._manager_trouble,
        )
        self._change_role = change_role
        self._manager_trouble = ""
        self._executor = executor
        self._own = OwnIdentity(directory)
        self._certificate = CertificateKeeper(
            self._own,
            obtain=self._ask_for_certificate,
            renewed=self._session.reconnect,
            tell=self._tell,
            spread=lambda: self._session.period,
            rng=rng,
            wall=wall,
        )
        self._managers: list[PeerNode] = [PeerNode(addr=address) for address in state.managers]
        self._error = ""
        self._settled = asyncio.Event()
        self._ready = False
        self._running: list[asyncio.Task[None]] = []

    @property
    def manager(self) -> Manager:
        """There is none: raises Unavailable with Swarm's text."""
        raise Unavailable(WORKER)

    @property
    def leadership(self) -> LeaderLocator:
        """Raises as :attr:`manager`."""
        raise Unavailable(WORKER)

    def info(self) -> SwarmInfo:
        """What ``GET /info`` says of the swarm."""
        state = "error" if self._error else "active" if self._ready else "pending"
        return SwarmInfo(
            node_id=self._state.node_id,
            node_addr=host_of(self._state.advertise_addr),
            local_node_state=state,
            error=self._error,
            remote_managers=self._managers,
        )

    async def start(self) -> None:
        """Take up this node's tasks, and begin to look for a manager."""
        await self._agent.start()
        own = await self._own.load()
        if own is None:
            raise EnxameError(f"this node's certificate is missing below {self._directory}")
        if has_expired(own, self._wall()):
            self._error = CERTIFICATES_EXPIRED
            log.error("%s", CERTIFICATES_EXPIRED)
            return
        loop = asyncio.get_running_loop()
        self._running = [
            loop.create_task(self._session.run(), name="session"),
            loop.create_task(self._look_for_etcd(), name="etcd's version"),
            loop.create_task(self._certificate.run(), name="certificate renewal"),
        ]

    async def settled(self) -> None:
        """Wait until a manager took this node. Raises EnxameError when it was refused."""
        await self._settled.wait()
        if self._error:
            raise Unavailable(self._error)

    async def in_touch(self) -> bool:
        """Whether a manager looks after this node now, asked of it."""
        peer = self._session.peer
        if peer is None:
            return False
        try:
            await peer.call(NODE_HEARTBEAT, Beat(), deadline=PROBE_DEADLINE)
        except EnxameError:
            return False
        return True

    def is_of(self, token: JoinToken) -> bool:
        """Whether a join token is of this node's swarm."""
        own = self._own.identity
        return own is not None and root_digest(own.root) == token.digest

    async def look_at(self, addresses: Sequence[str]) -> None:
        """The swarm's managers may be found there; returns when one of them took this node up.

        Raises:
            NodeRemoved: they do not know it.
            EnxameError: it was refused for another reason.
        """
        self._settled.clear()
        self._error = ""
        self._session.look_at(addresses)
        await self._settled.wait()
        if REMOVED in self._error:
            raise NodeRemoved(self._error)
        await self.settled()

    def leave_warning(self) -> str:
        """There is none."""
        return ""

    async def stop(self) -> None:
        """End all of it; containers go on. The manager hears that this daemon will be back, unless the machine itself
        goes down.
        """
        if not await host_shutdown.is_under_way():
            await self._session.say_back_soon()
        await self._end_loops()
        await self._agent.stop()

    async def leave(self) -> None:
        """Remove this node's tasks and networks, tell the manager, then end."""
        try:
            await self._session.end_work()
            await self._agent.remove_everything()
            await self._session.say_goodbye()
        finally:
            await self.stop()

    async def _end_loops(self) -> None:
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _describe(self) -> NodeDescription:
        return described(self._executor.describe(), self._state, self._certificate.shown())

    async def _tell(self, shown: Shown) -> None:
        peer = await self._in_session()
        description = described(self._executor.describe(), self._state, shown)
        await peer.call(NODE_DESCRIBE, NodeNews(description=description))

    async def _heard(self, news: SessionNews, _address: str) -> None:
        self._error, self._ready = "", True
        await self._certificate.trust(news.root, news.next_root)
        self._managers = news.managers
        self._settled.set()
        known = replace(self._state, managers=self._session.managers, incarnation=news.incarnation)
        if known != self._state:
            self._state = known
            with suppress(OSError):  # the disk may be full: the old ones have to do
                await asyncio.to_thread(state_file.write, self._file, self._state)
        if news.spec.role == "manager":
            await self._become_manager()

    async def _look_for_etcd(self) -> None:
        """Find out whether this node could be a manager; nobody waits for that."""
        self._manager_trouble = await manager_trouble()

    async def _become_manager(self) -> None:
        await self._look_for_etcd()
        if self._manager_trouble:
            log.error("the swarm wants this node to be a manager: %s", self._manager_trouble)
            return
        await self._certificate.renew()
        own = self._own.identity
        if own is not None and ca.node_identity(own.certificate).role == "manager":
            self._change_role("manager")

    async def _was_refused(self, refusal: PermissionDenied) -> None:
        self._error = refusal.message
        self._settled.set()
        if REMOVED in refusal.message:
            # Its tasks run elsewhere by now, and its secrets are not for it any more.
            await self._agent.apply(Assignments(complete=True))

    async def _ask_for_certificate(self, request: str) -> NodeCertificate:
        peer = await self._in_session()
        return await peer.call(CA_RENEW, RenewRequest(signing_request=request, addr=self._state.advertise_addr))

    async def _in_session(self) -> Peer:
        peer = self._session.peer
        if peer is None:
            await self._settled.wait()
            peer = self._session.peer
        if peer is None:
            raise Unavailable("no manager is in reach")
        return peer
