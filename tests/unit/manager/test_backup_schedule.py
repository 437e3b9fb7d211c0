import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from enxame.backup import files
from enxame.errors import InvalidArgument
from enxame.manager.backup_schedule import BackupSchedules, file_name, surplus, time_of, validate
from enxame.manager.backups import BackupControl
from enxame.manager.swarm import new_cluster
from enxame.model.backup import BackupSchedule
from enxame.model.cluster import Cluster, EncryptionConfig, InitRequest
from enxame.store.memory import MemoryBackend
from enxame.store.store import Store
from tests.unit.manager.conftest import ROOT

SECOND = 10**9
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


def names(count):
    return [file_name("c", NOON + timedelta(hours=number)) for number in range(count)]


def test_a_name_tells_whose_it_is_and_when_it_was_made():
    name = file_name("c", NOON)
    assert name == "swarm-c-20260102T120000Z.backup"
    assert time_of(name, "c") == NOON
    for other in (name + ".old", "swarm-c-20261302T120000Z.backup", file_name("other", NOON), f".{name}.0123"):
        assert time_of(other, "c") is None


def test_the_oldest_go_and_what_is_somebody_elses_stays():
    own = names(5)
    others = [file_name("other", NOON), "notes.txt"]
    assert surplus([*reversed(own), *others], "c", 3) == own[:2]
    assert surplus(own, "c", 0) == []
    assert surplus(own, "c", 9) == []


def test_the_one_just_made_stays_though_the_clock_was_set_back():
    own = names(5)
    assert surplus(own, "c", 1, own[0]) == own[1:]
    assert surplus(own, "c", 2, own[0]) == own[1:4]


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        (BackupSchedule(directory="", every=SECOND), "needs a directory"),
        (BackupSchedule(directory="here", every=SECOND), "absolute path"),
        (BackupSchedule(directory="/d", every=SECOND - 1), "1s apart"),
        (BackupSchedule(directory="/d", every=SECOND, keep=-1), "negative"),
        (BackupSchedule(directory="/d", every=SECOND, key_file="key"), "absolute path"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused(schedule, why):
    with pytest.raises(InvalidArgument, match=why):
        validate(schedule)


class Lab:
    def __init__(self):
        self.store = Store(MemoryBackend())
        self.clock = Clock()
        self.leads = True
        backups = BackupControl(self.store, "n", wall=self.clock, node_files=lambda: ())
        self.schedules = BackupSchedules(self.store, backups, wall=self.clock, leads=lambda: self.leads)

    async def set(self, schedule):
        cluster = next(iter(self.store.view.all(Cluster)))
        await self.schedules.set(cluster.version.index, schedule)

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture
async def lab():
    made = Lab()
    await made.store.start()
    await made.store.update(lambda tx: tx.create(new_cluster("c", InitRequest(), ROOT)))
    running = asyncio.create_task(made.schedules.run())
    yield made
    running.cancel()
    await asyncio.wait({running})
    await made.store.close()


async def test_the_first_backup_is_made_at_once_and_the_next_when_it_is_due(lab, tmp_path):
    directory = tmp_path / "backups"
    await lab.set(BackupSchedule(directory=str(directory), every=3600 * SECOND, keep=2))
    await lab.until(lambda: lab.schedules.status().next)
    status = lab.schedules.status()
    assert files.check(directory / file_name("c", NOON)).cluster_id == "c"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (status.last, status.made, status.next) == (NOON.isoformat(), 1, (NOON + timedelta(hours=1)).isoformat())


async def test_a_restart_does_not_make_another_one_too_early(lab, tmp_path):
    directory = tmp_path / "backups"
    directory.mkdir()
    newest = file_name("c", NOON - timedelta(minutes=50))
    (directory / newest).write_bytes(b"x")
    await lab.set(BackupSchedule(directory=str(directory), every=3600 * SECOND))
    await lab.until(lambda: lab.schedules.status().next)
    assert lab.schedules.status().next == (NOON + timedelta(minutes=10)).isoformat()
    assert [path.name for path in directory.iterdir()] == [newest]


async def test_backups_are_made_again_and_again_and_old_ones_go(lab, tmp_path):
    made = []

    def wall():
        lab.clock.now += timedelta(seconds=1)
        return lab.clock.now

    lab.schedules._wall = lab.schedules._backups._wall = wall
    await lab.set(BackupSchedule(directory=str(tmp_path), every=SECOND, keep=2))
    await lab.until(lambda: lab.schedules.status().made >= 4)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert 2 <= len(made) <= 3


async def test_who_does_not_lead_makes_none_until_it_does(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("enxame.manager.backup_schedule.LOOK", 0.01)
    lab.leads = False
    await lab.set(BackupSchedule(directory=str(tmp_path), every=SECOND))
    await asyncio.sleep(0.1)
    assert not list(tmp_path.iterdir())
    lab.leads = True
    await lab.until(lambda: list(tmp_path.glob("swarm-*")))


async def test_a_failure_is_told_and_tried_again(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("enxame.manager.backup_schedule.FIRST_RETRY", 0.01)
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    await lab.set(BackupSchedule(directory=str(tmp_path / "b"), every=3600 * SECOND, key_file=str(key)))
    await lab.until(lambda: lab.schedules.status().made == 1)
    assert files.check(next((tmp_path / "b").iterdir())).encryption is not None
    key.unlink()
    lab.clock.now += timedelta(hours=2)
    cluster = next(iter(lab.store.view.all(Cluster)))
    other = replace(cluster, backup_schedule=replace(cluster.backup_schedule, keep=3))
    await lab.store.update(lambda tx: tx.update(other))
    await lab.until(lambda: lab.schedules.status().failures >= 2)
    assert "cannot read the key file" in lab.schedules.status().error
    assert "cannot read the key file" in lab.schedules.warnings()[0]
    key.write_bytes(b"k" * 32)
    await lab.until(lambda: lab.schedules.status().made == 1)
    assert lab.schedules.warnings() == []


async def test_what_cannot_work_is_refused_at_once(lab, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="cannot be kept in"):
        await lab.set(BackupSchedule(directory=str(tmp_path / "file"), every=SECOND))
    with pytest.raises(InvalidArgument, match="cannot read the key file"):
        await lab.set(BackupSchedule(directory=str(tmp_path), every=SECOND, key_file=str(tmp_path / "none")))


async def test_unencrypted_backups_of_managers_that_lock_themselves_are_warned_of(lab, tmp_path):
    def lock(tx):
        cluster = next(iter(tx.all(Cluster)))
        spec = replace(cluster.spec, encryption_config=EncryptionConfig(auto_lock_managers=True))
        tx.update(replace(cluster, spec=spec))

    await lab.store.update(lock)
    await lab.set(BackupSchedule(directory=str(tmp_path), every=3600 * SECOND))
    assert "set --backup-key-file" in lab.schedules.warnings()[0]
