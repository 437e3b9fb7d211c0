"""Volumes that are mounts."""

import os

import pytest

from enxame.engine.mount_syscalls import is_mounted
from enxame.engine.volumes import VolumeStore
from enxame.errors import EnxameError
from enxame.model.volume import VolumeCreateRequest
from tests.engine.image_lab import Events

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")


@pytest.fixture
async def volumes(tmp_path):
    store = VolumeStore(tmp_path / "volumes", Events())
    await store.start()
    yield store
    await store.reconcile(set())


async def reopened(volumes):
    again = VolumeStore(volumes._records._root, Events())
    await again.start()
    return again


async def test_a_mount_is_made_for_the_first_container_and_undone_after_the_last(volumes):
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0700"}
    made = await volumes.create(VolumeCreateRequest(name="mem", driver_opts=options))
    assert not is_mounted(made.mountpoint)
    for container in ("c1", "c2"):
        assert await volumes.acquire("mem", container) == made.mountpoint
    assert os.stat(made.mountpoint).st_mode & 0o777 == 0o700
    await volumes.release("c1")
    assert is_mounted(made.mountpoint)
    await volumes.release("c2")
    assert not is_mounted(made.mountpoint)
    await volumes.remove("mem")


async def test_a_restarted_daemon_finds_the_mount_and_does_not_mount_twice(volumes):
    options = {"type": "tmpfs", "device": "tmpfs"}
    await volumes.create(VolumeCreateRequest(name="mem", driver_opts=options))
    path = await volumes.acquire("mem", "c1")
    again = await reopened(volumes)
    await again.acquire("mem", "c1")
    await again.release("c1")
    assert not is_mounted(path)


async def test_a_directory_of_the_host_may_be_a_volume_read_only(volumes, tmp_path):
    (tmp_path / "host").mkdir()
    (tmp_path / "host/file").write_text("x")
    options = {"type": "none", "device": str(tmp_path / "host"), "o": "bind,ro"}
    await volumes.create(VolumeCreateRequest(name="host", driver_opts=options))
    path = await volumes.acquire("host", "c1")
    assert os.listdir(path) == ["file"]
    with pytest.raises(OSError, match="Read-only"):
        os.unlink(f"{path}/file")
    await volumes.release("c1")
    await volumes.remove("host")
    assert (tmp_path / "host/file").exists()


async def test_removing_a_volume_leaves_what_it_had_mounted(volumes, tmp_path):
    (tmp_path / "host").mkdir()
    (tmp_path / "host/file").write_text("x")
    options = {"type": "none", "device": str(tmp_path / "host"), "o": "bind"}
    await volumes.create(VolumeCreateRequest(name="host", driver_opts=options))
    await volumes.acquire("host", "c1")
    os.unlink(volumes._records._root / "host/users/c1")  # as after a crash between the two steps of a release
    again = await reopened(volumes)
    await again.remove("host")
    assert (tmp_path / "host/file").exists()


async def test_a_device_that_cannot_be_mounted_is_told_and_the_container_does_not_hold_the_volume(volumes):
    options = {"type": "ext4", "device": "/nonexistent"}
    await volumes.create(VolumeCreateRequest(name="bad", driver_opts=options))
    with pytest.raises(
        EnxameError, match=r"failed to mount local volume: mount /nonexistent:\S+/bad/_data: no such file or directory"
    ):
        await volumes.acquire("bad", "c1")
    await volumes.remove("bad")


async def test_a_volume_that_another_container_watches_is_filled_in_place(volumes, tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "image/file").write_text("x")
    path = await volumes.acquire("data", "c1")
    await volumes.acquire("data", "c2")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert await volumes.populate("data", str(tmp_path / "image"))
        assert os.listdir(descriptor) == ["file"]
    finally:
        os.close(descriptor)
