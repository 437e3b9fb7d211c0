"""The life of real containers."""

import asyncio
import time

import pytest

from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound, NotModified
from enxame.model.container import ContainerCreateRequest, HostConfig
from enxame.model.filters import Filters
from enxame.model.stream import LogOptions
from enxame.testing.promises import allowed


async def test_a_command_runs_and_leaves_its_exit_code_and_output(engine):
    ref = await engine.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (await engine.containers.wait(ref)).status_code == 7
    records = await engine.output(ref)
    assert sorted((record.stream, record.data) for record in records) == [(1, b"out\n"), (2, b"err\n")]
    shown = engine.containers.inspect(ref)
    assert shown.state.status == "exited"
    assert shown.state.exit_code == 7
    assert not shown.state.running


async def test_stop_is_noticed_at_once_and_leaves_nothing_running(engine):
    ref = await engine.run("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    async for record in engine.containers.logs(ref, LogOptions(follow=True)):
        assert record.data == b"ready\n"
        break
    begun = time.monotonic()
    await engine.containers.stop(ref, timeout=10)
    assert time.monotonic() - begun < allowed(1)
    assert engine.containers.inspect(ref).state.exit_code == 3
    with pytest.raises(NotModified):
        await engine.containers.stop(ref)
    assert not engine.networks.connected


async def test_a_container_that_ignores_sigterm_is_killed_after_the_grace_period(engine):
    ref = await engine.run("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    await engine.containers.stop(ref, timeout=0.2)
    assert engine.containers.inspect(ref).state.exit_code == 137


async def test_it_can_be_started_again_and_keeps_its_files(engine):
    ref = await engine.run("sh", "-c", "cat /kept || echo first > /kept")
    await engine.containers.wait(ref)
    await engine.containers.start(ref)
    await engine.containers.wait(ref)
    assert "first" in await engine.text(ref)


async def test_a_taken_name_is_refused_in_dockers_words(engine):
    ref = await engine.run("true", name="web")
    with pytest.raises(Conflict) as caught:
        await engine.containers.create("web", ContainerCreateRequest(image="base"))
    assert caught.value.message == (
        f'Conflict. The container name "/web" is already in use by container "{ref}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


async def test_a_missing_program_is_a_400_and_code_127(engine):
    made = await engine.containers.create("job", ContainerCreateRequest(image="base", cmd=["nosuch"]))
    with pytest.raises(InvalidArgument) as caught:
        await engine.containers.start(made.id)
    assert 'exec: "nosuch": executable file not found in $PATH: unknown' in caught.value.message
    state = engine.containers.inspect("job").state
    assert (state.status, state.exit_code) == ("created", 127)
    assert not engine.networks.connected


async def test_a_file_that_is_no_program_is_code_126(engine):
    made = await engine.containers.create("job", ContainerCreateRequest(image="base", cmd=["/etc/notexec"]))
    with pytest.raises(InvalidArgument, match="permission denied"):
        await engine.containers.start(made.id)
    assert engine.containers.inspect("job").state.exit_code == 126


async def test_removing_a_running_container_needs_force(engine):
    await engine.run("sleep", "60", name="web")
    with pytest.raises(Conflict, match='cannot remove container "/web": container is running: stop the container'):
        await engine.containers.remove("web")
    await engine.containers.remove("web", force=True)
    with pytest.raises(NotFound, match="No such container: web"):
        engine.containers.inspect("web")


async def test_wait_removed_answers_when_an_auto_removed_container_is_gone(engine):
    ref = await engine.run("sh", "-c", "sleep 0.1; exit 4", host=HostConfig(auto_remove=True))
    async with asyncio.timeout(60):
        result = await engine.containers.wait(ref, "removed")
    assert result.status_code == 4
    with pytest.raises(NotFound):
        engine.containers.inspect(ref)


async def test_each_wait_condition_is_about_another_end(engine):
    ref = await engine.run("sh", "-c", "exit 3")
    assert (await engine.containers.wait(ref)).status_code == 3
    # It has ended: not-running is true already, its next end and its removal are to come.
    assert (await engine.containers.wait(ref, "not-running")).status_code == 3
    waits = {name: asyncio.ensure_future(engine.containers.wait(ref, name)) for name in ("next-exit", "removed")}
    await asyncio.sleep(0)
    assert not any(wait.done() for wait in waits.values())
    await engine.containers.start(ref)
    async with asyncio.timeout(60):
        assert (await waits["next-exit"]).status_code == 3
    assert not waits["removed"].done()
    await engine.containers.remove(ref)
    async with asyncio.timeout(60):
        assert (await waits["removed"]).status_code == 3
    with pytest.raises(NotFound):
        await engine.containers.wait(ref, "removed")


async def test_on_failure_restarts_so_often_and_no_more(engine):
    policy = HostConfig().restart_policy.__class__(name="on-failure", maximum_retry_count=2)
    ref = await engine.run("sh", "-c", "echo x; exit 1", host=HostConfig(restart_policy=policy))
    async with asyncio.timeout(60):
        while engine.containers.inspect(ref).state.status != "exited":
            await engine.containers.wait(ref, "next-exit")
    assert engine.containers.inspect(ref).restart_count == 2
    assert (await engine.text(ref)).count("x") == 3


async def test_kill_of_a_stopped_container_is_a_conflict(engine):
    ref = await engine.run("true")
    await engine.containers.wait(ref)
    with pytest.raises(Conflict, match="is not running"):
        await engine.containers.kill(ref)


async def test_prepare_makes_everything_but_the_start(engine):
    made = await engine.containers.create("job", ContainerCreateRequest(image="base", cmd=["echo", "hi"]))
    await engine.containers.prepare("job")
    await engine.containers.prepare("job")
    assert engine.containers.inspect("job").state.status == "created"
    assert made.id in engine.networks.connected
    await engine.containers.start("job")
    await engine.containers.wait("job")
    assert await engine.text("job") == "hi\n"


async def test_a_prepared_container_can_be_removed(engine):
    await engine.containers.create("job", ContainerCreateRequest(image="base", cmd=["echo", "hi"]))
    await engine.containers.prepare("job")
    await engine.containers.remove("job")
    assert not engine.networks.connected


async def test_list_shows_running_ones_and_all_on_request(engine):
    running = await engine.run("sleep", "60", name="one", labels={"k": "v"})
    ended = await engine.run("true", name="two")
    await engine.containers.wait(ended)
    assert [c.id for c in engine.containers.list(filters=Filters())] == [running]
    assert [c.names for c in engine.containers.list(all=True, filters=Filters())] == [["/two"], ["/one"]]
    only = Filters.parse('{"label": ["k=v"], "status": ["running"]}')
    assert [c.id for c in engine.containers.list(filters=only)] == [running]
    assert engine.containers.list(filters=Filters()).pop().status.startswith(("Up", "Less"))


async def test_events_tell_the_story_in_order(engine):
    stream = engine.events.subscribe(Filters(), None, None)
    ref = await engine.run("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.02; done", name="web")
    await engine.containers.stop(ref, signal="SIGKILL")
    await engine.containers.remove(ref)
    actions = []
    async with asyncio.timeout(60):
        async for event in stream:
            actions.append(event.action)
            if event.action == "destroy":
                break
    assert actions == ["create", "start", "kill", "die", "stop", "destroy"]


async def test_an_unknown_image_is_not_found(engine):
    with pytest.raises(NotFound, match="No such image: nope"):
        await engine.containers.create("", ContainerCreateRequest(image="nope"))


async def test_a_failing_network_leaves_nothing_behind(engine):
    async def refuse(container_id, request):
        raise EnxameError("no addresses left")

    made = await engine.containers.create("job", ContainerCreateRequest(image="base", cmd=["true"]))
    engine.networks.connect = refuse
    with pytest.raises(EnxameError, match="no addresses left"):
        await engine.containers.start(made.id)
    assert not (engine.images.root / made.id / "merged").is_mount()
    assert engine.containers.inspect("job").state.error == "no addresses left"
