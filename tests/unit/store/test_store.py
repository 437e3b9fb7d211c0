import asyncio

import pytest
from msgspec.structs import replace

from enxame.errors import Conflict, EnxameError, NotFound, Unavailable
from enxame.model.base import ObjectVersion
from enxame.model.network import Network, NetworkSpec
from enxame.model.secret import Config, ConfigSpec, Secret, SecretSpec
from enxame.model.service import Service, ServiceSpec
from enxame.model.task import Task, TaskState
from enxame.store.backend import Commit, CommitFailed, Corrupt, Mutation, Record
from enxame.store.interface import Action
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store
from enxame.store.watch import WatchClosed
from tests.unit.store.conftest import NOW, service


async def test_a_created_object_gets_the_commits_version_and_times(store):
    await store.update(lambda tx: tx.create(service("s1", "web")))
    stored = store.view.get(Service, "s1")
    assert (stored.version.index, stored.created_at, stored.updated_at) == (1, NOW, NOW)
    assert store.revision == 1
    assert store.view.find(Service, "name", "WEB") == [stored]


async def test_update_returns_what_the_function_returned(store):
    assert await store.update(lambda tx: len(tx.all(Service))) == 0
    assert store.revision == 0, "a transaction without changes is no commit"


async def test_an_update_with_a_stale_version_is_out_of_sequence(store):
    await store.update(lambda tx: tx.create(service("s1")))
    first = store.view.get(Service, "s1")
    await store.update(lambda tx: tx.update(replace(first, spec=ServiceSpec(name="two"))))
    with pytest.raises(EnxameError, match="rpc error: code = Unknown desc = update out of sequence") as caught:
        await store.update(lambda tx: tx.update(first))
    assert caught.value.status == 500
    assert store.view.get(Service, "s1").spec.name == "two"
    assert store.view.get(Service, "s1").version.index == 2


async def test_callers_that_share_a_commit_still_conflict_on_the_same_version(held):
    store, backend = held
    await store.update(lambda tx: tx.create(service("s1")))
    first = store.view.get(Service, "s1")
    results = await asyncio.gather(
        store.update(lambda tx: tx.update(replace(first, spec=ServiceSpec(name="a")))),
        store.update(lambda tx: tx.update(replace(first, spec=ServiceSpec(name="b")))),
        return_exceptions=True,
    )
    assert len(backend.commits) == 2
    assert results[0] is None
    assert "out of sequence" in str(results[1])
    assert store.view.get(Service, "s1").spec.name == "a"


async def test_a_transaction_does_not_conflict_with_itself(store):
    def twice(tx):
        tx.create(service("s1", "a"))
        created = tx.get(Service, "s1")
        tx.update(replace(created, spec=ServiceSpec(name="b")))
        tx.update(replace(created, spec=ServiceSpec(name="c")))

    await store.update(twice)
    assert store.view.get(Service, "s1").spec.name == "c"
    assert not store.view.find(Service, "name", "a")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            service("1", "web"),
            service("2", "Web"),
            "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service Web already exists",
        ),
        (
            Secret(id="1", spec=SecretSpec(name="sec1")),
            Secret(id="2", spec=SecretSpec(name="sec1")),
            "rpc error: code = AlreadyExists desc = secret sec1 already exists",
        ),
        (
            Config(id="1", spec=ConfigSpec(name="c")),
            Config(id="2", spec=ConfigSpec(name="c")),
            "rpc error: code = AlreadyExists desc = config c already exists",
        ),
        (
            Network(id="1", spec=NetworkSpec(name="ov1")),
            Network(id="2", spec=NetworkSpec(name="ov1")),
            "network with name ov1 already exists",
        ),
        (service("1", "a"), service("1", "b"), "service 1 already exists"),
    ],
)
async def test_taken_names_and_ids_conflict(store, first, second, message):
    await store.update(lambda tx: tx.create(first))
    with pytest.raises(Conflict) as caught:
        await store.update(lambda tx: tx.create(second))
    assert str(caught.value) == message
    assert store.revision == 1


async def test_renaming_to_a_taken_name_conflicts_and_to_a_freed_one_works(store):
    await store.update(lambda tx: (tx.create(service("1", "a")), tx.create(service("2", "b"))))
    two = store.view.get(Service, "2")
    with pytest.raises(Conflict):
        await store.update(lambda tx: tx.update(replace(two, spec=ServiceSpec(name="a"))))
    await store.update(lambda tx: (tx.delete(Service, "1"), tx.update(replace(two, spec=ServiceSpec(name="a")))))
    assert [s.id for s in store.view.find(Service, "name", "a")] == ["2"]


async def test_changing_or_removing_what_is_not_there_is_not_found(store):
    with pytest.raises(NotFound, match="service s1 not found"):
        await store.update(lambda tx: tx.update(service("s1")))
    with pytest.raises(NotFound, match="task t1 not found"):
        await store.update(lambda tx: tx.delete(Task, "t1"))


async def test_an_error_drops_only_its_own_transaction_from_the_shared_commit(held):
    store, backend = held
    backend.hold = True
    blocker = asyncio.create_task(store.update(lambda tx: tx.create(service("0"))))
    await backend.entered.wait()

    def fails(tx):
        assert [s.id for s in tx.all(Service)] == ["0", "1"]
        tx.create(service("2"))
        tx.delete(Service, "1")
        tx.update(replace(tx.get(Service, "0"), spec=ServiceSpec(name="changed")))
        raise RuntimeError("mine alone")

    def last(tx):
        assert sorted(s.id for s in tx.all(Service)) == ["0", "1"]
        assert tx.get(Service, "0").spec.name == "name-0"
        assert not tx.find(Service, "name", "changed")
        tx.create(service("3"))
        return "done"

    waiting = [asyncio.create_task(store.update(fn)) for fn in (lambda tx: tx.create(service("1")), fails, last)]
    await asyncio.sleep(0)
    assert not store.view.all(Service), "nothing is visible before it is durable"
    backend.go.set()
    results = await asyncio.gather(blocker, *waiting, return_exceptions=True)
    assert isinstance(results[2], RuntimeError)
    assert results[3] == "done"
    assert len(backend.commits) == 2, "those who waited share one commit"
    assert sorted(s.id for s in store.view.all(Service)) == ["0", "1", "3"]
    assert {s.version.index for s in store.view.all(Service)} == {1, 2}


async def test_a_refused_commit_fails_all_its_callers_and_changes_nothing(held):
    store, backend = held
    backend.failure = CommitFailed("not the leader")
    watch = store.watch()
    results = await asyncio.gather(
        store.update(lambda tx: tx.create(service("1"))),
        store.update(lambda tx: tx.create(service("2"))),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [CommitFailed, CommitFailed]
    assert results[0] is not results[1]
    assert not store.view.all(Service)
    assert watch.pending() == []
    backend.failure = None
    await store.update(lambda tx: tx.create(service("1")))
    assert store.revision == 1


async def test_a_cancelled_caller_does_not_disturb_the_others(held):
    store, backend = held
    backend.hold = True
    first = asyncio.create_task(store.update(lambda tx: tx.create(service("1"))))
    await backend.entered.wait()
    second = asyncio.create_task(store.update(lambda tx: tx.create(service("2"))))
    third = asyncio.create_task(store.update(lambda tx: tx.create(service("3"))))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.sleep(0)
    backend.go.set()
    await third
    assert sorted(s.id for s in store.view.all(Service)) == ["1", "3"], "what was in flight stays, what waited goes"


async def test_what_is_created_and_deleted_in_one_commit_never_was(held):
    store, backend = held
    watch = store.watch()
    await store.update(lambda tx: (tx.create(service("1")), tx.delete(Service, "1")))
    assert backend.commits == []
    assert watch.pending() == []


async def test_deleting_and_creating_again_is_an_update(store):
    await store.update(lambda tx: tx.create(service("1", "a")))
    watch = store.watch()
    await store.update(lambda tx: (tx.delete(Service, "1"), tx.create(service("1", "b"))))
    (event,) = watch.pending()
    assert (event.action, event.old.spec.name, event.object.spec.name) == (Action.UPDATE, "a", "b")


async def test_indexes_follow_changes(store):
    await store.update(lambda tx: tx.create(Task(id="t", service_id="s", slot=3, node_id="a")))
    task = store.view.get(Task, "t")
    assert store.view.find(Task, "slot", ("s", 3)) == [task]
    assert store.view.find(Task, "desired_state", TaskState.NEW) == [task]

    def move(tx):
        tx.update(replace(task, node_id="b", desired_state=TaskState.RUNNING))
        assert [t.id for t in tx.find(Task, "node_id", "b")] == ["t"]
        assert tx.find(Task, "node_id", "a") == []

    await store.update(move)
    assert store.view.find(Task, "node_id", "a") == []
    assert [t.id for t in store.view.find(Task, "desired_state", TaskState.RUNNING)] == ["t"]
    await store.update(lambda tx: tx.delete(Task, "t"))
    assert store.view.find(Task, "service_id", "s") == []


async def test_closing_refuses_new_work_and_ends_watches(store):
    watch = store.watch()
    waiting = asyncio.create_task(watch.next())
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(WatchClosed):
        await waiting
    with pytest.raises(WatchClosed):
        await store.watch().next()
    with pytest.raises(Unavailable):
        await store.update(lambda tx: None)


async def test_closing_waits_for_the_commit_in_flight_and_refuses_the_queue(held):
    store, backend = held
    backend.hold = True
    first = asyncio.create_task(store.update(lambda tx: tx.create(service("1"))))
    await backend.entered.wait()
    second = asyncio.create_task(store.update(lambda tx: tx.create(service("2"))))
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    backend.go.set()
    await closing
    assert await first is None
    with pytest.raises(Unavailable):
        await second


class ReplicatedBackend(MemoryBackend):
    """Revisions with gaps, every commit reported on the watch before it is acknowledged, as etcd may."""

    def __init__(self):
        super().__init__()
        self.reported = asyncio.Queue()

    async def commit(self, mutations):
        self._revision += 10
        self.reported.put_nowait(Commit(self._revision, mutations))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self._revision

    async def watch(self, after):
        while True:
            commit = await self.reported.get()
            if commit is None:
                return
            yield commit


async def test_commits_of_others_are_applied_in_order_and_own_ones_once():
    backend = ReplicatedBackend()
    store = Store(backend, wall=lambda: NOW)
    await store.start()
    async with store.watch() as watch:
        await store.update(lambda tx: tx.create(service("mine")))
        assert store.view.get(Service, "mine").version.index == 10, "the backend's revision, not the expected one"
        from enxame.store.kinds import encode_record

        theirs = encode_record(service("theirs", version=ObjectVersion(index=1)))
        backend.reported.put_nowait(Commit(25, [Mutation("service", "theirs", theirs)]))
        backend.reported.put_nowait(Commit(26, [Mutation("service", "mine", None)]))
        events = []
        while len(events) < 3:
            events += await watch.next()
    assert [(e.action, e.object.id, e.version) for e in events] == [
        (Action.CREATE, "mine", 10),
        (Action.CREATE, "theirs", 25),
        (Action.DELETE, "mine", 26),
    ]
    assert store.view.get(Service, "theirs").version.index == 25
    assert store.revision == 26
    await store.close()


async def test_a_foreign_commit_that_cannot_be_read_stops_the_store_loudly(caplog):
    backend = ReplicatedBackend()
    store = Store(backend)
    await store.start()
    watch = store.watch()
    backend.reported.put_nowait(Commit(1, [Mutation("service", "x", b"\xff")]))
    with pytest.raises(WatchClosed):
        await watch.next()
    with pytest.raises(Unavailable, match="no longer follows"):
        await store.update(lambda tx: None)
    await store.close()


@pytest.mark.parametrize("record", [Record("service", "x", 1, b"\xc1"), Record("gizmo", "x", 1, b"\x80")])
async def test_records_that_cannot_be_read_are_named(record):
    backend = MemoryBackend()
    backend._records[("service", "x")] = record
    store = Store(backend)
    with pytest.raises(Corrupt, match=r"service x|gizmo"):
        await store.start()
    await store.close()


async def test_an_object_that_cannot_be_indexed_is_its_callers_problem(store):
    await store.update(lambda tx: tx.create(service("1", "a")))

    def breaks(tx):
        tx.create(service("2"))
        tx.update(replace(tx.get(Service, "1"), spec=None))

    with pytest.raises(AttributeError):
        await store.update(breaks)
    assert [s.id for s in store.view.find(Service, "name", "a")] == ["1"]
    await store.update(lambda tx: tx.create(service("2", "b")))
    assert len(store.view.all(Service)) == 2


async def test_nobody_is_left_waiting_when_the_store_breaks(held, monkeypatch, caplog):
    store, backend = held
    backend.hold = True
    first = asyncio.create_task(store.update(lambda tx: tx.create(service("1"))))
    await backend.entered.wait()
    second = asyncio.create_task(store.update(lambda tx: tx.create(service("2"))))
    watch = store.watch()
    await asyncio.sleep(0)

    def broken(changes, revision):
        raise RuntimeError("a bug")

    monkeypatch.setattr(store, "_apply", broken)
    backend.go.set()
    with pytest.raises(Unavailable, match="was saved, but the store broke"):
        await first
    with pytest.raises(Unavailable, match="the store broke: a bug"):
        await second
    with pytest.raises(Unavailable, match="the store broke: a bug"):
        await store.update(lambda tx: None)
    with pytest.raises(WatchClosed):
        await watch.next()
    assert "the store broke" in caplog.text
