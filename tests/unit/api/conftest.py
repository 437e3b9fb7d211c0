"""A served API over a unix socket: the real server, handlers and router; of the engine only what a test needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvloop
from msgspec.structs import replace

from enxame.api.context import ApiContext, DaemonFacts
from enxame.api.server import ApiServer
from enxame.api.streams import frame
from enxame.backup.files import Secret
from enxame.engine.events import EventBus
from enxame.errors import NotFound, Unavailable
from enxame.manager.leadership import AlwaysLeads, LeaderLocator
from enxame.manager.manager import Manager
from enxame.manager.networks import ingress_network
from enxame.manager.swarm import new_cluster
from enxame.model.backup import Restored, RestoreRequest
from enxame.model.cluster import Driver, InitRequest, SwarmInfo
from enxame.model.container import ContainerConfig
from enxame.model.container_view import ContainerInspect, WaitResult
from enxame.model.exec import ExecInspect
from enxame.model.filters import Filters
from enxame.model.network import (
    EndpointResource,
    Network,
    NetworkCreateRequest,
    NetworkResource,
    NetworkSpec,
    NetworksPruneReport,
)
from enxame.model.node import ManagerStatus, Node, NodeDescription, NodeSpec, NodeStatus
from enxame.model.stream import LogOptions, LogRecord
from enxame.model.task import Task
from enxame.security.ca import create_root
from enxame.store.interface import Tx
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Any]:
    """Raw streams on both loops: their transports differ in how they take a swap of protocols."""
    factories = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ("test_hijack.py", "test_tls.py"):
        factories["uvloop"] = uvloop.new_event_loop
    return factories


def _wall() -> datetime:
    return datetime.now(UTC)


class NoSwarm:
    """A node outside of any swarm."""

    def info(self) -> SwarmInfo:
        return SwarmInfo()

    @property
    def manager(self) -> Any:
        raise Unavailable(NOT_A_MANAGER)

    @property
    def leadership(self) -> Any:
        raise Unavailable(NOT_A_MANAGER)

    async def leave(self, force: bool) -> None:
        raise Unavailable("This node is not part of a swarm")


class SwarmOfOne:
    """A real manager over a store in memory; no leader decides anything, no agent runs anything."""

    def __init__(self) -> None:
        self.manager = Manager(Store(MemoryBackend(), wall=_wall), node_id="n" * 25, read_log=self._read_log)
        self.leadership: LeaderLocator = AlwaysLeads("n" * 25)
        self.log_lines: list[LogRecord] = []

    async def found(self) -> None:
        await self.manager.store.start()

        def create(tx: Tx) -> None:
            tx.create(new_cluster("c" * 25, InitRequest(), create_root(_wall())))
            tx.create(ingress_network("i" * 25))
            tx.create(
                Network(
                    id="h" * 25,
                    spec=NetworkSpec(name="host", driver_configuration=Driver(name="host"), scope="local"),
                )
            )
            tx.create(
                Node(
                    id="n" * 25,
                    spec=NodeSpec(role="manager", availability="active"),
                    description=NodeDescription(hostname="lab1"),
                    status=NodeStatus(state="ready", addr="10.0.0.1"),
                    manager_status=ManagerStatus(leader=True, reachability="reachable", addr="10.0.0.1:2377"),
                )
            )

        await self.manager.store.update(create)

    def info(self) -> SwarmInfo:
        return SwarmInfo(
            node_id="n" * 25, local_node_state="active", control_available=True, cluster=self.manager.swarm.inspect()
        )

    async def restore(self, path: Path, secret: Secret | None, wanted: RestoreRequest) -> Restored:
        raise Unavailable("This node is already part of a swarm.")

    async def _read_log(self, task: Task, options: LogOptions) -> AsyncIterator[LogRecord]:
        for line in self.log_lines:
            yield line


class LocalNetworks:
    """A bridge network named ``bridge``, and what is made."""

    def __init__(self) -> None:
        self.made = [
            NetworkResource(name="bridge", id="b" * 64, driver="bridge"),
            NetworkResource(name="host", id="a" * 64, driver="host"),
        ]

    def list(self, filters: Filters) -> list[NetworkResource]:
        scopes = filters.get("scope")
        return [one for one in self.made if not scopes or one.scope in scopes]

    def inspect(self, ref: str, *, verbose: bool = False) -> NetworkResource:
        for one in self.made:
            if ref in (one.id, one.name):
                return replace(one, containers={"c" * 64: EndpointResource(name="box")})
        raise NotFound(f"network {ref} not found")

    async def create(self, request: NetworkCreateRequest) -> str:
        self.made.append(NetworkResource(name=request.name, id="d" * 64, driver=request.driver))
        return "d" * 64

    async def remove(self, ref: str) -> None:
        self.made = [one for one in self.made if one.id != ref]

    async def prune(self, filters: Filters) -> NetworksPruneReport:
        return NetworksPruneReport(networks_deleted=["pruned-here"])


class Echo:
    """The streams of a process like ``cat``: what comes in goes out, until stdin is closed."""

    def __init__(self, *, tty: bool = False) -> None:
        self.tty = tty
        self.closed = asyncio.Event()
        self.stdin_closed = False
        self._out: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(16)

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        while (item := await self._out.get()) is not None:
            yield item
        yield 2, b"bye\n"

    async def write(self, data: bytes) -> None:
        await self._out.put((1, data))

    async def close_stdin(self) -> None:
        self.stdin_closed = True
        await self._out.put(None)

    async def close(self) -> None:
        self.closed.set()


class Containers:
    """One container named ``box``."""

    def __init__(self) -> None:
        self.tty = False
        self.attachments: list[Echo] = []
        self.exit: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        self.records: list[Any] = []
        self.logs_ended = asyncio.Event()
        self.calls: list[tuple[Any, ...]] = []

    def _known(self, ref: str) -> None:
        if ref not in ("box", "c" * 64):
            raise NotFound(f"No such container: {ref}")

    def inspect(self, ref: str, *, size: bool = False) -> ContainerInspect:
        self._known(ref)
        return ContainerInspect(id="c" * 64, name="/box", config=ContainerConfig(tty=self.tty))

    def list(self, *, all: bool = False, limit: int = 0, size: bool = False, filters: Filters) -> list[Any]:  # noqa: A002
        return []

    async def attach(self, ref: str, options: Any) -> Echo:
        self._known(ref)
        self.attachments.append(Echo(tty=self.tty))
        return self.attachments[-1]

    async def wait(self, ref: str, condition: str) -> WaitResult:
        return await asyncio.shield(self.exit)

    async def stop(self, ref: str, *, signal: str = "", timeout: float | None = None) -> None:
        self._known(ref)
        self.calls.append(("stop", ref, signal, timeout))

    async def logs(self, ref: str, options: Any) -> AsyncIterator[Any]:
        try:
            for record in self.records:
                yield record
            if options.follow:
                await asyncio.get_running_loop().create_future()
        finally:
            self.logs_ended.set()

    async def log_bytes(
        self, ref: str, options: Any, *, stamps: bool = False, details: bool = False
    ) -> AsyncIterator[bytes]:
        async with aclosing(self.logs(ref, options)) as records:
            async for record in records:
                line = f"{record.timestamp} ".encode() + record.data if stamps else record.data
                yield line if self.tty else frame(record.stream, line)

    def exec_inspect(self, exec_id: str) -> ExecInspect:
        if exec_id != "e" * 64:
            raise NotFound(f"No such exec instance: {exec_id}")
        return ExecInspect(id=exec_id, open_stdin=True)

    async def exec_start(self, exec_id: str, *, detach: bool, tty: bool) -> Echo | None:
        if detach:
            return None
        self.attachments.append(Echo(tty=tty))
        return self.attachments[-1]


class Images:
    """No images; pulls report what the test says."""

    def __init__(self) -> None:
        self.registries = self
        self.pull_steps: list[Any] = []

    def list(self, *, filters: Filters | None = None, all: bool = False) -> list[Any]:  # noqa: A002
        return []

    async def pull(self, reference: str, *, auth: Any, platform: str, progress: Any) -> None:
        self.pulled = (reference, auth, platform)
        for step in self.pull_steps:
            if isinstance(step, Exception):
                raise step
            progress(step)
            await asyncio.sleep(0)


class Served:
    """The server with its socket, its engine's fakes and a client."""

    def __init__(
        self, server: ApiServer, path: Path, engine: Any, client: aiohttp.ClientSession, membership: Any
    ) -> None:
        self.server = server
        self.path = path
        self.engine = engine
        self.client = client
        self.membership = membership

    async def get(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        return await self.client.get(f"http://docker{path}", **options)

    async def post(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        return await self.client.post(f"http://docker{path}", **options)

    async def json(self, method: str, path: str, body: Any = None, *, status: int = 200, **options: Any) -> Any:
        """The decoded answer of a call that must have this status."""
        async with self.client.request(method, f"http://docker{path}", json=body, **options) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if text else None

    async def message(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Status and error text of a call."""
        async with self.client.request(method, f"http://docker{path}", **options) as response:
            return response.status, (await response.json())["message"]


async def _serve(tmp_path: Path, membership: Any) -> AsyncIterator[Served]:
    engine = SimpleNamespace(containers=Containers(), images=Images(), networks=LocalNetworks(), events=EventBus())
    facts = DaemonFacts(id="test", name="here", data_root=str(tmp_path))
    server = ApiServer(ApiContext(engine=engine, membership=membership, facts=facts))  # type: ignore[arg-type]
    path = tmp_path / "api.sock"
    await server.listen_unix(path)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
        yield Served(server, path, engine, client, membership)
    await server.close(deadline=1)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A node outside of any swarm."""
    async with asynccontextmanager(_serve)(tmp_path, NoSwarm()) as served:
        yield served


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Served]:
    """The manager of a swarm of one."""
    membership = SwarmOfOne()
    await membership.found()
    async with asynccontextmanager(_serve)(tmp_path, membership) as served:
        yield served
    await membership.manager.store.close()
