"""What the tests of images share: building layers and archives, a registry of their own, a store in a directory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Self

from enxame.engine.images import ImageStore
from enxame.model.image import ProgressMessage

File = tuple[str, bytes]


class Events:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, dict[str, str]]] = []

    def publish(self, type_: str, action: str, actor_id: str, attributes: dict[str, str], scope: str = "local") -> None:
        self.seen.append((type_, action, actor_id, attributes))


class Progress(list[ProgressMessage]):
    """Collects messages; called with each."""

    def __call__(self, message: ProgressMessage) -> None:
        self.append(message)

    def lines(self) -> list[str]:
        return [
            f"{message.id}: {message.status}" if message.id else message.status or message.stream for message in self
        ]


def entry(
    name: str, type_: bytes = tarfile.REGTYPE, content: bytes = b"", **attributes: object
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = type_, len(content), 0o755 if type_ == tarfile.DIRTYPE else 0o644
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def files(*named: File) -> bytes:
    return tar(entry(name, content=content) for name, content in named)


def archive(
    layers: list[bytes], *names: str, config: dict[str, object] | None = None, architecture: str = "amd64"
) -> bytes:
    """A docker-archive."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    text = json.dumps(
        {
            "os": "linux",
            "architecture": architecture,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": names, "Layers": [f"{digest}.tar" for digest in digests]}]
    members = [(f"{digest}.tar", layer) for digest, layer in dict(zip(digests, layers, strict=True)).items()]
    return files(("config.json", text), *members, ("manifest.json", json.dumps(manifest).encode()))


async def stream(content: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def open_store(root: Path, **options: object) -> ImageStore:
    store = ImageStore(root / "images", overlay_root=root / "overlay", events=Events(), **options)  # type: ignore[arg-type]
    await store.start()
    return store


def leftovers(root: Path) -> list[str]:
    """What an operation may not leave behind."""
    places = ("images/tmp", "images/layers", "images/blobs/sha256", "images/records")
    found = [str(path) for place in places for path in (root / place).iterdir()]
    return found + [str(path) for path in (root / "images/registry").glob("auth-*")]


class LoopbackRegistry:
    """Debian's docker-registry on a free loopback port, until the block ends."""

    def __init__(self, directory: Path, *, htpasswd: str = "") -> None:
        self.directory = directory
        self.credentials: list[str] = []
        self._htpasswd = htpasswd
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "data")}},
            "http": {"addr": self.address},
        }
        if self._htpasswd:
            (self.directory / "htpasswd").write_text(self._htpasswd)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.directory / "htpasswd")}}
        (self.directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self.directory / "config.yml")], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://{self.address}/v2/", timeout=1).close()
            except urllib.error.HTTPError as error:
                error.close()
                return self
            except OSError:
                time.sleep(0.02)
            else:
                return self
        self.__exit__()
        raise TimeoutError((self.directory / "log").read_text())

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def push(self, docker_archive: bytes, name: str, *options: str) -> str:
        """Returns the reference."""
        path = self.directory / f"push-{os.urandom(4).hex()}.tar"
        path.write_bytes(docker_archive)
        subprocess.run(
            [
                *("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", *options),
                *(f"docker-archive:{path}", f"docker://{self.address}/{name}"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        return f"{self.address}/{name}"

    def blob(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        encoded = digest.removeprefix("sha256:")
        return self.directory / "data/docker/registry/v2/blobs/sha256" / encoded[:2] / encoded / "data"
