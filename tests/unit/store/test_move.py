import asyncio

import pytest

from enxame.model.service import Service, ServiceSpec
from enxame.store import pointer as pointers
from enxame.store.backend import Corrupt, Mutation, Record
from enxame.store.move import MoveFailed, clear_leftovers, difference, move
from enxame.store.pointer import FIRST, Pointer
from enxame.store.sqlite import SqliteBackend, write_database
from enxame.store.store import Store
from enxame.store.switching import SwitchingBackend


def service(id_):
    return Service(id=id_, spec=ServiceSpec(name=f"name-{id_}"))


class Directory:
    """A swarm's directory whose state moves from one SQLite database to the next."""

    def __init__(self, path):
        self.path = path
        self.discarded = []
        self.spoil = None

    async def prepare(self, target, revision, records):
        if self.spoil is not None:
            revision, records = self.spoil(revision, records)
        write_database(self.path / target.place, revision, records)
        return SqliteBackend(self.path / target.place)

    async def discard(self, target):
        self.discarded.append(target.place)

    def open(self):
        pointer = pointers.read(self.path)
        self.backend = SwitchingBackend(SqliteBackend(self.path / pointer.place))
        return Store(self.backend)

    async def move(self):
        return await move(self.backend, self.path, kind="sqlite", prepare=self.prepare, discard=self.discard)


@pytest.fixture
def directory(tmp_path):
    return Directory(tmp_path)


async def test_writers_go_on_while_the_state_moves_and_nothing_acknowledged_is_lost(directory):
    store = directory.open()
    await store.start()
    versions = {}
    stop = asyncio.Event()

    async def write(writer):
        number = 0
        while not stop.is_set():
            id_ = f"w{writer}-{number}"
            await store.update(lambda tx, id_=id_: tx.create(service(id_)))
            versions[id_] = store.view.get(Service, id_).version.index
            number += 1

    async with asyncio.TaskGroup() as group:
        for writer in range(4):
            group.create_task(write(writer))
        for _ in range(3):
            seen = len(versions)
            while len(versions) < seen + 20:
                await asyncio.sleep(0)
            await directory.move()
        seen = len(versions)
        while len(versions) < seen + 20:
            await asyncio.sleep(0)
        stop.set()
    assert {s.id: s.version.index for s in store.view.all(Service)} == versions
    revision = store.revision
    await store.close()
    assert pointers.read(directory.path).moves == 3
    again = directory.open()
    await again.start()
    assert {s.id: s.version.index for s in again.view.all(Service)} == versions
    assert again.revision == revision
    await again.close()
    assert await clear_leftovers(directory.path)
    assert sorted(p.name for p in directory.path.iterdir() if "-mark" not in p.name) == ["state-3.db", "state.json"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda revision, records: (revision, records[1:]),
        lambda revision, records: (revision + 1, [*records, Record("service", "x", 1, b"y")]),
        lambda revision, records: (revision, [Record(r.kind, r.id, r.revision, r.data + b"!") for r in records]),
        lambda revision, records: (revision - 1, [Record(r.kind, r.id, 1, r.data) for r in records]),
    ],
)
async def test_a_copy_that_is_not_like_the_state_is_not_used(directory, spoil):
    store = directory.open()
    await store.start()
    await store.update(lambda tx: tx.create(service("a")))
    await store.update(lambda tx: tx.create(service("b")))
    directory.spoil = spoil
    with pytest.raises(MoveFailed, match="not like the state"):
        await directory.move()
    assert directory.discarded == ["state-1.db"]
    assert pointers.read(directory.path) == FIRST
    await store.update(lambda tx: tx.create(service("c")))
    assert store.revision == 3
    await store.close()


async def test_a_pointer_that_cannot_be_written_leaves_the_state_where_it_was(directory, monkeypatch):
    store = directory.open()
    await store.start()
    await store.update(lambda tx: tx.create(service("a")))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pointers, "write", full)
        with pytest.raises(MoveFailed, match="No space left"):
            await directory.move()
    await store.update(lambda tx: tx.create(service("b")))
    await store.close()
    again = directory.open()
    await again.start()
    assert {s.id for s in again.view.all(Service)} == {"a", "b"}
    await again.close()


@pytest.mark.parametrize("moment", ["before the copy", "in the copy", "before the pointer", "after the pointer"])
async def test_a_crash_at_any_moment_leaves_one_whole_state(directory, monkeypatch, moment):
    class Crash(BaseException):
        pass

    store = directory.open()
    await store.start()
    for name in "abc":
        await store.update(lambda tx, name=name: tx.create(service(name)))
    real_prepare, real_write = directory.prepare, pointers.write

    async def prepare(target, revision, records):
        if moment == "before the copy":
            raise Crash
        if moment == "in the copy":
            (directory.path / (target.place + ".new")).write_bytes(b"half")
            raise Crash
        return await real_prepare(target, revision, records)

    def write(path, target):
        if moment == "after the pointer":
            real_write(path, target)
        raise Crash

    directory.prepare = prepare
    monkeypatch.setattr(pointers, "write", write)
    with pytest.raises(Crash):
        await directory.move()
    # The process is gone: nothing of the store is closed in order. What it leaves is on the disk.
    await directory.backend.current.close()
    await clear_leftovers(directory.path)
    pointer = pointers.read(directory.path)
    assert pointer.moves == (1 if moment == "after the pointer" else 0)
    directory.prepare = real_prepare
    monkeypatch.setattr(pointers, "write", real_write)
    again = directory.open()
    await again.start()
    assert {s.id: s.version.index for s in again.view.all(Service)} == {"a": 1, "b": 2, "c": 3}
    await again.update(lambda tx: tx.create(service("d")))
    assert again.revision == 4
    await directory.move()
    await again.close()
    await store.close()


def test_a_damaged_pointer_is_named_and_not_guessed(tmp_path):
    for text in (
        b"",
        b"{",
        b'{"kind":"etcd","place":"../x"}',
        b'{"kind":"oracle","place":"x"}',
        b'{"kind":"etcd","place":""}',
    ):
        (tmp_path / "state.json").write_bytes(text)
        with pytest.raises(Corrupt, match=r"state\.json"):
            pointers.read(tmp_path)


def test_leftovers_are_all_states_but_the_one_pointed_to():
    names = [
        "state.db",
        "state.db-wal",
        "state-1.db",
        "state-2.db.new",
        "etcd-3",
        "state.json",
        "certificates",
        "node.json",
    ]
    assert pointers.leftovers(names, Pointer("etcd", "etcd-3", 3)) == [
        "state-1.db",
        "state-2.db.new",
        "state.db",
        "state.db-wal",
    ]
    assert pointers.leftovers(names, FIRST) == ["etcd-3", "state-1.db", "state-2.db.new"]


def test_a_manager_without_a_state_has_no_place_and_every_place_is_new(tmp_path):
    pointers.write(tmp_path, pointers.NONE)
    assert pointers.read(tmp_path) == pointers.NONE
    assert pointers.NONE.next("etcd") == Pointer("etcd", "etcd-1", 1)
    assert pointers.leftovers(["state.db", "etcd-1", "node.json", "state.json"], pointers.NONE) == [
        "etcd-1",
        "state.db",
    ]


def test_a_worker_forgets_what_it_had_as_a_manager_and_nothing_else(tmp_path):
    pointers.write(tmp_path, Pointer("etcd", "etcd-3", 3))
    (tmp_path / "etcd-3" / "member").mkdir(parents=True)
    for name in ("state-2.db", "state-2.db-wal", "node.json", "tasks.db"):
        (tmp_path / name).touch()
    pointers.forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node.json", "tasks.db"]
    pointers.forget(tmp_path)
    assert pointers.read(tmp_path) == FIRST


def test_differences_are_named():
    a, b = Record("service", "a", 1, b"x"), Record("service", "b", 2, b"y")
    assert difference([a, b], [b, a]) == ""
    assert difference([a, b], [a]) == "service b is missing"
    assert difference([a], [a, b]) == "service b is too much"
    assert difference([a], [Record("service", "a", 2, b"x")]) == "service a differs"


async def test_switching_is_refused_unless_frozen(tmp_path):
    backend = SwitchingBackend(SqliteBackend(tmp_path / "state.db"))
    with pytest.raises(RuntimeError, match="frozen"):
        backend.switch(SqliteBackend(tmp_path / "other.db"))
    await backend.close()


async def test_a_commit_waits_while_frozen(tmp_path):
    backend = SwitchingBackend(SqliteBackend(tmp_path / "state.db"))
    await backend.load()
    async with backend.frozen():
        commit = asyncio.create_task(backend.commit([Mutation("service", "a", b"x")]))
        await asyncio.sleep(0)
        assert not commit.done()
        _, records = await backend.load()
        assert records == []
    assert await commit == 1
    await backend.close()
