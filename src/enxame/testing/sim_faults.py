"""What goes wrong in a simulated swarm: containers, daemons, machines, links, the manager, its disk and its clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from enxame.testing.sim_link import SimLink
from enxame.testing.sim_swarm import SimSwarm

#: How long things hang or are cut, at most: seconds.
LONGEST_HANG: Final = 40.0
LONGEST_ELECTION: Final = 4.0
LONGEST_FULL: Final = 20.0
#: Steps of people's clock: seconds.
JUMPS: Final = (-3600.0, -60.0, -1.0, 1.0, 60.0, 3600.0)


class SimFaults:
    """Faults at random; :meth:`end` mends all of them."""

    def __init__(self, swarm: SimSwarm, rng: random.Random) -> None:
        self._swarm = swarm
        self._rng = rng
        self._over = False

    @property
    def faults(self) -> list[tuple[Callable[[], None], int]]:
        """What may go wrong, and how often."""
        return [
            (self._kill_container, 14),
            (self._cut_node, 4),
            (self._cut_one_way, 2),
            (self._flap, 1),
            (self._crash_machine, 3),
            (self._kill_daemon, 2),
            (self._restart_in_order, 3),
            (self._hang_node, 2),
            (self._lose_many, 1),
            (self._mend_node, 10),
            (self._restart_leader, 2),
            (self._depose_leader, 2),
            (self._hang_manager, 1),
            (self._fill_disk, 1),
            (self._jump, 2),
        ]

    def end(self) -> None:
        """All is well from now on."""
        self._over = True
        swarm = self._swarm
        swarm.fill_disk(full=False)
        swarm.go_on()
        if swarm.leader is None:
            self._swarm.start_leader()
        for link in [*swarm.links.values(), *swarm.ghosts]:
            link.mend()

    # Nodes

    def _any(self) -> SimLink:
        return self._swarm.links[self._rng.choice(sorted(self._swarm.links))]

    def _kill_container(self) -> None:
        link = self._any()
        running = sorted(task_id for task_id, local in link.node.tasks.items() if local.runs)
        if running and link.runs and not link.process.stopped:
            task_id = self._rng.choice(running)
            self._swarm.say(f"kill {task_id}")
            link.node.kill(task_id)

    def _cut_node(self) -> None:
        link = self._any()
        self._swarm.say(f"cut {link.node_id}")
        link.cut()

    def _cut_one_way(self) -> None:
        link, heard = self._any(), self._rng.random() < 0.5
        self._swarm.say(f"{link.node_id} is {'heard but does not hear' if heard else 'not heard but hears'}")
        link.cut(heard=heard, hears=not heard)

    def _flap(self) -> None:
        link = self._any()
        self._swarm.say(f"{link.node_id} flaps")
        for _ in range(self._rng.randint(2, 5)):
            self._later(self._rng.random() * 40, link.cut)
            self._later(self._rng.random() * 40, link.mend)

    def _crash_machine(self) -> None:
        link = self._any()
        if link.runs:
            self._swarm.say(f"crash {link.node_id}")
            link.die(machine=True)

    def _kill_daemon(self) -> None:
        link = self._any()
        if link.runs:
            self._swarm.say(f"kill the daemon of {link.node_id}")
            link.die(machine=False)
            self._later(self._rng.random() * 6, link.mend)

    def _restart_in_order(self) -> None:
        link = self._any()
        if link.runs and not link.process.stopped:
            self._swarm.say(f"restart the daemon of {link.node_id}")
            link.stop_in_order(20.0)
            self._later(self._rng.random() * 15, link.mend)

    def _hang_node(self) -> None:
        link = self._any()
        if link.runs:
            self._swarm.say(f"{link.node_id} hangs")
            link.hang()
            self._later(self._rng.random() * LONGEST_HANG, link.mend)

    def _lose_many(self) -> None:
        links = [self._swarm.links[node_id] for node_id in sorted(self._swarm.links)]
        lost = self._rng.sample(links, k=min(len(links), len(links) * 2 // 3 + 1))
        self._swarm.say(f"cut {' '.join(link.node_id for link in lost)}")
        for link in lost:
            link.cut()
            self._later(1 + self._rng.random() * LONGEST_HANG, link.mend)

    def _mend_node(self) -> None:
        down = sorted(node_id for node_id, link in self._swarm.links.items() if not link.up)
        if down:
            node_id = self._rng.choice(down)
            self._swarm.say(f"mend {node_id}")
            self._swarm.links[node_id].mend()

    # The manager

    def _restart_leader(self) -> None:
        if self._swarm.leader is not None:
            self._swarm.say("the leader is gone")
            self._swarm.stop_leader()
            self._later(self._rng.random() * LONGEST_ELECTION, self._elect)

    def _depose_leader(self) -> None:
        if self._swarm.leader is not None:
            self._swarm.say("the leader is cut off, and does not know")
            self._swarm.stop_leader(late_commit_after=self._rng.random() * 2 * LONGEST_ELECTION)
            self._later(self._rng.random() * LONGEST_ELECTION, self._elect)

    def _elect(self) -> None:
        if self._swarm.leader is None:
            self._swarm.say("a new leader")
            self._swarm.start_leader()

    def _hang_manager(self) -> None:
        if self._swarm.answers:
            self._swarm.say("the manager hangs")
            self._swarm.hang()
            self._later(self._rng.random() * LONGEST_HANG, self._swarm.go_on)

    def _fill_disk(self) -> None:
        self._swarm.say("the disk is full")
        self._swarm.fill_disk(full=True)
        self._later(self._rng.random() * LONGEST_FULL, lambda: self._swarm.fill_disk(full=False))

    def _jump(self) -> None:
        seconds = self._rng.choice(JUMPS)
        self._swarm.say(f"people's clock jumps by {seconds:g} s")
        self._swarm.clock.shift += seconds

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        self._swarm.clock.call_later(delay, lambda: None if self._over else call())
