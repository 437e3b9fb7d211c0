"""Pulling an image of some 40 MB from a registry on the loopback of the daemon's own namespace."""

import hashlib
import io
import json
import random
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.lab import Lab, median, seconds
from enxame.testing.daemons import wait_until

ADDRESS = "127.0.0.1:5000"
NAME = f"{ADDRESS}/bench/large:1"
ROUNDS = 3


def image_pull(lab: Lab) -> dict[str, float]:
    """`docker pull` with nothing of the image there: one large file, three thousand small ones, two layers more."""
    docker = str(shutil.which("docker", path="/usr/bin"))
    command = [docker, "-H", lab.daemon.url]
    taken: list[float] = []
    with _registry(lab):
        for _ in range(ROUNDS):
            with seconds() as pulled:
                subprocess.run([*command, "pull", "-q", NAME], check=True, capture_output=True, timeout=120)
            taken += pulled
            subprocess.run([*command, "rmi", NAME], check=True, capture_output=True, timeout=60)
    return {"pull_s": median(taken)}


@contextmanager
def _registry(lab: Lab) -> Iterator[None]:
    host = lab.daemon.network.host
    with tempfile.TemporaryDirectory(prefix="enxr-", dir="/var/tmp") as directory:
        config = Path(directory) / "config.yml"
        storage = {"filesystem": {"rootdirectory": f"{directory}/data"}}
        config.write_text(
            json.dumps({"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": {"addr": ADDRESS}})
        )
        process = subprocess.Popen(
            host.argv("docker-registry", "serve", str(config)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            archive = Path(directory) / "image.tar"
            archive.write_bytes(_archive())
            push = host.argv(
                *("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"),
                *(f"docker-archive:{archive}", f"docker://{NAME}"),
            )
            wait_until(
                lambda: subprocess.run(push, check=False, capture_output=True, timeout=60).returncode == 0,
                "the registry took the image",
            )
            yield
        finally:
            process.kill()
            process.wait()


def _archive() -> bytes:
    noise = random.Random(1)
    layers = [
        _tar({"large": noise.randbytes(28_000_000)}),
        _tar({f"d{number % 50}/{number}": noise.randbytes(2_500) for number in range(3_000)}),
        _tar({f"some/{number}": noise.randbytes(300_000) for number in range(10)}),
        _tar({"etc/small": noise.randbytes(1_000)}),
    ]
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    manifest = [{"Config": "c.json", "RepoTags": [], "Layers": [f"{digest}.tar" for digest in digests]}]
    files = {"c.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    return _tar(files | {f"{digest}.tar": layer for digest, layer in zip(digests, layers, strict=True)})


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
