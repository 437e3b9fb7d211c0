"""A pull that was interrupted goes on with the layers that it has whole."""

import asyncio
import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from enxame.errors import EnxameError
from tests.engine.image_lab import Progress, archive, files, leftovers, open_store

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot"),
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="needs Debian's docker-registry"),
    pytest.mark.skipif(not shutil.which("skopeo"), reason="needs skopeo"),
]
LAYERS = [files((f"layer-{number}", os.urandom(20_000))) for number in range(4)]


class Front:
    """Stands before a registry: notes which blobs are asked for, and holds one of them up, or breaks off in it."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.asked: list[str] = []
        self.held = ""
        self.broken = ""
        self.reached, self.go = threading.Event(), threading.Event()
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                front.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        digest = request.path.rpartition("/")[2]
        wanted = urllib.request.Request(f"http://{self.behind}{request.path}")
        if accepted := request.headers.get_all("Accept"):
            wanted.add_header("Accept", ", ".join(accepted))
        try:
            with urllib.request.urlopen(wanted, timeout=60) as answer:
                status, headers, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, headers, body = error.code, error.headers, error.read()
        if "/blobs/" in request.path:
            self.asked.append(digest)
        request.send_response(status)
        for name in ("Content-Type", "Docker-Content-Digest", "Docker-Distribution-Api-Version"):
            if name in headers:
                request.send_header(name, headers[name])
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        half = len(body) // 2
        request.wfile.write(body[:half])
        request.wfile.flush()
        if digest and digest == self.held:
            self.reached.set()
            self.go.wait(60)
            if digest == self.broken:
                request.close_connection = True
                return
        request.wfile.write(body[half:])


@contextmanager
def front(registry):
    made = Front(registry.address)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.go.set()
        made.server.shutdown()
        made.server.server_close()
        thread.join()


def fetched(tmp_path):
    return {f"sha256:{path.name}" for path in (tmp_path / "images/fetched").iterdir()}


async def interrupt(store, front, reference, digest, *, broken=False):
    """Pull until all is there but one layer, then end it: by leaving, or by a connection that breaks off."""
    front.held, front.broken = digest, digest if broken else ""
    front.reached.clear()
    front.go.clear()
    progress = Progress()
    task = asyncio.create_task(store.registries.pull(reference, progress=progress))
    async with asyncio.timeout(60):
        await asyncio.to_thread(front.reached.wait, 60)
        while len([line for line in progress.lines() if line.endswith(": Pull complete")]) < len(LAYERS) - 1:
            await asyncio.sleep(0.01)
    if not broken:
        task.cancel()
    front.go.set()
    with pytest.raises(EnxameError if broken else asyncio.CancelledError):
        await task
    front.held = front.broken = ""


def blobs_of(reference):
    """The manifest's configuration and layers."""
    host, _, name = reference.partition("/")
    repository, _, tag = name.partition(":")
    accept = "application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/{tag}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        manifest = json.load(answer)
    return manifest["config"]["digest"], [layer["digest"] for layer in manifest["layers"]]


@pytest.mark.parametrize("broken", [False, True], ids=["its client left", "the registry broke off"])
async def test_only_what_was_not_there_is_fetched_the_next_time(registry, store, tmp_path, broken):
    reference = registry.push(archive(LAYERS, "web"), "resumed:1")
    config, layers = blobs_of(reference)
    with front(registry) as before:
        ours = reference.replace(registry.address, before.address)
        await interrupt(store, before, ours, layers[2], broken=broken)
        assert leftovers(tmp_path) == []
        assert fetched(tmp_path) == {*layers} - {layers[2]}
        before.asked.clear()
        progress = Progress()
        image = await store.registries.pull(ours, progress=progress)
        assert len(image.layers) == len(LAYERS)
        assert set(before.asked) == {config, layers[2]}
        assert before.asked.count(layers[2]) == 1
    assert fetched(tmp_path) == set()
    assert len([line for line in progress.lines() if line.endswith(": Pull complete")]) == len(LAYERS)


async def test_a_daemon_that_died_in_a_pull_has_its_layers_for_the_next(registry, store, tmp_path):
    reference = registry.push(archive(LAYERS, "web"), "killed:1")
    config, layers = blobs_of(reference)
    with front(registry) as before:
        ours = reference.replace(registry.address, before.address)
        before.held = layers[0]
        progress = Progress()
        task = asyncio.create_task(store.registries.pull(ours, progress=progress))
        async with asyncio.timeout(60):
            while len([line for line in progress.lines() if line.endswith(": Pull complete")]) < len(LAYERS) - 1:
                await asyncio.sleep(0.01)
        shutil.copytree(tmp_path / "images", tmp_path / "after/images")  # what a killed daemon would leave
        task.cancel()
        before.go.set()
        await asyncio.wait({task})
        again = await open_store(tmp_path / "after")
        assert fetched(tmp_path / "after") == {*layers} - {layers[0]}
        before.held = ""
        before.asked.clear()
        assert len((await again.registries.pull(ours, progress=Progress())).layers) == len(LAYERS)
        assert set(before.asked) == {config, layers[0]}
        await again.stop()


async def test_what_a_power_loss_has_cut_is_fetched_again(registry, store, tmp_path):
    reference = registry.push(archive(LAYERS, "web"), "cut:1")
    config, layers = blobs_of(reference)
    with front(registry) as before:
        ours = reference.replace(registry.address, before.address)
        await interrupt(store, before, ours, layers[0])
        blob = tmp_path / "images/fetched" / layers[1].removeprefix("sha256:")
        blob.write_bytes(blob.read_bytes()[:1000])
        (tmp_path / "images/fetched" / layers[3].removeprefix("sha256:")).write_bytes(b"something else")
        before.asked.clear()
        assert len((await store.registries.pull(ours, progress=Progress())).layers) == len(LAYERS)
        assert set(before.asked) == {config, layers[0], layers[1], layers[3]}
    assert fetched(tmp_path) == set()


async def test_layers_that_nobody_comes_back_for_go(registry, store, tmp_path, monkeypatch):
    reference = registry.push(archive(LAYERS, "web"), "forgotten:1")
    _, layers = blobs_of(reference)
    with front(registry) as before:
        ours = reference.replace(registry.address, before.address)

        await interrupt(store, before, ours, layers[0])
        kept = sum(path.stat().st_size for path in (tmp_path / "images/fetched").iterdir())
        assert (await store.prune()).space_reclaimed == kept
        assert fetched(tmp_path) == set()

        await interrupt(store, before, ours, layers[0])
        old = tmp_path / "images/fetched" / layers[1].removeprefix("sha256:")
        os.utime(old, (0, time.time() - 25 * 3600))
        store._layers.fetched.expire()
        assert fetched(tmp_path) == {layers[2], layers[3]}

        real = os.statvfs(tmp_path)
        full = os.statvfs_result((*real[:4], real.f_blocks // 100, *real[5:]))
        monkeypatch.setattr(os, "statvfs", lambda _: full)
        store._layers.fetched.expire()
        assert fetched(tmp_path) == set()
