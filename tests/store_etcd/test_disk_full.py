import asyncio
import os
import subprocess

import pytest

from enxame.errors import EnxameError
from enxame.model.service import Service, ServiceSpec
from tests.store_etcd.lab import until


@pytest.fixture
def small_disk(tmp_path):
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", directory], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr}")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


async def test_a_full_disk_refuses_writes_keeps_what_was_acknowledged_and_heals(small_disk, lab):
    manager = await lab.first(data_dir=small_disk / "etcd")
    acknowledged, doubtful, number = set(), set(), 0

    async def write():
        nonlocal number
        number += 1
        id_ = f"s{number}"
        labels = {"filler": "x" * 200_000}
        try:
            await manager.store.update(lambda tx: tx.create(Service(id=id_, spec=ServiceSpec(name=id_, labels=labels))))
        except EnxameError as error:
            doubtful.add(id_)
            return error
        acknowledged.add(id_)
        return None

    ballast = small_disk / "ballast"
    for _ in range(3):
        await write()
    disk = os.statvfs(small_disk)
    free = disk.f_bavail * disk.f_frsize
    ballast.write_bytes(b"\0" * max(free - 2_000_000, 0))
    refusal = None
    while refusal is None or "no space left on device" not in refusal.message:
        refusal = await write()
        assert number < 1000
        await asyncio.sleep(0.01 if refusal else 0)
    assert {s.id for s in manager.store.view.all(Service)} == acknowledged
    ballast.unlink()
    await manager.server.ready(timeout=60)
    await until(lambda: manager.leads, 20, "leads again")
    while await write():
        await until(lambda: manager.leads, 20, "leads again")
    found = {s.id for s in manager.store.view.all(Service)}
    assert acknowledged <= found <= acknowledged | doubtful
