"""What runs on a worker: its agent, a session with a manager, and the renewal of its certificate."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
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
from enxame.manager.leadership import LeaderLocator
from enxame.manager.manager import Manager
from enxame.membership import certificate_files, state_file
from enxame.membership.addresses import host_of
from enxame.membership.certificate_files import has_expired, seconds_to_renewal
from enxame.membership.manager_parts import TASK_DATABASE
from enxame.membership.manager_port import LOOK_AT_CLOCK, RENEWAL_RETRY
from enxame.membership.self_description import described
from enxame.membership.state_file import NodeState
from enxame.membership.worker_session import WorkerSession
from enxame.model.cluster import PeerNode, SwarmInfo
from enxame.model.dispatch import Assignments
from enxame.security import ca
from enxame.transport import identity
from enxame.transport.identity import Identity
from enxame.transport.methods import CA_RENEW, RenewRequest, SessionNews

log = logging.getLogger(__name__)

WORKER: Final = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager."
)
CERTIFICATES_EXPIRED: Final = "Swarm certificates have expired. To replace them, leave the swarm and join again."
REMOVED: Final = "was removed from swarm"


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
            context=self._own_context,
            describe=lambda: described(executor.describe(), self._state),
            read_log=executor.read_log,
            rng=rng,
            managers=state.managers,
            heard=self._heard,
            refused=self._was_refused,
        )
        self._context: ssl.SSLContext | None = None
        self._identity: Identity | None = None
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
        self._identity = await asyncio.to_thread(certificate_files.read, self._directory)
        if self._identity is None:
            raise EnxameError(f"this node's certificate is missing below {self._directory}")
        if has_expired(self._identity, self._wall()):
            self._error = CERTIFICATES_EXPIRED
            log.error("%s", CERTIFICATES_EXPIRED)
            return
        self._context = await asyncio.to_thread(identity.client_context, self._identity)
        loop = asyncio.get_running_loop()
        self._running = [
            loop.create_task(self._session.run(), name="session"),
            loop.create_task(self._renew_in_time(), name="certificate renewal"),
        ]

    async def settled(self) -> None:
        """Wait until a manager took this node. Raises EnxameError when it was refused."""
        await self._settled.wait()
        if self._error:
            raise Unavailable(self._error)

    async def stop(self) -> None:
        """End all of it; containers go on."""
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

    def _own_context(self) -> ssl.SSLContext:
        if self._context is None:
            raise Unavailable("this node has no certificate")
        return self._context

    async def _heard(self, news: SessionNews, _address: str) -> None:
        self._error, self._ready = "", True
        self._managers = news.managers
        self._settled.set()
        if self._session.managers != self._state.managers:
            self._state = replace(self._state, managers=self._session.managers)
            with suppress(OSError):  # the disk may be full: the old ones have to do
                await asyncio.to_thread(state_file.write, self._file, self._state)

    async def _was_refused(self, refusal: PermissionDenied) -> None:
        self._error = refusal.message
        self._settled.set()
        if REMOVED in refusal.message:
            # Its tasks run elsewhere by now, and its secrets are not for it any more.
            await self._agent.apply(Assignments(complete=True, ingress=[]))

    async def _renew_in_time(self) -> None:
        random, delay = self._rng(), RENEWAL_RETRY
        while self._identity is not None:
            remaining = seconds_to_renewal(self._identity, self._wall(), random)
            if remaining > 0:
                await asyncio.sleep(min(remaining, LOOK_AT_CLOCK))
                continue
            try:
                await self._renew(self._identity.root)
            except (EnxameError, OSError) as error:
                log.warning("this node's certificate was not renewed; trying again in %g s: %s", delay, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, LOOK_AT_CLOCK)
            else:
                log.info("this node's certificate was renewed")
                random, delay = self._rng(), RENEWAL_RETRY

    async def _renew(self, root: str) -> None:
        peer = self._session.peer
        if peer is None:
            await self._settled.wait()
            peer = self._session.peer
        if peer is None:
            raise Unavailable("no manager is in reach")
        key, request = await asyncio.to_thread(ca.new_signing_request)
        answer = await peer.call(CA_RENEW, RenewRequest(signing_request=request))
        renewed = Identity(answer.certificate, key, answer.root or root)
        await asyncio.to_thread(certificate_files.write, self._directory, renewed)
        self._identity = renewed
        self._context = await asyncio.to_thread(identity.client_context, renewed)
