import dataclasses

import pytest

from enxame.errors import EnxameError
from enxame.membership.survivor import bring_home
from enxame.model.service import Service, ServiceSpec
from enxame.store import pointer as pointers
from enxame.store.pointer import Pointer
from enxame.store.sqlite import SqliteBackend
from enxame.store.store import Store
from tests.store_etcd.lab import first_write, until


class Plan:
    """How the survivor's member runs: as before."""

    def __init__(self, settings):
        self._settings = settings

    def settings(self, place, _cluster):
        return dataclasses.replace(self._settings, data_dir=place)


async def test_a_survivor_takes_the_state_out_of_its_member_without_the_others(lab, tmp_path):
    directory = tmp_path / "swarm"
    directory.mkdir()
    one = await lab.first(data_dir=directory / "etcd-1")
    two = await lab.join(one)
    for number in range(20):
        await first_write([one, two], f"s{number}")
    await until(lambda: len(one.store.view.all(Service)) == 20)
    before = {service.id: service.version.index for service in one.store.view.all(Service)}
    pointers.write(directory, Pointer("etcd", "etcd-1", 1))
    await two.stop()
    await one.stop_manager()
    await one.server.stop()

    place = await bring_home(directory, Plan(one.settings))

    assert (place.kind, pointers.read(directory)) == ("sqlite", place)
    assert sorted(path.name for path in directory.iterdir()) == ["state-2.db", "state.json"]
    store = Store(SqliteBackend(directory / place.place))
    await store.start()
    assert {service.id: service.version.index for service in store.view.all(Service)} == before
    await store.update(lambda tx: tx.create(Service(id="new", spec=ServiceSpec(name="new"))))
    assert store.view.get(Service, "new").version.index > max(before.values())
    await store.close()
    assert await bring_home(directory, Plan(one.settings)) == place


async def test_a_manager_that_never_got_the_state_has_nothing_to_bring_home(tmp_path):
    pointers.write(tmp_path, pointers.NONE)
    with pytest.raises(EnxameError, match="has not got the swarm's state yet"):
        await bring_home(tmp_path, None)
