"""Random lives of swarms. A failure names its seed: ``python -m enxame.testing.simulation --seed N -v``."""

from __future__ import annotations

import pytest

from enxame.control.scheduler import Scheduler
from enxame.testing import sim_faults
from enxame.testing.invariants import Violation
from enxame.testing.sim_faults import SimFaults
from enxame.testing.simulation import Simulation, run_seed, run_seeds

#: Lives of swarms of up to 50 nodes, in pieces that run beside each other. Each life takes about 0.1 s.
LIVES = 2000
PIECE = 100


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1, LIVES + 1, PIECE))
def test_no_life_breaks_an_invariant(first: int) -> None:
    assert list(run_seeds(range(first, first + PIECE), jobs=1)) == []


def test_a_seed_always_tells_the_same_story() -> None:
    stories = []
    for _ in range(2):
        simulation = Simulation(12)
        simulation.run()
        stories.append((simulation.swarm.log, simulation.swarm.store.revision))
    assert stories[0] == stories[1]
    assert len(stories[0][0]) > 50


def test_people_s_clock_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lives with and without steps of the clock, by up to an hour, forwards and backwards."""

    def kept(faults: SimFaults) -> list[tuple[object, int]]:
        everything = SimFaults.faults.fget(faults)  # type: ignore[attr-defined]
        # A leader that begins again has only what is stored to tell how long ago things were.
        beginnings = (faults._restart_leader, faults._depose_leader, faults._fill_disk)
        return [
            (fault, weight * 5 if fault == faults._jump else weight)
            for fault, weight in everything
            if fault not in beginnings
        ]

    class Steady(SimFaults):
        faults = property(kept)  # type: ignore[assignment]

    monkeypatch.setattr("enxame.testing.simulation.SimFaults", Steady)
    for seed in range(1, 13):
        stories = []
        for jumps in (sim_faults.JUMPS, tuple(0.0 for _ in sim_faults.JUMPS)):
            with monkeypatch.context() as steps:
                steps.setattr(sim_faults, "JUMPS", jumps)
                simulation = Simulation(seed)
                simulation.run()
            story = [line for line in simulation.swarm.log if "clock jumps" not in line]
            stories.append((story, simulation.swarm.store.revision))
        assert stories[0] == stories[1], f"seed {seed}"


def test_a_leader_that_forgets_to_wait_for_the_old_task_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation would notice: without the rule that a replacement waits, two containers share a slot."""
    monkeypatch.setattr("enxame.control.restart.RestartSupervisor._has_stopped", lambda *_: True)
    with pytest.raises(Violation, match="two containers run in slot"):
        _run_many()


def test_an_allocator_that_gives_addresses_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "enxame.control.addresses.AddressPool.take", lambda pool: pool._text(pool._first) + pool._suffix
    )
    with pytest.raises(Violation, match="share"):
        _run_many()


def test_a_failure_detector_without_patience_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enxame.control.heartbeats.HeartbeatBook._forgive", lambda *_: None)
    with pytest.raises(Violation, match="is held to be down, but has been well"):
        _run_many()


def test_a_failure_detector_that_sees_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enxame.control.heartbeats.HeartbeatBook.tick", lambda *_: [])
    with pytest.raises(Violation, match="is ready, but has been out of reach"):
        _run_many()


def test_a_store_that_takes_an_old_leader_s_commit_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "enxame.testing.sync_store.SyncStore.epoch", property(lambda _: 1, lambda *_: None), raising=False
    )
    with pytest.raises(Violation, match="the old leader's commit was taken"):
        _run_many()


def test_a_leader_that_leaves_tasks_on_drained_nodes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enxame.control.restart.node_is_gone", lambda node: node is None or node.status.state == "down")
    with pytest.raises(Violation, match="is still to run on node"):
        _run_many()


def test_an_update_that_stops_in_the_middle_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enxame.control.rollout.Rollout.places", lambda rollout, _: 1 - len(rollout.tasks))
    with pytest.raises(Violation, match=r"does not get on|was never updated"):
        _run_many()


def test_a_scheduler_that_does_not_look_again_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = Scheduler._leave
    monkeypatch.setattr(Scheduler, "_leave", lambda *given: leave(*given) and None)
    with pytest.raises(Violation, match=r"waits for nothing|finds things to do"):
        _run_many()


def _run_many() -> None:
    for seed in range(1, 100):
        run_seed(seed)
