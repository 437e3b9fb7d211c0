from enxame.model.service import Service, ServiceSpec
from tests.store_etcd.lab import until


def service(id_, name=None):
    return Service(id=id_, spec=ServiceSpec(name=name or f"name-{id_}"))


async def test_what_one_manager_commits_is_there_after_its_member_was_killed(lab):
    manager = await lab.first(calm=True)
    await manager.store.update(lambda tx: tx.create(service("a")))
    await manager.store.update(lambda tx: tx.create(service("b")))
    await manager.store.update(lambda tx: tx.delete(Service, "a"))
    before = manager.store.view.all(Service)
    revision = manager.store.revision
    await manager.stop_manager()
    manager.signal(9)
    await until(lambda: manager.server.crashes == 1)
    await manager.server.ready(timeout=60)
    await manager.open_store()
    assert manager.store.view.all(Service) == before
    assert manager.store.revision >= revision
    manager.epochs.clear()
    manager.lead()
    await until(lambda: manager.leads)
    await manager.store.update(lambda tx: tx.create(service("c")))
    assert manager.store.view.get(Service, "c").version.index > revision
