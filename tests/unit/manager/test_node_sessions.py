"""What sessions are told and when, without links: many nodes on one manager."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from enxame.control.heartbeats import BEATS_PER_SECOND
from enxame.errors import Unavailable
from enxame.manager import node_sessions
from enxame.manager.dispatcher import Dispatcher
from enxame.manager.failure_detector import FailureDetector
from enxame.manager.node_sessions import NodeSessions
from enxame.manager.swarm import new_cluster
from enxame.model.cluster import InitRequest
from enxame.model.node import Node
from enxame.security import ca
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store
from enxame.transport.methods import NODE_HEARTBEAT, NODE_SESSION, Beat, SessionNews, SessionRequest
from enxame.transport.peer import Served
from tests.unit.manager.conftest import manager_node, worker_node

NOW = datetime.now(UTC)
ROOT = ca.create_root(NOW)
DEADLINE = 30.0


@dataclass(eq=False)
class Caller:
    """A node's end of a link."""

    node_id: str
    address: str = "192.0.2.1"

    def close(self) -> None:
        """Nothing hangs on it."""


class Manager:
    """What has to do with sessions."""

    def __init__(self) -> None:
        self.store = Store(MemoryBackend(), wall=lambda: NOW)
        self.detector = FailureDetector(self.store, "m1", lambda: 0.0, lambda _: None)
        self.dispatcher = Dispatcher(self.store)
        self.sessions = NodeSessions(self.store, self.dispatcher, self.detector)
        self.served = Served()

    async def start(self, group: asyncio.TaskGroup, workers: int) -> None:
        await self.store.start()
        nodes = [manager_node("m1"), *(worker_node(f"w{number}", f"host{number}") for number in range(workers))]
        await self.store.update(lambda tx: [tx.create(obj) for obj in (new_cluster("c1", InitRequest(), ROOT), *nodes)])
        self.sessions.serve(self.served)
        self.running = [group.create_task(self.dispatcher.run()), group.create_task(self.sessions.follow(None))]  # type: ignore[arg-type]

    def session(self, caller: Caller) -> Any:
        _, handler = self.served.methods[NODE_SESSION.name]
        return aclosing(handler(caller, SessionRequest()))

    async def beat(self, caller: Caller) -> float:
        _, handler = self.served.methods[NODE_HEARTBEAT.name]
        return (await handler(caller, Beat())).period

    def node(self, node_id: str) -> Node:
        found = self.store.view.get(Node, node_id)
        assert found is not None
        return found

    async def change(self, node_id: str, **fields: Any) -> None:
        await self.store.update(lambda tx: tx.update(replace(self.node(node_id), **fields)))


@pytest.fixture
async def manager():
    made = Manager()
    yield made
    await made.store.close()


async def test_what_is_for_all_is_put_together_once_a_change_and_not_once_a_session(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    managers_of = node_sessions.managers_of
    monkeypatch.setattr(node_sessions, "managers_of", lambda view: (counted.append(1), managers_of(view))[1])
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group, AsyncExitStack() as stack:
        await manager.start(group, 50)
        streams = [await stack.enter_async_context(manager.session(Caller(f"w{number}"))) for number in range(50)]
        first = [await anext(stream) for stream in streams]
        assert {len(news.managers) for news in first} == {1}
        assert len(counted) <= 2, "when it began to serve, and to follow"
        await manager.change("w7", manager_status=manager_node().manager_status)
        told = [await anext(stream) for stream in streams]
        assert [[peer.node_id for peer in news.managers] for news in told] == [["m1", "w7"]] * 50
        assert [news.manages for news in told] == [number == 7 for number in range(50)]
        assert len(counted) <= 3
        for task in manager.running:
            task.cancel()


async def test_a_node_that_joins_is_no_news_for_the_others_though_all_are_to_beat_more_slowly(manager: Manager) -> None:
    told: dict[str, list[SessionNews]] = {"w0": [], "w1": []}

    async def listen(caller: Caller) -> None:
        async with manager.session(caller) as stream:
            async for news in stream:
                told[caller.node_id].append(news)

    async def until(node_id: str, count: int) -> None:
        while len(told[node_id]) < count:
            await asyncio.sleep(0.001)

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        await manager.start(group, 2)
        callers = [Caller("w0"), Caller("w1")]
        listening = [group.create_task(listen(caller)) for caller in callers]
        await until("w0", 1)
        await until("w1", 1)
        assert told["w0"][0].heartbeat_period == 1.0
        for number in range(2 * BEATS_PER_SECOND):
            manager.detector.expect(f"other{number}")
        await manager.store.update(lambda tx: tx.create(worker_node("other0", "other0")))
        assert await manager.beat(callers[0]) == pytest.approx(2.0, abs=0.1)
        for count, availability in enumerate(("drain", "active"), 2):
            await manager.change("w1", spec=replace(manager.node("w1").spec, availability=availability))
            await until("w1", count)
        await manager.change("w0", spec=replace(manager.node("w0").spec, availability="pause"))
        await until("w0", 2)
        assert told["w0"][1].spec.availability == "pause", "the first that it is told after its first"
        assert told["w0"][1].heartbeat_period == pytest.approx(2.0, abs=0.1)
        for task in (*manager.running, *listening):
            task.cancel()


async def test_a_node_that_follows_the_swarm_elsewhere_is_refused_and_tells_so(manager: Manager) -> None:
    heard: list[int] = []
    manager.sessions = NodeSessions(manager.store, manager.dispatcher, manager.detector, superseded=heard.append)
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        await manager.start(group, 1)
        _, handler = manager.served.methods[NODE_SESSION.name]
        with pytest.raises(Unavailable, match="follows the swarm as it was recovered elsewhere"):
            await anext(handler(Caller("w0"), SessionRequest(incarnation=5)))  # type: ignore[arg-type,call-overload]
        for task in manager.running:
            task.cancel()
    assert heard == [5]
