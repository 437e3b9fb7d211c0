"""A leader on a store and a clock that stand still: tests play the manager and the nodes."""

from __future__ import annotations

import random
from typing import Any

from msgspec.structs import replace

from enxame.control.leader import Leader
from enxame.model.base import Meta
from enxame.model.cluster import NANOSECONDS, Cluster
from enxame.model.network import Network, NetworkSpec
from enxame.model.node import Node, NodeDescription, NodeResources, NodeSpec, NodeStatus
from enxame.model.service import (
    ContainerSpec,
    GlobalService,
    ReplicatedService,
    RestartPolicy,
    Service,
    ServiceInternal,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from enxame.model.task import Task, TaskState, TaskStatus
from enxame.store.interface import Event
from enxame.testing.clock import VirtualClock
from enxame.testing.sync_store import SyncStore


class Lab:
    """A store, a clock and a leader; tests play the manager and the nodes."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = SyncStore(self.clock.wall)
        self._ids = 0
        self.wake: float | None = None
        #: All events that the leader was given.
        self.events: list[Event] = []
        self.put(Cluster(id="cluster"), Network(id="ingress", spec=NetworkSpec(name="ingress", ingress=True)))
        self.elect()

    def new_id(self) -> str:
        self._ids += 1
        return f"task{self._ids:05d}"

    def elect(self) -> None:
        self.leader = Leader(self.new_id, random.Random(7).random)
        self.events += self.store.take_events()
        self.wake = self.store.update(lambda tx: self.leader.start(tx, self.clock.now()))
        self.settle()

    def step(self) -> bool:
        """One step; whether it changed anything."""
        before = self.store.revision
        events = self.store.take_events()
        self.events += events
        self.wake = self.store.update(lambda tx: self.leader.step(tx, events, self.clock.now()))
        return self.store.revision != before

    def settle(self) -> None:
        for _ in range(20):
            if not self.step():
                return
        raise AssertionError("the leader does not come to rest")

    def pass_time(self, seconds: float) -> None:
        """Let time pass, waking the leader when it asked for it."""
        end = self.clock.mono + seconds
        while self.wake is not None and self.wake <= end:
            self.clock.run_until(self.wake)
            self.settle()
        self.clock.run_until(end)
        self.settle()

    def put(self, *objects: Meta) -> None:
        for obj in objects:
            self.store.update(lambda tx, obj=obj: tx.create(obj))

    def change(self, obj: Meta, **fields: Any) -> None:
        current = self.store.view.get(type(obj), obj.id)
        assert current is not None
        self.store.update(lambda tx: tx.update(replace(current, **fields)))

    def delete(self, obj: Meta) -> None:
        self.store.update(lambda tx: tx.delete(type(obj), obj.id))

    def node(self, node_id: str, *, cpus: int = 4, labels: dict[str, str] | None = None, **fields: Any) -> Node:
        node = Node(
            id=node_id,
            spec=NodeSpec(role="worker", availability="active", labels=labels or {}),
            description=NodeDescription(
                hostname=node_id, resources=NodeResources(nano_cpus=cpus * NANOSECONDS, memory_bytes=8 << 30)
            ),
            status=NodeStatus(state="ready"),
        )
        node = replace(node, **fields)
        self.put(node)
        return node

    def service(
        self,
        name: str,
        replicas: int = 1,
        *,
        container: ContainerSpec | None = None,
        spec: dict[str, Any] | None = None,
        **template: Any,
    ) -> Service:
        """``spec`` are fields of the service's spec, other keywords of its task template. ``replicas`` -1 is global."""
        mode = (
            ServiceMode(global_=GlobalService())
            if replicas < 0
            else ServiceMode(replicated=ReplicatedService(replicas=replicas))
        )
        task = TaskSpec(container_spec=container or ContainerSpec(image="v1"), **template)
        service = Service(
            id=f"{name}-id",
            spec=ServiceSpec(name=name, mode=mode, task_template=task, **(spec or {})),
            internal=ServiceInternal(spec_version=1),
        )
        self.put(service)
        self.step()
        return service

    def get(self, service: Service) -> Service:
        found = self.store.view.get(Service, service.id)
        assert found is not None
        return found

    def update(self, service: Service, **template: Any) -> None:
        """As the API does: a new spec, the old one kept, a greater version."""
        current = self.get(service)
        internal = current.internal or ServiceInternal()
        spec = replace(current.spec, task_template=replace(current.spec.task_template, **template))
        self.change(
            current,
            spec=spec,
            previous_spec=current.spec,
            update_status=None,
            internal=ServiceInternal(spec_version=self.store.revision + 1, previous_spec_version=internal.spec_version),
        )
        self.step()

    def scale(self, service: Service, replicas: int) -> None:
        current = self.get(service)
        mode = ServiceMode(replicated=ReplicatedService(replicas=replicas))
        self.change(current, spec=replace(current.spec, mode=mode), previous_spec=current.spec, update_status=None)
        self.step()

    def tasks(self, service: Service | None = None) -> list[Task]:
        found = self.store.view.all(Task) if service is None else self.store.view.find(Task, "service_id", service.id)
        return sorted(found, key=lambda task: task.id)

    def wanted(self, service: Service) -> list[Task]:
        return [task for task in self.tasks(service) if task.desired_state is TaskState.RUNNING]

    def task(self, task: Task) -> Task:
        found = self.store.view.get(Task, task.id)
        assert found is not None
        return found

    def report(self, task: Task, state: TaskState, err: str = "") -> None:
        """What the task's node says."""
        self.change(task, status=TaskStatus(timestamp=self.clock.wall(), state=state, err=err))

    def play(self, *, exclude: tuple[str, ...] = ()) -> None:
        """Nodes do at once what they are told, until nothing is left to do. Tasks in ``exclude`` do nothing."""
        for _ in range(50):
            self.settle()
            moved = False
            for task in self.tasks():
                if task.id not in exclude and task.node_id:
                    moved |= self._play_task(task)
            if not moved:
                return
        raise AssertionError("the nodes do not come to rest")

    def _play_task(self, task: Task) -> bool:
        state, desired = task.status.state, task.desired_state
        if state.is_terminal or state < TaskState.ASSIGNED:
            return False
        if desired >= TaskState.SHUTDOWN:
            self.report(task, TaskState.SHUTDOWN)
        elif desired is TaskState.RUNNING and state < TaskState.RUNNING:
            self.report(task, TaskState.RUNNING)
        elif desired is TaskState.READY and state < TaskState.READY:
            self.report(task, TaskState.READY)
        else:
            return False
        return True


def policy(condition: str = "any", delay: float = 5, attempts: int = 0, window: float = 0) -> RestartPolicy:
    return RestartPolicy(
        condition=condition,
        delay=int(delay * NANOSECONDS),
        max_attempts=attempts,
        window=int(window * NANOSECONDS),
    )
