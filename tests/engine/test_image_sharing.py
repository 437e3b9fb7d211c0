"""Images that leave this machine: pushed to a real registry, saved to an archive that the real Docker reads."""

import asyncio
import ctypes
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tracemalloc

import pytest

from enxame.errors import EnxameError, NotFound, Unauthenticated
from enxame.model.image import RegistryAuth
from tests.engine.image_lab import LoopbackRegistry, Progress, archive, entry, files, leftovers, open_store, stream, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot")
needs_registry = pytest.mark.skipif(
    not (shutil.which("docker-registry") and shutil.which("skopeo")), reason="needs skopeo and docker-registry"
)

LAYERS = [files((f"layer-{number}", os.urandom(3000))) for number in range(3)]


@pytest.fixture
async def store(tmp_path):
    store = await open_store(tmp_path / "one")
    yield store
    await store.stop()


@pytest.fixture
async def other(tmp_path):
    store = await open_store(tmp_path / "two")
    yield store
    await store.stop()


async def collect(pieces):
    return b"".join([piece async for piece in pieces])


@needs_registry
async def test_what_is_pushed_comes_back_with_the_same_digest_and_id(registry, store, other, tmp_path):
    name = f"{registry.address}/team/app:1"
    await store.load(stream(archive(LAYERS, name)), Progress())
    progress = Progress()
    await store.registries.push(f"{registry.address}/team/app", "1", progress=progress)
    lines = progress.lines()
    assert lines[0] == f"The push refers to repository [{registry.address}/team/app]"
    for status in ("Preparing", "Pushed"):
        assert len([line for line in lines if line.endswith(f": {status}")]) == 3, status
    aux = progress[-1].aux
    assert lines[-2] == f"1: digest: {aux['Digest']} size: {aux['Size']}"
    assert store.inspect(name).repo_digests == [f"{registry.address}/team/app@{aux['Digest']}"]
    image = await other.registries.pull(name, progress=Progress())
    assert image.id == store.resolve(name).id
    assert other.inspect(name).repo_digests == store.inspect(name).repo_digests
    assert (await other.registries.distribution(name)).descriptor.size == aux["Size"]
    assert store._events.publisher.seen[-1][1:] == ("push", name, {"name": f"{registry.address}/team/app"})
    assert not os.listdir(tmp_path / "one/images/tmp")


@needs_registry
async def test_a_pulled_image_pushed_elsewhere_keeps_its_layers_byte_for_byte(registry, store):
    source = registry.push(archive(LAYERS[:2], "web"), "copy/from:1")
    await store.registries.pull(source, progress=Progress())
    await store.tag(source, f"{registry.address}/copy/to", "1")
    await store.registries.push(f"{registry.address}/copy/to:1", progress=Progress())
    blobs = [
        [layer["digest"] for layer in json.loads(raw(f"{registry.address}/copy/{which}:1"))["layers"]]
        for which in ("from", "to")
    ]
    assert blobs[0] == blobs[1]


def raw(reference):
    return subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"], check=True, capture_output=True
    ).stdout


@needs_registry
async def test_layers_that_the_registry_has_are_not_sent_again(registry, store):
    name = f"{registry.address}/again:1"
    await store.registries.pull(registry.push(archive(LAYERS[:2], "x"), "again:1"), progress=Progress())
    progress = Progress()
    await store.registries.push(name, progress=progress)
    assert len([line for line in progress.lines() if line.endswith(": Layer already exists")]) == 2
    assert not any(line.endswith(": Pushed") for line in progress.lines())


@needs_registry
async def test_without_a_tag_all_tags_of_the_repository_are_pushed(registry, store, other):
    repository = f"{registry.address}/all"
    await store.load(stream(archive(LAYERS[:1], f"{repository}:1", f"{repository}:2")), Progress())
    await store.registries.push(repository, progress=Progress())
    for tag in "12":
        assert await other.registries.pull(f"{repository}:{tag}", progress=Progress())


async def test_what_is_not_here_cannot_be_pushed(store):
    with pytest.raises(NotFound) as caught:
        await store.registries.push("127.0.0.1:1/nothing", "1", progress=Progress())
    assert caught.value.message == "An image does not exist locally with the tag: 127.0.0.1:1/nothing"


@needs_registry
async def test_a_guarded_registry_wants_the_right_password_for_a_push(store, other, tmp_path):
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    secret = f"user:{library.crypt(b'secret', b'$2y$04$abcdefghijklmnopqrstuu').decode()}\n"
    with LoopbackRegistry(tmp_path / "guarded", htpasswd=secret) as guarded:
        name = f"{guarded.address}/mine:1"
        await store.load(stream(archive(LAYERS[:1], name)), Progress())
        for auth in (None, RegistryAuth(username="user", password="no")):
            with pytest.raises(Unauthenticated):
                await store.registries.push(name, auth=auth, progress=Progress())
        right = RegistryAuth(username="user", password="secret")
        await store.registries.push(name, auth=right, progress=Progress())
        assert await other.registries.pull(name, auth=right, progress=Progress())
    assert not list((tmp_path / "one/images/registry").glob("auth-*"))
    with pytest.raises(EnxameError, match="connection refused"):
        await store.registries.push(name, auth=right, progress=Progress())


@needs_registry
async def test_a_push_that_is_given_up_leaves_nothing(store, tmp_path):
    with LoopbackRegistry(tmp_path / "r") as registry:
        name = f"{registry.address}/big:1"
        await store.load(stream(archive([files(("big", os.urandom(5_000_000)))], name)), Progress())
        registry.pause()
        begun = asyncio.Event()
        task = asyncio.create_task(store.registries.push(name, progress=lambda _message: begun.set()))
        async with asyncio.timeout(60):
            await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        registry.resume()
    assert not os.listdir(tmp_path / "one/images/tmp")
    assert store.inspect(name).repo_digests == []


async def test_saved_images_load_again_with_their_names(store, other):
    await store.load(stream(archive(LAYERS[:2], "app:1", "app:2", "sub/app:1")), Progress())
    await store.load(stream(archive(LAYERS[1:], "else:latest", config={"Cmd": ["x"]})), Progress())
    content = await collect(store.save(["app", "else:latest"]))
    names = [name for name, _ in tar_members(content)]
    assert len(names) == len(set(names)), "shared layers are written once"
    assert sorted(await other.load(stream(content), Progress())) == ["app:1", "app:2", "else:latest"]
    for name in ("app:1", "else:latest"):
        assert other.resolve(name) == store.resolve(name)
    layout = [one for one in tar_members(content) if one[0] != "manifest.json"]
    again = tar(entry(name, content=data) for name, data in layout)
    for row in other.list():
        await other.remove(row.id, force=True)
    assert sorted(await other.load(stream(again), Progress())) == ["app:1", "app:2", "else:latest"], "an OCI layout too"


def tar_members(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        return [(member.name, opened.extractfile(member).read()) for member in opened if member.isfile()]


async def test_an_image_saved_by_its_id_has_no_names(store, other):
    await store.load(stream(archive(LAYERS[:1], "app:1")), Progress())
    image = store.resolve("app:1")
    assert await other.load(stream(await collect(store.save([image.id]))), Progress()) == [image.id]
    with pytest.raises(NotFound, match=r"^No such image: nothing$"):
        store.save(["nothing"])


def zstd(plain):
    return subprocess.run(["zstd", "-qc"], input=plain, capture_output=True, check=True).stdout


async def test_compressed_layers_are_saved_as_they_came_unless_old_dockers_cannot_read_them(store, other, tmp_path):
    plain = files(("file", b"x" * 100_000))
    diff_ids = [f"sha256:{hashlib.sha256(plain).hexdigest()}"]
    for number, packed in enumerate((gzip.compress(plain), zstd(plain))):
        config = json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "config": {"Labels": {"n": str(number)}},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }
        ).encode()
        manifest = [{"Config": "c", "RepoTags": [f"packed:{number}"], "Layers": ["l"]}]
        await store.load(
            stream(files(("c", config), ("l", packed), ("manifest.json", json.dumps(manifest).encode()))), Progress()
        )
        content = await collect(store.save([f"packed:{number}"]))
        kept = dict(tar_members(content))[json.loads(dict(tar_members(content))["manifest.json"])[0]["Layers"][0]]
        assert kept == (packed if number == 0 else plain)
        await other.load(stream(content), Progress())
        await store.remove(f"packed:{number}", force=True)
        await other.remove(f"packed:{number}", force=True)
    assert leftovers(tmp_path / "one") == []


async def test_saving_a_large_layer_keeps_memory_small(store):
    await store.load(stream(archive([files(("big", bytes(60_000_000)))], "big:1")), Progress())
    tracemalloc.start()
    try:
        total = 0
        async for piece in store.save(["big:1"]):
            total += len(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total > 60_000_000
    assert peak < 8_000_000


async def test_an_image_that_is_being_saved_goes_only_afterwards(store, tmp_path):
    await store.load(stream(archive(LAYERS[:2], "app:1")), Progress())
    pieces = store.save(["app:1"])
    begun = await anext(pieces)
    await store.remove("app:1")
    content = begun + await collect(pieces)
    assert len(tar_members(content)) >= 6
    assert leftovers(tmp_path / "one") == []


@pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo")
async def test_other_tools_read_what_is_saved(store, tmp_path):
    await store.load(stream(archive(LAYERS, "app:1")), Progress())
    (tmp_path / "saved.tar").write_bytes(await collect(store.save(["app:1"])))
    for transport in ("docker-archive", "oci-archive"):
        await asyncio.to_thread(
            subprocess.run,
            [
                "skopeo",
                "--insecure-policy",
                "copy",
                "-q",
                f"{transport}:{tmp_path}/saved.tar",
                f"dir:{tmp_path}/{transport}",
            ],
            check=True,
            timeout=60,
        )
