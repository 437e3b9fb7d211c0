"""Nothing is left of containers that are gone."""

import asyncio
import os
from pathlib import Path

import pytest

from enxame.engine.cgroups import detect_layout
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerCreateRequest, HostConfig
from enxame.model.exec import ExecCreateRequest
from enxame.model.filters import Filters
from enxame.model.stream import AttachOptions, LogOptions

ROUNDS = 30


def inventory(engine):
    """What a leak would show in."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(engine.root) in line]
    layout = detect_layout()
    groups = [entry for base in set(layout.controllers.values()) for entry in (base / "enxame").glob("*")]
    monitors = [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(engine.root).encode() in read(entry / "cmdline")
    ]
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mounts": len(mounts),
        "groups": len([group for group in groups if group.is_dir() and len(group.name) == 64 and ours(engine, group)]),
        "processes": len(monitors),
        "tasks": len(asyncio.all_tasks()),
        "run": sorted(path.name for path in (engine.exec_root / "containers").iterdir()),
        "exits": sorted(path.name for path in (engine.exec_root / "exits").iterdir()),
        "state": sorted(path.name for path in (engine.exec_root / "runtime").iterdir()),
        "records": sorted(path.name for path in (engine.root / "data/containers").iterdir()),
    }


def grown(before, now):
    """What there is more of. (Less is fine: something of the first rounds may still have been on its way out.)"""
    return [
        name
        for name, value in now.items()
        if (value > before[name] if isinstance(value, int) else set(value) - set(before[name]))
    ]


SEEN: set[str] = set()


def ours(engine, group):
    return group.name in SEEN


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def one_round(engine, number):
    host = HostConfig(memory=64 << 20, ipc_mode="shareable")
    script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"
    made = await engine.containers.create(
        "", ContainerCreateRequest(image="base", cmd=["sh", "-c", script], host_config=host, open_stdin=True)
    )
    SEEN.add(made.id)
    attachment = await engine.containers.attach(made.id, AttachOptions(stdin=True, stdout=True, stream=True))
    await engine.containers.start(made.id)
    async for record in engine.containers.logs(made.id, LogOptions(follow=True)):
        assert record.data == b"up\n"
        break
    identity = await engine.containers.exec_create(
        made.id, ExecCreateRequest(cmd=["sh", "-c", "cat"], attach_stdin=True, attach_stdout=True, tty=number % 2 == 1)
    )
    session = await engine.containers.exec_start(identity, tty=number % 2 == 1)
    await session.write(b"hello\n")
    if number % 3:
        await session.close_stdin()
    await session.close()
    if number % 2:
        await engine.containers.stop(made.id)
    await engine.containers.remove(made.id, force=True)
    await attachment.close()


async def test_rounds_of_create_use_and_remove_leave_nothing(engine):
    await one_round(engine, 0)
    await asyncio.gather(*(one_round(engine, number) for number in range(4)))
    before = inventory(engine)
    for _ in range(ROUNDS // 6):
        await asyncio.gather(*(one_round(engine, number) for number in range(6)))
    try:
        async with asyncio.timeout(60):
            while grown(before, inventory(engine)):
                await asyncio.sleep(0.05)
    except TimeoutError:
        now = inventory(engine)
        pytest.fail(f"there is more of {grown(before, now)}: {before} became {now}; {asyncio.all_tasks()}")
    assert engine.containers.list(all=True, filters=Filters()) == []


async def test_failed_starts_leave_nothing(engine):
    made = await engine.containers.create("job", ContainerCreateRequest(image="base", cmd=["nosuch"]))
    SEEN.add(made.id)
    before = None
    for number in range(6):
        with pytest.raises(InvalidArgument, match="nosuch"):
            await engine.containers.start("job")
        if number == 1:
            before = inventory(engine)
    assert not grown(before, inventory(engine))
