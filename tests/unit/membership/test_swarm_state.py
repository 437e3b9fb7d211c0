"""Whom a leader hands over to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enxame.membership.swarm_state import SwarmState
from enxame.model.node import ManagerStatus, Node, NodeSpec
from enxame.store.etcd_client import Member
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store


class Etcd:
    """The leader's part in an etcd cluster whose members are ``names``; it is the first."""

    def __init__(self, *names: str) -> None:
        self._members = [Member(index, name, (), learner=False) for index, name in enumerate(names, 1)]
        self.heirs: list[int] = []
        self.leadership = SimpleNamespace(status=SimpleNamespace(member=1), resign=self._resign)
        self.members = SimpleNamespace(list=self._list)

    async def _resign(self, member: int) -> None:
        self.heirs.append(member)

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
