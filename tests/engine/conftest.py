"""Real containers over a root filesystem made of the machine's static busybox."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from enxame.engine import spawning
from enxame.engine.containers import ContainerManager
from enxame.engine.engine import open_containers
from enxame.engine.events import EventBus
from enxame.engine.sandbox import SandboxInfo
from enxame.errors import NotFound
from enxame.model.container import ContainerConfig, ContainerCreateRequest, HostConfig
from enxame.model.filters import Filters
from enxame.model.volume import Volume
from tests.engine.image_lab import LoopbackRegistry, open_store
from tests.engine.network_lab import Lab
from tests.engine.network_machine import Machine, running

APPLETS = """
rm mv ln mkdir mkfifo mknod chmod chown dmesg date sysctl ulimit find md5sum nproc df tail cut sort
sh true false sleep echo cat id env pwd hostname ls touch stat head kill ps stty dd test mount grep wc trap seq printf
tty usleep yes
"""


@pytest.fixture(scope="session", autouse=True)
def starters_of_programs():
    """Threads are born in the network namespace of who needs them first, and stay there. Let that be everybody's, not
    the one of a test that plays a machine.
    """
    count = spawning.STARTERS
    all_there = threading.Barrier(count + 1)
    for _ in range(count):
        spawning.starters.submit(all_there.wait)
    all_there.wait(60)


@pytest.fixture(scope="session")
def base_rootfs(tmp_path_factory):
    if os.geteuid() != 0 or not Path("/bin/busybox").exists() or shutil.which("conmon") is None:
        pytest.skip("real containers need root, /bin/busybox, conmon")
    root = tmp_path_factory.mktemp("base")
    for name in ("bin", "etc", "tmp", "data"):
        (root / name).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in APPLETS.split():
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nmaria:x:1000:1000:Maria:/home/maria:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nmaria:x:1000:\naudio:x:29:maria\n")
    (root / "etc/notexec").write_text("no program\n")
    (root / "data/seed").write_text("from the image\n")
    return root


@dataclass
class FakeImage:
    id: str = "sha256:" + "ab" * 32
    size: int = 0
    layers: list = field(default_factory=list)
    config: ContainerConfig = field(default_factory=lambda: ContainerConfig(cmd=["/bin/sh"]))


@dataclass
class OverlayImages:
    """Mounts overlays over one directory."""

    base: Path
    root: Path
    image: FakeImage = field(default_factory=FakeImage)

    def resolve(self, ref):
        if ref in {"base", "base:latest", self.image.id}:
            return self.image
        raise NotFound(f"No such image: {ref}")

    def _merged(self, container_id):
        return self.root / container_id / "merged"

    def mounted(self, container_id):
        return os.path.ismount(self._merged(container_id))

    def graph_driver_data(self, container_id):
        return {"LowerDir": str(self.base), "UpperDir": str(self.root / container_id / "diff")}

    async def mount(self, container_id, image):
        merged = self._merged(container_id)
        if not self.mounted(container_id):
            for name in ("diff", "work", "merged"):
                (self.root / container_id / name).mkdir(parents=True, exist_ok=True)
            home = merged.parent
            options = f"lowerdir={self.base},upperdir={home / 'diff'},workdir={home / 'work'}"
            command = ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
            await asyncio.to_thread(subprocess.run, command, check=True)
        return str(merged)

    async def unmount(self, container_id):
        merged = self._merged(container_id)
        if self.mounted(container_id):
            await asyncio.to_thread(subprocess.run, ["umount", str(merged)], check=True)

    async def delete_layer(self, container_id):
        shutil.rmtree(self.root / container_id, ignore_errors=True)


@dataclass
class DirectoryVolumes:
    root: Path
    held: dict = field(default_factory=dict)

    async def create(self, request):
        place = self.root / request.name / "_data"
        place.mkdir(parents=True, exist_ok=True)
        return Volume(name=request.name, mountpoint=str(place))

    async def may_be_filled(self, name):
        return not any((self.root / name / "_data").iterdir())

    async def populate(self, name, source_dir, *, root=None):
        source = Path(root) / source_dir.lstrip("/")
        if source.is_dir():
            target = str(self.root / name / "_data")
            await asyncio.to_thread(subprocess.run, ["cp", "-a", f"{source}/.", target], check=True)
        return source.is_dir()

    async def acquire(self, name, container_id):
        directory = self.root / name / "_data"
        directory.mkdir(parents=True, exist_ok=True)
        self.held.setdefault(container_id, set()).add(name)
        return str(directory)

    async def release(self, container_id):
        self.held.pop(container_id, None)

    async def remove(self, name, force=False):
        shutil.rmtree(self.root / name)


@dataclass
class NoNetworks:
    """Every container has a network namespace of its own, without links."""

    connected: set = field(default_factory=set)
    restored: set = field(default_factory=set)

    async def connect(self, container_id, request):
        self.connected.add(container_id)
        return SandboxInfo()

    async def release(self, container_id):
        self.connected.discard(container_id)

    async def rename(self, container_id, name):
        return None

    async def restore(self, container_id, info):
        self.restored.add(container_id)
        self.connected.add(container_id)


@dataclass
class Bench:
    """A container manager with what stands around it."""

    root: Path
    images: OverlayImages
    volumes: DirectoryVolumes
    networks: NoNetworks
    events: EventBus = field(default_factory=EventBus)
    containers: ContainerManager = None
    runtime: str = ""

    @property
    def exec_root(self):
        return self.root / "run"

    async def open(self):
        self.containers = await open_containers(
            self.root / "data",
            self.exec_root,
            images=self.images,
            volumes=self.volumes,
            networks=self.networks,
            events=self.events,
            runtime=self.runtime,
        )
        return self.containers

    async def run(self, *cmd, name="", host=None, **config):
        request = ContainerCreateRequest(image="base", cmd=list(cmd), host_config=host or HostConfig(), **config)
        made = await self.containers.create(name, request)
        await self.containers.start(made.id)
        return made.id

    async def output(self, ref, **options):
        from enxame.model.stream import LogOptions

        return [record async for record in self.containers.logs(ref, LogOptions(**options))]

    async def text(self, ref):
        return b"".join(record.data for record in await self.output(ref)).decode()

    async def clean(self):
        for summary in self.containers.list(all=True, filters=Filters()):
            await self.containers.remove(summary.id, force=True)
        await self.containers.close()


@asynccontextmanager
async def bench(tmp_path, base_rootfs, runtime=""):
    made = Bench(
        tmp_path,
        OverlayImages(base_rootfs, tmp_path / "data/overlay"),
        DirectoryVolumes(tmp_path / "data/volumes"),
        NoNetworks(),
        runtime=runtime,
    )
    await made.open()
    try:
        yield made
    finally:
        await made.clean()


@pytest.fixture
async def engine(tmp_path, base_rootfs):
    """``ENXAME_TEST_RUNTIME=runc`` runs the tests on that runtime alone."""
    async with bench(tmp_path, base_rootfs, os.environ.get("ENXAME_TEST_RUNTIME", "")) as made:
        yield made


@pytest.fixture
def lab(request):
    """Namespaces for network tests. A parameter True makes the host a router before the daemon comes."""
    made = Lab(router=getattr(request, "param", False))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
async def machine(lab, tmp_path):
    """A network manager in them."""
    async with running(Machine(lab, tmp_path)) as made:
        yield made


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Debian's registry on a loopback port."""
    with LoopbackRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
async def store(tmp_path):
    """Images of a machine that has none yet."""
    store = await open_store(tmp_path)
    yield store
    await store.stop()
