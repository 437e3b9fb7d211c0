import asyncio
import shutil

import pytest

from enxame.errors import EnxameError
from enxame.model.service import Service, ServiceSpec
from enxame.store import pointer as pointers
from enxame.store.etcd_node import EtcdNode
from enxame.store.move import clear_leftovers, move
from enxame.store.sqlite import SqliteBackend, write_database
from enxame.store.store import Store
from enxame.store.switching import SwitchingBackend
from tests.store_etcd.lab import LONG, until


def service(id_):
    return Service(id=id_, spec=ServiceSpec(name=f"name-{id_}"))


class MovingManager:
    """A manager whose state goes from SQLite to etcd and back."""

    def __init__(self, lab, directory):
        self.lab = lab
        self.directory = directory
        self.node = None
        self.epochs = []

    async def open(self):
        self.backend = SwitchingBackend(SqliteBackend(self.directory / pointers.read(self.directory).place))
        self.store = Store(self.backend)
        await self.store.start()

    async def to_etcd(self):
        async def prepare(target, revision, records):
            settings = self.lab.manager("m1", data_dir=self.directory / target.place).settings
            self.node = EtcdNode(settings, gained=self.epochs.append, lost=lambda: None)
            self.node.leadership._validity = LONG
            await self.node.start()
            return await self.node.found(revision, records)

        async def discard(target):
            if self.node is not None:
                await self.node.stop()
            shutil.rmtree(self.directory / target.place, ignore_errors=True)

        await move(self.backend, self.directory, kind="etcd", prepare=prepare, discard=discard)

    async def to_sqlite(self):
        async def prepare(target, revision, records):
            await asyncio.to_thread(write_database, self.directory / target.place, revision, records)
            return SqliteBackend(self.directory / target.place)

        async def discard(target):
            (self.directory / target.place).unlink(missing_ok=True)

        await move(self.backend, self.directory, kind="sqlite", prepare=prepare, discard=discard)
        await self.node.stop()
        self.node = None

    async def close(self):
        await self.store.close()
        if self.node is not None:
            await self.node.stop()


@pytest.fixture
async def manager(lab, tmp_path):
    manager = MovingManager(lab, tmp_path / "swarm")
    manager.directory.mkdir()
    await manager.open()
    yield manager
    await manager.close()


async def test_writers_go_on_while_the_state_moves_to_etcd_and_back(manager):
    store = manager.store
    versions, refused = {}, []
    watched = []
    stop = asyncio.Event()

    async def write(writer):
        number = 0
        while not stop.is_set():
            id_ = f"w{writer}-{number}"
            number += 1
            try:
                await store.update(lambda tx, id_=id_: tx.create(service(id_)))
            except EnxameError as error:
                refused.append(error.message)
                continue
            versions[id_] = store.view.get(Service, id_).version.index

    async def follow():
        async with store.watch(Service) as watch:
            while True:
                watched.extend(await watch.next())

    async def more():
        seen = len(versions)
        await until(lambda: len(versions) > seen + 30)

    async with asyncio.TaskGroup() as group:
        follower = group.create_task(follow())
        writers = [group.create_task(write(writer)) for writer in range(4)]
        await more()
        await manager.to_etcd()
        assert pointers.read(manager.directory).kind == "etcd"
        await more()
        await manager.to_sqlite()
        await more()
        await manager.to_etcd()
        await more()
        await manager.to_sqlite()
        await more()
        stop.set()
        await asyncio.wait(writers)
        await until(lambda: len(watched) >= len(versions))
        follower.cancel()
    assert refused == []
    assert {s.id: s.version.index for s in store.view.all(Service)} == versions
    order = [event.version for event in watched]
    assert order == sorted(order)
    assert {event.object.id for event in watched} == set(versions)
    await store.close()
    await clear_leftovers(manager.directory)
    assert {p.name for p in manager.directory.iterdir() if "-mark" not in p.name} == {"state-4.db", "state.json"}
    await manager.open()
    assert {s.id: s.version.index for s in manager.store.view.all(Service)} == versions


async def test_an_update_with_the_version_from_before_the_move_is_in_sequence(manager):
    store = manager.store
    await store.update(lambda tx: tx.create(service("a")))
    await store.update(lambda tx: tx.create(service("b")))
    before = store.view.get(Service, "a")
    await manager.to_etcd()
    await store.update(lambda tx: tx.update(before))
    after = store.view.get(Service, "a").version.index
    assert after > before.version.index
    assert store.view.get(Service, "b").version.index == 2
    assert manager.epochs


async def test_a_move_that_etcd_does_not_start_for_leaves_the_state_in_sqlite(manager, monkeypatch):
    await manager.store.update(lambda tx: tx.create(service("a")))
    monkeypatch.setattr("enxame.store.etcd_program._PLACES", ("/nonexistent/etcd",))
    monkeypatch.setattr("enxame.store.etcd_program.find.__defaults__", (("/nonexistent/etcd",),))
    with pytest.raises(EnxameError, match="install the package etcd-server"):
        await manager.to_etcd()
    await manager.store.update(lambda tx: tx.create(service("b")))
    assert pointers.read(manager.directory).kind == "sqlite"
