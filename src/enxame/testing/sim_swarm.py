"""A swarm on virtual time: the real leader, failure detection, dispatcher bookkeeping and task table; nodes, links,
disks and clocks that can fail.

Everything that happens goes through :meth:`SimSwarm.commit`, so that the invariants see each change.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, TypeVar

from msgspec.structs import replace

from enxame.control.assignments import NodeAssignments, route
from enxame.control.heartbeats import Health, HeartbeatBook, heartbeat_period
from enxame.control.leader import Leader
from enxame.control.network_table import NetworkTables
from enxame.manager.dispatcher import record_statuses
from enxame.manager.failure_detector import FLAPPING, RESTARTING, ask_anew, record_health
from enxame.model.dispatch import TaskStatusUpdate
from enxame.model.node import Node, NodeStatus
from enxame.model.task import Task, TaskStatus
from enxame.store.interface import Event, Tx
from enxame.testing.clock import VirtualClock
from enxame.testing.invariants import Invariants, Violation
from enxame.testing.sim_link import SimLink
from enxame.testing.sync_store import Refused, SyncStore

R = TypeVar("R")

#: Between two looks of the failure detector: seconds.
LOOK: Final = 0.5
#: After a refused commit the leader begins again after so many seconds.
RETRY: Final = 1.0
#: So many commits of the leader at one moment are a loop, not work.
MOST_STEPS_AT_ONCE: Final = 60


class SimSwarm:
    """One run of a simulated swarm."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.store = SyncStore(self.clock.wall)
        self.links: dict[str, SimLink] = {}
        #: Machines that the swarm removed and that have not heard of it.
        self.ghosts: list[SimLink] = []
        self.invariants = Invariants(self)
        self.leader: Leader | None = None
        #: Since when a manager leads, runs and can write; None: it does not.
        self.led_since: float | None = None
        #: Nothing fails any more: nodes and manager need not look after each other.
        self.resting = False
        self.log: list[str] = []
        self.last_events: list[Event] = []
        self._book = HeartbeatBook()
        self._undecided: dict[str, Health] = {}
        self._hangs = False
        self._took_over = False
        self._leads = False
        self._pending: list[Event] = []
        self._wake: float | None = None
        self._step_scheduled: float | None = None
        self._tables = NetworkTables(self.store.view)
        self._ids = 0
        self._steps_now = (0.0, 0)
        self._looking = False

    # What tests and scenarios use

    def new_id(self, prefix: str = "t") -> str:
        """A fresh id."""
        self._ids += 1
        return f"{prefix}{self._ids:06d}"

    def say(self, text: str) -> None:
        """Add a line to the run's story."""
        self.log.append(f"{self.clock.mono:10.3f} {text}")

    @property
    def answers(self) -> bool:
        """There is a manager that leads and does not hang."""
        return self._took_over and not self._hangs

    @property
    def period(self) -> float:
        """Seconds between heartbeats."""
        return heartbeat_period(len(self.links), 0)

    def commit(self, fn: Callable[[Tx], R], *, epoch: int | None = None, user: bool = False) -> R:
        """Change the store, check the invariants, pass the changes on. Raises Refused."""
        result = self.store.update(fn, epoch)
        events = self.store.take_events()
        if events:
            self.last_events = events
            self.invariants.see(events, user=user)
            self._pending += events
            self._schedule_step(self.clock.mono + self.rng.random() * 0.004)
            self._dispatch(events)
        return result

    def ask(self, fn: Callable[[Tx], object]) -> bool:
        """A user's change. False: it was refused."""
        if not self.answers:
            return False
        try:
            self.commit(fn, user=True)
        except Refused:
            return False
        self.invariants.acknowledged(self.last_events)
        return True

    def add_node(self, node: Node) -> bool:
        """A node joins and connects. False: it was refused."""
        if not self.ask(lambda tx: tx.create(node)):
            return False
        link = self.links[node.id] = SimLink(node.id, self)
        self._book.expect(node.id, self.clock.mono, self.period)
        link.dial_soon()
        return True

    def start_leader(self) -> None:
        """A manager takes over."""
        self.leader = Leader(self.new_id, self.rng.random)
        self.store.epoch += 1
        self._hangs = False
        self._take_over(self.store.epoch)

    def _take_over(self, epoch: int) -> None:
        if self.leader is None or epoch != self.store.epoch:
            return
        try:
            self.commit(lambda tx: ask_anew(tx, ""), epoch=epoch)
        except Refused:
            self.clock.call_later(RETRY, lambda: self._take_over(epoch))
            return
        self._book = HeartbeatBook()
        self._undecided.clear()
        for node in self.store.view.all(Node):
            if node.status.state == "down":
                self._book.note_down(node.id, self.clock.mono)
            else:
                self._book.expect(node.id, self.clock.mono, self.period)
        self._book.tick(self.clock.mono, LOOK)
        self._took_over = True
        self._restart_leading(epoch)
        if not self._looking:
            self._looking = True
            self.clock.call_later(LOOK, self._look)

    def _restart_leading(self, epoch: int) -> None:
        leader = self.leader
        if leader is None or epoch != self.store.epoch:
            return
        if self._hangs:
            self.clock.call_later(RETRY, lambda: self._restart_leading(epoch))
            return
        self._pending.clear()
        try:
            self._wake = self.commit(lambda tx: leader.start(tx, self.clock.now()), epoch=epoch)
        except Refused:
            self._leads, self.led_since = False, None
            self.clock.call_later(RETRY, lambda: self._restart_leading(epoch))
            return
        self._leads = True
        self._note_well()
        self._schedule_wake()

    def stop_leader(self, *, late_commit_after: float | None = None) -> None:
        """The leader is gone; nodes go on by themselves. It may yet try to commit what it had in mind."""
        leader, epoch = self.leader, self.store.epoch
        self.leader, self.led_since = None, None
        self._leads = self._took_over = False
        self.store.epoch += 1
        for link in self.links.values():
            self._close(link)
        if leader is not None and late_commit_after is not None:
            self.clock.call_later(late_commit_after, lambda: self._commit_late(leader, epoch))

    def _commit_late(self, leader: Leader, epoch: int) -> None:
        before = self.store.revision
        try:
            self.commit(lambda tx: leader.start(tx, self.clock.now()), epoch=epoch)
        except Refused:
            self.say("the old leader's commit is refused")
        if self.store.revision != before:
            raise Violation("the old leader's commit was taken")

    def hang(self) -> None:
        """The manager's process is stopped."""
        self._hangs, self.led_since = True, None

    def go_on(self) -> None:
        """It goes on."""
        self._hangs = False
        self._note_well()

    def fill_disk(self, *, full: bool) -> None:
        """No commit is taken, or they are again."""
        self.store.full = full
        self._note_well()

    def _note_well(self) -> None:
        if self.store.full or not self._leads or not self.answers:
            self.led_since = None
        elif self.led_since is None:
            self.led_since = self.clock.mono

    def remove_node(self, node_id: str) -> bool:
        """Forget a node. Its machine hears of it when it asks. False: it was refused."""
        if not self.ask(lambda tx: tx.delete(Node, node_id)):
            return False
        link = self.links.pop(node_id)
        self._book.forget(node_id)
        self._undecided.pop(node_id, None)
        self.ghosts.append(link)
        self._close(link)
        return True

    def rest(self) -> None:
        """From now on nothing fails: nobody has to look after others."""
        self.resting = True

    def distrusted(self) -> list[str]:
        """Nodes that do not get work: not ready, for whatever reason."""
        return sorted(node.id for node in self.store.view.all(Node) if node.status.state != "ready")

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
        if leader is None or not self._leads:
            return
        if self._hangs:
            self._schedule_step(self.clock.mono + LOOK)
            return
        # Now and then the last events come late.
        late = self.rng.randrange(len(self._pending)) if self._pending and self.rng.random() < 0.1 else 0
        events, self._pending = self._pending[: len(self._pending) - late], self._pending[len(self._pending) - late :]
        held = self._pending
        self._pending = []
        epoch = self.store.epoch
        try:
            self._wake = self.commit(lambda tx: leader.step(tx, events, self.clock.now()), epoch=epoch)
        except Refused:
            self._leads, self.led_since = False, None
            self.clock.call_later(RETRY, lambda: self._restart_leading(epoch))
            return
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

    # Who is alive

    def _look(self) -> None:
        if self.leader is None or self.resting:
            self._looking = False
            return
        self.clock.call_later(LOOK, self._look)
        if not self.answers:
            return
        self._undecided.update(self._book.tick(self.clock.mono, LOOK))
        if not self._undecided:
            return
        verdicts = self._undecided
        for node_id, health in verdicts.items():
            if self._book.health(node_id) is health:
                self.invariants.judged(node_id, health)
        try:
            self.commit(lambda tx: record_health(tx, self._book, verdicts), epoch=self.store.epoch)
        except Refused:
            return
        self._undecided = {}
        self._book.said(verdicts)
        for node_id, health in verdicts.items():
            self.say(f"{node_id} is held to be {health.value}")
            if health is Health.DOWN and self._book.health(node_id) is Health.DOWN and node_id in self.links:
                self._close(self.links[node_id])

    def register(self, link: SimLink) -> bool:
        """A node reports for duty. False: it is to try again."""
        node_id = link.node_id
        if self.store.view.get(Node, node_id) is None:
            link.forget_everything()
            if link in self.ghosts:
                self.ghosts.remove(link)
            return True
        health = self._book.register(node_id, self.clock.mono, self.period)
        self._undecided.pop(node_id, None)
        status = NodeStatus(state="ready") if health is Health.UP else NodeStatus(state="down", message=FLAPPING)
        try:
            self.commit(lambda tx: _set_status(tx, node_id, status))
        except Refused:
            self._book.turned_away(node_id, self.clock.mono)
            return False
        link.open_session(NodeAssignments(node_id, self._tables))
        assert link.session is not None
        link.send(link.session.complete(self.store.view))
        return True

    def beat(self, link: SimLink) -> bool:
        """A node's heartbeat. False: it is not in session."""
        return link.session is not None and self._book.beat(link.node_id, self.clock.mono, self.period)

    def excuse(self, link: SimLink, seconds: float) -> None:
        """A node says that it will be back."""
        if self.answers and link.session is not None and self._book.excuse(link.node_id, self.clock.mono, seconds):
            link.excused_at, link.excused_until = self.clock.mono, self.clock.mono + seconds
            text = RESTARTING.format(seconds=seconds)
            status = NodeStatus(state="ready", message=text)
            try:
                self.commit(lambda tx: _set_status(tx, link.node_id, status))
            except Refused:
                return

    def hang_up(self, link: SimLink) -> None:
        """The node ended the connection, and the manager hears it."""
        link.session = None

    def _close(self, link: SimLink) -> None:
        """The manager ends the connection; the node hears it, or finds out."""
        link.session = None
        if link.hears:
            link.lost()

    # Tasks

    def take_report(self, link: SimLink, task_id: str, status: TaskStatus) -> None:
        """What became of a task. Raises Refused."""
        update = TaskStatusUpdate(task_id=task_id, status=status)
        self.commit(lambda tx: record_statuses(tx, link.node_id, [update]))

    def take_late_report(self, link: SimLink, task_id: str, status: TaskStatus) -> None:
        """The same, from a connection that has ended."""
        try:
            self.take_report(link, task_id, status)
        except Refused:
            return

    def _dispatch(self, events: list[Event]) -> None:
        changes = self._tables.apply(self.store.view, events)
        own, shared = route(events)
        for node_id in self.links if changes or shared else own:
            link = self.links.get(node_id)
            if link is None or link.session is None:
                continue
            mine = own.get(node_id, [])
            told = link.session.tables_changed(changes)
            if mine or shared or told:
                message = link.session.update(self.store.view, mine + shared)
                if message is not None:
                    link.send(message)


def _set_status(tx: Tx, node_id: str, status: NodeStatus) -> None:
    node = tx.get(Node, node_id)
    if node is not None:
        status = replace(status, addr=node.status.addr)
        if node.status != status:
            tx.update(replace(node, status=status))
