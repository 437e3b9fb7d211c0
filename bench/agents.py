"""How many nodes one manager bears: simulated agents over real sockets and mutual TLS, on loopback.

``.venv/bin/python bench/agents.py --agents 5000``. The manager's side is the real one (sqlite, dispatcher, sessions,
failure detection) in one process; the agents are a second process that runs no containers: it registers, follows its
assignments, reports every task as running at once, and sends heartbeats.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import resource
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from enxame.manager.admission import Admission
from enxame.manager.dispatcher import Dispatcher
from enxame.manager.failure_detector import FailureDetector
from enxame.manager.leadership import AlwaysLeads
from enxame.manager.node_sessions import NodeSessions
from enxame.manager.swarm import new_cluster
from enxame.model.cluster import InitRequest
from enxame.model.dispatch import TaskStatusUpdate
from enxame.model.node import ManagerStatus, Node, NodeDescription, NodeSpec, NodeStatus
from enxame.model.service import ContainerSpec, TaskSpec
from enxame.model.task import Task, TaskState, TaskStatus
from enxame.security import ca
from enxame.store.interface import Tx
from enxame.store.sqlite import SqliteBackend
from enxame.store.store import Store
from enxame.transport import dialer
from enxame.transport.identity import Identity, client_context, server_context
from enxame.transport.listener import Listener
from enxame.transport.methods import (
    NODE_ASSIGNMENTS,
    NODE_HEARTBEAT,
    NODE_REPORT,
    NODE_SESSION,
    Beat,
    Nothing,
    SessionRequest,
    StatusReport,
)
from enxame.transport.peer import Peer, Served

STEADY_SECONDS = 20
DEADLINE = 300.0


def wall() -> datetime:
    return datetime.now(UTC)


def rss_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def identity_of(root: ca.KeyPair, node_id: str, role: str) -> Identity:
    pair = ca.issue_node_certificate(
        root, node_id=node_id, role=role, cluster_id="c1", expiry=timedelta(days=1), now=wall()
    )
    return Identity(pair.cert, pair.key, root.cert)


@contextmanager
def measured(name: str, count: int) -> Iterator[None]:
    began, cpu = time.perf_counter(), time.process_time()
    yield
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{name:58s} {took:8.2f} s  {count / took:8.0f}/s  manager's cpu {cpu / count * 1e6:6.0f} us each", flush=True
    )


class Manager:
    """A manager's port and what is behind it."""

    def __init__(self, directory: Path, root: ca.KeyPair, agents: int) -> None:
        self.agents = agents
        self.root = root
        self.store = Store(SqliteBackend(directory / "state.db"), wall=wall)
        self.detector = FailureDetector(self.store, "m1", time.monotonic, self._cut)
        self.dispatcher = Dispatcher(self.store)
        self.sessions = NodeSessions(self.store, self.dispatcher, self.detector)
        admission = Admission(self.store, AlwaysLeads("m1"), wall=wall, joined=self.detector.expect)
        served = Served()
        admission.serve(served)
        self.sessions.serve(served)
        self.listener = Listener(served, admission.check)
        self.work: list[asyncio.Task[None]] = []
        self.accused: set[str] = set()

    def _cut(self, node_id: str) -> None:
        self.listener.cut(node_id)

    def count(self, state: str) -> int:
        return sum(node.status.state == state for node in self.store.view.all(Node))

    def running(self) -> int:
        return sum(task.status.state is TaskState.RUNNING for task in self.store.view.all(Task))

    async def found(self) -> None:
        """A swarm whose nodes have joined already."""
        await self.store.start()

        def create(tx: Tx) -> None:
            tx.create(new_cluster("c1", InitRequest(), self.root))
            status = ManagerStatus(leader=True, reachability="reachable", addr="127.0.0.1:2377")
            spec = NodeSpec(role="manager", availability="active")
            tx.create(Node(id="m1", spec=spec, manager_status=status, status=NodeStatus(state="ready")))
            for number in range(self.agents):
                spec = NodeSpec(role="worker", availability="active")
                tx.create(Node(id=f"n{number}", spec=spec, status=NodeStatus(state="unknown")))

        await self.store.update(create)

    async def lead(self, port: int = 0) -> int:
        """Begin as a manager that has just come up; returns the port."""
        await self.detector.start()
        loop = asyncio.get_running_loop()
        self.work = [
            loop.create_task(work)
            for work in (self.detector.run(), self.dispatcher.run(), self.sessions.follow(self.listener))
        ]
        context = server_context(identity_of(self.root, "m1", "manager"))
        return await self.listener.listen("127.0.0.1", port, context)

    async def end(self) -> None:
        for task in self.work:
            task.cancel()
        await asyncio.wait(self.work)
        await self.listener.close()
        await self.store.close()

    async def until(self, what: str, count: int, asked: str) -> None:
        async with asyncio.timeout(DEADLINE):
            # Counting at every commit would weigh more than what is measured.
            while (self.running() if what == "running" else self.count(asked)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def measure(self, agents: Connection) -> int:
        """All that is measured of the first manager; returns its port."""
        await self.found()
        port = await self.lead()
        loop = asyncio.get_running_loop()
        agents.send(port)
        await loop.run_in_executor(None, agents.recv)  # the certificates are made
        first = self.agents // 5
        before = rss_kib()
        agents.send(first)
        with measured(f"storm: {first} agents register", first):
            await self.until("nodes", first, "ready")
        down = loop.create_task(self.watch_down())
        agents.send(self.agents - first)
        with measured(f"storm: {self.agents - first} more while those beat", self.agents - first):
            await self.until("nodes", self.agents, "ready")
        each = (rss_kib() - before) / self.agents
        print(f"{'memory of a session':58s} {each:8.1f} KiB  (manager: {rss_kib() >> 10} MiB)")
        cpu = time.process_time()
        await asyncio.sleep(STEADY_SECONDS)
        share = (time.process_time() - cpu) / STEADY_SECONDS
        period = self.detector.period
        print(f"{'heartbeats':58s} {self.agents / period:8.0f}/s  {share:8.1%} of a core  (every {period:g} s)")

        def assign(tx: Tx) -> None:
            for number in range(self.agents):
                tx.create(
                    Task(
                        id=f"t{number}",
                        node_id=f"n{number}",
                        service_id="s1",
                        spec=TaskSpec(container_spec=ContainerSpec(image="app")),
                        desired_state=TaskState.RUNNING,
                        status=TaskStatus(state=TaskState.ASSIGNED, timestamp=wall()),
                    )
                )

        with measured("one commit gives each a task, until all report it running", self.agents):
            await self.store.update(assign)
            await self.until("running", self.agents, "")
        down.cancel()
        await asyncio.wait({down})
        print(f"{'nodes held to be down (of none)':58s} {len(self.accused):8d}", flush=True)
        return port

    async def watch_down(self) -> None:
        while True:
            self.accused |= {node.id for node in self.store.view.all(Node) if node.status.state == "down"}
            await asyncio.sleep(0.2)

    async def measure_again(self, agents: Connection, port: int) -> None:
        """The storm after a change of leader: this manager takes the place of another one."""
        await self.store.start()
        await self.lead(port)
        loop = asyncio.get_running_loop()
        down = loop.create_task(self.watch_down())
        with measured("storm: all come back to a new leader", self.agents):
            await self.until("nodes", self.agents, "ready")
        await asyncio.sleep(STEADY_SECONDS)
        down.cancel()
        await asyncio.wait({down})
        print(f"{'nodes held to be down (of none)':58s} {len(self.accused):8d}", flush=True)
        agents.send("end")
        await loop.run_in_executor(None, agents.recv)


async def agent(number: int, context: ssl.SSLContext, address: str, failures: list[str]) -> None:
    node_id = f"n{number}"
    delay, period = 0.0, 0.0
    while True:
        try:
            async with dialer.link(address, context) as peer:
                news = peer.stream(NODE_SESSION, SessionRequest(description=NodeDescription(hostname=node_id)))
                period = (await anext(news)).heartbeat_period
                delay = 0.0
                async with asyncio.TaskGroup() as group:
                    group.create_task(beat(peer))
                    group.create_task(work(peer))
        except* Exception as group:  # noqa: BLE001 - whatever happens to one of thousands, it tries again and is counted
            failures.append(str(group.exceptions[0]) or type(group.exceptions[0]).__name__)
        delay = dialer.next_delay(delay, random.random())
        await asyncio.sleep(delay + dialer.spread(period, random.random()))
        period = 0.0


async def beat(peer: Peer) -> None:
    period = 1.0
    while True:
        await asyncio.sleep(period * (0.8 + 0.2 * random.random()))
        period = (await peer.call(NODE_HEARTBEAT, Beat(), deadline=3 * period)).period


async def work(peer: Peer) -> None:
    async for item in peer.stream(NODE_ASSIGNMENTS, Nothing()):
        status = TaskStatus(state=TaskState.RUNNING, timestamp=wall())
        updates = [
            TaskStatusUpdate(task_id=task.id, status=status)
            for task in item.tasks
            if task.status.state is not TaskState.RUNNING
        ]
        if updates:
            await peer.call(NODE_REPORT, StatusReport(updates=updates))


def run_agents(count: int, root: ca.KeyPair, manager: Connection) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        port = manager.recv()
        contexts = [client_context(identity_of(root, f"n{number}", "worker")) for number in range(count)]
        manager.send("ready")
        failures: list[str] = []
        agents: list[asyncio.Task[None]] = []
        while isinstance(more := await loop.run_in_executor(None, manager.recv), int):
            for number in range(len(agents), len(agents) + more):
                work = agent(number, contexts[number], f"127.0.0.1:{port}", failures)
                agents.append(loop.create_task(work))
        kinds = {text: failures.count(text) for text in sorted(set(failures))[:5]}
        print(f"{'failed tries of agents':58s} {len(failures):8d}  {json.dumps(kinds) if kinds else ''}", flush=True)
        for task in agents:
            task.cancel()
        await asyncio.wait(agents)
        manager.send("ended")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=5000)
    count = parser.parse_args().agents
    limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4 * count + 1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    root = ca.create_root(wall())
    here, there = multiprocessing.Pipe()
    agents = multiprocessing.Process(target=run_agents, args=(count, root, there), daemon=True)
    agents.start()
    with tempfile.TemporaryDirectory(prefix="enxame-agents-") as directory:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measure(Path(directory), root, count, here))
        finally:
            agents.join(5)
            agents.kill()


async def measure(directory: Path, root: ca.KeyPair, count: int, agents: Connection) -> None:
    manager = Manager(directory, root, count)
    port = await manager.measure(agents)
    await manager.end()
    successor = Manager(directory, root, count)
    await successor.measure_again(agents, port)
    await successor.end()


if __name__ == "__main__":
    main()
