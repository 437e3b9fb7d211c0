"""A swarm on virtual time: the real leader, dispatcher bookkeeping and task table; nodes and links that can fail.

Everything that happens goes through :meth:`SimSwarm.commit`, so that the invariants see each change.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec.structs import replace

from enxame.control.assignments import NodeAssignments, route
from enxame.control.ingress import IngressTable
from enxame.control.leader import Leader
from enxame.control.network_table import NetworkTables
from enxame.model.dispatch import Assignments
from enxame.model.node import Node, NodeStatus
from enxame.model.task import Task, TaskStatus
from enxame.store.interface import Event, Tx
from enxame.testing.clock import VirtualClock
from enxame.testing.fake_runtime import FakeNode, LocalTask
from enxame.testing.invariants import Invariants, Violation
from enxame.testing.sync_store import SyncStore

R = TypeVar("R")

#: Seconds without contact after which a node counts as down.
DOWN_AFTER = 3.0
#: So many commits of the leader at one moment are a loop, not work.
MOST_STEPS_AT_ONCE = 60


@dataclass(slots=True)
class Link:
    """A node's connection. ``epoch`` tells messages of an earlier connection, which are lost."""

    node: FakeNode
    up: bool = True
    epoch: int = 0
    next_at: float = 0.0
    session: NodeAssignments | None = None
    unsent: dict[str, TaskStatus] = field(default_factory=dict)


class SimSwarm:
    """One run of a simulated swarm."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.store = SyncStore(self.clock.wall)
        self.links: dict[str, Link] = {}
        self.invariants = Invariants(self)
        self.leader: Leader | None = None
        self.log: list[str] = []
        self.last_events: list[Event] = []
        self._pending: list[Event] = []
        self._wake: float | None = None
        self._step_scheduled: float | None = None
        self._ingress = IngressTable(self.store.view)
        self._tables = NetworkTables(self.store.view)
        self._ids = 0
        self._steps_now = (0.0, 0)

    # What tests and scenarios use

    def new_id(self, prefix: str = "t") -> str:
        """A fresh id."""
        self._ids += 1
        return f"{prefix}{self._ids:06d}"

    def say(self, text: str) -> None:
        """Add a line to the run's story."""
        self.log.append(f"{self.clock.mono:10.3f} {text}")

    def commit(self, fn: Callable[[Tx], R]) -> R:
        """Change the store, check the invariants, pass the changes on."""
        result = self.store.update(fn)
        events = self.store.take_events()
        if events:
            self.last_events = events
            self.invariants.see(events)
            self._pending += events
            self._schedule_step(self.clock.mono + self.rng.random() * 0.004)
            self._dispatch(events)
        return result

    def add_node(self, node: Node) -> None:
        """A node joins and connects."""
        self.commit(lambda tx: tx.create(node))
        fake = FakeNode(
            node.id,
            self.clock,
            self.rng,
            lambda task_id, status: self._report(node.id, task_id, status),
            self._moved,
        )
        self.links[node.id] = Link(fake)
        self._open_session(node.id)

    def start_leader(self) -> None:
        """A leader takes over."""
        self.leader = Leader(self.new_id, self.rng.random)
        self._pending.clear()
        leader = self.leader
        self._wake = self.commit(lambda tx: leader.start(tx, self.clock.now()))
        for node_id, link in self.links.items():
            if link.up:
                self._open_session(node_id)
        self._schedule_wake()

    def stop_leader(self) -> None:
        """The leader is gone; nodes go on by themselves."""
        self.leader = None
        for link in self.links.values():
            link.session = None
            link.epoch += 1

    def cut(self, node_id: str) -> None:
        """A node's connection breaks; its tasks go on."""
        link = self.links[node_id]
        if link.up:
            link.up, link.session = False, None
            link.epoch += 1
            epoch = link.epoch
            self.clock.call_later(DOWN_AFTER, lambda: self._find_down(node_id, epoch))

    def crash_node(self, node_id: str) -> None:
        """A machine dies with all it ran."""
        self.cut(node_id)
        link = self.links[node_id]
        link.node.crash()
        link.unsent.clear()

    def heal(self, node_id: str) -> None:
        """A node connects again."""
        link = self.links[node_id]
        node = self.store.view.get(Node, node_id)
        if link.up or node is None:
            return
        link.up = True
        link.epoch += 1
        self._set_node(node_id, "ready")
        if self.leader is not None:
            self._open_session(node_id)

    def remove_node(self, node_id: str) -> None:
        """Forget a node that is down; its machine never comes back."""
        self.crash_node(node_id)
        del self.links[node_id]
        self.commit(lambda tx: tx.delete(Node, node_id))

    # Leader

    def _schedule_step(self, when: float) -> None:
        if self._step_scheduled is None or when < self._step_scheduled:
            self._step_scheduled = when
            self.clock.call_at(when, lambda: self._step(when))

    def _schedule_wake(self) -> None:
        if self._wake is not None:
            self._schedule_step(self._wake)

    def _step(self, scheduled: float) -> None:
        if self._step_scheduled != scheduled:
            return
        self._step_scheduled = None
        leader = self.leader
        if leader is None:
            return
        # Now and then the last events come late.
        late = self.rng.randrange(len(self._pending)) if self._pending and self.rng.random() < 0.1 else 0
        events, self._pending = self._pending[: len(self._pending) - late], self._pending[len(self._pending) - late :]
        held = self._pending
        self._pending = []
        self._wake = self.commit(lambda tx: leader.step(tx, events, self.clock.now()))
        self._pending = held + self._pending
        if self._pending:
            self._schedule_step(self.clock.mono + 0.001)
        self._schedule_wake()
        self._note_step()

    def _note_step(self) -> None:
        moment, steps = self._steps_now
        moment, steps = (moment, steps + 1) if self.clock.mono - moment < 0.05 else (self.clock.mono, 1)
        self._steps_now = (moment, steps)
        if steps > MOST_STEPS_AT_ONCE + 4 * len(self.store.view.all(Task)):  # type: ignore[arg-type]
            raise Violation(f"the leader took {steps} steps within 50 ms")

    # Links

    def _dispatch(self, events: list[Event]) -> None:
        table = self._ingress.ports if self._ingress.apply(self.store.view, events) else None
        changes = self._tables.apply(self.store.view, events)
        own, shared = route(events)
        for node_id, link in self.links.items():
            if link.session is None:
                continue
            mine = own.get(node_id, [])
            if link.session.tables_changed(changes) or mine or shared or table is not None:
                message = link.session.update(self.store.view, mine + shared, table)
                if message is not None:
                    self._send(node_id, message)

    def _open_session(self, node_id: str) -> None:
        link = self.links[node_id]
        link.session = NodeAssignments(node_id, self._tables)
        link.epoch += 1
        self._send(node_id, link.session.complete(self.store.view, self._ingress.ports))
        for task_id in list(link.unsent):
            self._post(node_id, task_id)

    def _send(self, node_id: str, message: Assignments) -> None:
        link = self.links[node_id]
        epoch = link.epoch
        link.next_at = max(link.next_at, self.clock.mono) + 0.0005 + self.rng.random() * 0.01

        def deliver() -> None:
            if link.epoch == epoch:
                link.node.assign(message)

        self.clock.call_at(link.next_at, deliver)

    def _report(self, node_id: str, task_id: str, status: TaskStatus) -> None:
        link = self.links.get(node_id)
        if link is None:
            return
        link.unsent[task_id] = status
        if link.up and link.session is not None:
            self._post(node_id, task_id)

    def _post(self, node_id: str, task_id: str) -> None:
        link = self.links[node_id]
        epoch = link.epoch

        def arrive() -> None:
            if link.epoch == epoch and link.session is not None and task_id in link.unsent:
                status = link.unsent.pop(task_id)
                self.commit(lambda tx: _write_status(tx, node_id, task_id, status))

        self.clock.call_later(0.0005 + self.rng.random() * 0.01, arrive)

    def _find_down(self, node_id: str, epoch: int) -> None:
        link = self.links.get(node_id)
        if link is not None and not link.up and link.epoch == epoch:
            self._set_node(node_id, "down")

    def _set_node(self, node_id: str, state: str) -> None:
        def change(tx: Tx) -> None:
            node = tx.get(Node, node_id)
            if node is not None and node.status.state != state:
                tx.update(replace(node, status=NodeStatus(state=state, addr=node.status.addr)))

        self.commit(change)

    def _moved(self, local: LocalTask) -> None:
        self.invariants.container_moved(local)


def _write_status(tx: Tx, node_id: str, task_id: str, status: TaskStatus) -> None:
    task = tx.get(Task, task_id)
    if task is not None and task.node_id == node_id and status.state > task.status.state:
        tx.update(replace(task, status=status))
