"""Images made of real containers."""

import asyncio
import io
import tarfile

import pytest

from enxame.engine.committing import CommitRequest
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerConfig, ContainerCreateRequest
from enxame.model.filters import Filters
from tests.engine.conftest import Bench, DirectoryVolumes, NoNetworks
from tests.engine.image_lab import open_store, stream


@pytest.fixture
async def engine(tmp_path, base_rootfs):
    """Containers of a real image store, in which the busybox filesystem is ``base``."""
    store = await open_store(tmp_path / "data")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(base_rootfs, ".")
    await store.import_(stream(out.getvalue()), repository="base", tag="latest", changes=["ENV COLOUR=red", "CMD sh"])
    made = Bench(tmp_path, store, DirectoryVolumes(tmp_path / "volumes"), NoNetworks())
    await made.open()
    try:
        yield made
    finally:
        await made.clean()
        await store.stop()


async def test_a_commit_has_what_was_added_and_not_what_was_deleted(engine):
    script = "echo new > /new; rm /data/seed; rm -r /etc; mkdir /etc; echo only > /etc/only; ln /new /again"
    ref = await engine.run("sh", "-c", script)
    await engine.containers.wait(ref)
    request = CommitRequest(
        repository="mine",
        tag="1",
        author="Maria",
        message="what I did",
        changes=["ENV SIZE=big", 'CMD ["cat", "/new"]', "EXPOSE 80"],
        config=ContainerConfig(working_dir="/tmp"),
    )
    image_id = await engine.containers.commit(ref, request)
    image = engine.images.inspect("mine:1")
    assert image.id == image_id
    assert (image.author, image.comment) == ("Maria", "what I did")
    assert len(image.root_fs.layers) == 2
    assert {"COLOUR=red", "SIZE=big"} <= set(image.config.env)
    assert (image.config.cmd, image.config.working_dir) == (["cat", "/new"], "/tmp")
    assert image.config.hostname == ""
    assert engine.images.history("mine:1")[0].created_by == f"sh -c {script}"
    look = "cat /new /again /etc/only; ls /data; pwd; ls -i /new /again | cut -c1-3 | sort -u | wc -l; echo $SIZE"
    made = await engine.containers.create("", ContainerCreateRequest(image="mine:1", cmd=["sh", "-c", look]))
    await engine.containers.start(made.id)
    await engine.containers.wait(made.id)
    lines = (await engine.text(made.id)).split("\n")
    assert lines[:4] == ["new", "new", "only", "/tmp"]
    assert "big" in lines


async def test_a_running_container_is_paused_meanwhile_and_goes_on(engine):
    stream = engine.events.subscribe(Filters.parse('{"event": ["pause", "unpause", "commit"]}'), None, None)
    ref = await engine.run("sh", "-c", "while :; do echo x >> /grow; sleep 0.01; done")
    seen = []
    async with asyncio.timeout(20):
        await engine.containers.commit(ref, CommitRequest(repository="mine"))
        async for event in stream:
            seen.append((event.type, event.action))
            if event.action == "unpause":
                break
    assert seen == [("container", "pause"), ("container", "commit"), ("container", "unpause")]
    assert engine.containers.inspect(ref).state.status == "running"
    engine.images.inspect("mine:latest")


async def test_without_changes_no_layer_is_added(engine):
    made = await engine.containers.create("", ContainerCreateRequest(image="base", cmd=["true"]))
    await engine.containers.commit(made.id, CommitRequest(repository="same"))
    assert engine.images.inspect("same").root_fs.layers == engine.images.inspect("base").root_fs.layers


async def test_a_bad_change_or_name_is_refused_and_leaves_nothing(engine):
    ref = await engine.run("sh", "-c", "echo 1 > /one")
    await engine.containers.wait(ref)
    for request in (CommitRequest(changes=["JUMP high"]), CommitRequest(repository="Not/Valid")):
        with pytest.raises(InvalidArgument):
            await engine.containers.commit(ref, request)
    assert len(engine.images.list()) == 1


async def test_a_container_runs_on_although_its_image_lost_its_name_and_can_be_started_again(engine):
    ref = await engine.run("sh", "-c", "echo up; exec sleep 60")
    await engine.containers.commit(ref, CommitRequest(repository="copy"))
    made = await engine.containers.create("", ContainerCreateRequest(image="copy", cmd=["echo", "again"]))
    await engine.containers.start(made.id)
    await engine.containers.wait(made.id)
    await engine.images.remove("copy", force=True)
    await engine.containers.start(made.id)
    await engine.containers.wait(made.id)
    assert await engine.text(made.id) == "again\nagain\n"
