"""The daemon goes and comes back: containers go on, ends are noticed, litter goes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from enxame.engine.container import process_start
from enxame.errors import NotFound
from enxame.model.container import ContainerCreateRequest, ContainerRestartPolicy, HostConfig
from enxame.model.filters import Filters
from enxame.model.stream import LogOptions


async def reopen(engine):
    await engine.containers.close()
    engine.networks.connected.clear()
    return await engine.open()


async def test_a_running_container_is_adopted_with_its_process_log_and_end(engine):
    ref = await engine.run("sh", "-c", "trap 'echo bye; exit 5' TERM; echo hi; while :; do sleep 0.02; done")
    pid = engine.containers.inspect(ref).state.pid
    await reopen(engine)
    shown = engine.containers.inspect(ref)
    assert (shown.state.status, shown.state.pid) == ("running", pid)
    assert ref in engine.networks.restored
    waiting = asyncio.ensure_future(engine.containers.wait(ref))
    await engine.containers.stop(ref)
    assert (await waiting).status_code == 5
    assert await engine.text(ref) == "hi\nbye\n"
    assert not engine.networks.connected


async def test_an_end_while_no_daemon_ran_keeps_its_exit_code_and_time(engine):
    ref = await engine.run("sh", "-c", "sleep 0.3; exit 6")
    await engine.containers.close()
    exits = engine.exec_root / "exits" / ref
    async with asyncio.timeout(60):
        while not exits.exists():
            await asyncio.sleep(0.02)
    ended = time.time()
    await asyncio.sleep(0.3)
    await engine.open()
    state = engine.containers.inspect(ref).state
    assert (state.status, state.exit_code) == ("exited", 6)
    assert abs(state.finished_at.timestamp() - ended) < 0.25
    assert not engine.images.mounted(ref)


async def test_after_a_reboot_a_container_has_ended_with_an_unseen_code(engine):
    ref = await engine.run("sleep", "60")
    state = engine.root / "data/containers" / ref / "state.json"
    text = state.read_text()
    await engine.containers.kill(ref)
    await engine.containers.close()
    state.write_text(text)
    (engine.exec_root / "exits" / ref).unlink(missing_ok=True)  # what is there does not survive a reboot
    await engine.open()
    shown = engine.containers.inspect(ref).state
    assert (shown.status, shown.exit_code, shown.pid) == ("exited", 255, 0)


async def test_a_killed_monitor_ends_the_container_and_says_so(engine):
    ref = await engine.run("sleep", "60")
    pid = engine.containers.inspect(ref).state.pid
    monitor = int((engine.exec_root / "containers" / ref / "conmon.pid").read_text())
    waiting = asyncio.ensure_future(engine.containers.wait(ref))
    await asyncio.sleep(0)
    os.kill(monitor, signal.SIGKILL)
    async with asyncio.timeout(60):
        result = await waiting
    assert result.status_code == 137
    assert "monitor" in engine.containers.inspect(ref).state.error
    async with asyncio.timeout(60):
        while Path(f"/proc/{pid}").exists():  # noqa: ASYNC240
            await asyncio.sleep(0.01)
    await engine.containers.start(ref)
    assert engine.containers.inspect(ref).state.running


async def test_a_monitor_killed_while_no_daemon_ran_ends_the_container(engine):
    ref = await engine.run("sleep", "60")
    monitor = int((engine.exec_root / "containers" / ref / "conmon.pid").read_text())
    await engine.containers.close()
    os.kill(monitor, signal.SIGKILL)
    async with asyncio.timeout(60):
        while process_start(monitor):
            await asyncio.sleep(0.01)
    await engine.open()
    assert engine.containers.inspect(ref).state.exit_code == 137


async def test_always_is_started_again_with_the_daemon_and_auto_removed_ones_are_removed(engine):
    always = HostConfig(restart_policy=ContainerRestartPolicy(name="always"))
    kept = await engine.run("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.02; done", host=always)
    gone = await engine.run("sleep", "1000", host=HostConfig(auto_remove=True))
    process = engine.containers.inspect(gone).state.pid
    await engine.containers.stop(kept)
    await engine.containers.close()
    os.kill(process, signal.SIGKILL)
    exits = engine.exec_root / "exits" / gone
    async with asyncio.timeout(60):
        while not exits.exists():
            await asyncio.sleep(0.02)
    await engine.open()
    async with asyncio.timeout(60):
        while not engine.containers.inspect(kept).state.running:
            await asyncio.sleep(0.01)
        while gone in {summary.id for summary in engine.containers.list(all=True, filters=Filters())}:
            await asyncio.sleep(0.01)


async def test_a_damaged_state_counts_as_never_started_and_damaged_definitions_are_left_alone(engine):
    first = (await engine.containers.create("one", ContainerCreateRequest(image="base", cmd=["true"]))).id
    second = (await engine.containers.create("two", ContainerCreateRequest(image="base", cmd=["true"]))).id
    await engine.containers.close()
    home = engine.root / "data/containers"
    (home / first / "state.json").write_text('{"Status": "run')
    (home / second / "config.json").write_text("{")
    await engine.open()
    assert engine.containers.inspect("one").state.status == "created"
    with pytest.raises(NotFound):
        engine.containers.inspect("two")
    await engine.containers.start("one")
    assert (await engine.containers.wait("one")).status_code == 0


KILLED_DAEMON = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.engine.conftest import *
from tests.engine.conftest import Bench

async def main():
    root = Path({root!r})
    images = OverlayImages(Path({base!r}), root / "data/overlay")
    bench = Bench(root, images, DirectoryVolumes(root / "data/volumes"), NoNetworks())
    await bench.open()
    async def one(number):
        try:
            await bench.run("sh", "-c", "echo up; exec sleep 300", name=f"job{{number}}")
        except Exception as error:
            print(error, file=sys.stderr)
    print("ready", flush=True)
    await asyncio.gather(*(one(number) for number in range(12)))
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("delay", [0.02, 0.08, 0.15, 0.3])
async def test_kill_9_at_any_moment_leaves_what_can_be_recovered(engine, base_rootfs, delay):
    await engine.containers.close()
    script = KILLED_DAEMON.format(
        repository=str(Path(__file__).parents[2]), root=str(engine.root), base=str(base_rootfs)
    )
    daemon = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parent)  # noqa: ASYNC220
    assert await asyncio.to_thread(daemon.stdout.readline) == b"ready\n"
    await asyncio.sleep(delay)
    daemon.kill()
    await asyncio.to_thread(daemon.wait)
    daemon.stdout.close()
    await engine.open()
    everything = engine.containers.list(all=True, filters=Filters())
    for summary in everything:
        if summary.state != "running":
            await engine.containers.start(summary.id)
        assert engine.containers.inspect(summary.id).state.running
        async with asyncio.timeout(60):
            async for record in engine.containers.logs(summary.id, LogOptions(follow=True)):
                assert record.data == b"up\n"
                break
    for summary in everything:
        await engine.containers.remove(summary.id, force=True)
    assert not list((engine.exec_root / "containers").iterdir())
    assert str(engine.root / "data/overlay") not in Path("/proc/self/mountinfo").read_text()  # noqa: ASYNC240
