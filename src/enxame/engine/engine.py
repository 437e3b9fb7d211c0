"""The engine of one machine: containers with their images, volumes and networks, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from enxame.engine.building.builder import Builder
from enxame.engine.bundle import Machine
from enxame.engine.capabilities import own_capabilities
from enxame.engine.cgroups import detect_layout
from enxame.engine.containers import ContainerManager
from enxame.engine.events import EventBus
from enxame.engine.images.removal import ImageUser
from enxame.engine.images.store import ImageStore
from enxame.engine.kernel_limits import read_kernel_limits
from enxame.engine.networks.local_networks import UNCHANGED, DefaultBridge
from enxame.engine.networks.manager import NetworkManager
from enxame.engine.runtimes import RuntimeProgram, Runtimes, find_runtimes
from enxame.engine.surroundings import Surroundings
from enxame.engine.volumes import VolumeStore
from enxame.model.filters import Filters
from enxame.model.registry_auth import decode_auth
from enxame.network.ipam import DEFAULT_POOLS, SubnetPool

if TYPE_CHECKING:
    from enxame.engine.ports import Images, Networks, Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Where the engine keeps its things, and what the daemon was told about runtime, networks and registries."""

    data_root: Path
    exec_root: Path
    runtime: str = ""
    runtimes: Mapping[str, RuntimeProgram] = field(default_factory=dict)
    default_bridge: DefaultBridge = UNCHANGED
    mesh_shortcuts: bool = True
    pools: Sequence[SubnetPool] = DEFAULT_POOLS
    insecure_registries: Sequence[str] = ()
    registry_mirrors: Sequence[str] = ()


class Engine:
    """The parts of one machine's engine. ``containers`` is there once :meth:`start` returned."""

    containers: ContainerManager

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._started = False
        self.events = EventBus()
        data_root = options.data_root
        self.images = ImageStore(
            data_root / "images",
            overlay_root=data_root / "overlay",
            events=self.events,
            insecure_registries=options.insecure_registries,
            mirrors=options.registry_mirrors,
        )
        self.volumes = VolumeStore(data_root / "volumes", self.events)
        self.networks = NetworkManager(
            data_root,
            options.exec_root,
            publish=self.events.publish,
            default_bridge=options.default_bridge,
            mesh_shortcuts=options.mesh_shortcuts,
            pools=options.pools,
        )
        self.builder = Builder(data_root / "build", self.images, self.networks)

    async def start(self) -> None:
        """Take over what runs on this machine.

        Raises:
            EnxameError: what the engine cannot do without is missing or refused.
        """
        options = self._options
        for directory in (options.data_root, options.exec_root):
            directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._started = True
        # First of all: it may lay a shared mount over the exec root, which would hide what is mounted there before.
        runtimes = await find_runtimes(
            options.data_root,
            options.exec_root,
            detect_layout(),
            default=options.runtime,
            configured=options.runtimes,
        )
        await self.images.start()
        await self.builder.start()
        await self.volumes.start()
        await self.networks.start()
        self.containers = await open_containers(
            options.data_root,
            options.exec_root,
            images=self.images,
            volumes=self.volumes,
            networks=self.networks,
            events=self.events,
            runtime=runtimes,
        )
        containers = self.containers.list(all=True, filters=Filters())
        await self.networks.forget_others({container.id for container in containers})
        await self.volumes.reconcile({container.id for container in containers})
        self.images.users = self._users_of_image
        self.volumes.holders = self._holders_of_volume

    async def stop(self) -> None:
        """Let go of everything; containers go on."""
        if not self._started:
            return
        if hasattr(self, "containers"):
            await self.containers.close()
        await self.builder.stop()
        await self.networks.stop()
        await self.images.stop()
        if hasattr(self, "containers"):
            # Last, when nothing of the others is mounted below them any more.
            await self.containers.release_mounts()

    async def pull_for_task(self, reference: str, registry_auth: str) -> None:
        """Pull the image of a task with the credentials its service was given (base64url JSON; may be empty)."""
        await self.images.registries.pull(reference, auth=decode_auth(registry_auth), progress=lambda _message: None)

    def _holders_of_volume(self, name: str) -> list[str]:
        wanted = Filters({"volume": frozenset({name})})
        # A container that is being removed takes its own volumes along.
        return [
            container.id
            for container in self.containers.list(all=True, filters=wanted)
            if container.state != "removing"
        ]

    def _users_of_image(self, image_id: str) -> list[ImageUser]:
        return [
            ImageUser(container.id, container.state == "running")
            for container in self.containers.list(all=True, filters=Filters())
            if container.image_id == image_id
        ]


async def open_containers(
    data_root: Path,
    exec_root: Path,
    *,
    images: Images,
    volumes: Volumes,
    networks: Networks,
    events: EventBus,
    runtime: Runtimes | str = "",
) -> ContainerManager:
    """A container manager that has adopted what runs. ``runtime``: what was found before, or the one to use.

    Raises:
        EnxameError: no runtime works on this machine.
    """
    for directory in (data_root, exec_root):
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)
    layout = detect_layout()
    if isinstance(runtime, str):
        runtime = await find_runtimes(data_root, exec_root, layout, default=runtime)
    around = Surroundings(
        data_root=data_root,
        exec_root=exec_root,
        runtimes=runtime,
        machine=Machine(layout, own_capabilities(), read_kernel_limits(layout)),
        images=images,
        volumes=volumes,
        networks=networks,
        events=events,
    )
    manager = ContainerManager(around)
    await manager.open()
    return manager
