"""When a manager may take leadership over."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from enxame.store.etcd_leadership import Leadership
from enxame.store.etcd_messages import EtcdUnavailable, Status, TxnResult
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
    backend.alive = "first"
    assert leadership._silence(epoch("first", 5)) == 0.0
    backend.alive = ""
    assert leadership._silence(epoch("first", 5)) == 0.0
    time.now += 0.7
    assert leadership._silence(epoch("first", 5)) == pytest.approx(0.7)
    # This manager takes over, hangs for long, and finds another one's epoch: of its silence nothing is known yet.
    time.now += 10.0
    assert leadership._silence(epoch("second", 9)) == 0.0
    time.now += 2.2
    assert leadership._silence(epoch("second", 9)) == pytest.approx(0.2)
    backend.alive = "second"
    assert leadership._silence(epoch("second", 9)) == 0.0
    backend.alive = ""
    time.now += 5.0
    assert leadership._silence(epoch("second", 9)) == 0.0


def test_who_has_just_begun_to_lead_is_given_the_time_of_a_sign_of_life(time: SimpleNamespace) -> None:
    backend = SimpleNamespace(has_leader=True, alive="", on_lost=None)
    leadership = Leadership(None, backend, node_id="n", gained=lambda _: None, lost=lambda: None)  # type: ignore[arg-type]
    assert leadership._silence(epoch("new", 5)) == 0.0
    time.now += 1.9  # its lease and its sign take a busy machine so long
    assert leadership._silence(epoch("new", 5)) == 0.0
    time.now += 0.5
    assert leadership._silence(epoch("new", 5)) == pytest.approx(0.4)


async def test_who_handed_leadership_over_does_not_take_it_back_before_the_heir_could(time: SimpleNamespace) -> None:
    claims = []

    async def txn(*arguments: object, **_: object) -> TxnResult:
        claims.append(arguments)
        return TxnResult(False, 9, [None])

    async def status(*, timeout: float) -> Status:
        return Status(member=1, leader=2, term=4, revision=8, version="3.4.23", learner=False)

    async def move_leader(member: int, *, timeout: float) -> None:
        assert member == 2

    client = SimpleNamespace(txn=txn, status=status, move_leader=move_leader)
    backend = SimpleNamespace(has_leader=True, alive="", on_lost=None, epoch=None, newest=None, followed=9)
    leadership = Leadership(client, backend, node_id="n", gained=lambda _: None, lost=lambda: None)  # type: ignore[arg-type]
    backend.newest = backend.epoch = replace(epoch(leadership._claim, 7), term=3)
    await leadership.resign(2)
    backend.epoch = None  # while Raft's leader changed, no quorum was heard of in time
    await leadership._seek()
    assert claims == []
    time.now += 20  # the heir does not take it
    await leadership._seek()
    assert len(claims) == 1


class _NoMember:
    """The client of a member that does not answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def status(self, *, timeout: float) -> Status:
        self.asked.set()
        raise EtcdUnavailable("nobody is there")

    async def move_leader(self, member: int, *, timeout: float) -> None:
        """Nobody minds."""


@pytest.mark.parametrize("turns", range(5))
async def test_it_ends_when_it_is_told_to_also_in_the_moment_it_is_woken(turns: int) -> None:
    client = _NoMember()
    backend = SimpleNamespace(epoch=None, newest=None, has_leader=True, alive="", on_lost=None)
    leadership = Leadership(client, backend, node_id="n", gained=lambda _: None, lost=lambda: None)  # type: ignore[arg-type]
    following = asyncio.create_task(leadership.run())
    await client.asked.wait()
    await asyncio.sleep(0)
    await leadership.resign(2)
    for _ in range(turns):
        await asyncio.sleep(0)
    following.cancel()
    ended, _ = await asyncio.wait({following}, timeout=5)
    while not following.done():
        following.cancel()
        await asyncio.sleep(0)
    assert ended
