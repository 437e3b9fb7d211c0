"""The image store with real workers and real mounts."""

# ruff: noqa: ASYNC240 - looking at a few small files in a temporary directory

import asyncio
import gzip
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from enxame.engine.images import ImageStore, ImageUser
from enxame.engine.mount_syscalls import is_mountpoint
from enxame.errors import Conflict, EnxameError, InvalidArgument, NotFound
from enxame.model.filters import Filters
from tests.engine.image_lab import Progress, archive, entry, files, leftovers, open_store, stream, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot, mounts")

BASE = files(("etc/name", b"base"), ("etc/gone", b"x"), ("dir/old", b"x"))
MIDDLE = files(("etc/.wh.gone", b""), ("dir/.wh..wh..opq", b""), ("dir/new", b"y"))
TOP = files(("etc/name", b"top"))


@pytest.fixture
async def store(tmp_path):
    store = await open_store(tmp_path)
    yield store
    for container in [path.name for path in (tmp_path / "overlay").iterdir() if path.name != ".trash"]:
        await store.delete_layer(container)
    await store.stop()


async def load(store, *args, **options):
    return await store.load(stream(archive(*args, **options)), Progress())


def actions(store):
    return [(action, attributes["name"]) for _, action, _, attributes in store._events.publisher.seen]


async def test_a_loaded_image_is_known_by_its_names_and_its_id(store):
    progress = Progress()
    config = {
        "Env": ["A=1"],
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5},
        "Volumes": {"/v": {}},
        "Labels": None,
    }
    names = await store.load(stream(archive([BASE, TOP], "web:1", "web:2", config=config)), progress)
    assert names == ["web:1", "web:2"]
    assert progress.lines() == ["Loaded image: web:1\n", "Loaded image: web:2\n"]
    image = store.resolve("web:1")
    assert store.resolve(image.id) == store.resolve(image.id[7:19]) == store.resolve("docker.io/library/web:2") == image
    assert image.layers == [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (BASE, TOP)]
    assert (image.config.env, image.config.healthcheck.interval, set(image.config.volumes)) == (["A=1"], 5, {"/v"})
    assert image.size == len(b"base") + 2 + len(b"top")
    assert actions(store) == [("load", "web:1"), ("load", "web:2")]


async def test_images_that_are_not_there(store):
    for ref, text in (
        ("web", "web:latest"),
        ("r.io/web:1", "r.io/web:1"),
        ("sha256:" + "0" * 64, "sha256:" + "0" * 64),
    ):
        with pytest.raises(NotFound) as caught:
            store.resolve(ref)
        assert caught.value.message == f"No such image: {text}"
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        store.resolve("a b")


async def test_a_container_sees_the_layers_as_one(store, tmp_path):
    await load(store, [BASE, MIDDLE, TOP], "web")
    merged = Path(await store.mount("c1", store.resolve("web")))
    assert (merged / "etc/name").read_text() == "top"
    assert os.listdir(merged / "etc") == ["name"]
    assert os.listdir(merged / "dir") == ["new"]
    (merged / "mine").write_text("x")
    assert os.listdir(tmp_path / "overlay/c1/diff") == ["mine"]
    other = Path(await store.mount("c2", store.resolve("web")))
    assert not (other / "mine").exists()


async def test_mounting_again_after_a_crash_or_a_reboot_gives_the_same_filesystem(store, tmp_path):
    await load(store, [BASE], "web")
    merged = await store.mount("c1", store.resolve("web"))
    Path(merged, "mine").write_text("x")
    restarted = await open_store(tmp_path)
    assert await restarted.mount("c1") == merged
    await restarted.unmount("c1")
    await restarted.unmount("c1")
    assert not is_mountpoint(merged)
    assert await restarted.mount("c1", restarted.resolve("web")) == merged
    assert Path(merged, "mine").read_text() == "x"
    await restarted.delete_layer("c1")
    await restarted.delete_layer("c1")
    assert not os.path.exists(merged)
    await restarted.stop()


async def test_more_layers_than_fit_in_a_page_of_options_are_mounted(store):
    layers = [files((f"f{number}", b"x")) for number in range(130)]
    await load(store, layers, "deep")
    merged = await store.mount("c1", store.resolve("deep"))
    assert len(os.listdir(merged)) == 130


async def test_layers_are_shared_and_go_with_the_last_image(store, tmp_path):
    await load(store, [BASE, MIDDLE], "a")
    await load(store, [BASE, TOP], "b")
    assert len(list((tmp_path / "images/layers").iterdir())) == 3
    items = await store.remove("a")
    assert [item.untagged or item.deleted for item in items][:1] == ["a:latest"]
    assert len(items) == 3  # the name, the image, one layer
    assert len(list((tmp_path / "images/layers").iterdir())) == 2
    await store.remove("b")
    assert leftovers(tmp_path) == []


async def test_a_container_keeps_its_layers_when_the_image_is_forced_away(store, tmp_path):
    await load(store, [BASE], "web")
    image = store.resolve("web")
    merged = await store.mount("c1", image)
    store.users = lambda image_id: [ImageUser("c1", running=False)] if image_id == image.id else []
    with pytest.raises(Conflict, match="must force"):
        await store.remove("web")
    await store.remove("web", force=True)
    assert Path(merged, "etc/name").read_text() == "base"
    restarted = await open_store(tmp_path)
    await restarted.unmount("c1")
    assert await restarted.mount("c1") == merged
    assert Path(merged, "etc/name").read_text() == "base"
    await restarted.stop()
    await store.delete_layer("c1")
    assert leftovers(tmp_path) == []


async def test_names_move_and_go(store):
    await load(store, [BASE], "a")
    await load(store, [TOP], "b")
    await store.tag("a", "r.io/x", "1")
    await store.tag("b", "r.io/x", "1")
    assert store.inspect("a").repo_tags == ["a:latest"]
    assert store.inspect("b").repo_tags == ["b:latest", "r.io/x:1"]
    assert [item.untagged for item in await store.remove("r.io/x:1")] == ["r.io/x:1"]
    with pytest.raises(NotFound):
        await store.tag("nope", "x", "1")
    with pytest.raises(InvalidArgument):
        await store.tag("a", "X", "1")
    assert actions(store)[2:4] == [("tag", "r.io/x:1"), ("tag", "r.io/x:1")]


async def test_an_image_that_lost_its_name_is_dangling_and_is_pruned(store, tmp_path):
    await load(store, [BASE], "a")
    await load(store, [TOP], "a")
    assert [row.repo_tags for row in store.list(filters=Filters({"dangling": frozenset(["true"])}))] == [[]]
    report = await store.prune()
    assert report.space_reclaimed == 6
    assert [row.repo_tags for row in store.list()] == [["a:latest"]]
    store.users = lambda _: [ImageUser("c", running=True)]
    everything = Filters({"dangling": frozenset(["false"])})
    assert (await store.prune(everything)).images_deleted is None
    store.users = lambda _: []
    assert (await store.prune(everything)).images_deleted
    assert leftovers(tmp_path) == []


async def test_everything_survives_a_restart(store, tmp_path):
    await load(store, [BASE, TOP], "a:1", "b:2")
    restarted = await open_store(tmp_path)
    assert restarted.inspect("a:1") == store.inspect("a:1")
    assert restarted.list() == store.list()
    await restarted.stop()


async def test_an_imported_filesystem_is_an_image_of_one_layer(store):
    image_id = await store.import_(
        stream(gzip.compress(BASE)), repository="imp", tag="1", message="hello", changes=['CMD ["/x"]', "EXPOSE 80"]
    )
    shown = store.inspect("imp:1")
    assert (shown.id, shown.comment, shown.config.cmd) == (image_id, "hello", ["/x"])
    assert len(shown.root_fs.layers) == 1
    assert [row.comment for row in store.history("imp:1")] == ["hello"]
    assert actions(store) == [("import", "imp:1")]


HOSTILE = tar([entry("../../../escape", content=b"bad")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "invalid tar header"),
        (b"x" * 5000, "invalid tar header"),
        (archive([BASE], "web")[:3000], "unexpected EOF|invalid tar header"),
        (files(("x", b"y")), "neither manifest.json"),
        (archive([HOSTILE], "web"), "is outside of the layer"),
        (archive([BASE, HOSTILE], "web"), "is outside of the layer"),
        (
            archive([BASE], "web").replace(b'"diff_ids": ["sha256:', b'"diff_ids": ["sha256;'),
            "is damaged: expected sha256;",
        ),
        (archive([BASE], "Web"), "must be lowercase"),
    ],
    ids=["empty", "noise", "cut", "no image", "hostile", "hostile above", "bad diff-id", "bad name"],
)
async def test_a_bad_archive_is_refused_and_leaves_nothing(store, tmp_path, content, message):
    with pytest.raises(InvalidArgument, match=message):
        await store.load(stream(content), Progress())
    assert leftovers(tmp_path) == []
    assert store.list() == []
    assert not Path(tmp_path, "escape").exists()


async def test_a_layer_that_is_not_its_diff_id_is_refused(store, tmp_path):
    bad = archive([BASE], "web").replace(b"base", b"evil")
    with pytest.raises(InvalidArgument, match="is damaged: expected"):
        await store.load(stream(bad), Progress())
    assert leftovers(tmp_path) == []


async def test_a_client_that_goes_away_leaves_nothing(store, tmp_path):
    content = archive([BASE, os.urandom(3_000_000) and files(("big", os.urandom(3_000_000)))], "web")
    stuck = asyncio.Event()

    async def half():
        yield content[: len(content) // 2]
        stuck.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store.load(half(), Progress()))
    async with asyncio.timeout(60):
        await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert leftovers(tmp_path) == []


async def test_what_a_crash_left_is_cleared_at_the_start(store, tmp_path):
    await load(store, [BASE], "web")
    (tmp_path / "images/tmp/draft/diff").mkdir(parents=True)
    (tmp_path / "images/layers" / ("0" * 64) / "diff").mkdir(parents=True)
    (tmp_path / "images/blobs/sha256" / ("1" * 64)).write_bytes(b"x")
    (tmp_path / "overlay/.trash/old/diff").mkdir(parents=True)
    restarted = await open_store(tmp_path)
    assert len(leftovers(tmp_path)) == 4  # the layer, its blob, the configuration, the record
    assert list((tmp_path / "overlay/.trash").iterdir()) == []
    assert restarted.resolve("web")
    await restarted.stop()


@pytest.mark.parametrize("victim", ["repositories.json", "record", "config"])
async def test_a_damaged_index_is_reported_and_the_rest_works(store, tmp_path, victim, caplog):
    await load(store, [BASE], "a")
    await load(store, [TOP], "b")
    image_id = store.resolve("a").id.removeprefix("sha256:")
    path = {
        "repositories.json": tmp_path / "images/repositories.json",
        "record": tmp_path / f"images/records/{image_id}.json",
        "config": tmp_path / f"images/blobs/sha256/{image_id}",
    }[victim]
    path.write_bytes(b'{"half')
    restarted = await open_store(tmp_path)
    assert "cannot be read and is set aside" in caplog.text
    assert len(restarted.list()) == (2 if victim == "repositories.json" else 1)
    await load(restarted, [BASE], "a")
    merged = await restarted.mount("c1", restarted.resolve("a"))
    assert Path(merged, "etc/name").read_text() == "base"
    await restarted.delete_layer("c1")
    await restarted.stop()


async def test_an_image_that_lost_a_layer_is_forgotten_and_can_be_loaded_again(store, tmp_path, caplog):
    await load(store, [BASE, TOP], "a")
    await load(store, [TOP], "b")
    (tmp_path / "images/layers" / hashlib.sha256(BASE).hexdigest() / "layer.json").write_bytes(b"")
    restarted = await open_store(tmp_path)
    assert "has lost a layer and is forgotten" in caplog.text
    assert [row.repo_tags for row in restarted.list()] == [["b:latest"]]
    await load(restarted, [BASE, TOP], "a")
    assert Path(await restarted.mount("c1", restarted.resolve("a")), "etc/name").read_text() == "top"
    await restarted.delete_layer("c1")
    await restarted.stop()


async def test_a_full_disk_is_told_and_the_store_goes_on(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)  # noqa: ASYNC221
    try:
        store = await open_store(disk)
        big = files(("big", os.urandom(6_000_000)))
        for content in (archive([big], "big"), archive([gzip.compress(files(("zero", bytes(20_000_000))))], "big")):
            with pytest.raises((EnxameError, InvalidArgument)) as caught:
                await store.load(stream(content), Progress())
            assert "no space left on device" in caught.value.message
            assert leftovers(disk) == []
        await load(store, [BASE], "small")
        assert store.resolve("small")
        await store.stop()
    finally:
        subprocess.run(["umount", disk], check=True)  # noqa: ASYNC221


def test_the_store_names_no_image_by_a_path(tmp_path):
    store = ImageStore(tmp_path, overlay_root=tmp_path, events=None)
    with pytest.raises(InvalidArgument):
        store.graph_driver_data("../x")
