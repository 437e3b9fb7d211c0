"""When a manager may take leadership over."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from enxame.store.etcd_leadership import Leadership
from enxame.store.etcd_records import Epoch


def epoch(claim: str, revision: int) -> Epoch:
    return Epoch("n", claim, 1, 1, 0, revision)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=100.0)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: SimpleNamespace(time=lambda: made.now))
    return made


def test_silence_counts_from_when_it_began_and_for_one_leader_alone(time: SimpleNamespace) -> None:
    backend = SimpleNamespace(has_leader=True, alive="", on_lost=None)
    leadership = Leadership(None, backend, node_id="n", gained=lambda _: None, lost=lambda: None)  # type: ignore[arg-type]
    assert leadership._silence(epoch("first", 5)) == 0.0
    time.now += 0.7
    assert leadership._silence(epoch("first", 5)) == pytest.approx(0.7)
    # This manager takes over, hangs for long, and finds another one's epoch: of its silence nothing is known yet.
    time.now += 10.0
    assert leadership._silence(epoch("second", 9)) == 0.0
    time.now += 0.2
    assert leadership._silence(epoch("second", 9)) == pytest.approx(0.2)
    backend.alive = "second"
    assert leadership._silence(epoch("second", 9)) == 0.0
    backend.alive = ""
    time.now += 5.0
    assert leadership._silence(epoch("second", 9)) == 0.0
