"""A simulated node's daemon and its connection with the manager: dials, beats, reports, and loses packets each way."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from enxame.control.assignments import NodeAssignments
from enxame.model.dispatch import Assignments
from enxame.model.task import TaskStatus
from enxame.testing.clock import Process, Timer
from enxame.testing.fake_runtime import FakeNode
from enxame.testing.sync_store import Refused
from enxame.transport.dialer import next_delay

if TYPE_CHECKING:
    from enxame.testing.sim_swarm import SimSwarm

#: What was lost on the way is sent again after so many seconds.
AGAIN: Final = 0.4
#: A node gives its manager up after so many periods without an answer.
PATIENCE: Final = 3
#: A report that the manager did not take is sent again after so many seconds.
REPORT_AGAIN: Final = 0.5


class SimLink:
    """One node. ``heard``: its packets get to the manager; ``hears``: the manager's get to it; ``runs``: its daemon.

    ``connection`` numbers its connections; ``session`` is the manager's end of the present one.
    """

    def __init__(self, node_id: str, swarm: SimSwarm) -> None:
        self.node_id = node_id
        self.heard = self.hears = self.runs = True
        self.removed = False
        self.connected = False
        self.connection = 0
        self.session: NodeAssignments | None = None
        #: Since when nothing is wrong with it; None: something is.
        self.well_since: float | None = swarm.clock.mono
        #: Since when the manager cannot hear it; None: it can.
        self.unheard_since: float | None = None
        #: When it announced that it will be silent, and until when.
        self.excused_at = self.excused_until = 0.0
        self._swarm = swarm
        self._rng = random.Random(f"{swarm.seed} {node_id}")
        self.process = Process(swarm.clock)
        self.node = FakeNode(node_id, self.process, swarm.rng, self._report, swarm.invariants.container_moved)
        self._delay = 0.0
        self._dialing: Timer | None = None
        self._wire: deque[tuple[int, Assignments]] = deque()
        self._pumping = False
        self._unsent: dict[str, TaskStatus] = {}
        self._posted: set[str] = set()

    # Faults

    @property
    def up(self) -> bool:
        """Nothing is wrong with it."""
        return self.well_since is not None

    def cut(self, *, heard: bool = False, hears: bool = False) -> None:
        """Packets get lost, both ways or one way."""
        self.heard, self.hears = heard, hears
        self._something_is_wrong()

    def hang(self) -> None:
        """The daemon is stopped, or the whole machine."""
        self.process.stop()
        self._something_is_wrong()

    def die(self, *, machine: bool) -> None:
        """The daemon is killed, or the machine with all that it ran."""
        self.runs = False
        self._something_is_wrong()
        self._forget_connection()
        # The kernel closes a killed process' connections; a dead machine closes nothing.
        if not machine and self.heard:
            self._swarm.hang_up(self)
        if machine:
            self.node.crash()
            self._unsent.clear()
        else:
            self.node.die()

    def stop_in_order(self, seconds: float) -> None:
        """The daemon stops and says that it will be back."""
        if self.runs and self.connected and self.heard and not self.process.stopped:
            self._swarm.excuse(self, seconds)
        self.die(machine=False)

    def _something_is_wrong(self) -> None:
        self.well_since = None
        if self.heard and self.runs and not self.process.stopped:
            self.unheard_since = None
        elif self.unheard_since is None:
            self.unheard_since = self._swarm.clock.mono

    def mend(self) -> None:
        """Nothing is wrong any more."""
        if self.up or self.removed:
            return
        self.heard = self.hears = True
        self.process.go_on()
        self.well_since, self.unheard_since = self._swarm.clock.mono, None
        if not self.runs:
            self.runs = True
            self._delay = 0.0
            self.node.revive()
            self.dial_soon()

    # Connecting

    def dial_soon(self) -> None:
        """Try to reach the manager after the present back-off."""
        if self._dialing is not None:
            self._dialing.cancel()
        self._delay = next_delay(self._delay, self._rng.random())
        self._dialing = self.process.call_later(self._delay, self._dial)

    def _dial(self) -> None:
        self._dialing = None
        if not self.runs or self.removed:
            return
        if not (self.heard and self.hears and self._swarm.answers):
            self.dial_soon()
            return
        self._forget_connection()
        if not self._swarm.register(self):
            self.dial_soon()

    def open_session(self, session: NodeAssignments) -> None:
        """The manager took this node up."""
        self.session = session
        self.connected = True
        self.excused_until = 0.0
        self._delay = 0.0
        connection = self.connection
        self.process.call_later(self._pause(), lambda: self._beat(connection))
        self.node.report_all()
        for task_id in list(self._unsent):
            self._post(task_id)

    def lost(self) -> None:
        """The connection has ended, and the node knows."""
        if self.connected:
            self._forget_connection()
            if self.runs:
                self.dial_soon()

    def forget_everything(self) -> None:
        """It hears that it was removed: it ends its tasks."""
        self.removed = True
        self._forget_connection()
        self.node.assign(Assignments(complete=True))

    def _forget_connection(self) -> None:
        self.connected = False
        self.connection += 1
        self._posted.clear()

    # Heartbeats

    def _pause(self) -> float:
        return self._swarm.period * (0.8 + 0.2 * self._rng.random())

    def _beat(self, connection: int) -> None:
        if connection == self.connection and not self._swarm.resting:
            self._ask(connection, self._swarm.clock.mono + PATIENCE * self._swarm.period)

    def _ask(self, connection: int, until: float) -> None:
        """A heartbeat, sent again while it may have got lost."""
        if connection != self.connection:
            return
        if self.heard and self._swarm.answers:
            known = self._swarm.beat(self)
            if self.hears:
                if known:
                    self.process.call_later(self._pause(), lambda: self._beat(connection))
                else:
                    self.lost()
                return
        if self._swarm.clock.mono < until:
            self.process.call_later(AGAIN, lambda: self._ask(connection, until))
            return
        if self.heard:
            self._swarm.hang_up(self)
        self.lost()

    # What the manager says

    def send(self, message: Assignments) -> None:
        """Put a message on the wire; messages arrive in order or, with their connection, not at all."""
        self._wire.append((self.connection, message))
        if not self._pumping:
            self._pump_later(0.0005 + self._rng.random() * 0.01)

    def _pump_later(self, delay: float) -> None:
        self._pumping = True
        self.process.call_later(delay, self._pump)

    def _pump(self) -> None:
        self._pumping = False
        while self._wire and self._wire[0][0] != self.connection:
            self._wire.popleft()
        if not self._wire:
            return
        if not self.hears:
            self._pump_later(AGAIN)
            return
        _, message = self._wire.popleft()
        self.node.assign(message)
        if self._wire:
            self._pump_later(0.0005)

    # What the node says

    def _report(self, task_id: str, status: TaskStatus) -> None:
        self._unsent[task_id] = status
        if self.connected:
            self._post(task_id)

    def _post(self, task_id: str) -> None:
        if task_id in self._posted:
            return
        self._posted.add(task_id)
        connection = self.connection
        self.process.call_later(0.0005 + self._rng.random() * 0.01, lambda: self._arrive(task_id, connection))

    def _arrive(self, task_id: str, connection: int) -> None:
        status = self._unsent.get(task_id)
        if status is None:
            return
        if connection != self.connection:
            # What was being committed when its connection ended is committed all the same.
            if self._rng.random() < 0.3 and self._swarm.answers:
                self._swarm.take_late_report(self, task_id, status)
            return
        again: Callable[[], None] = lambda: self._arrive(task_id, connection)  # noqa: E731 - said once, used twice
        if not self.heard or not self._swarm.answers or self.session is None:
            self.process.call_later(AGAIN, again)
            return
        try:
            self._swarm.take_report(self, task_id, status)
        except Refused:
            self.process.call_later(REPORT_AGAIN, again)
            return
        if not self.hears:
            self.process.call_later(AGAIN, again)  # the answer got lost: it is told again
            return
        self._posted.discard(task_id)
        if self._unsent.get(task_id) is status:
            del self._unsent[task_id]
        else:
            self._post(task_id)
