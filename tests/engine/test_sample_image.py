"""The sample image's server, as PID 1 of namespaces of its own."""

import json
import os
import select
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from enxame.testing import sample_image
from enxame.testing.daemons import wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces"),
    pytest.mark.skipif(not sample_image.BUSYBOX.exists(), reason="needs busybox-static"),
]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory):
    place = tmp_path_factory.mktemp("sample")
    sample_image.build(place / "image.tar")
    with tarfile.open(place / "image.tar") as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))
        with tarfile.open(fileobj=archive.extractfile(manifest["Layers"][0])) as layer:
            layer.extractall(place / "root", filter="tar")
    yield place / "root"
    shutil.rmtree(place)


class Server:
    """/bin/serve as PID 1, hostname ``box``, in a network with nothing but loopback."""

    def __init__(self, root: Path, *, read_only: bool = False, **environment: str) -> None:
        freeze = f"mount --bind {root} {root} && mount -o remount,bind,ro {root};" if read_only else ""
        mounts = f"mount -t proc proc {root}/proc; mount --bind /dev {root}/dev"
        script = f"hostname box; ip link set lo up; {freeze} {mounts}; exec chroot {root} /bin/serve"
        self._unshare = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "--net", "--uts", "--mount", "sh", "-c", script],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
            stdout=subprocess.PIPE,
        )
        self.greeting = self._unshare.stdout.readline().decode()
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self.pid = int(children.read_text().split()[0])

    def get(self, path: str, port: int = 80) -> str:
        argv = ["nsenter", "-t", str(self.pid), "-n", "busybox", "wget", "-qO-", f"http://127.0.0.1:{port}{path}"]
        return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=10).stdout

    def stop(self, how: signal.Signals) -> float:
        """Seconds until it was gone."""
        descriptor = os.pidfd_open(self.pid)
        try:
            begun = time.monotonic()
            os.kill(self.pid, how)
            assert select.select([descriptor], [], [], 5)[0], "the server goes on"
            return time.monotonic() - begun
        finally:
            os.close(descriptor)
            self.close()

    def close(self) -> None:
        self._unshare.kill()
        self._unshare.wait()
        self._unshare.stdout.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_every_reply_is_the_hostname(rootfs, read_only):
    server = Server(rootfs, read_only=read_only)
    try:
        assert server.greeting == "box listens on port 80\n"
        assert wait_until(lambda: server.get("/"), "it answers") == "box\n"
        whoami = server.get("/cgi-bin/whoami")
        assert "Hostname: box\n" in whoami
        assert "127.0.0.1:" in whoami
    finally:
        server.close()


def test_it_listens_where_it_is_told(rootfs):
    server = Server(rootfs, PORT="3000")
    try:
        assert wait_until(lambda: server.get("/", 3000), "it answers") == "box\n"
    finally:
        server.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_though_it_is_pid_1(rootfs, how):
    assert min(Server(rootfs).stop(how) for _ in range(3)) < 0.05
