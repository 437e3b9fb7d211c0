"""What the scheduler knows of a node: what is left of it, what runs there, what failed there lately."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final, TypeAlias

from enxame.control.generic_resources import GenericStock
from enxame.control.restart import spec_version
from enxame.model.node import Node
from enxame.model.service import Reservation
from enxame.model.task import Task, TaskState

#: A node where a spec failed so often within ``FAILURE_WINDOW`` seconds is chosen last for it.
MAX_FAILURES: Final = 5
FAILURE_WINDOW: Final = 300.0

SpecKey: TypeAlias = tuple[str, int]
HostPort: TypeAlias = tuple[int, str]

_NOTHING: Final = Reservation()


def reservation(task: Task) -> Reservation:
    """What the task wants set aside."""
    resources = task.spec.resources
    reserved = resources.reservations if resources is not None else None
    return _NOTHING if reserved is None else reserved


def host_ports(task: Task) -> list[HostPort]:
    """The ports the task takes of its node alone."""
    if task.internal is None or not task.internal.ports:
        return []
    return [
        (port.published_port, port.protocol or "tcp")
        for port in task.internal.ports
        if port.publish_mode == "host" and port.published_port
    ]


class NodeLoad:
    """One node's tasks and what they leave."""

    def __init__(self, node: Node, rank: float) -> None:
        self.node = node
        #: Breaks ties between equally loaded nodes.
        self.rank = rank
        self.tasks: dict[str, Task] = {}
        self.total = 0
        self.by_service: dict[str, int] = {}
        self.used_ports: Counter[HostPort] = Counter()
        self._failures: dict[SpecKey, deque[float]] = {}
        self._restock()

    def change(self, node: Node) -> None:
        """The node's description or spec changed."""
        self.node = node
        self._restock()

    def put(self, task: Task) -> None:
        """Account for a task that is placed here and has not ended."""
        self.remove(task.id)
        self.tasks[task.id] = task
        reserved = reservation(task)
        if reserved is not _NOTHING:
            self.nano_cpus -= reserved.nano_cpus
            self.memory -= reserved.memory_bytes
            self.generic.take(task.assigned_generic_resources)
        if task.desired_state <= TaskState.COMPLETE:
            self.total += 1
            self.by_service[task.service_id] = self.by_service.get(task.service_id, 0) + 1
        for port in host_ports(task):
            self.used_ports[port] += 1

    def remove(self, task_id: str) -> bool:
        """Give back what a task had; False when it was not here."""
        task = self.tasks.pop(task_id, None)
        if task is None:
            return False
        reserved = reservation(task)
        if reserved is not _NOTHING:
            self.nano_cpus += reserved.nano_cpus
            self.memory += reserved.memory_bytes
            self.generic.give_back(task.assigned_generic_resources)
        if task.desired_state <= TaskState.COMPLETE:
            self.total -= 1
            left = self.by_service[task.service_id] - 1
            if left:
                self.by_service[task.service_id] = left
            else:
                del self.by_service[task.service_id]
        for port in host_ports(task):
            self.used_ports[port] -= 1
            if not self.used_ports[port]:
                del self.used_ports[port]
        return True

    def note_failure(self, task: Task, now: float) -> None:
        """A task of this spec failed here."""
        times = self._failures.setdefault((task.service_id, spec_version(task)), deque(maxlen=4 * MAX_FAILURES))
        times.append(now)

    def penalty(self, spec: SpecKey, now: float) -> int:
        """Recent failures of this spec if there are too many of them, else 0."""
        times = self._failures.get(spec)
        if times is None:
            return 0
        while times and times[0] <= now - FAILURE_WINDOW:
            times.popleft()
        if not times:
            del self._failures[spec]
            return 0
        return len(times) if len(times) >= MAX_FAILURES else 0

    def weight(self, spec: SpecKey, now: float) -> tuple[int, int, int, float]:
        """How little it is worth as a place for a task of this spec."""
        failures = self.penalty(spec, now) if self._failures else 0
        return failures, self.by_service.get(spec[0], 0), self.total, self.rank

    def summary(self) -> tuple[object, ...]:
        """Tasks and what they leave."""
        services = sorted(self.by_service.items())
        return sorted(self.tasks), self.total, services, sorted(self.used_ports), self.nano_cpus, self.memory

    def _restock(self) -> None:
        #: It takes new tasks.
        self.is_ready = self.node.status.state == "ready" and self.node.spec.availability in ("active", "")
        resources = self.node.description.resources
        self.nano_cpus = resources.nano_cpus
        self.memory = resources.memory_bytes
        self.generic = GenericStock(resources.generic_resources)
        for task in self.tasks.values():
            reserved = reservation(task)
            self.nano_cpus -= reserved.nano_cpus
            self.memory -= reserved.memory_bytes
            self.generic.take(task.assigned_generic_resources)
