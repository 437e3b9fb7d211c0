"""Two managers of a swarm with their APIs: the leader's port between them, real TLS on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from enxame.api.context import ApiContext, DaemonFacts
from enxame.api.forwarded import ForwardedApi
from enxame.api.server import ApiServer
from enxame.engine.events import EventBus
from enxame.errors import Unavailable
from enxame.manager.leadership import LeadsItself
from enxame.manager.manager import Manager
from enxame.model.cluster import PeerNode, SwarmInfo
from enxame.model.stream import LogOptions, LogRecord
from enxame.model.task import Task
from enxame.security import ca
from enxame.transport import dialer
from enxame.transport.identity import Identity, client_context, server_context
from enxame.transport.listener import Listener
from enxame.transport.peer import Peer, Served
from tests.unit.api.conftest import Containers, Images, LocalNetworks, SwarmOfOne

NO_LEADER = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are "
    "online. Make sure more than half of the managers are online."
)
WEB = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}, "Mode": {"Replicated": {"Replicas": 1}}}
ROOT = ca.create_root(datetime.now(UTC))


def identity(node_id: str, role: str = "manager") -> Identity:
    pair = ca.issue_node_certificate(
        ROOT, node_id=node_id, role=role, cluster_id="c", expiry=timedelta(hours=2), now=datetime.now(UTC)
    )
    return Identity(pair.cert, pair.key, ROOT.cert)


class Standing:
    """Who leads, for all managers of a test."""

    def __init__(self) -> None:
        self.leader = ""
        self.addresses: dict[str, str] = {}


class Locator:
    """As membership's: one link, made when it is wanted."""

    def __init__(self, node_id: str, standing: Standing, links: AsyncExitStack) -> None:
        self.node_id = node_id
        self._standing = standing
        self._links = links
        self._context = client_context(identity(node_id))
        self._linking = asyncio.Lock()
        self.peer: Peer | None = None

    @property
    def is_leader(self) -> bool:
        return self._standing.leader == self.node_id

    @property
    def leader(self) -> PeerNode | None:
        leader = self._standing.leader
        return PeerNode(node_id=leader, addr=self._standing.addresses[leader]) if leader else None

    async def link(self) -> Peer:
        leader = self.leader
        if leader is None:
            raise Unavailable("nobody leads yet")
        if self.is_leader:
            raise LeadsItself
        async with self._linking:
            if self.peer is None or self.peer.closed or self.peer.node_id != leader.node_id:
                self.peer = await self._links.enter_async_context(dialer.link(leader.addr, self._context))
            return self.peer


class OneManager:
    """A manager with its API, over the state that all of them share (as if every replica were always up to date)."""

    def __init__(self, name: str, swarm: SwarmOfOne, standing: Standing, links: AsyncExitStack, root: Path) -> None:
        self.node_id = name * 25
        self.log_lines: list[LogRecord] = []
        self.reading = asyncio.Event()
        self.read_to_the_end = asyncio.Event()
        self.manager = Manager(swarm.manager.store, node_id=self.node_id, read_log=self._read_log)
        self.leadership = Locator(self.node_id, standing, links)
        self.networks = LocalNetworks()
        self.forwarded = ForwardedApi()
        self.socket = root / f"{name}.sock"
        self._standing = standing
        self._served = Served()
        self.forwarded.serve(self._served)

    async def start(self) -> None:
        engine = SimpleNamespace(networks=self.networks, events=EventBus(), containers=Containers(), images=Images())
        facts = DaemonFacts(id=self.node_id, name="here", data_root="/nowhere")
        self.server = ApiServer(ApiContext(engine=engine, membership=self, facts=facts), self.forwarded)  # type: ignore[arg-type]
        await self.server.listen_unix(self.socket)
        await self.server.listen_unix(self.socket.with_suffix(".ro"), looks_only=True)
        await self.open_port()
        self.client = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket)))

    async def open_port(self) -> None:
        self.port = Listener(self._served, lambda caller: caller)
        at = await self.port.listen("127.0.0.1", 0, server_context(identity(self.node_id)))
        self._standing.addresses[self.node_id] = f"127.0.0.1:{at}"

    async def stop(self) -> None:
        await self.client.close()
        await self.server.close(deadline=1)
        await self.port.close()

    def info(self) -> SwarmInfo:
        return SwarmInfo(node_id=self.node_id, local_node_state="active", control_available=True)

    async def _read_log(self, task: Task, options: LogOptions) -> AsyncIterator[LogRecord]:
        try:
            for line in self.log_lines:
                yield line
            self.reading.set()
            if options.follow:
                await asyncio.Event().wait()
        finally:
            self.read_to_the_end.set()

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        async with self.client.request(method, f"http://docker{path}", json=body, **options) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None


class Lab:
    def __init__(self, first: OneManager, second: OneManager, standing: Standing, swarm: SwarmOfOne) -> None:
        self.first, self.second, self.standing, self.swarm = first, second, standing, swarm

    @property
    def store(self) -> Any:
        return self.swarm.manager.store

    def lead(self, manager: OneManager | None) -> None:
        self.standing.leader = manager.node_id if manager else ""


@asynccontextmanager
async def two_managers(directory: Path) -> AsyncIterator[Lab]:
    """Manager ``a`` leads; clients ask ``b``."""
    swarm, standing = SwarmOfOne(), Standing()
    await swarm.found()
    async with AsyncExitStack() as links:
        first, second = (OneManager(name, swarm, standing, links, directory) for name in "ab")
        for manager in (first, second):
            await manager.start()
        made = Lab(first, second, standing, swarm)
        made.lead(first)
        yield made
        for manager in (second, first):
            await manager.stop()
    await swarm.manager.store.close()
