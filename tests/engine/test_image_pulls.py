"""Pulling from a real registry on a loopback port."""

import asyncio
import ctypes
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time

import pytest

from enxame.engine.images.reference import parse
from enxame.engine.images.registry import Registry
from enxame.errors import EnxameError, InvalidArgument, NotFound, Unauthenticated, Unavailable
from enxame.model.image import RegistryAuth
from enxame.testing.promises import allowed
from enxame.testing.sample_image import build
from tests.engine.image_lab import LoopbackRegistry, Progress, archive, files, leftovers, open_store

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot"),
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="needs Debian's docker-registry"),
    pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo"),
]

BASE = files(("etc/name", b"base"), ("big", os.urandom(200_000)))
LAYERS = [BASE, *(files((f"layer-{number}", os.urandom(1000))) for number in range(4))]


def digest_of(reference):
    out = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"], check=True, capture_output=True
    ).stdout
    return f"sha256:{hashlib.sha256(out).hexdigest()}"


async def test_an_image_comes_with_all_its_layers_and_dockers_messages(registry, store):
    config = {"Cmd": ["/x"], "Healthcheck": {"Test": ["CMD-SHELL", "x"]}, "OnBuild": ["RUN y"]}
    reference = registry.push(archive(LAYERS, "web", config=config), "team/web:1")
    progress = Progress()
    image = await store.registries.pull(reference, progress=progress)
    assert (image.config.cmd, image.config.healthcheck.test, image.config.on_build) == (
        ["/x"],
        ["CMD-SHELL", "x"],
        ["RUN y"],
    )
    assert len(image.layers) == 5
    digest = digest_of(reference)
    lines = progress.lines()
    assert lines[0] == "1: Pulling from team/web"
    assert lines[-2:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {reference}"]
    for status in ("Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"):
        assert len([line for line in lines if line.endswith(f": {status}")]) == 5, status
    shown = store.inspect(reference)
    assert shown.repo_tags == [reference]
    assert shown.repo_digests == [f"{registry.address}/team/web@{digest}"]
    assert store.resolve(f"{registry.address}/team/web@{digest}") == image
    assert store.resolve(f"{reference}@{digest}") == image
    assert store._events.publisher.seen[-1][1:] == ("pull", reference, {"name": f"{registry.address}/team/web"})


async def test_pulling_again_fetches_nothing(registry, store):
    reference = registry.push(archive(LAYERS[:1], "web"), "again:1")
    await store.registries.pull(reference, progress=Progress())
    progress = Progress()
    await store.registries.pull(reference, progress=progress)
    assert progress.lines()[-1] == f"Status: Image is up to date for {reference}"
    assert len(progress) == 3


async def test_only_missing_layers_are_fetched(registry, store):
    await store.registries.pull(registry.push(archive(LAYERS[:2], "web"), "shared:1"), progress=Progress())
    progress = Progress()
    await store.registries.pull(registry.push(archive(LAYERS[:3], "web"), "shared:2"), progress=progress)
    statuses = [line.split(": ")[-1] for line in progress.lines()]
    assert statuses.count("Already exists") == 2
    assert statuses.count("Pull complete") == 1


async def test_a_tag_that_moved_in_the_registry_moves_here(registry, store):
    reference = registry.push(archive(LAYERS[:1], "web"), "moving:1")
    first = await store.registries.pull(reference, progress=Progress())
    registry.push(archive(LAYERS[1:2], "web"), "moving:1")
    second = await store.registries.pull(reference, progress=Progress())
    assert first.id != second.id
    assert store.resolve(reference) == second
    assert store.inspect(first.id).repo_tags == []


async def test_all_tags_of_a_repository_are_pulled(registry, store):
    for number, tag in enumerate("ab"):
        registry.push(archive(LAYERS[number : number + 1], "web"), f"every:{tag}")
    await store.registries.pull_all(f"{registry.address}/every", progress=Progress())
    assert store.resolve(f"{registry.address}/every:a") != store.resolve(f"{registry.address}/every:b")
    with pytest.raises(NotFound, match="repository name not known to registry"):
        await store.registries.pull_all(f"{registry.address}/nothing-at-all", progress=Progress())


async def test_a_digest_is_pulled_without_a_tag(registry, store):
    reference = registry.push(archive(LAYERS[:1], "web"), "pinned:1")
    digest = digest_of(reference)
    image = await store.registries.pull(f"{reference}@{digest}", progress=Progress())
    shown = store.inspect(image.id)
    assert (shown.repo_tags, shown.repo_digests) == ([], [f"{registry.address}/pinned@{digest}"])


async def test_pulls_of_one_reference_are_one(registry, store):
    reference = registry.push(archive([*LAYERS, files(("joined", b"x"))], "web"), "joined:1")
    progresses = [Progress() for _ in range(4)]
    images = await asyncio.gather(*(store.registries.pull(reference, progress=progress) for progress in progresses))
    assert len({image.id for image in images}) == 1
    assert all(progress.lines()[-1].startswith("Status: Downloaded newer") for progress in progresses)
    assert len([event for event in store._events.publisher.seen if event[1] == "pull"]) == 1


async def test_of_an_index_the_wanted_platform_is_taken(registry, store):
    ours = registry.push(archive(LAYERS[:1], "web"), "multi:amd64")
    theirs = registry.push(archive(LAYERS[1:2], "web", architecture="arm64"), "multi:arm64")
    entries = []
    for reference, architecture in ((theirs, "arm64"), (ours, "amd64")):
        raw = subprocess.run(  # noqa: ASYNC221
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"],
            check=True,
            capture_output=True,
        ).stdout
        entries.append(
            {
                "mediaType": json.loads(raw)["mediaType"],
                "size": len(raw),
                "digest": digest_of(reference),
                "platform": {"os": "linux", "architecture": architecture},
            }
        )
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "manifests": entries,
        }
    ).encode()
    put(registry, "multi", "all", index, "application/vnd.docker.distribution.manifest.list.v2+json")
    reference = f"{registry.address}/multi:all"
    image = await store.registries.pull(reference, platform="linux/amd64", progress=Progress())
    assert image.architecture == "amd64"
    digest = f"sha256:{hashlib.sha256(index).hexdigest()}"
    assert store.inspect(reference).repo_digests == [f"{registry.address}/multi@{digest}"]
    found = await store.registries.distribution(reference)
    assert (found.descriptor.digest, found.descriptor.size) == (digest, len(index))
    assert [platform.architecture for platform in found.platforms] == ["arm64", "amd64"]
    other = await store.registries.pull(reference, platform="linux/arm64", progress=Progress())
    assert other.architecture == "arm64"
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x"):
        await store.registries.pull(reference, platform="linux/s390x", progress=Progress())
    with pytest.raises(
        NotFound, match="does not match the specified platform: wanted linux/amd64, actual: linux/arm64"
    ):
        await store.registries.pull(theirs, platform="linux/amd64", progress=Progress())


def put(registry, repository, tag, manifest, media_type):
    import urllib.request

    request = urllib.request.Request(
        f"http://{registry.address}/v2/{repository}/manifests/{tag}",
        data=manifest,
        method="PUT",
        headers={"Content-Type": media_type},
    )
    urllib.request.urlopen(request, timeout=5).close()


async def test_what_is_not_there_is_told_in_dockers_words(registry, store, tmp_path):
    reference = f"{registry.address}/nothing:here"
    with pytest.raises(NotFound) as caught:
        await store.registries.pull(reference, progress=Progress())
    assert caught.value.message == f"manifest for {reference} not found: manifest unknown: manifest unknown"
    with pytest.raises(NotFound) as caught:
        await store.registries.distribution(reference)
    assert caught.value.message == "manifest unknown: manifest unknown"
    assert leftovers(tmp_path) == []


async def test_a_registry_that_is_not_running_is_told_at_once(store, tmp_path):
    with LoopbackRegistry(tmp_path / "r") as gone:
        pass
    begun = time.monotonic()
    with pytest.raises(EnxameError) as caught:
        await store.registries.pull(f"{gone.address}/x", progress=Progress())
    assert (
        caught.value.message == f'Get "http://{gone.address}/v2/": dial tcp {gone.address}: connect: connection refused'
    )
    assert time.monotonic() - begun < allowed(2)


async def test_a_registry_that_swallows_packets_is_given_up_within_two_seconds(store, tmp_path):
    with LoopbackRegistry(tmp_path / "r") as registry:
        # A listener whose queue is full answers no more: what a network without a way back looks like.
        import socket

        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            address = deaf.getsockname()
            crowd = []
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(address)
                crowd.append(one)
            begun = time.monotonic()
            with pytest.raises(EnxameError, match="request canceled while waiting for connection"):
                await store.registries.distribution(f"127.0.0.1:{address[1]}/x")
            assert time.monotonic() - begun < allowed(2.5)
            for one in crowd:
                one.close()
        assert registry.address


@pytest.fixture
def guarded(tmp_path):
    with LoopbackRegistry(tmp_path / "guarded", htpasswd=htpasswd("user", "secret")) as registry:
        yield registry


def htpasswd(user, password):
    library = ctypes.CDLL("libcrypt.so.1")  # the registry takes bcrypt alone
    library.crypt.restype = ctypes.c_char_p
    return f"{user}:{library.crypt(password.encode(), b'$2y$04$abcdefghijklmnopqrstuu').decode()}\n"


async def test_a_guarded_registry_wants_the_right_password(guarded, store, tmp_path):
    reference = guarded.push(archive(LAYERS[:2], "web"), "secret/web:1", "--dest-creds", "user:secret")
    right, wrong = RegistryAuth(username="user", password="secret"), RegistryAuth(username="user", password="no")
    for auth in (None, wrong):
        with pytest.raises(NotFound) as caught:
            await store.registries.pull(reference, auth=auth, progress=Progress())
        assert caught.value.message == (
            f"pull access denied for {guarded.address}/secret/web, repository does not exist or may require "
            "'docker login': denied: requested access to the resource is denied"
        )
    assert leftovers(tmp_path) == []
    image = await store.registries.pull(reference, auth=right, progress=Progress())
    assert len(image.layers) == 2
    assert (await store.registries.distribution(reference, right)).platforms[0].architecture == "amd64"
    assert not list((tmp_path / "images/registry").glob("auth-*"))


async def test_a_login_is_tried_at_the_registry(guarded, store, tmp_path):
    right = RegistryAuth(username="user", password="secret", serveraddress=guarded.address)
    await store.registries.login(right)
    with pytest.raises(Unauthenticated):
        await store.registries.login(
            RegistryAuth(username="user", password="no", serveraddress=f"http://{guarded.address}/v1/")
        )
    assert not list((tmp_path / "images/registry").glob("auth-*"))


async def test_a_damaged_blob_is_refused_and_leaves_nothing(registry, store, tmp_path):
    layers = [files(("a", os.urandom(50_000))), files(("b", os.urandom(50_000)))]
    reference = registry.push(archive(layers, "web"), "damaged:1")
    raw = subprocess.run(  # noqa: ASYNC221
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"], check=True, capture_output=True
    ).stdout
    blob = registry.blob(json.loads(raw)["layers"][1]["digest"])
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 0xFF
    blob.write_bytes(content)
    with pytest.raises((EnxameError, InvalidArgument)):
        await store.registries.pull(reference, progress=Progress())
    assert leftovers(tmp_path) == []
    content[len(content) // 2] ^= 0xFF
    blob.write_bytes(content[:1000])  # ends early
    with pytest.raises((EnxameError, InvalidArgument)):
        await store.registries.pull(reference, progress=Progress())
    assert leftovers(tmp_path) == []
    blob.write_bytes(content)
    assert await store.registries.pull(reference, progress=Progress())


async def test_an_interrupted_pull_leaves_nothing_and_works_the_next_time(store, tmp_path):
    with LoopbackRegistry(tmp_path / "r") as registry:
        reference = registry.push(archive([BASE, files(("big", os.urandom(30_000_000)))], "web"), "big:1")
        stopped = asyncio.Event()

        def stop_when_fetching(message):
            if message.status == "Pulling fs layer" and not stopped.is_set():
                stopped.set()

        task = asyncio.create_task(store.registries.pull(reference, progress=stop_when_fetching))
        async with asyncio.timeout(60):
            await stopped.wait()
        registry.pause()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert leftovers(tmp_path) == []
        registry.resume()
        assert await store.registries.pull(reference, progress=Progress())


async def test_one_of_two_that_goes_away_does_not_stop_the_other(store, tmp_path):
    with LoopbackRegistry(tmp_path / "r") as registry:
        reference = registry.push(archive([files(("big", os.urandom(5_000_000)))], "web"), "two:1")
        first = asyncio.create_task(store.registries.pull(reference, progress=Progress()))
        second = asyncio.create_task(store.registries.pull(reference, progress=Progress()))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await second).layers


async def test_a_pull_that_was_given_up_does_not_spoil_the_next(store, tmp_path):
    with LoopbackRegistry(tmp_path / "r") as registry:
        reference = registry.push(archive([files(("big", os.urandom(5_000_000)))], "web"), "next:1")
        first = asyncio.create_task(store.registries.pull(reference, progress=Progress()))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert (await store.registries.pull(reference, progress=Progress())).layers
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_stopping_the_daemon_stops_pulls_with_a_word(store, tmp_path):
    with LoopbackRegistry(tmp_path / "r") as registry:
        reference = registry.push(archive([files(("big", os.urandom(5_000_000)))], "web"), "stop:1")
        registry.pause()
        pull = asyncio.create_task(store.registries.pull(reference, progress=Progress()))
        await asyncio.sleep(0)
        await store.stop()
        with pytest.raises(Unavailable, match="shutting down"):
            await pull
        assert leftovers(tmp_path) == []


async def test_a_mirror_is_asked_before_docker_io(registry, tmp_path):
    registry.push(archive(LAYERS[:1], "web"), "library/mirrored:1")
    store = await open_store(tmp_path, mirrors=[f"http://{registry.address}"])
    image = await store.registries.pull("mirrored:1", progress=Progress())
    assert store.inspect("mirrored:1").id == image.id
    await store.stop()


async def test_mirrors_are_asked_in_their_order_and_one_that_is_not_there_is_passed_over(registry, tmp_path):
    with LoopbackRegistry(tmp_path / "r") as second, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # refuses: it does not listen
        first_only = registry.push(archive(LAYERS[:1], "web"), "library/ordered:1")
        second.push(archive(LAYERS[1:2], "web"), "library/ordered:1")
        second.push(archive(LAYERS[2:3], "web"), "library/other:1")
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        mirrors = [dead, f"http://{registry.address}", f"http://{second.address}"]
        store = await open_store(tmp_path, mirrors=mirrors)
        ordered = await store.registries.pull("ordered:1", progress=Progress())
        assert ordered.layers == (await store.registries.pull(first_only, progress=Progress())).layers
        # What the first has not, the next may have.
        assert len((await store.registries.pull("other:1", progress=Progress())).layers) == 1
        await store.stop()


async def test_a_helm_chart_is_no_image(registry, store, tmp_path):
    raw = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []}
    registry.push(archive(LAYERS[:1], "web"), "chart:base")
    base = json.loads(
        subprocess.run(  # noqa: ASYNC221
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/chart:base"],
            check=True,
            capture_output=True,
        ).stdout
    )
    raw["config"] = base["config"] | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}
    put(registry, "chart", "1", json.dumps(raw).encode(), raw["mediaType"])
    with pytest.raises(InvalidArgument, match="unsupported media type"):
        await store.registries.pull(f"{registry.address}/chart:1", progress=Progress())
    assert leftovers(tmp_path) == []


async def test_the_sample_image_comes_back_as_it_was_pushed(registry, store, tmp_path):
    image_id = build(tmp_path / "sample.tar")
    reference = registry.push((tmp_path / "sample.tar").read_bytes(), "sample:1")
    assert (await store.registries.pull(reference, progress=Progress())).id == image_id


def test_starting_clears_credentials_that_a_crash_left(tmp_path):
    registry = Registry(tmp_path)
    (tmp_path / "auth-old").write_text("secret")
    registry.start()
    assert not (tmp_path / "auth-old").exists()
    assert parse("x")
