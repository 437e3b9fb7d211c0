"""Which swarm networks a node keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enxame.agent.agent import Agent, Attacher
from enxame.agent.controller import TaskError
from enxame.agent.database import TaskDatabase
from enxame.agent.payloads import PayloadFiles
from enxame.errors import EnxameError
from enxame.model.attachment import Attachment
from enxame.model.dispatch import Assignments, DataPath, NetworkTable
from enxame.model.filters import Filters
from enxame.model.network import Network, NetworkResource, NetworkSpec
from enxame.model.task import NetworkAttachment, Task, TaskState, TaskStatus


class Networks:
    """Remembers what is present."""

    def __init__(self, *present: str) -> None:
        self.present = set(present)

    def list(self, filters: Filters) -> list[NetworkResource]:
        assert filters.get("scope") == {"swarm"}
        return [NetworkResource(id=network_id, scope="swarm") for network_id in self.present]

    async def ensure_swarm_network(self, network: Network) -> None:
        self.present.add(network.id)

    async def remove_swarm_network(self, network_id: str) -> None:
        self.present.discard(network_id)

    def set_attacher(self, attacher: Attacher) -> None: ...

    def unset_attacher(self, attacher: Attacher) -> None: ...

    async def compare_attachments(self, known: Sequence[Attachment]) -> None: ...

    async def leave_swarm_networks(self) -> None: ...

    async def set_data_path(self, data_path: DataPath) -> None: ...

    async def set_network_tables(self, tables: Sequence[NetworkTable], *, complete: bool) -> None: ...


class SlowNetworks(Networks):
    """Its first removal lasts until it is cancelled."""

    def __init__(self, *present: str) -> None:
        super().__init__(*present)
        self.removing = asyncio.Event()

    async def remove_swarm_network(self, network_id: str) -> None:
        if not self.removing.is_set():
            self.removing.set()
            await asyncio.Event().wait()
        await super().remove_swarm_network(network_id)


class CrowdedNetworks(Networks):
    """Has no room for a network while another is there."""

    async def ensure_swarm_network(self, network: Network) -> None:
        if self.present - {network.id}:
            raise EnxameError("overlaps")
        await super().ensure_swarm_network(network)


class Failing:
    """Its tasks cannot be prepared."""

    async def prepare(self) -> None:
        raise TaskError("no")

    async def remove(self) -> None: ...

    def is_running(self) -> bool:
        return False

    def was_started(self) -> bool:
        return False

    def container_status(self) -> None:
        return None


class FailingExecutor:
    """What it is asked to run fails."""

    def controller(self, task: Task, withdraw: object) -> Failing:
        return Failing()


def agent_on(networks: Networks, directory: Path) -> Agent:
    return Agent(
        executor=FailingExecutor(),  # type: ignore[arg-type] - no more is asked of it
        networks=networks,
        database=TaskDatabase(directory / "tasks.db"),
        payloads=PayloadFiles(directory / "payloads"),
        wall=lambda: datetime.now(UTC),
    )


async def test_networks_taken_away_while_the_daemon_was_away_go_with_the_first_assignments(tmp_path: Path) -> None:
    networks = Networks("kept", "gone")
    agent = agent_on(networks, tmp_path)
    await agent.start()
    try:
        assert networks.present == {"kept", "gone"}
        kept = Network(id="kept", spec=NetworkSpec(name="app"))
        await agent.apply(Assignments(complete=True, networks=[kept]))
        assert networks.present == {"kept"}
    finally:
        await agent.stop()


async def test_a_task_that_has_ended_keeps_no_network(tmp_path: Path) -> None:
    networks = Networks()
    agent = agent_on(networks, tmp_path)
    await agent.start()
    try:
        own = Network(id="own", spec=NetworkSpec(name="own"))
        attachments = [NetworkAttachment(network=own)]
        task = Task(
            id="t1",
            desired_state=TaskState.RUNNING,
            status=TaskStatus(state=TaskState.ASSIGNED),
            networks_attachments=attachments,
        )
        await agent.apply(Assignments(networks=[own], tasks=[task]))
        assert networks.present == {"own"}
        await agent.apply(Assignments(removed_networks=["own"]))
        assert networks.present == {"own"}
        async with asyncio.timeout(5):
            while networks.present:  # as the manager does when it is told that the task was rejected
                await asyncio.sleep(0)
                await agent.apply(Assignments(removed_networks=["own"]))
    finally:
        await agent.stop()


async def test_a_network_that_had_no_room_is_made_when_there_is_some(tmp_path: Path) -> None:
    networks = CrowdedNetworks("old")
    agent = agent_on(networks, tmp_path)
    await agent.start()
    try:
        await agent.apply(Assignments(networks=[Network(id="new", spec=NetworkSpec(name="app"))]))
        assert networks.present == {"old"}
        await agent.apply(Assignments(removed_networks=["old"]))
        assert networks.present == {"new"}
        await agent.apply(Assignments(removed_networks=["new"]))
        assert networks.present == set()
    finally:
        await agent.stop()


async def test_a_network_that_came_with_an_attachment_goes_with_the_first_assignments_without_it(
    tmp_path: Path,
) -> None:
    networks = Networks()
    agent = agent_on(networks, tmp_path)
    await agent.start()
    try:
        networks.present.add("attached")
        await agent.apply(Assignments(complete=True))
        assert networks.present == set()
    finally:
        await agent.stop()


@pytest.mark.parametrize(
    "removal", [Assignments(removed_networks=["gone"]), Assignments(complete=True)], ids=["told", "missing in a set"]
)
async def test_a_removal_that_a_broken_session_interrupts_is_done_in_the_next(
    tmp_path: Path, removal: Assignments
) -> None:
    networks = SlowNetworks("gone")
    agent = agent_on(networks, tmp_path)
    await agent.start()
    try:
        session = asyncio.create_task(agent.apply(removal))
        await networks.removing.wait()
        session.cancel()
        await asyncio.wait({session})
        assert networks.present == {"gone"}
        await agent.apply(Assignments(complete=True))
        assert networks.present == set()
    finally:
        await agent.stop()
