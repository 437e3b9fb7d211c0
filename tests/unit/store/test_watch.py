import asyncio

import pytest
from msgspec.structs import replace

from enxame.model.service import Service, ServiceSpec
from enxame.model.task import Task
from enxame.store.interface import Action
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store
from enxame.store.watch import WatchLagged
from tests.unit.store.conftest import service


async def test_events_come_in_order_with_old_and_new_and_the_commits_version(store):
    async with store.watch(Service) as watch:
        await store.update(lambda tx: (tx.create(service("1")), tx.create(Task(id="t")), tx.create(service("2"))))
        one = store.view.get(Service, "1")
        await store.update(lambda tx: tx.update(replace(one, spec=ServiceSpec(name="new"))))
        await store.update(lambda tx: tx.delete(Service, "2"))
        events = await watch.next()
    assert [(e.action, e.object.id, e.version) for e in events] == [
        (Action.CREATE, "1", 1),
        (Action.CREATE, "2", 1),
        (Action.UPDATE, "1", 2),
        (Action.DELETE, "2", 3),
    ]
    assert events[2].old is one
    assert events[2].object is store.view.get(Service, "1")
    assert events[0].old is None


async def test_a_watch_wakes_only_for_its_kinds(store):
    async with store.watch(Task) as watch:
        waiting = asyncio.create_task(watch.next())
        await store.update(lambda tx: tx.create(service("1")))
        await asyncio.sleep(0)
        assert not waiting.done()
        await store.update(lambda tx: tx.create(Task(id="t")))
        assert [event.object.id for event in await waiting] == ["t"]


async def test_a_watch_resumes_from_a_revision(store):
    for number in range(5):
        await store.update(lambda tx, number=number: tx.create(service(str(number))))
    for since in range(6):
        watch = store.watch(since=since)
        assert [event.version for event in watch.pending()] == list(range(since + 1, 6))


async def test_resuming_from_before_the_history_or_the_restart_lags(store):
    backend = MemoryBackend()
    store = Store(backend, history_events=20)
    await store.start()
    slow = store.watch()
    for number in range(60):
        await store.update(lambda tx, number=number: tx.create(service(str(number))))
    with pytest.raises(WatchLagged):
        await slow.next()
    assert slow.pending() == [], "after the lag it goes on from now"
    with pytest.raises(WatchLagged):
        store.watch(since=30).pending()
    assert [e.version for e in store.watch(since=40).pending()] == list(range(41, 61))
    await store.close()
    again = Store(backend)
    await again.start()
    assert again.revision == 60
    with pytest.raises(WatchLagged):
        again.watch(since=59).pending()
    assert again.watch(since=60).pending() == []
    await again.close()


async def test_one_huge_commit_reaches_a_watcher_whatever_the_limit(store):
    store = Store(MemoryBackend(), history_events=10)
    await store.start()
    watch = store.watch()
    await store.update(lambda tx: [tx.create(Task(id=str(n))) for n in range(1000)])
    assert len(watch.pending()) == 1000
    await store.close()
