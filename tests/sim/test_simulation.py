"""Random lives of small swarms. A failure names its seed: ``python -m enxame.testing.simulation --seed N -v``."""

from __future__ import annotations

import pytest

from enxame.testing.invariants import Violation
from enxame.testing.simulation import Simulation, run_seed

#: Seeds a test case; each life takes about 0.2 s.
BATCH = 10


@pytest.mark.parametrize("first", range(1, 101, BATCH))
def test_no_life_breaks_an_invariant(first: int) -> None:
    for seed in range(first, first + BATCH):
        run_seed(seed)


def test_a_seed_always_tells_the_same_story() -> None:
    stories = []
    for _ in range(2):
        simulation = Simulation(12)
        simulation.run()
        stories.append((simulation.swarm.log, simulation.swarm.store.revision))
    assert stories[0] == stories[1]
    assert len(stories[0][0]) > 50


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


def _run_many() -> None:
    for seed in range(1, 60):
        run_seed(seed)
