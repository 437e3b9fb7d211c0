import asyncio
import contextlib
import signal
import time

import pytest

from enxame.errors import EnxameError
from enxame.model.service import Service, ServiceSpec
from enxame.store.backend import CommitFailed, Mutation
from enxame.store.etcd import NoLeader
from enxame.store.etcd_client import EtcdClient, EtcdUnavailable, Put
from tests.store_etcd.lab import until


def service(id_, name=None):
    return Service(id=id_, spec=ServiceSpec(name=name or f"name-{id_}"))


def ids(manager):
    return {each.id for each in manager.store.view.all(Service)}


async def put(manager, id_):
    await manager.store.update(lambda tx: tx.create(service(id_)))


async def first_write(managers, id_, timeout=10.0):
    """Some manager's first accepted write."""
    deadline = time.monotonic() + timeout
    while True:
        for manager in managers:
            if manager.leads:
                try:
                    await put(manager, id_)
                except EnxameError:
                    continue
                return manager
        assert time.monotonic() < deadline, "nobody takes a write"
        await asyncio.sleep(0.005)


async def test_all_managers_see_every_commit_with_the_leaders_versions(lab):
    one, two, three = await lab.cluster(3)
    for number in range(20):
        await put(one, f"s{number}")
    await one.store.update(lambda tx: tx.delete(Service, "s0"))
    for other in (two, three):
        await until(lambda other=other: other.store.revision == one.store.revision)
        assert {s.id: s.version for s in other.store.view.all(Service)} == {
            s.id: s.version for s in one.store.view.all(Service)
        }
    assert [m.leads for m in (one, two, three)] == [True, False, False]
    assert two.leadership.leader == three.leadership.leader == one.name
    with pytest.raises(CommitFailed, match="does not lead"):
        await put(two, "x")


async def test_a_killed_leader_is_replaced_within_two_seconds_and_nothing_acknowledged_is_lost(lab):
    managers = await lab.cluster(3)
    one, *others = managers
    acknowledged = set()
    for number in range(50):
        await put(one, f"s{number}")
        acknowledged.add(f"s{number}")
    began = time.monotonic()
    one.signal(signal.SIGKILL)
    one.server._stopping = True  # the whole manager is gone, not its member alone
    await one.stop_manager()
    leader = await first_write(others, "after")
    took = time.monotonic() - began
    assert acknowledged | {"after"} == ids(leader)
    print(f"first write {took:.2f} s after the kill")
    assert took <= 2.0


async def test_an_old_leader_that_was_stopped_has_its_writes_refused(lab):
    one, *others = await lab.cluster(3)
    await put(one, "before")
    stale = one.backend.epoch
    # The member is stopped; the manager goes on believing, as one that was itself stopped would.
    one.signal(signal.SIGSTOP)
    leader = await first_write(others, "by-the-new-one")
    one.signal(signal.SIGCONT)
    await until(lambda: not one.leads)
    one.backend.epoch = stale
    with pytest.raises(CommitFailed):
        await one.backend.commit([Mutation("service", "late", b"x")])
    await put(leader, "last")
    await until(lambda: ids(one) == {"before", "by-the-new-one", "last"})
    assert one.losses == 1


async def test_a_commit_that_was_sent_before_the_pause_and_arrives_after_it_is_refused(lab):
    one, *others = await lab.cluster(3)
    await put(one, "before")
    one.signal(signal.SIGSTOP)
    pending = asyncio.create_task(put(one, "in-flight"))
    leader = await first_write(others, "by-the-new-one")
    one.signal(signal.SIGCONT)
    with pytest.raises(CommitFailed):
        await pending
    await put(leader, "last")
    await until(lambda: "last" in ids(one))
    assert ids(one) == ids(leader) == {"before", "by-the-new-one", "last"}


async def test_a_leader_whose_manager_hangs_while_its_member_lives_is_replaced(lab):
    one, *others = await lab.cluster(3)
    # What a stopped daemon does not do any more: its sign of life and its renewals.
    one._task.cancel()
    await asyncio.gather(one._task, return_exceptions=True)
    one._task = None
    began = time.monotonic()
    leader = await first_write(others, "after")
    assert leader is not one
    assert time.monotonic() - began < 8


async def test_without_a_quorum_writes_are_refused_in_swarms_words_reads_go_on_and_it_heals(lab):
    one, two, three = await lab.cluster(3)
    await put(one, "a")
    await until(lambda: ids(two) == {"a"})
    two.signal(signal.SIGSTOP)
    three.signal(signal.SIGSTOP)
    await until(lambda: not one.leads)
    began = time.monotonic()
    refusal = None
    while not isinstance(refusal, NoLeader):
        with pytest.raises(CommitFailed) as refused:
            await put(one, "refused")
        refusal = refused.value
        assert time.monotonic() - began < 10
        await asyncio.sleep(0.05)
    assert "The swarm does not have a leader" in refusal.message
    assert ids(one) == {"a"}, "what was not acknowledged is not shown"
    two.signal(signal.SIGCONT)
    three.signal(signal.SIGCONT)
    leader = await first_write((one, two, three), "healed")
    await until(lambda: all(ids(m) == ids(leader) for m in (one, two, three)))
    assert {"a", "healed"} <= ids(one)


async def test_quorum_lost_during_a_commit_is_answered_in_bounded_time_and_the_tables_stay_equal(lab):
    one, two, three = await lab.cluster(3)
    await put(one, "a")
    two.signal(signal.SIGSTOP)
    three.signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(NoLeader):
        await put(one, "doubtful")
    assert time.monotonic() - began < 10
    two.signal(signal.SIGCONT)
    three.signal(signal.SIGCONT)
    await first_write((one, two, three), "healed")
    await until(lambda: ids(one) == ids(two) == ids(three) and "healed" in ids(one))


async def test_an_answer_that_was_lost_is_found_out(lab):
    one = await lab.first()
    real = one.client.txn
    lost = []

    async def lossy(*arguments, **options):
        result = await real(*arguments, **options)
        if not lost:
            lost.append(result)
            raise EtcdUnavailable("the answer was lost")
        return result

    one.client.txn = lossy
    await put(one, "a")
    assert lost
    assert lost[0].succeeded
    assert one.store.view.get(Service, "a").version.index == one.backend._revisions.ours(lost[0].revision)
    assert one.leads
    await put(one, "b")


async def test_a_request_that_never_arrived_is_found_out(lab):
    one = await lab.first()
    real = one.client.txn
    lost = []

    async def lossy(*arguments, **options):
        from enxame.store.etcd_client import EtcdUnavailable

        if not lost:
            lost.append(arguments)
            raise EtcdUnavailable("the request was lost")
        return await real(*arguments, **options)

    one.client.txn = lossy
    with pytest.raises(CommitFailed, match="not made"):
        await put(one, "a")
    assert one.leads
    await put(one, "b")
    assert ids(one) == {"b"}


async def test_a_manager_that_fell_behind_what_is_kept_reads_everything_again(lab):
    one, two, _ = await lab.cluster(3)
    for number in range(5):
        await put(one, f"s{number}")
    await until(lambda: ids(two) == ids(one))
    watch = two.store.watch(Service)
    # Two's connection to its member is gone while the others go on, and what it missed is forgotten.
    await two.client.close()
    await one.store.update(lambda tx: tx.delete(Service, "s0"))
    for number in range(5, 20):
        await put(one, f"s{number}")
    status = await one.client.status(timeout=1)
    await one.client.compact(status.revision, timeout=5)
    await two.client.renew()
    await until(lambda: ids(two) == ids(one))
    assert {s.id: s.version for s in two.store.view.all(Service)} == {
        s.id: s.version for s in one.store.view.all(Service)
    }
    events = watch.pending()
    assert {(e.action.value, e.object.id) for e in events} == {("delete", "s0")} | {
        ("create", f"s{n}") for n in range(5, 20)
    }
    await put(one, "afterwards")
    await until(lambda: "afterwards" in ids(two))
    watch.close()


async def test_a_manager_whose_store_is_broken_leaves_leading_to_the_others(lab, monkeypatch):
    monkeypatch.setattr("enxame.store.etcd_leadership._CATCH_UP", 0.3)
    one, two, three = await lab.cluster(3)
    await put(one, "a")
    for task in two.store._tasks:
        task.cancel()
    await asyncio.gather(*two.store._tasks, return_exceptions=True)
    member = (await two.client.status(timeout=1)).member
    await one.leadership.resign(member)
    leader = await first_write((one, three), "after", timeout=20)
    assert ids(leader) == {"a", "after"}
    assert two.epochs == []


async def test_a_watch_outlives_new_connections_whenever_they_come(lab):
    one = await lab.first()
    two = EtcdClient(one.settings.client_endpoint, one.settings.tls)
    seen = []

    async def follow():
        position = 1
        while True:
            try:
                async with contextlib.aclosing(two.watch(b"/test/", position)) as changes:
                    async for change in changes:
                        seen.extend(item.value for item in change)
                        position = change[-1].revision + 1
            except EtcdUnavailable:
                await asyncio.sleep(0)

    following = asyncio.create_task(follow())
    try:
        for number in range(60):
            await one.client.txn([], [Put(b"/test/key", str(number).encode())], timeout=5)
            # While the watch is being begun, and again.
            for _ in range(2):
                await asyncio.sleep(number % 10 / 500)
                await two.renew()
            await until(lambda number=number: seen[-1:] == [str(number).encode()], what=f"the watch goes on ({number})")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await two.close()
    assert seen == [str(number).encode() for number in range(60)]
