"""Whole daemons and images: killed in the middle of a pull; archives that go to a real dockerd and come back."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from enxame.testing.daemons import Daemon, Dockerd, wait_until
from enxame.testing.namespace import HostAndOutside
from tests.engine.image_lab import archive, files

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("docker-registry") is None, reason="needs root and docker-registry"
)
ADDRESS = "127.0.0.1:5000"


@contextmanager
def registry(daemon: Daemon, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A registry on the daemon's own loopback address, with an image of a small and a large layer."""
    assert isinstance(daemon.network, HostAndOutside)
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": ADDRESS},
    }
    (directory / "config.yml").write_text(json.dumps(config))
    inside = daemon.network.host
    command = inside.argv("docker-registry", "serve", str(directory / "config.yml"))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        (directory / "image.tar").write_bytes(
            archive([files(("small", b"s" * 1000)), files(("large", os.urandom(40_000_000)))], "big:1")
        )
        push = ("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false")

        def pushed() -> bool:
            try:
                inside.run(*push, f"docker-archive:{directory / 'image.tar'}", f"docker://{ADDRESS}/big:1", timeout=60)
            except RuntimeError:
                return False
            return True

        wait_until(pushed, "the registry takes an image")
        yield process
    finally:
        process.kill()
        process.wait()


def pull(daemon: Daemon) -> bytes:
    status, said = daemon.api.exchange("POST", f"/images/create?fromImage={quote(ADDRESS + '/big')}&tag=1")
    assert status == 200, said
    return said


def files_below(directory: Path) -> set[str]:
    """Without what is kept for a pull that may come again."""
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("fetched/")}


def test_a_daemon_killed_in_the_middle_of_a_pull_leaves_nothing_and_pulls_again(daemon: Daemon, tmp_path: Path) -> None:
    images = daemon.data_root / "images"
    before = files_below(images)
    with registry(daemon, tmp_path):
        query = f"/images/create?fromImage={quote(ADDRESS + '/big')}&tag=1"
        with daemon.api.stream("POST", query) as answer:
            # Killed as soon as bytes of the large layer are on the disk.
            wait_until(
                lambda: any(path.stat().st_size > 1_000_000 for path in (images / "tmp").rglob("*") if path.is_file()),
                "the download is under way",
                interval=0.001,
            )
            daemon.kill()
            answer.close()
        daemon.start()
        assert files_below(images) == before
        whole = {path.name for path in (images / "fetched").iterdir()}
        told = (tmp_path / "log").stat().st_size
        assert b"Downloaded newer image" in pull(daemon)
        log = (tmp_path / "log").read_bytes()[told:].decode()
        assert not any(f"blobs/sha256:{name}" in log for name in whole)
        assert len(set(re.findall(r"GET /v2/big/blobs/(sha256:\w+)", log))) == 3 - len(whole)  # with the configuration
        assert b"Image is up to date" in pull(daemon)
        daemon.api.delete(f"/images/{quote(ADDRESS + '/big:1', safe='')}")
    wait_until(lambda: files_below(images) == before, "all of the image is gone")


@pytest.mark.skipif(shutil.which("dockerd") is None, reason="needs dockerd")
def test_saved_images_go_to_a_real_dockerd_and_come_back(daemon: Daemon) -> None:
    ours = daemon.api.get("/images/json")[0]
    saved = daemon.api.get("/images/get", names="enxame/sample:latest")
    with (
        tempfile.TemporaryDirectory(prefix="enxd-", dir="/var/tmp") as directory,
        HostAndOutside("dk") as network,
        Dockerd(Path(directory) / "d", network) as dockerd,
    ):
        assert "Loaded image: enxame/sample:latest" in str(dockerd.api.post("/images/load", saved))
        theirs = dockerd.api.get("/images/json")[0]
        assert (theirs["Id"], theirs["RepoTags"]) == (ours["Id"], ours["RepoTags"])
        made = dockerd.api.post("/containers/create", {"Image": "enxame/sample", "Cmd": ["true"]})["Id"]
        dockerd.api.post(f"/containers/{made}/start")
        assert dockerd.api.post(f"/containers/{made}/wait")["StatusCode"] == 0
        dockerd.api.delete(f"/containers/{made}")
        dockerd.api.post("/images/enxame%2Fsample:latest/tag", repo="back", tag="1")
        back = dockerd.api.get("/images/get", names="back:1")
    daemon.api.post("/images/load", back)
    assert daemon.api.get("/images/back:1/json")["Id"] == ours["Id"]
    daemon.api.delete("/images/back:1")


def test_a_pull_from_a_registry_that_hangs_ends_when_its_client_leaves(daemon: Daemon, tmp_path: Path) -> None:
    images = daemon.data_root / "images"
    before = files_below(images)
    with registry(daemon, tmp_path) as process:
        query = f"/images/create?fromImage={quote(ADDRESS + '/big')}&tag=1"
        with daemon.api.stream("POST", query) as answer:
            wait_until(lambda: any((images / "tmp").iterdir()), "the pull has begun", interval=0.001)
            process.send_signal(signal.SIGSTOP)
            answer.close()
        wait_until(lambda: not any((images / "tmp").iterdir()), "the pull was given up")
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: files_below(images) == before, "nothing is left")
        assert b"Downloaded newer image" in pull(daemon)
