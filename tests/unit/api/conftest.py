"""A served API over a unix socket: the real server, handlers and router; of the engine only what a test needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvloop

from enxame.api.context import ApiContext, DaemonFacts
from enxame.api.server import ApiServer
from enxame.errors import NotFound, Unavailable
from enxame.model.cluster import SwarmInfo
from enxame.model.container import ContainerConfig
from enxame.model.container_view import ContainerInspect, WaitResult
from enxame.model.exec import ExecInspect
from enxame.model.filters import Filters

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


class NoSwarm:
    """A node outside of any swarm."""

    def info(self) -> SwarmInfo:
        return SwarmInfo()

    @property
    def manager(self) -> Any:
        raise Unavailable(NOT_A_MANAGER)

    async def leave(self, force: bool) -> None:
        raise Unavailable("This node is not part of a swarm")


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
        self.pull_steps: list[Any] = []

    def list(self, filters: Filters) -> list[Any]:
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

    def __init__(self, server: ApiServer, path: Path, engine: Any, client: aiohttp.ClientSession) -> None:
        self.server = server
        self.path = path
        self.engine = engine
        self.client = client

    async def get(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        return await self.client.get(f"http://docker{path}", **options)

    async def post(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        return await self.client.post(f"http://docker{path}", **options)

    async def message(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Status and error text of a call."""
        async with self.client.request(method, f"http://docker{path}", **options) as response:
            return response.status, (await response.json())["message"]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    engine = SimpleNamespace(containers=Containers(), images=Images())
    facts = DaemonFacts(id="test", name="here", data_root=str(tmp_path))
    server = ApiServer(ApiContext(engine=engine, membership=NoSwarm(), facts=facts))  # type: ignore[arg-type]
    path = tmp_path / "api.sock"
    await server.listen_unix(path)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
        yield Served(server, path, engine, client)
    await server.close(deadline=1)
