"""What every backend promises, on each of them."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from enxame.model.service import Service, ServiceSpec
from enxame.store.backend import CommitFailed, Mutation, Record
from enxame.store.etcd_node import EtcdNode
from enxame.store.memory import MemoryBackend
from enxame.store.sealed import SealedBackend
from enxame.store.sealing import Keyring
from enxame.store.sqlite import SqliteBackend
from enxame.store.store import Store
from enxame.store.switching import SwitchingBackend
from tests.store_etcd.lab import LONG, until


@pytest.fixture(params=["memory", "sqlite", "etcd", "switching", "sealed"])
async def backend(request, lab, tmp_path):
    node = None
    if request.param == "memory":
        backend = MemoryBackend()
    elif request.param == "sqlite":
        backend = SqliteBackend(tmp_path / "state.db")
    elif request.param == "sealed":
        backend = SealedBackend(SqliteBackend(tmp_path / "state.db"), Keyring.generate())
    elif request.param == "switching":
        backend = SwitchingBackend(SqliteBackend(tmp_path / "state.db"))
    else:
        node = EtcdNode(lab.manager().settings, gained=lambda _epoch: None, lost=lambda: None)
        node.leadership._validity = LONG
        await node.start()
        backend = await node.found(0, [])
    yield backend
    await backend.close()
    if node is not None:
        await node.stop()


def put(id_, data=b"x", kind="service"):
    return Mutation(kind, id_, data)


def by_id(records):
    return {(record.kind, record.id): record for record in records}


async def test_what_was_committed_is_loaded_with_its_revision(backend):
    await backend.load()
    first = await backend.commit([put("a", b"1"), put("b", b"2"), put("a", b"3", kind="task")])
    second = await backend.commit([put("b", b"4"), put("a", None)])
    revision, records = await backend.load()
    assert second > first
    assert revision >= second
    assert by_id(records) == {
        ("service", "b"): Record("service", "b", second, b"4"),
        ("task", "a"): Record("task", "a", first, b"3"),
    }


async def test_revisions_only_grow_also_for_commits_that_change_nothing(backend):
    await backend.load()
    revisions = [await backend.commit([put("none", None)]) for _ in range(3)]
    revisions += [await backend.commit([put("a", b"same")]) for _ in range(3)]
    assert revisions == sorted(set(revisions))


async def test_any_bytes_and_many_records_come_back_as_they_were(backend):
    await backend.load()
    blob = bytes(range(256)) * 40
    mutations = [put(f"n{number}", blob[:number]) for number in range(3000)]
    await backend.commit(mutations)
    _, records = await backend.load()
    assert {r.id: r.data for r in records} == {m.id: m.data for m in mutations}


async def test_a_transaction_of_a_thousand_tasks_is_one_commit(backend):
    await backend.load()
    revision = await backend.commit([put(f"t{number}", b"x" * 1000, kind="task") for number in range(1000)])
    _, records = await backend.load()
    assert {record.revision for record in records} == {revision}
    assert len(records) == 1000


async def test_records_are_rewritten_at_the_revisions_they_have_and_watchers_hear_nothing(backend):
    await backend.load()
    first = await backend.commit([put(f"n{number}", b"old") for number in range(1500)])
    second = await backend.commit([put("n7", b"older")])
    heard = []

    async def follow():
        async with contextlib.aclosing(backend.watch(second)) as commits:
            async for commit in commits:
                heard.extend(mutation.data for mutation in commit.mutations)

    following = asyncio.create_task(follow())
    _, found = await backend.load()
    await backend.rewrite([replace(record, data=b"new " + record.data) for record in found])
    _, records = await backend.load()
    assert by_id(records) == {
        ("service", f"n{number}"): Record(
            "service", f"n{number}", second if number == 7 else first, b"new older" if number == 7 else b"new old"
        )
        for number in range(1500)
    }
    third = await backend.commit([put("n7", b"last")])
    assert third > second
    if hasattr(backend, "epoch"):  # the others report what other managers commit, and there are none
        await until(lambda: heard)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert set(heard) <= {b"last"}


async def test_after_closing_commits_are_refused(backend):
    if isinstance(backend, MemoryBackend):
        pytest.skip("there is nothing to close")
    await backend.load()
    await backend.close()
    await backend.close()
    with pytest.raises(CommitFailed):
        await backend.commit([put("a")])


async def test_a_store_on_it_shares_commits_and_keeps_versions(backend):
    store = Store(backend)
    await store.start()

    def create(id_):
        return store.update(lambda tx: tx.create(Service(id=id_, spec=ServiceSpec(name=id_))))

    await asyncio.gather(*(create(f"s{number}") for number in range(200)))
    versions = {service.id: service.version.index for service in store.view.all(Service)}
    assert len(versions) == 200
    assert len(set(versions.values())) < 20, "callers that wait share a commit"
    again = Store(backend)
    _, records = await backend.load()
    assert {record.id: record.revision for record in records} == versions
    await store.close()
    await again.close()


async def test_what_is_too_large_for_one_step_is_refused_whole(backend):
    if not hasattr(backend, "epoch"):
        pytest.skip("only etcd has such a limit")
    await backend.load()
    for mutations in ([put("a"), put("b", b"x" * (9 << 20))], [put(f"n{n}") for n in range(20_000)]):
        with pytest.raises(CommitFailed, match="too large to be made in one step"):
            await backend.commit(mutations)
    await backend.commit([put("c")])
    _, records = await backend.load()
    assert [record.id for record in records] == ["c"]
