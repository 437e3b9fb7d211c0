import asyncio
import contextlib
import itertools
import time

import pytest

from enxame.errors import EnxameError, InvalidArgument
from enxame.model.service import Service
from enxame.store.etcd_client import EtcdClient
from enxame.store.etcd_files import TlsFiles
from enxame.store.etcd_messages import EtcdUnavailable
from enxame.testing.promises import allowed
from tests.store_etcd.lab import first_write, until


async def names(manager):
    return sorted(member.name for member in await manager.members.list())


@pytest.mark.parametrize("order", list(itertools.permutations(range(3), 2)))
async def test_members_leave_in_any_order_down_to_one_and_the_last_goes_on(lab, order):
    managers = await lab.cluster(3)
    await first_write(managers, "a")
    staying = list(managers)
    for index in order:
        leaving = managers[index]
        staying.remove(leaving)
        leader = await lab.leader()
        while leaving is leader:
            others = await leader.members.list()
            target = next(m for m in others if m.name == staying[0].name)
            with contextlib.suppress(EnxameError):  # it may lose leadership by itself, or its member be slow
                await leader.leadership.resign(target.id)
                with contextlib.suppress(TimeoutError):  # Raft may choose the same one again
                    async with asyncio.timeout(2):
                        await until(lambda leaving=leaving: not leaving.leads)
            leader = await lab.leader()
        assert await leader.members.remove(leaving.name, reachable={m.name for m in managers})
        await leaving.stop()
        assert await names(leader) == sorted(m.name for m in staying)
    last = await first_write(staying, "b")
    assert {s.id for s in last.store.view.all(Service)} == {"a", "b"}


async def test_three_managers_join_one_after_the_other_without_waiting(lab):
    first = await lab.first()
    began = time.monotonic()
    await lab.join(first)
    await lab.join(first)
    took = time.monotonic() - began
    assert took < allowed(4), f"two joins took {took:.1f} s"
    await first_write(lab.managers, "a")
    await until(lambda: all(m.store.view.get(Service, "a") for m in lab.managers))


async def test_a_removal_that_would_lose_the_quorum_is_refused_in_swarms_words(lab):
    one, two, three = await lab.cluster(3)
    await three.stop()
    with pytest.raises(
        InvalidArgument, match="can't remove member from the raft: this would result in a loss of quorum"
    ):
        await one.members.remove(two.name, reachable={one.name, two.name})
    assert await one.members.remove(three.name, reachable={one.name, two.name})
    await first_write([one, two], "a")


async def test_the_last_of_two_goes_on_alone_with_force_new_cluster(lab):
    one, two = await lab.cluster(2)
    await first_write([one, two], "a")
    await until(lambda: two.store.view.get(Service, "a"))
    await one.stop()
    # Stopped in good order: what etcd knows to be committed only reaches its log then, or with the next commit.
    await two.stop_manager()
    await two.server.stop()
    await two.client.close()
    began = time.monotonic()
    await two.start_member(force_new_cluster=True)
    await two.open_store()
    two.lead()
    await first_write([two], "b")
    assert time.monotonic() - began < allowed(8)
    assert await names(two) == [two.name]
    assert {s.id for s in two.store.view.all(Service)} == {"a", "b"}


async def test_adding_twice_is_adding_once(lab):
    one = await lab.first()
    new = lab.manager("m2")
    first = await one.members.add("m2", new.settings.peer_url)
    assert await one.members.add("m2", new.settings.peer_url) == first
    assert len(await one.members.list()) == 2


@pytest.mark.parametrize(("role", "foreign"), [("worker", False), ("manager", True)])
async def test_only_a_manager_of_this_swarm_gets_in(lab, tmp_path, role, foreign):
    one = await lab.first()
    authority = lab.authority
    if foreign:
        authority = type(lab.authority)(tmp_path / "foreign")
    files = authority.files("stranger", role=role)
    client = EtcdClient(one.settings.client_endpoint, TlsFiles(cert=files.cert, key=files.key, ca=one.settings.tls.ca))
    with pytest.raises(EtcdUnavailable):
        await client.status(timeout=2.0)
    await client.close()
    # The same with the right certificate works: it was not the address.
    right = EtcdClient(one.settings.client_endpoint, lab.authority.files("other"))
    assert (await right.status(timeout=30.0)).leader
    await right.close()
