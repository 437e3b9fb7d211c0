"""How long the leader's decisions take in large swarms: the pure core alone, without disks, networks and containers.

    .venv/bin/python -m bench.decisions [--nodes 1000] [--scale 1.0] [--profile SCENARIO]

One process, no sockets: a store in memory, and nodes that report at once what they are asked for. Times are the
processor's.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from msgspec.structs import replace

from enxame.control.leader import Leader
from enxame.model.base import Meta
from enxame.model.cluster import NANOSECONDS, Cluster
from enxame.model.network import Network, NetworkSpec
from enxame.model.node import Node, NodeDescription, NodeResources, NodeSpec, NodeStatus
from enxame.model.service import (
    ContainerSpec,
    NetworkAttachmentConfig,
    Placement,
    ReplicatedService,
    Service,
    ServiceInternal,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from enxame.model.task import Task, TaskState
from enxame.store.interface import Event, Tx
from enxame.testing.clock import VirtualClock
from enxame.testing.sync_store import SyncStore

#: A pass takes in so many reports of nodes at once.
REPORTS_AT_ONCE = 500


class Swarm:
    """A leader, its store, and nodes without containers."""

    def __init__(self, nodes: int) -> None:
        self.clock = VirtualClock()
        self.store = SyncStore(self.clock.wall)
        self._ids = 0
        self._versions = 0
        self._events: list[Event] = []
        #: Tasks that changed since nodes last looked.
        self._touched: dict[str, None] = {}
        self.leader = Leader(self.new_id, random.Random(1).random)
        self.put(
            Cluster(id="cluster"),
            Network(id="ingress", spec=NetworkSpec(name="ingress", ingress=True)),
            Network(id="wide", spec=NetworkSpec(name="wide")),
            *(_node(number) for number in range(nodes)),
        )
        self._events.clear()
        self.wake = self.store.update(lambda tx: self.leader.start(tx, self.clock.now()))

    def new_id(self) -> str:
        self._ids += 1
        return f"task{self._ids:07d}"

    def commit(self, change: Callable[[Tx], object]) -> None:
        """Somebody changes something; the leader sees it at its next step."""
        self.store.update(change)
        self._see()

    def _see(self) -> None:
        events = self.store.take_events()
        self._events += events
        self._touched.update(dict.fromkeys(event.object.id for event in events if isinstance(event.object, Task)))

    def put(self, *objects: Meta) -> None:
        def create(tx: Tx) -> None:
            for obj in objects:
                tx.create(obj)

        self.commit(create)

    def create(self, name: str, replicas: int, *, networks: tuple[str, ...] = (), constraint: str = "") -> None:
        self._versions += 1
        template = TaskSpec(
            container_spec=ContainerSpec(image="v1"),
            networks=[NetworkAttachmentConfig(target=target) for target in networks],
            placement=Placement(constraints=[constraint]) if constraint else None,
        )
        spec = ServiceSpec(
            name=name,
            mode=ServiceMode(replicated=ReplicatedService(replicas=replicas)),
            task_template=template,
            update_config=UpdateConfig(parallelism=100, monitor=NANOSECONDS),
        )
        self.put(Service(id=name, spec=spec, internal=ServiceInternal(spec_version=self._versions)))

    def step(self) -> None:
        events, self._events = self._events, []
        self.wake = self.store.update(lambda tx: self.leader.step(tx, events, self.clock.now()))
        self._see()

    def decide(self) -> None:
        """Passes until the leader wants no other at once; nodes say nothing."""
        while self._events or (self.wake is not None and self.wake <= self.clock.mono):
            self.step()

    def settle(self) -> None:
        """Nodes do what they are told, some hundred reports a pass, until nothing is left to do."""
        while True:
            while self._events or self._touched:
                self.step()
                self._report()
            if self.wake is None or self.wake > self.clock.mono + 60:
                return
            self.clock.run_until(self.wake)
            self.step()

    def _report(self) -> None:
        touched, self._touched = self._touched, {}
        todo = []
        for task_id in touched:
            task = self.store.view.get(Task, task_id)
            if task is None or task.status.state < TaskState.ASSIGNED or task.status.state.is_terminal:
                continue
            if task.desired_state > TaskState.RUNNING:
                todo.append((task.id, TaskState.SHUTDOWN))
            elif task.status.state < task.desired_state:
                todo.append((task.id, task.desired_state))
        for start in range(0, len(todo), REPORTS_AT_ONCE):
            self.commit(partial(_tell, some=todo[start : start + REPORTS_AT_ONCE]))
            self.step()

    def change_node(self, node_id: str, availability: str) -> None:
        node = self.store.view.get(Node, node_id)
        assert node is not None
        spec = replace(node.spec, availability=availability)
        self.commit(lambda tx: tx.update(replace(node, spec=spec)))

    def change_service(self, name: str, **template: object) -> None:
        service = self.store.view.get(Service, name)
        assert service is not None
        assert service.internal is not None
        self._versions += 1
        spec = replace(service.spec, task_template=replace(service.spec.task_template, **template))
        internal = ServiceInternal(self._versions, service.internal.spec_version)
        changed = replace(service, spec=spec, previous_spec=service.spec, update_status=None, internal=internal)
        self.commit(lambda tx: tx.update(changed))

    def scale(self, name: str, replicas: int) -> None:
        service = self.store.view.get(Service, name)
        assert service is not None
        mode = ServiceMode(replicated=ReplicatedService(replicas=replicas))
        self.commit(lambda tx: tx.update(replace(service, spec=replace(service.spec, mode=mode))))


def _node(number: int) -> Node:
    name = f"node{number:04d}"
    return Node(
        id=name,
        spec=NodeSpec(role="worker", availability="active", labels={"zone": "abc"[number % 3]}),
        description=NodeDescription(
            hostname=name, resources=NodeResources(nano_cpus=16 * NANOSECONDS, memory_bytes=64 << 30)
        ),
        status=NodeStatus(state="ready", addr="192.0.2.1"),
    )


def _tell(tx: Tx, some: list[tuple[str, TaskState]]) -> None:
    for task_id, state in some:
        task = tx.get(Task, task_id)
        if task is not None:
            tx.update(replace(task, status=replace(task.status, state=state)))


def scenarios(nodes: int, scale: float) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is measured, in order; each begins where the one before ended. The timed part is what is called."""
    swarm = Swarm(nodes)
    many, services = int(10_000 * scale), int(1_000 * scale)
    swarm.create("web", many)
    yield f"service create --replicas {many} on {nodes} nodes: the first pass", swarm.step
    yield "  … all passes", swarm.decide
    yield "  … and all of it reported", swarm.settle
    swarm.scale("web", many + 10)
    yield "scaled by 10 more", swarm.step
    swarm.settle()
    task = next(iter(swarm.store.view.all(Task)))
    assert task.status.state is TaskState.RUNNING
    swarm.commit(lambda tx: _tell(tx, [(task.id, TaskState.FAILED)]))
    yield "one task of them fails", swarm.step
    swarm.settle()
    swarm.change_node("node0000", "drain")
    yield f"a node with {len(list(swarm.store.view.find(Task, 'node_id', 'node0000')))} tasks is drained", swarm.step
    yield "  … until they run elsewhere", swarm.settle
    swarm.change_node("node0000", "active")
    swarm.settle()
    swarm.change_service("web", force_update=1)
    yield f"rolling update of {many}, 100 at a time, all of it", swarm.settle
    for number in range(services):
        swarm.create(f"s{number:04d}", 10, networks=("wide",) if number < 20 else ())
    yield f"{services} services of 10 created at once: the first pass", swarm.step
    yield "  … all passes", swarm.decide
    yield "  … and all of it reported", swarm.settle
    swarm.create("one-more", 10)
    yield "one more service of 10 beside them", swarm.step
    swarm.settle()
    for number in range(services // 5):
        swarm.create(f"nowhere{number}", 10, constraint="node.labels.zone==nowhere")
    yield f"{services // 5} services of 10 that no node is good for: the first pass", swarm.step
    yield "  … all passes", swarm.decide
    task = next(iter(swarm.store.view.find(Task, "service_id", "one-more")))
    swarm.commit(lambda tx: _tell(tx, [(task.id, TaskState.FAILED)]))
    yield "a task of another one fails beside them", swarm.step
    swarm.put(replace(_node(nodes), id="node-new"))
    yield "a node joins", swarm.step
    other = Leader(swarm.new_id, random.Random(1).random)
    yield "a new leader looks at everything", lambda: swarm.store.update(lambda tx: other.start(tx, swarm.clock.now()))


@contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    """Print where the time went."""
    if not wanted:
        yield
        return
    profile = cProfile.Profile()
    profile.enable()
    yield
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Run all scenarios and print their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of replicas and services")
    parser.add_argument("--profile", default="", help="show where the time of scenarios with this text goes")
    options = parser.parse_args()
    for name, run in scenarios(options.nodes, options.scale):
        with profiled(bool(options.profile) and options.profile in name):
            began = time.process_time()
            run()
            seconds = time.process_time() - began
        sys.stdout.write(f"{seconds * 1000:9.1f} ms  {name}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
