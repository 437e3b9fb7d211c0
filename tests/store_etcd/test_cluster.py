import asyncio
import contextlib
import signal
import time

import pytest

from enxame.errors import EnxameError
from enxame.model.service import Service
from enxame.store import etcd_records
from enxame.store.backend import CommitFailed, Mutation
from enxame.store.etcd import NoLeader
from enxame.store.etcd_client import EtcdClient
from enxame.store.etcd_messages import EtcdUnavailable, Put
from enxame.testing.promises import allowed
from tests.store_etcd.lab import first_write, put, until


def ids(manager):
    return {each.id for each in manager.store.view.all(Service)}


async def someone_leads(lab):
    """The leader, and who follows it."""
    leader = await lab.leader()
    return leader, [manager for manager in lab.managers if manager is not leader]


def versions(manager):
    return {service.id: service.version for service in manager.store.view.all(Service)}


async def test_all_managers_see_every_commit_with_the_leaders_versions(lab):
    managers = await lab.cluster(3)
    for number in range(20):
        await first_write(managers, f"s{number}")
    one = await lab.leader()
    await one.store.update(lambda tx: tx.delete(Service, "s0"))
    for other in managers:
        await until(lambda other=other: versions(other) == versions(one))
        assert len(versions(other)) == 19

    def agreed():
        leading = [manager.name for manager in managers if manager.leads]
        return {manager.leadership.leader for manager in managers} == set(leading) and len(leading) == 1

    await until(agreed, what="all know the one who leads")
    follower = next(manager for manager in managers if not manager.leads)
    with pytest.raises(CommitFailed, match="does not lead"):
        await put(follower, "x")


async def test_a_killed_leader_is_replaced_within_two_seconds_and_nothing_acknowledged_is_lost(lab):
    await lab.cluster(3)
    acknowledged = {f"s{number}" for number in range(50)}
    for id_ in acknowledged:
        await first_write(lab.managers, id_)
    one, others = await someone_leads(lab)
    began = time.monotonic()
    one.signal(signal.SIGKILL)
    one.server._stopping = True  # the whole manager is gone, not its member alone
    await one.stop_manager()
    leader = await first_write(others, "after")
    took = time.monotonic() - began
    assert acknowledged | {"after"} == ids(leader)
    print(f"first write {took:.2f} s after the kill")
    assert took <= allowed(2.0)


async def test_an_old_leader_that_was_stopped_has_its_writes_refused(lab):
    await lab.cluster(3)
    await first_write(lab.managers, "before")
    one, others = await someone_leads(lab)
    stale, losses = one.backend.epoch, one.losses
    # The member is stopped; the manager goes on believing, as one that was itself stopped would.
    one.signal(signal.SIGSTOP)
    await first_write(others, "by-the-new-one")
    await until(lambda: not one.leads)
    assert one.losses > losses
    one.signal(signal.SIGCONT)
    one.backend.epoch = stale
    with pytest.raises(CommitFailed):
        await one.backend.commit([Mutation("service", "late", b"x")])
    await first_write(lab.managers, "last")
    await until(lambda: ids(one) == {"before", "by-the-new-one", "last"})


async def test_a_commit_that_was_sent_before_the_pause_and_arrives_after_it_is_refused(lab):
    await lab.cluster(3)
    await first_write(lab.managers, "before")
    one, others = await someone_leads(lab)
    one.signal(signal.SIGSTOP)
    pending = asyncio.create_task(put(one, "in-flight"))
    await first_write(others, "by-the-new-one")
    one.signal(signal.SIGCONT)
    with pytest.raises(CommitFailed):
        await pending
    await first_write(lab.managers, "last")
    for manager in lab.managers:
        await until(lambda manager=manager: "last" in ids(manager))
        assert ids(manager) == {"before", "by-the-new-one", "last"}


async def test_a_leader_whose_manager_hangs_while_its_member_lives_is_replaced(lab):
    await lab.cluster(3)
    one, others = await someone_leads(lab)
    # What a stopped daemon does not do any more: its sign of life and its renewals.
    one._task.cancel()
    await asyncio.gather(one._task, return_exceptions=True)
    one._task = None
    began = time.monotonic()
    leader = await first_write(others, "after")
    assert leader is not one
    assert time.monotonic() - began < allowed(8)


async def test_without_a_quorum_writes_are_refused_in_swarms_words_reads_go_on_and_it_heals(lab):
    await lab.cluster(3)
    await first_write(lab.managers, "a")
    one, (two, three) = await someone_leads(lab)
    await until(lambda: all(ids(manager) == {"a"} for manager in lab.managers))
    two.signal(signal.SIGSTOP)
    three.signal(signal.SIGSTOP)
    await until(lambda: not one.leads)
    began = time.monotonic()
    refusal = None
    while not isinstance(refusal, NoLeader):
        with pytest.raises(CommitFailed) as refused:
            await put(one, "refused")
        refusal = refused.value
        assert time.monotonic() - began < allowed(10)
        await asyncio.sleep(0.05)
    assert "The swarm does not have a leader" in refusal.message
    assert ids(one) == {"a"}, "what was not acknowledged is not shown"
    two.signal(signal.SIGCONT)
    three.signal(signal.SIGCONT)
    leader = await first_write((one, two, three), "healed")
    await until(lambda: all(ids(m) == ids(leader) for m in (one, two, three)))
    assert {"a", "healed"} <= ids(one)


async def test_quorum_lost_during_a_commit_is_answered_in_bounded_time_and_the_tables_stay_equal(lab):
    await lab.cluster(3)
    one = await first_write(lab.managers, "a")
    two, three = (manager for manager in lab.managers if manager is not one)
    two.signal(signal.SIGSTOP)
    three.signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(NoLeader):
        await put(one, "doubtful")
    assert time.monotonic() - began < allowed(10)
    two.signal(signal.SIGCONT)
    three.signal(signal.SIGCONT)
    await first_write((one, two, three), "healed")
    await until(lambda: ids(one) == ids(two) == ids(three) and "healed" in ids(one))


def is_commit(operations):
    """Not a sign of life, say."""
    return any(isinstance(each, Put) and each.key.startswith(etcd_records.OBJECTS) for each in operations)


async def test_an_answer_that_was_lost_is_found_out(lab):
    one = await lab.first(calm=True)
    real = one.client.txn
    lost = []

    async def lossy(guards, then, *arguments, **options):
        result = await real(guards, then, *arguments, **options)
        if not lost and is_commit(then):
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
    one = await lab.first(calm=True)
    real = one.client.txn
    lost = []

    async def lossy(guards, then, *arguments, **options):
        if not lost and is_commit(then):
            lost.append(then)
            raise EtcdUnavailable("the request was lost")
        return await real(guards, then, *arguments, **options)

    one.client.txn = lossy
    with pytest.raises(CommitFailed, match="not made"):
        await put(one, "a")
    assert one.leads
    await put(one, "b")
    assert ids(one) == {"b"}


async def test_a_manager_that_fell_behind_what_is_kept_reads_everything_again(lab):
    await lab.cluster(3)
    for number in range(5):
        await first_write(lab.managers, f"s{number}")
    one, (two, three) = await someone_leads(lab)
    await until(lambda: len(ids(two)) == 5)
    watch = two.store.watch(Service)
    # Two's connection to its member is gone while the others go on, and what it missed is forgotten.
    await two.client.close()
    for number in range(5, 20):
        await first_write([one, three], f"s{number}")
    while True:
        with contextlib.suppress(EnxameError):
            one = await lab.leader([one, three])
            await one.store.update(lambda tx: tx.delete(Service, "s0"))
            break
    status = await one.client.status(timeout=10)
    await one.client.compact(status.revision, timeout=10)
    await two.client.renew()
    await until(lambda: versions(two) == versions(one))
    assert ids(two) == {f"s{number}" for number in range(1, 20)}
    events = watch.pending()
    assert {(e.action.value, e.object.id) for e in events} == {("delete", "s0")} | {
        ("create", f"s{n}") for n in range(5, 20)
    }
    await first_write(lab.managers, "afterwards")
    await until(lambda: "afterwards" in ids(two))
    watch.close()


async def test_a_manager_whose_store_is_broken_leaves_leading_to_the_others(lab, monkeypatch):
    monkeypatch.setattr("enxame.store.etcd_leadership._CATCH_UP", 0.3)
    await lab.cluster(3)
    await first_write(lab.managers, "a")
    one, (two, three) = await someone_leads(lab)
    for task in two.store._tasks:
        task.cancel()
    await asyncio.gather(*two.store._tasks, return_exceptions=True)
    member = (await two.client.status(timeout=10)).member
    began = list(two.epochs)
    with contextlib.suppress(EnxameError):  # it may have lost leadership by itself
        await one.leadership.resign(member)
    leader = await first_write((one, three), "after", timeout=20)
    assert ids(leader) == {"a", "after"}
    assert two.epochs == began


async def test_a_watch_outlives_new_connections_whenever_they_come(lab):
    one = await lab.first(calm=True)
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
