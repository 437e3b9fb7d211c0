"""Freezing, changing limits, renaming and pruning real containers."""

import asyncio

import pytest

from enxame.engine.cgroups import detect_layout
from enxame.errors import Conflict, InvalidArgument
from enxame.model.container import ContainerCreateRequest, ContainerRestartPolicy, ContainerUpdateRequest, HostConfig
from enxame.model.exec import ExecCreateRequest
from enxame.model.filters import Filters
from enxame.model.stream import LogOptions

TICKER = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"
ON_V1 = pytest.mark.skipif(detect_layout().version == 2, reason="reads version 1 control files")


def control_file(ref, controller, name):
    return detect_layout().directory(controller, f"/enxame/{ref}") / name


def limit_of(ref, controller, name):
    return control_file(ref, controller, name).read_text().strip()


async def wait_for_output(engine, ref, count):
    seen = 0
    async for _ in engine.containers.logs(ref, LogOptions(follow=True)):
        seen += 1
        if seen >= count:
            return


async def test_a_paused_container_stands_still_and_goes_on_where_it_was(engine):
    ref = await engine.run("sh", "-c", TICKER, name="web")
    await wait_for_output(engine, ref, 3)
    await engine.containers.pause(ref)
    state = engine.containers.inspect(ref).state
    assert (state.status, state.running, state.paused) == ("paused", True, True)
    (row,) = engine.containers.list(filters=Filters())
    assert row.state == "paused"
    assert row.status.endswith("(Paused)")
    before = len(await engine.output(ref))
    await asyncio.sleep(0.15)
    assert len(await engine.output(ref)) == before
    with pytest.raises(Conflict, match="is already paused"):
        await engine.containers.pause(ref)
    with pytest.raises(Conflict, match="is paused, unpause the container before exec"):
        await engine.containers.exec_create(ref, ExecCreateRequest(cmd=["true"]))
    with pytest.raises(Conflict, match="unpause and then stop"):
        await engine.containers.remove(ref)
    async for sample in engine.containers.stats(ref, stream=False):
        assert sample.pids_stats.current >= 1
    await engine.containers.unpause(ref)
    await wait_for_output(engine, ref, before + 2)
    with pytest.raises(Conflict, match="is not paused"):
        await engine.containers.unpause(ref)


async def test_a_paused_container_can_be_killed_and_stopped_and_removed(engine):
    killed, stopped, removed = [await engine.run("sleep", "60") for _ in range(3)]
    for ref in (killed, stopped, removed):
        await engine.containers.pause(ref)
    async with asyncio.timeout(60):
        await engine.containers.kill(killed)
        await engine.containers.stop(stopped, signal="SIGKILL")
        await engine.containers.remove(removed, force=True)
    for ref in (killed, stopped):
        state = engine.containers.inspect(ref).state
        assert (state.status, state.paused, state.exit_code) == ("exited", False, 137)


async def test_a_stopped_container_cannot_be_paused(engine):
    ref = await engine.run("true")
    await engine.containers.wait(ref)
    with pytest.raises(Conflict, match="is not running"):
        await engine.containers.pause(ref)


async def test_a_paused_container_stays_paused_through_a_restart_of_the_daemon(engine):
    ref = await engine.run("sh", "-c", TICKER)
    await wait_for_output(engine, ref, 1)
    await engine.containers.pause(ref)
    await engine.containers.close()
    await engine.open()
    assert engine.containers.inspect(ref).state.status == "paused"
    await engine.containers.unpause(ref)
    assert engine.containers.inspect(ref).state.status == "running"


async def test_health_is_not_probed_while_paused(engine):
    from enxame.model.container import HealthConfig

    check = HealthConfig(test=["CMD", "true"], interval=20_000_000, timeout=5_000_000_000)
    ref = await engine.run("sleep", "60", healthcheck=check)
    stream = engine.events.subscribe(Filters.parse('{"event": ["health_status"]}'), None, None)
    async with asyncio.timeout(60):
        await anext(stream)
    await stream.aclose()
    await engine.containers.pause(ref)
    seen = engine.containers.inspect(ref).state.health
    await asyncio.sleep(0.15)
    assert engine.containers.inspect(ref).state.health == seen


@ON_V1
async def test_an_update_changes_the_limits_of_what_runs_and_stays(engine):
    ref = await engine.run("sleep", "60", host=HostConfig(memory=64 << 20))
    request = ContainerUpdateRequest(
        memory=32 << 20, cpu_shares=512, nano_cpus=500_000_000, pids_limit=17, cpuset_cpus="0"
    )
    assert (await engine.containers.update(ref, request)).warnings is not None
    assert limit_of(ref, "memory", "memory.limit_in_bytes") == str(32 << 20)
    assert limit_of(ref, "cpu", "cpu.shares") == "512"
    assert limit_of(ref, "cpu", "cpu.cfs_quota_us") == "50000"
    assert limit_of(ref, "pids", "pids.max") == "17"
    assert limit_of(ref, "cpuset", "cpuset.cpus") == "0"
    await engine.containers.update(ref, ContainerUpdateRequest(pids_limit=-1))
    assert limit_of(ref, "pids", "pids.max") == "max"
    shown = engine.containers.inspect(ref).host_config
    assert (shown.memory, shown.cpu_shares, shown.nano_cpus, shown.cpuset_cpus) == (32 << 20, 512, 500_000_000, "0")
    await engine.containers.restart(ref, timeout=0)
    assert limit_of(ref, "memory", "memory.limit_in_bytes") == str(32 << 20)


async def test_an_update_that_breaks_a_rule_changes_nothing(engine):
    ref = await engine.run("sleep", "60", host=HostConfig(memory=64 << 20, cpu_period=50_000))
    with pytest.raises(InvalidArgument, match="Minimum memory limit allowed is 6MB"):
        await engine.containers.update(ref, ContainerUpdateRequest(memory=1))
    with pytest.raises(Conflict, match="Nano CPUs cannot be updated as CPU Period has already been set"):
        await engine.containers.update(ref, ContainerUpdateRequest(nano_cpus=1_000_000_000))
    with pytest.raises(InvalidArgument, match="unknown policy 'sometimes'"):
        await engine.containers.update(ref, ContainerUpdateRequest(restart_policy=policy("sometimes")))
    assert engine.containers.inspect(ref).host_config.memory == 64 << 20


def policy(name, count=0):
    return ContainerRestartPolicy(name=name, maximum_retry_count=count)


async def test_an_updated_restart_policy_counts_at_the_next_end(engine):
    ref = await engine.run(
        "sh", "-c", "until [ -e /data/go ]; do sleep 0.02; done; exit 1", host=HostConfig(binds=["go:/data"])
    )
    await engine.containers.update(ref, ContainerUpdateRequest(restart_policy=policy("on-failure", 3)))
    (engine.volumes.root / "go/_data/go").touch()
    async with asyncio.timeout(60):
        while engine.containers.inspect(ref).restart_count < 1:
            await asyncio.sleep(0.01)
    await engine.containers.update(ref, ContainerUpdateRequest(restart_policy=policy("no")))
    assert engine.containers.inspect(ref).host_config.restart_policy.name == "no"


async def test_a_start_by_the_user_begins_counting_restarts_anew(engine):
    ref = await engine.run("false", host=HostConfig(restart_policy=policy("on-failure", 1)))
    for _ in range(2):
        async with asyncio.timeout(60):
            while engine.containers.inspect(ref).state.status != "exited":
                await asyncio.sleep(0.01)
        assert engine.containers.inspect(ref).restart_count == 1
        await engine.containers.start(ref)
    await engine.containers.wait(ref)


async def test_a_renamed_container_answers_to_its_new_name_also_after_a_restart(engine):
    ref = await engine.run("sleep", "60", name="old")
    await engine.containers.create("other", ContainerCreateRequest(image="base"))
    with pytest.raises(Conflict, match='"/other" is already in use'):
        await engine.containers.rename("old", "other")
    await engine.containers.rename("old", "new")
    assert engine.containers.inspect("new").id == ref
    await engine.containers.create("old", ContainerCreateRequest(image="base"))
    await engine.containers.close()
    await engine.open()
    assert engine.containers.inspect("new").id == ref


async def test_prune_removes_what_does_not_run_and_matches(engine):
    running = await engine.run("sleep", "60")
    kept = await engine.run("sh", "-c", "echo 12345 > /five", labels={"keep": "1"})
    gone = await engine.run("sh", "-c", "echo 1234567890 > /ten")
    for ref in (kept, gone):
        await engine.containers.wait(ref)
    nothing = await engine.containers.prune(Filters.parse('{"until": ["1h"]}'))
    assert nothing.containers_deleted == []
    report = await engine.containers.prune(Filters.parse('{"label!": ["keep"]}'))
    assert report.containers_deleted == [gone]
    assert report.space_reclaimed == 11
    left = {container.id for container in engine.containers.list(all=True, filters=Filters())}
    assert left == {running, kept}
    with pytest.raises(InvalidArgument):
        await engine.containers.prune(Filters.parse('{"until": ["yesterday"]}'))


async def test_sizes_are_those_of_what_was_written(engine):
    ref = await engine.run("sh", "-c", "dd if=/dev/zero of=/blob bs=1000 count=5; ln /blob /again")
    await engine.containers.wait(ref)
    (row,) = await engine.containers.list_with_sizes(all=True, filters=Filters())
    assert row.size_rw == 5000
    assert engine.containers.inspect(ref).size_rw is None


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"status": ["exited"]}, ["two"]),
        ({"status": ["running", "exited"]}, ["three", "two", "one"]),
        ({"exited": ["3"]}, ["two"]),
        ({"before": ["two"]}, ["one"]),
        ({"since": ["one"]}, ["three", "two"]),
        ({"ancestor": ["base"]}, ["three", "two", "one"]),
        ({"ancestor": ["other"]}, []),
        ({"label": ["tier=web"]}, ["one"]),
        ({"label": ["tier"]}, ["two", "one"]),
        ({"name": ["^/t"]}, ["three", "two"]),
        ({"volume": ["data"]}, ["one"]),
        ({"volume": ["/srv"]}, ["one"]),
        ({"network": ["none"]}, ["three"]),
        ({"health": ["none"]}, ["three", "two", "one"]),
        ({"is-task": ["true"]}, ["two"]),
        ({"is-task": ["false"]}, ["three", "one"]),
    ],
)
async def test_the_list_can_be_filtered(engine, filters, found):
    import msgspec

    from enxame.model.container import Empty

    await engine.run(
        "sleep",
        "60",
        name="one",
        labels={"tier": "web"},
        exposed_ports={"8042/tcp": Empty()},
        host=HostConfig(binds=["data:/srv"]),
    )
    two = await engine.run("sh", "-c", "exit 3", name="two", labels={"tier": "db", "com.docker.swarm.task.id": "x"})
    await engine.containers.wait(two)
    await engine.run("sleep", "60", name="three", host=HostConfig(network_mode="none"))
    rows = engine.containers.list(all=True, filters=Filters.parse(msgspec.json.encode(filters).decode()))
    assert [row.names[0][1:] for row in rows] == found


async def test_a_status_that_is_none_is_refused(engine):
    with pytest.raises(InvalidArgument, match="invalid filter 'status=asleep'"):
        engine.containers.list(all=True, filters=Filters.parse('{"status": ["asleep"]}'))
