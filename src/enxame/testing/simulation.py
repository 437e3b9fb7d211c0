"""Random lives of swarms: ``python -m enxame.testing.simulation --seed N [--runs K] [--jobs J] [-v]``.

A seed decides everything; a run that breaks an invariant is repeated by its seed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from enxame.model.task import Task
from enxame.testing.invariants import PROBE, Violation
from enxame.testing.sim_faults import SimFaults
from enxame.testing.sim_swarm import SimSwarm
from enxame.testing.sim_users import SimUsers

#: Virtual seconds of trouble, and of the peace after it.
TROUBLE: Final = 90.0
PEACE: Final = 900.0
#: How many lives have a time in which users are silent before they ask for peace, and how long that is: seconds. An
#: update begins at least one more task within two thirds of it.
SILENT: Final = 0.1
SILENCE: Final = 90.0
#: Nodes that came and went too often are trusted again within so many seconds.
TRUSTED_WITHIN: Final = 330.0
#: Sizes of swarms (at most so many nodes), and how many of ten thousand lives have them.
SIZES: Final = ((5, 6500), (8, 2300), (16, 900), (30, 200), (50, 100))
#: Lives that a process takes at once.
CHUNK: Final = 5


class Simulation:
    """One life: trouble at random, then peace."""

    def __init__(self, seed: int) -> None:
        self._rng = rng = random.Random(f"{seed} operations")
        self.swarm = SimSwarm(seed)
        self.size = rng.choices([size for size, _ in SIZES], [share for _, share in SIZES])[0]
        self.users = SimUsers(self.swarm, rng, self.size)
        self.faults = SimFaults(self.swarm, rng)

    def run(self) -> None:
        """Live through it. Raises Violation."""
        swarm, rng = self.swarm, self._rng
        swarm.commit(self.users.found, user=True)
        swarm.start_leader()
        for _ in range(rng.randint(max(1, self.size // 2), self.size)):
            self.users.join_node()
        operations = [*self.users.requests, *self.faults.faults]
        when = 0.0
        while when < TROUBLE:
            when += rng.expovariate(1.0)
            self._live_until(when)
            rng.choices([operation for operation, _ in operations], [weight for _, weight in operations])[0]()
        self._make_peace()
        self._live_until(swarm.clock.mono + PEACE)
        swarm.invariants.settled()
        if self.users.make_do():
            self._live_until(swarm.clock.mono + PEACE)
            swarm.invariants.settled(room=True)

    def _live_until(self, when: float) -> None:
        clock = self.swarm.clock
        if self.swarm.resting:
            clock.run_until(when)
            return
        while clock.mono < when:
            probe = (clock.mono // PROBE + 1) * PROBE
            clock.run_until(min(when, probe))
            if clock.mono == probe:
                self.swarm.invariants.probe()

    def _make_peace(self) -> None:
        swarm = self.swarm
        self.faults.end()
        while swarm.led_since is None:
            self._live_until(swarm.clock.mono + 1.0)
        if self._rng.random() < SILENT:
            self._updates_get_on()
        self.users.calm_down()
        swarm.say("peace")
        patient_until = swarm.clock.mono + TRUSTED_WITHIN
        while swarm.distrusted() or swarm.ghosts:
            if swarm.clock.mono > patient_until:
                ghosts = [link.node_id for link in swarm.ghosts]
                raise Violation(f"nodes that are well are not ready: {swarm.distrusted()}; unaware: {ghosts}")
            self._live_until(swarm.clock.mono + PROBE)
        swarm.rest()

    def _updates_get_on(self) -> None:
        """Nobody asks for anything: updates end, well or badly, or wait for room."""
        swarm = self.swarm
        swarm.say("silence")
        self._live_until(swarm.clock.mono + SILENCE / 3)
        before = swarm.invariants.updates_under_way()
        self._live_until(swarm.clock.mono + SILENCE * 2 / 3)
        after = swarm.invariants.updates_under_way()
        for service_id in before.keys() & after.keys():
            if before[service_id] == after[service_id]:
                raise Violation(f"the update of {service_id} does not get on: {after[service_id]}")


def run_seed(seed: int) -> None:
    """One life. Raises Violation with the seed in its text."""
    failure = _failure_of(seed)
    if failure:
        raise Violation(failure)


def run_seeds(seeds: Iterable[int], jobs: int | None = None) -> Iterator[str]:
    """Many lives on all processors (or ``jobs`` processes; 1: this one); what went wrong in those in which something
    did.
    """
    if jobs == 1:
        yield from filter(None, map(_failure_of, seeds))
        return
    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        yield from filter(None, pool.map(_failure_of, seeds, chunksize=CHUNK))


def _failure_of(seed: int, *, verbose: bool = False) -> str:
    simulation = Simulation(seed)
    try:
        simulation.run()
    except Violation as violation:
        if verbose:
            _tell(simulation.swarm)
        return f"seed {seed} at {simulation.swarm.clock.mono:.3f} s: {violation}"
    return ""


def _tell(swarm: SimSwarm) -> None:
    sys.stdout.write("\n".join(swarm.log) + "\n")
    for task in swarm.store.view.all(Task):
        sys.stdout.write(
            f"{task.id} {task.service_id}.{task.slot or task.node_id} on {task.node_id}: "
            f"{task.status.state.value} -> {task.desired_state.value} {task.status.err}\n"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run seeds from a command line; exit status 1 if one breaks an invariant."""
    parser = argparse.ArgumentParser(description="Simulate swarms on virtual time.")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share them (default 1)")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell the story of a run that fails")
    options = parser.parse_args(arguments)
    failures = 0
    began = time.monotonic()
    seeds = range(options.seed, options.seed + options.runs)
    found = (
        run_seeds(seeds, options.jobs)
        if options.jobs > 1 or not options.verbose
        else filter(None, (_failure_of(seed, verbose=True) for seed in seeds))
    )
    for failure in found:
        failures += 1
        sys.stdout.write(f"{failure}\n")
        sys.stdout.flush()
    seconds = time.monotonic() - began
    sys.stdout.write(f"{options.runs} runs, {failures} failed, {seconds:.1f} s\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
