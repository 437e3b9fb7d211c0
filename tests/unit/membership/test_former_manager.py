"""A manager that comes back at the address where the swarm was before it was recovered elsewhere."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from enxame.membership.former_manager import superseded_warning, tell_former_manager
from enxame.model.cluster import Cluster, ClusterSecrets
from enxame.transport.identity import client_context
from tests.unit.manager.test_node_port import Port, identity_of

DEADLINE = 30.0


@pytest.fixture
async def former() -> AsyncIterator[Port]:
    made = Port()
    await made.start()
    yield made
    await made.close()


async def told(former: Port, incarnation: int, *, looks: int = 1) -> list[int]:
    """What it hears from the manager that took its place, which has its id."""
    heard: list[int] = []
    former.sessions._superseded = heard.append
    contexts = 0

    def context():
        nonlocal contexts
        contexts += 1
        return client_context(identity_of("m1", "manager"))

    telling = asyncio.create_task(tell_former_manager(former.address, context, lambda: incarnation, every=0.01))
    async with asyncio.timeout(DEADLINE):
        while contexts <= looks:
            await asyncio.sleep(0.01)
    telling.cancel()
    await asyncio.wait({telling})
    return heard


async def test_it_hears_that_the_swarm_went_on_without_it(former: Port) -> None:
    heard = await told(former, 1_800_000_000, looks=2)
    assert set(heard) == {1_800_000_000}
    assert len(heard) >= 2, "again and again: it may have started anew"


async def test_who_is_of_the_same_recovery_or_a_later_one_hears_nothing(former: Port) -> None:
    def recover(tx):
        cluster = next(iter(tx.all(Cluster)))
        tx.update(replace(cluster, internal=replace(cluster.internal or ClusterSecrets(), incarnation=7)))

    await former.store.update(recover)
    assert await told(former, 7) == []
    assert await told(former, 6) == []
    assert set(await told(former, 8)) == {8}


async def test_where_nobody_is_it_looks_again(former: Port) -> None:
    await former.listener.close()
    assert await told(former, 1, looks=3) == []


def test_the_warning_says_when_and_what_to_do() -> None:
    warning = superseded_warning(1_767_225_600)
    assert warning.startswith("WARNING: ")
    assert "2026-01-01 00:00:00 UTC" in warning
    assert "docker swarm leave --force" in warning
