"""Whom a leader hands over to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enxame.membership import swarm_state
from enxame.membership.swarm_state import SwarmState
from enxame.model.node import ManagerStatus, Node, NodeSpec
from enxame.store.etcd_messages import EtcdRefused, Member
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store


class Etcd:
    """The leader's part in an etcd cluster whose members are ``names``; it is the first."""

    def __init__(self, *names: str) -> None:
        self._members = [Member(index, name, (), learner=False) for index, name in enumerate(names, 1)]
        self.heirs: list[int] = []
        self.leadership = SimpleNamespace(status=SimpleNamespace(member=1), resign=self._resign)
        self.members = SimpleNamespace(list=self._list)
        self.backend = SimpleNamespace(epoch="ours")
        #: What becomes of it that a manager is asked.
        self.asked: Callable[[], None] = lambda: None

    async def _resign(self, member: int) -> None:
        self.heirs.append(member)
        self.asked()

    async def _list(self) -> list[Member]:
        return self._members


async def leading(tmp_path: Path, **standing: str) -> tuple[SwarmState, Etcd]:
    """The state of m1, which leads, with managers of which the leader wrote down so."""
    unused: Any = None
    state = SwarmState(tmp_path, "m1", keys=unused, member=unused, join=unused, wall=lambda: datetime.now(UTC))
    store = Store(MemoryBackend())
    await store.start()
    for node_id, reachability in standing.items():
        status = ManagerStatus(leader=node_id == "m1", reachability=reachability)
        node = Node(id=node_id, spec=NodeSpec(role="manager", availability="active"), manager_status=status)
        await store.update(lambda tx, node=node: tx.create(node))  # type: ignore[misc]
    etcd = Etcd(*standing)
    state._store = store
    state.etcd = etcd  # type: ignore[assignment]
    state._gain()
    return state, etcd


async def test_a_leader_hands_over_to_a_manager_that_can_be_reached(tmp_path: Path) -> None:
    state, etcd = await leading(tmp_path, m1="reachable", m2="unreachable", m3="reachable")
    assert await state.resign()
    assert etcd.heirs == [3]
    await state.store.close()


@pytest.mark.parametrize("other", ["unreachable", "unknown"])
async def test_a_leader_whom_nobody_can_follow_leads_on(tmp_path: Path, other: str) -> None:
    state, etcd = await leading(tmp_path, m1="reachable", m2=other)
    assert not await state.resign()
    assert etcd.heirs == []
    await state.store.close()


async def test_a_leader_that_leaves_asks_again_until_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm_state, "_TAKEN_WITHIN", 0.01)
    state, etcd = await leading(tmp_path, m1="reachable", m2="reachable")

    def asked() -> None:
        if len(etcd.heirs) == 1:
            raise EtcdRefused("etcdserver: not leader")
        if len(etcd.heirs) == 3:
            etcd.backend.epoch = None
            state._lose()

    etcd.asked = asked
    assert await state.hand_over(30)
    assert etcd.heirs == [2, 2, 2]
    await state.store.close()


async def test_a_leader_that_leaves_does_not_wait_for_a_manager_that_never_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm_state, "_TAKEN_WITHIN", 0.01)
    state, etcd = await leading(tmp_path, m1="reachable", m2="reachable")
    assert not await state.hand_over(0.1)
    assert etcd.heirs
    await state.store.close()
