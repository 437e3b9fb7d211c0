"""What the leader knows between passes, and what one pass changes.

The board holds all tasks by service, slot and node, so that a pass costs what changed and not what exists. A pass reads
and changes tasks through it; every task is written to the transaction once, at the end. Events only say where to look:
the transaction's own objects are what counts, so late, repeated and own events do no harm.

Ordered dicts stand where sets would do: the same input gives the same decisions in the same order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count
from typing import Any, TypeAlias

from msgspec.structs import replace

from enxame.control.now import Now
from enxame.model.attachment import Attachment
from enxame.model.cluster import Cluster
from enxame.model.network import Network
from enxame.model.node import Node
from enxame.model.service import Service
from enxame.model.task import Task, TaskState
from enxame.store.interface import Event, Tx

#: A replicated task's slot number, or the node id of a global service's task.
SlotKey: TypeAlias = int | str
Slot: TypeAlias = tuple[str, SlotKey]
#: What a timer wakes: ("slot", service id, key), ("update" or "service", service id, ""), ("node", node id, ""),
#: ("keys", "", "").
TimerKey: TypeAlias = tuple[str, str, SlotKey]


def is_wanted(task: Task) -> bool:
    """The task is meant to run, now or later; a job's is meant to complete."""
    return task.desired_state <= TaskState.COMPLETE


def is_dead(task: Task) -> bool:
    """The task does not run and never will (again)."""
    state = task.status.state
    return state.is_terminal or (state < TaskState.ASSIGNED and not is_wanted(task))


class Board:
    """The leader's working memory. Between passes ``tx`` and ``now`` are stale: only a pass may use them."""

    tx: Tx
    now: Now

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.slots: dict[str, dict[SlotKey, dict[str, Task]]] = {}
        self.on_node: dict[str, dict[str, Task]] = {}
        #: Tasks that changed since the pass began (ids of deleted ones too).
        self.changed: dict[str, None] = {}
        self.dirty_slots: dict[Slot, None] = {}
        self.dirty_services: dict[str, None] = {}
        self.dirty_nodes: dict[str, None] = {}
        self.dirty_networks: dict[str, None] = {}
        self.dirty_attachments: dict[str, None] = {}
        #: Slots with a changed task; the reaper's and the updater's input.
        self.touched: dict[Slot, None] = {}
        self.due_updates: dict[str, None] = {}
        self.due_jobs: dict[str, None] = {}
        #: Grows with every change of a task.
        self.changes = 0
        self._full_at = 0
        self._writes: dict[str, str] = {}
        self._key_of: dict[str, SlotKey] = {}
        self._services: dict[str, Service] = {}
        self._nodes: dict[str, Node] = {}
        self._timers: list[tuple[float, int, TimerKey]] = []
        self._timer_of: dict[TimerKey, float] = {}
        self._order = count()
        self._history_limit: int | None = None
        self._keys_due = False

    # A pass

    def load(self, tx: Tx, now: Now) -> None:
        """Begin the first pass: everything is new."""
        self.tx, self.now = tx, now
        for task in sorted(tx.all(Task), key=lambda task: (task.created_at, task.id)):
            self._put(task)
            self._touch(task)
        self.dirty_networks.update(dict.fromkeys(sorted(network.id for network in tx.all(Network))))
        self.dirty_attachments.update(dict.fromkeys(sorted(item.id for item in tx.all(Attachment))))
        for node in sorted(tx.all(Node), key=lambda node: node.id):
            self._nodes[node.id] = node
            self.dirty_nodes[node.id] = None
        # Nodes that were removed while nobody led.
        self.dirty_nodes.update(dict.fromkeys(self.on_node))
        for service in sorted(tx.all(Service), key=lambda service: (service.created_at, service.id)):
            self._services[service.id] = service
            self.dirty_services[service.id] = None

    def begin(self, tx: Tx, events: Iterable[Event], now: Now) -> None:
        """Begin a pass: look at what the events name, and wake what is due."""
        self.tx, self.now = tx, now
        for event in events:
            self._observe(event)
        while self._timers and self._timers[0][0] <= now.mono:
            when, _, key = heapq.heappop(self._timers)
            if self._timer_of.get(key) == when:
                del self._timer_of[key]
                self._wake(key)

    def finish(self) -> float | None:
        """Write the pass's changes; the time of the next wake-up."""
        tx = self.tx
        for task_id, write in self._writes.items():
            if write == "delete":
                tx.delete(Task, task_id)
            elif write == "create":
                tx.create(self.tasks[task_id])
            else:
                tx.update(self.tasks[task_id])
        self._writes.clear()
        for dirty in (
            self.changed,
            self.dirty_nodes,
            self.dirty_networks,
            self.dirty_attachments,
            self.due_updates,
        ):
            dirty.clear()
        for service_id in self.dirty_services:
            self._remember_service(service_id)
        self.dirty_services.clear()
        self.dirty_slots.clear()
        self.touched.clear()
        while self._timers and self._timer_of.get(self._timers[0][2]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def allow(self, changes: int) -> None:
        """From here on the pass is :attr:`full` after so many changes of tasks."""
        self._full_at = self.changes + changes

    @property
    def full(self) -> bool:
        """The pass is as large as it may be: what can wait is left to the next."""
        return self.changes >= self._full_at

    def ledger(self) -> dict[str, object]:
        """Which tasks are where."""
        return {
            "tasks": sorted(self.tasks),
            "slots": sorted(
                (service, str(key), len(t)) for service, slots in self.slots.items() for key, t in slots.items()
            ),
            "nodes": sorted((node_id, sorted(tasks)) for node_id, tasks in self.on_node.items()),
        }

    # Tasks

    def create(self, task: Task) -> Task:
        """Add a task."""
        self._writes[task.id] = "create"
        self._put(task)
        self._touch(task)
        return task

    def change(self, task: Task, **fields: Any) -> Task:
        """Change a task's fields, on top of what others may have committed since the board saw it. Returns the task as
        it is now; a task that is gone is returned as it was and stays gone.
        """
        if task.id in self._writes:
            current: Task | None = self.tasks.get(task.id)
        else:
            current = self.tx.get(Task, task.id)
        if current is None:
            self._forget(task.id)
            return task
        changed = replace(current, **fields)
        if changed == current:
            return current
        self._writes.setdefault(task.id, "update")
        self._put(changed)
        self._touch(changed)
        return changed

    def delete(self, task: Task) -> None:
        """Remove a task."""
        if self._writes.get(task.id) == "create":
            del self._writes[task.id]
        elif self.tx.get(Task, task.id) is not None:
            self._writes[task.id] = "delete"
        self._forget(task.id)

    def slot_of(self, task: Task) -> Slot:
        """The slot a task is in."""
        return task.service_id, self._key(task)

    def in_slot(self, slot: Slot) -> list[Task]:
        """All tasks of a slot, oldest first."""
        return list(self.slots.get(slot[0], {}).get(slot[1], {}).values())

    # Others

    def service(self, service_id: str) -> Service | None:
        """The service as this pass sees it."""
        return self.tx.get(Service, service_id)

    def node(self, node_id: str) -> Node | None:
        """The node as this pass sees it."""
        return self.tx.get(Node, node_id)

    def nodes(self) -> list[Node]:
        """All nodes, in a stable order."""
        return sorted(self.tx.all(Node), key=lambda node: node.id)

    def cluster(self) -> Cluster | None:
        """The cluster object, when there is one."""
        return next(iter(self.tx.all(Cluster)), None)

    def update_service(self, service: Service) -> None:
        """Write a service; the board's own write is not news to it."""
        self.tx.update(service)
        self._services[service.id] = service

    def keys_due(self) -> bool:
        """Whether to look at the networks' keys: a network came or changed, or it is time."""
        due, self._keys_due = self._keys_due or bool(self.dirty_networks), False
        return due

    def wake_at(self, when: float, key: TimerKey) -> None:
        """Wake ``key`` at a monotonic time, or earlier if it is already due earlier."""
        current = self._timer_of.get(key)
        if current is None or when < current:
            self._timer_of[key] = when
            heapq.heappush(self._timers, (when, next(self._order), key))

    # Inside

    def _observe(self, event: Event) -> None:
        obj = event.object
        if isinstance(obj, Task):
            self._observe_task(obj.id)
        elif isinstance(obj, Service):
            self._observe_service(obj.id)
        elif isinstance(obj, Node):
            self._observe_node(obj.id)
        elif isinstance(obj, Network):
            self.dirty_networks[obj.id] = None
        elif isinstance(obj, Attachment):
            self.dirty_attachments[obj.id] = None
        elif isinstance(obj, Cluster):
            self._observe_cluster(obj)

    def _observe_task(self, task_id: str) -> None:
        known, current = self.tasks.get(task_id), self.tx.get(Task, task_id)
        if current is None:
            if known is not None:
                self._forget(task_id)
                self.dirty_services[known.service_id] = None
            return
        if known is current:
            return
        self._put(current)
        if known is None or not _same_for_us(known, current):
            self._touch(current)

    def _observe_service(self, service_id: str) -> None:
        known, current = self._services.get(service_id), self.service(service_id)
        if current is None:
            if self._services.pop(service_id, None) is not None or service_id in self.slots:
                self.dirty_services[service_id] = None
        elif (
            known is None
            or known.spec != current.spec
            or known.internal != current.internal
            or known.update_status != current.update_status
        ):
            self._services[service_id] = current
            self.dirty_services[service_id] = None

    def _observe_node(self, node_id: str) -> None:
        known, current = self._nodes.get(node_id), self.node(node_id)
        if current is None:
            if self._nodes.pop(node_id, None) is not None:
                self.dirty_nodes[node_id] = None
        elif (
            known is None
            or known.spec != current.spec
            or known.status != current.status
            or known.description != current.description
        ):
            self._nodes[node_id] = current
            self.dirty_nodes[node_id] = None

    def _observe_cluster(self, cluster: Cluster) -> None:
        limit = cluster.spec.orchestration.task_history_retention_limit
        if limit != self._history_limit:
            self._history_limit = limit
            self.touched.update({(service_id, key): None for service_id, slots in self.slots.items() for key in slots})

    def _remember_service(self, service_id: str) -> None:
        current = self.service(service_id)
        if current is None:
            self._services.pop(service_id, None)
        else:
            self._services[service_id] = current

    def _wake(self, key: TimerKey) -> None:
        kind, object_id, slot_key = key
        if kind == "slot":
            self.dirty_slots[object_id, slot_key] = None
        elif kind == "update":
            self.due_updates[object_id] = None
        elif kind == "service":
            self.dirty_services[object_id] = None
        elif kind == "keys":
            self._keys_due = True
        else:
            self.dirty_nodes[object_id] = None

    def _touch(self, task: Task) -> None:
        slot = self.slot_of(task)
        self.changes += 1
        self.changed[task.id] = None
        self.dirty_slots[slot] = None
        self.touched[slot] = None

    def _put(self, task: Task) -> None:
        old = self.tasks.get(task.id)
        if old is not None and old.node_id != task.node_id:
            self._drop(self.on_node, old.node_id, old.id)
        self.tasks[task.id] = task
        key = self._key_of[task.id] = self._key(task)
        self.slots.setdefault(task.service_id, {}).setdefault(key, {})[task.id] = task
        if task.node_id:
            self.on_node.setdefault(task.node_id, {})[task.id] = task

    def _forget(self, task_id: str) -> None:
        task = self.tasks.pop(task_id, None)
        if task is None:
            return
        self.changed[task_id] = None
        self.touched[self.slot_of(task)] = None
        self._drop(self.on_node, task.node_id, task_id)
        slots = self.slots.get(task.service_id, {})
        self._drop(slots, self._key(task), task_id)
        del self._key_of[task_id]
        if not slots:
            self.slots.pop(task.service_id, None)

    def _key(self, task: Task) -> SlotKey:
        known = self._key_of.get(task.id)
        if known is not None:
            return known
        if task.slot or not task.node_id:
            return task.slot
        if task.job_iteration is not None:
            service = self.service(task.service_id)
            if service is None or service.spec.mode.replicated_job is not None:
                return task.slot
        return task.node_id

    @staticmethod
    def _drop(table: dict[Any, dict[str, Task]], key: SlotKey, task_id: str) -> None:
        entries = table.get(key)
        if entries is not None:
            entries.pop(task_id, None)
            if not entries:
                del table[key]


def _same_for_us(known: Task, current: Task) -> bool:
    return (
        known.desired_state is current.desired_state
        and known.node_id == current.node_id
        and known.status == current.status
        and known.networks_attachments == current.networks_attachments
    )
