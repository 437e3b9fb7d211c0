# ruff: noqa: ASYNC230, ASYNC240 - looking at a few small files in a temporary directory
import asyncio
import os

import pytest

from enxame.engine.volumes import ANONYMOUS_LABEL, VolumeStore
from enxame.errors import Conflict, InvalidArgument, NotFound
from enxame.model.filters import Filters
from enxame.model.volume import VolumeCreateRequest


class Events:
    def __init__(self):
        self.seen = []

    def publish(self, type_, action, actor_id, attributes, scope="local"):
        self.seen.append((type_, action, actor_id))


@pytest.fixture
def events():
    return Events()


@pytest.fixture
async def volumes(tmp_path, events):
    store = VolumeStore(tmp_path / "volumes", events)
    await store.start()
    return store


async def reopened(volumes):
    again = VolumeStore(volumes._records._root, Events())
    await again.start()
    return again


def names(response):
    return [volume.name for volume in response.volumes]


def where(**filters):
    return Filters({name.replace("_not", "!"): frozenset(values) for name, values in filters.items()})


async def test_a_volume_survives_a_restart_as_it_was_made(volumes, events):
    made = await volumes.create(VolumeCreateRequest(name="data", labels={"a": "b"}))
    assert os.path.isdir(made.mountpoint)
    assert (await reopened(volumes)).inspect("data") == made
    assert events.seen == [("volume", "create", "data")]


async def test_making_a_volume_twice_gives_the_first(volumes):
    first = await volumes.create(VolumeCreateRequest(name="data", labels={"a": "b"}))
    assert await volumes.create(VolumeCreateRequest(name="data", labels={"c": "d"})) == first


async def test_a_volume_without_a_name_gets_64_hex_digits_and_is_anonymous(volumes):
    made = await volumes.create(VolumeCreateRequest())
    assert len(made.name) == 64
    assert int(made.name, 16)
    assert (await volumes.prune()).volumes_deleted == [made.name]


@pytest.mark.parametrize("name", ["/etc", "a b", ".hidden", "../x", "a/b", "-x", "ação", "x\n"])
async def test_names_out_of_rule_are_refused(volumes, name):
    with pytest.raises(InvalidArgument) as caught:
        await volumes.create(VolumeCreateRequest(name=name))
    assert caught.value.message == (
        f'create {name}: "{name}" includes invalid characters for a local volume name, only '
        '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
    )


async def test_other_bad_requests_say_why(volumes):
    cases = [
        (VolumeCreateRequest(name="x"), "volume name is too short"),
        (VolumeCreateRequest(name="xy", driver_opts={"foo": "1"}), 'create xy: invalid option: "foo"'),
        (VolumeCreateRequest(name="xy", driver_opts={"type": "nfs"}), 'missing required option: "device"'),
        (VolumeCreateRequest(name="xy" * 200), "longer than 255"),
    ]
    for request, message in cases:
        with pytest.raises(InvalidArgument) as caught:
            await volumes.create(request)
        assert message in caught.value.message
    with pytest.raises(NotFound, match='error looking up volume plugin bogus: plugin "bogus" not found'):
        await volumes.create(VolumeCreateRequest(name="xy", driver="bogus"))
    assert volumes.list().volumes == []


async def test_a_volume_in_use_is_not_removed_not_even_after_a_restart(volumes):
    path = await volumes.acquire("data", "c1")
    assert path == volumes.inspect("data").mountpoint
    await volumes.acquire("data", "c2")
    for store in (volumes, await reopened(volumes)):
        with pytest.raises(Conflict) as caught:
            await store.remove("data")
        assert caught.value.message == "remove data: volume is in use - [c1, c2]"
    await volumes.release("c1")
    await volumes.release("c1")
    await volumes.release("c2")
    await volumes.remove("data")
    assert not os.path.exists(path)


async def test_containers_that_do_not_run_keep_their_volumes_too(volumes):
    await volumes.create(VolumeCreateRequest(name="data"))
    volumes.holders = lambda name: ["stopped"] if name == "data" else []
    with pytest.raises(Conflict, match=r"volume is in use - \[stopped\]"):
        await volumes.remove("data")
    assert (await volumes.prune(where(all=["1"]))).volumes_deleted is None
    assert names(volumes.list(where(dangling=["false"]))) == ["data"]


async def test_a_missing_volume_is_made_as_the_container_wants_it(volumes):
    wanted = VolumeCreateRequest(labels={"a": "b", ANONYMOUS_LABEL: ""})
    await volumes.acquire("data", "c1", wanted)
    assert volumes.inspect("data").labels == wanted.labels
    with pytest.raises(NotFound, match="error looking up volume plugin bogus"):
        await volumes.acquire("other", "c1", VolumeCreateRequest(driver="bogus"))
    await volumes.release("c1")
    assert (await volumes.prune()).volumes_deleted == ["data"]


async def test_volumes_that_are_not_there(volumes):
    with pytest.raises(NotFound) as caught:
        await volumes.remove("nope")
    assert caught.value.message == "get nope: no such volume"
    await volumes.remove("nope", force=True)
    with pytest.raises(NotFound):
        volumes.inspect("nope")
    await volumes.release("nobody")


async def test_containers_that_are_no_more_lose_their_volumes(volumes):
    await volumes.acquire("data", "old")
    await volumes.acquire("data", "new")
    await volumes.reconcile({"new", "other"})
    assert volumes.users("data") == ["new"]


async def test_filters(volumes):
    await volumes.create(VolumeCreateRequest(name="web-a", labels={"tier": "1"}))
    await volumes.create(VolumeCreateRequest(name="web-b"))
    await volumes.acquire("db", "c1")
    assert names(volumes.list()) == ["db", "web-a", "web-b"]
    assert names(volumes.list(where(dangling=["true"]))) == ["web-a", "web-b"]
    assert names(volumes.list(where(dangling=["false"]))) == ["db"]
    assert names(volumes.list(where(name=["web"]))) == ["web-a", "web-b"]
    assert names(volumes.list(where(label=["tier=1"]))) == ["web-a"]
    assert names(volumes.list(where(driver=["other"]))) == []
    with pytest.raises(InvalidArgument, match="invalid filter 'bogus'"):
        volumes.list(where(bogus=["1"]))


async def test_prune_takes_unused_anonymous_volumes_and_all_when_told(volumes):
    anonymous = await volumes.create(VolumeCreateRequest())
    with open(os.path.join(anonymous.mountpoint, "file"), "wb") as file:
        file.write(b"x" * 1000)
    await volumes.create(VolumeCreateRequest(name="named"))
    await volumes.create(VolumeCreateRequest(name="labelled", labels={"keep": "1"}))
    await volumes.acquire("used", "c1")
    report = await volumes.prune()
    assert (report.volumes_deleted, report.space_reclaimed) == ([anonymous.name], 1000)
    report = await volumes.prune(where(all=["1"], label_not=["keep"]))
    assert report.volumes_deleted == ["named"]
    assert names(volumes.list()) == ["labelled", "used"]


async def test_a_volume_that_stands_for_something_elsewhere_is_never_pruned(volumes):
    options = {"type": "nfs", "o": "addr=192.0.2.1", "device": ":/export"}
    await volumes.create(VolumeCreateRequest(name="remote", driver_opts=options))
    assert (await volumes.prune(where(all=["1"]))).volumes_deleted is None
    assert (await volumes.prune(everything=True)).volumes_deleted is None
    assert names(volumes.list()) == ["remote"]


async def test_an_empty_volume_is_filled_once_with_owners_modes_times_and_links(volumes, tmp_path):
    source = tmp_path / "image"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("hello")
    (source / "link").symlink_to("sub/file")
    os.link(source / "sub" / "file", source / "same")
    os.utime(source / "sub" / "file", (1, 1))
    source.chmod(0o1770)
    path = await volumes.acquire("data", "c1")
    assert await volumes.populate("data", str(source))
    assert os.stat(path).st_mode & 0o7777 == 0o1770
    assert os.readlink(f"{path}/link") == "sub/file"
    assert os.stat(f"{path}/sub/file").st_mtime == 1
    assert os.stat(f"{path}/same").st_nlink == 2
    os.unlink(f"{path}/link")
    assert not await volumes.populate("data", str(source))
    assert not os.path.lexists(f"{path}/link")


async def test_several_containers_filling_a_volume_at_once_fill_it_once(volumes, tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "f").write_text("x")
    await asyncio.gather(*(volumes.acquire("data", f"c{number}") for number in range(5)))
    done = await asyncio.gather(*(volumes.populate("data", str(tmp_path / "image")) for _ in range(5)))
    assert sorted(done) == [False] * 4 + [True]


async def test_an_images_links_do_not_lead_out_of_its_root(volumes, tmp_path):
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "inside").write_text("x")
    outside = tmp_path / "etc"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (root / "data").symlink_to("/etc")
    (root / "up").symlink_to("../etc")
    for place in ("/data", "/up", "/../../etc"):
        name = place.strip("/.").replace("/", "")
        path = await volumes.acquire(f"volume-{name}", "c1")
        assert await volumes.populate(f"volume-{name}", place, root=str(root))
        assert os.listdir(path) == ["inside"]
    await volumes.acquire("none", "c1")
    assert not await volumes.populate("none", "/missing", root=str(root))
    assert not await volumes.populate("none", "/etc/inside", root=str(root))


async def test_a_half_made_volume_is_gone_after_a_restart(volumes):
    trash = volumes._records._root / ".trash" / "draft"
    (trash / "_data").mkdir(parents=True)
    again = await reopened(volumes)
    assert again.list().volumes == []
    assert not trash.exists()


async def test_a_volume_whose_description_is_damaged_is_left_alone(volumes, caplog):
    made = await volumes.create(VolumeCreateRequest(name="data"))
    (volumes._records._root / "data" / "volume.json").write_text("{")
    again = await reopened(volumes)
    assert again.list().volumes == []
    assert os.path.isdir(made.mountpoint)
    assert "volume data is left alone" in caplog.text


async def test_usage_counts_bytes_and_containers(volumes):
    path = await volumes.acquire("data", "c1")
    with open(f"{path}/file", "wb") as file:
        file.write(b"x" * 123)
    (row,) = await volumes.usage()
    assert (row.usage_data.size, row.usage_data.ref_count) == (123, 1)
