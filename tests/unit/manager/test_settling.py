"""Whether a node did what it was told, and tasks that stop."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from enxame.manager import dispatcher as dispatchers
from enxame.manager.dispatcher import Dispatcher, NodeSession
from enxame.manager.settling import Settling
from enxame.model.cluster import Cluster
from enxame.model.network import IPAMConfig, IPAMOptions, Network, NetworkSpec
from enxame.model.node import Node, NodeDescription, NodeStatus
from enxame.model.task import NetworkAttachment, Task, TaskState, TaskStatus
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store


async def test_a_question_is_shared_until_it_is_asked() -> None:
    settling = Settling()
    assert settling.ask() == 0
    one, two = settling.wait(), settling.wait()
    first = settling.ask()
    three = settling.wait()
    assert settling.ask() > first
    settling.answer(first)
    assert one.done()
    assert two.done()
    assert not three.done()
    three.cancel()
    settling.end()


async def test_nobody_waits_for_a_conversation_that_is_over() -> None:
    settling = Settling()
    asked = settling.wait()
    settling.ask()
    not_asked = settling.wait()
    settling.end()
    await asyncio.gather(asked, not_asked)


class World:
    """A task on node ``n1`` that serves on the network ``app``; ``n1`` and ``n2`` are on it, ``n3`` is not."""

    def __init__(self) -> None:
        self.store = Store(MemoryBackend(), wall=lambda: datetime.now(UTC))
        self.dispatcher = Dispatcher(self.store)
        self.sessions: dict[str, NodeSession] = {}

    async def begin(self) -> None:
        await self.store.start()
        network = Network(
            id="app",
            spec=NetworkSpec(name="app"),
            ipam_options=IPAMOptions(configs=[IPAMConfig(subnet="10.0.1.0/24", gateway="10.0.1.1")]),
        )

        def fill(tx) -> None:
            tx.create(Cluster(id="c"))
            tx.create(network)
            for number in (1, 2, 3):
                status = NodeStatus(state="ready", addr=f"192.0.2.{number}")
                tx.create(Node(id=f"n{number}", status=status))
                if number < 3:
                    tx.create(
                        Task(
                            id=f"t{number}",
                            service_id="s",
                            node_id=f"n{number}",
                            status=TaskStatus(state=TaskState.RUNNING),
                            desired_state=TaskState.RUNNING,
                            networks_attachments=[
                                NetworkAttachment(network=network, addresses=[f"10.0.1.{number}/24"])
                            ],
                        )
                    )

        await self.store.update(fill)
        for number in (1, 2, 3):
            session = await self.dispatcher.open(f"n{number}", NodeDescription(), f"192.0.2.{number}")
            self.sessions[f"n{number}"] = session
            await session.assignments()

    async def serving(self, node_id: str) -> tuple[int, list[tuple[str, bool]]]:
        """What a node is told next: the number to repeat, and who serves."""
        async with asyncio.timeout(5):
            message = await self.sessions[node_id].assignments()
        return message.acknowledge, [(item.id, item.serving) for table in message.tables for item in table.endpoints]


@pytest.fixture
async def world():
    made = World()
    await made.begin()
    yield made
    await made.store.close()


async def test_a_task_that_is_about_to_stop_waits_until_all_who_could_send_it_something_know(world: World) -> None:
    asked = asyncio.create_task(world.sessions["n1"].withdraw("t1"))
    numbers = {}
    for node_id in ("n1", "n2"):
        numbers[node_id], serving = await world.serving(node_id)
        assert serving == [("t1", False)]
        assert numbers[node_id]
    await world.sessions["n1"].acknowledge(numbers["n1"])
    await asyncio.sleep(0)
    assert not asked.done()
    await world.sessions["n2"].acknowledge(numbers["n2"])
    async with asyncio.timeout(5):
        await asked


async def test_a_node_that_does_not_answer_holds_up_nobody_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatchers, "WITHDRAWAL_SECONDS", 0.01)
    async with asyncio.timeout(5):
        await world.sessions["n1"].withdraw("t1")
    world.sessions["n2"].close()
    await world.serving("n1")
    monkeypatch.setattr(dispatchers, "WITHDRAWAL_SECONDS", 60)
    asked = asyncio.create_task(world.sessions["n1"].withdraw("t1"))
    number, _ = await world.serving("n1")
    await world.sessions["n1"].acknowledge(number)
    async with asyncio.timeout(5):
        await asked


async def test_other_nodes_tasks_are_not_theirs_to_withdraw(world: World) -> None:
    async with asyncio.timeout(5):
        await world.sessions["n2"].withdraw("t1")
        await world.sessions["n2"].withdraw("nobody")
