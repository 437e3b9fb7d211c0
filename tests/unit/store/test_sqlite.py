import asyncio
import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap

import pytest

from enxame.errors import Unavailable
from enxame.model.secret import Config, ConfigSpec
from enxame.model.service import Service, ServiceSpec
from enxame.store.backend import CommitFailed, Corrupt, Mutation
from enxame.store.sqlite import SCHEMA_VERSION, SqliteBackend
from enxame.store.store import Store


@contextlib.asynccontextmanager
async def opened(path):
    store = Store(SqliteBackend(path))
    try:
        await store.start()
        yield store
    finally:
        await store.close()


def service(id_):
    return Service(id=id_, spec=ServiceSpec(name=f"name-{id_}"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


async def fill(path, count=200):
    async with opened(path) as store:
        for number in range(count):
            await store.update(lambda tx, number=number: tx.create(service(f"s{number}")))


async def test_what_was_committed_is_there_after_reopening_with_versions_and_times(path):
    async with opened(path) as store:
        await store.update(lambda tx: tx.create(service("a")))
        await store.update(lambda tx: tx.create(service("b")))
        await store.update(lambda tx: tx.delete(Service, "a"))
        before = store.view.all(Service)
    async with opened(path) as store:
        assert store.view.all(Service) == before
        assert store.revision == 3
        await store.update(lambda tx: tx.update(store.view.get(Service, "b")))
        assert store.view.get(Service, "b").version.index == 4


async def test_only_the_owner_can_read_the_state(path):
    async with opened(path) as store:
        await store.update(lambda tx: tx.create(service("a")))
        files = list(path.parent.iterdir())
        assert {file.name for file in files} == {"state.db", "state.db-wal", "state.db-mark"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_second_process_is_refused(path):
    async with opened(path):
        other = Store(SqliteBackend(path))
        with pytest.raises(Unavailable, match="in use by another process"):
            await other.start()
        await other.close()


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, 10_000, 0.5, 0.9])
async def test_a_truncated_database_is_named_never_taken_for_an_empty_one(path, keep):
    await fill(path)
    size = path.stat().st_size
    os.truncate(path, int(size * keep) if isinstance(keep, float) else keep)
    store = Store(SqliteBackend(path))
    with pytest.raises(Corrupt, match=r"the swarm's state in .*state\.db is damaged"):
        await store.start()
    await store.close()


async def test_flipped_bytes_are_noticed_wherever_they_are(path):
    await fill(path, 20)
    whole = path.read_bytes()
    found = 0
    for offset in range(0, len(whole), 997):
        damaged = bytearray(whole)
        damaged[offset : offset + 8] = bytes(byte ^ 0x5A for byte in damaged[offset : offset + 8])
        path.write_bytes(damaged)
        store = Store(SqliteBackend(path))
        try:
            await store.start()
        except (Corrupt, Unavailable):
            found += 1
        else:
            # Free space or slack: nothing of ours was there.
            assert sorted(s.id for s in store.view.all(Service)) == sorted(f"s{n}" for n in range(20)), offset
            assert all(s.spec.name == f"name-{s.id}" for s in store.view.all(Service)), offset
        await store.close()
        (path.parent / "state.db-wal").unlink(missing_ok=True)
    assert found


async def test_other_peoples_databases_and_newer_schemas_are_refused(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    store = Store(SqliteBackend(path))
    with pytest.raises(Corrupt, match="not a database of enxame"):
        await store.start()
    await store.close()
    path.unlink()
    await fill(path, 1)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    store = Store(SqliteBackend(path))
    with pytest.raises(Corrupt, match="newer version of enxame"):
        await store.start()
    await store.close()


async def test_a_directory_that_is_not_there_is_a_clear_error(tmp_path):
    store = Store(SqliteBackend(tmp_path / "missing" / "state.db"))
    with pytest.raises(Unavailable, match="cannot be made: No such file or directory"):
        await store.start()
    await store.close()


async def test_a_half_made_database_is_made_again(path):
    path.with_name("state.db.new").write_bytes(b"half")
    await fill(path, 1)
    assert {file.name for file in path.parent.iterdir()} == {"state.db", "state.db-mark"}


async def test_a_commit_that_fails_changes_nothing_and_later_ones_work(path):
    async with opened(path) as store:
        await store.update(lambda tx: tx.create(service("a")))
        connection = store._backend._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        big = Config(id="c", spec=ConfigSpec(name="c", data="x" * 500_000))
        with pytest.raises(CommitFailed, match=r"could not be saved in .*database or disk is full") as caught:
            await store.update(lambda tx: tx.create(big))
        assert caught.value.status == 503
        assert store.view.all(Config) == []
        connection.execute("PRAGMA max_page_count = 1000000")
        await store.update(lambda tx: tx.create(big))
    async with opened(path) as store:
        assert [c.id for c in store.view.all(Config)] == ["c"]
        assert store.revision == 2


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from enxame.errors import Unavailable
from enxame.model.secret import Config, ConfigSpec
from enxame.store.sqlite import SqliteBackend
from enxame.store.store import Store

def config(number):
    return Config(id=f"c{number}", spec=ConfigSpec(name=f"c{number}", data="x" * 100_000))

async def main():
    store = Store(SqliteBackend(Path(sys.argv[1])))
    await store.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    kept = failed = 0
    for number in range(20):
        try:
            await store.update(lambda tx: tx.create(config(number)))
            kept += 1
        except Unavailable as error:
            failed += 1
    assert failed and kept, (failed, kept)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.update(lambda tx: tx.create(config(99)))
    print(" ".join(sorted(c.id for c in store.view.all(Config))), flush=True)
    import os; os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_when_the_file_cannot_grow_the_store_stays_whole_and_recovers(path):
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FULL_DISK, path],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    async with opened(path) as store:
        assert sorted(c.id for c in store.view.all(Config)) == run.stdout.split()
        assert store.view.get(Config, "c99") is not None


WRITER = """
import asyncio, sys
from pathlib import Path
from enxame.model.service import Service, ServiceSpec
from enxame.store.sqlite import SqliteBackend
from enxame.store.store import Store

async def main():
    store = Store(SqliteBackend(Path(sys.argv[1])))
    await store.start()
    base = len(store.view.all(Service))
    async def one(number):
        await store.update(lambda tx: tx.create(Service(id=f"s{number}", spec=ServiceSpec(name=f"n{number}"))))
        sys.stdout.write(f"s{number}\\n")
        sys.stdout.flush()
    async def lane(first):
        for number in range(first, 1_000_000, 8):
            await one(number)
    async with asyncio.TaskGroup() as group:
        for first in range(base * 10, base * 10 + 8):
            group.create_task(lane(first))

asyncio.run(main())
"""


async def test_acknowledged_writes_survive_kill_9(path):
    acknowledged = set()
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", textwrap.dedent(WRITER), path, stdout=subprocess.PIPE
        )
        for _ in range(300):
            async with asyncio.timeout(60):
                acknowledged.add((await process.stdout.readline()).decode().strip())
        process.kill()
        rest = await process.stdout.read()
        acknowledged |= set(rest.decode().split("\n")[:-1])
        await process.wait()
        async with opened(path) as store:
            assert acknowledged <= {s.id for s in store.view.all(Service)}
            assert store.revision > 0
    assert len(acknowledged) >= 900


async def test_committing_after_close_is_refused(path):
    backend = SqliteBackend(path)
    await backend.load()
    await backend.close()
    await backend.close()
    with pytest.raises((CommitFailed, RuntimeError)):
        await backend.commit([Mutation("service", "x", b"")])


@pytest.mark.parametrize("keep", [0, 40_000, None])
async def test_a_lost_or_cut_log_is_named_and_may_be_accepted(path, tmp_path, keep):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(WRITER), path, stdout=subprocess.PIPE
    )
    for _ in range(50):
        async with asyncio.timeout(60):
            await process.stdout.readline()
    process.kill()
    await process.wait()
    log = path.with_name("state.db-wal")
    if keep is None:
        log.unlink()
    else:
        os.truncate(log, keep)
    store = Store(SqliteBackend(path))
    with pytest.raises(Corrupt, match=r"was acknowledged: its log \(state.db-wal\) was lost"):
        await store.start()
    await store.close()
    path.with_name("state.db-mark").unlink()
    await fill(path, 0)


async def test_a_mark_that_is_behind_or_unreadable_is_no_loss(path):
    await fill(path, 3)
    for content in (b"", b"garbage", b"%20d" % 1):
        path.with_name("state.db-mark").write_bytes(content)
        async with opened(path) as store:
            assert store.revision >= 3
