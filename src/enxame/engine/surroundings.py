"""What all parts of the container engine stand on: records, directories, events, and the machine's other stores."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from enxame.engine.background import BackgroundTasks
from enxame.engine.bundle import Machine
from enxame.engine.container import Container
from enxame.engine.container_record import Definition, RecordStore
from enxame.engine.events import EventBus
from enxame.engine.ports import Images, Networks, Volumes
from enxame.engine.runtime import Runtime
from enxame.engine.runtimes import Runtimes
from enxame.engine.turns import Turns
from enxame.errors import NotFound


class Surroundings:
    """Shared by the parts; each container's condition is changed through :meth:`change` alone."""

    def __init__(
        self,
        *,
        data_root: Path,
        exec_root: Path,
        runtimes: Runtimes,
        machine: Machine,
        images: Images,
        volumes: Volumes,
        networks: Networks,
        events: EventBus,
    ) -> None:
        self.records = RecordStore(data_root / "containers")
        self.exec_root = exec_root
        self.bundles = exec_root / "containers"
        self.exits = exec_root / "exits"
        self.runtimes = runtimes
        self.machine = machine
        self.images, self.volumes, self.networks = images, volumes, networks
        self.events = events
        self.background = BackgroundTasks()
        #: For what hundreds of containers may do at once.
        self.turns = Turns()

    def runtime(self, container: Container) -> Runtime:
        """What runs the container."""
        return self.runtimes.of(container.definition.host.runtime)

    def bundle(self, container: Container) -> Path:
        """Where the runtime finds a container and where its sockets are."""
        return self.bundles / container.id

    def log_path(self, container: Container) -> Path:
        """The container's log in conmon's format."""
        return self.records.directory(container.id) / "container.log"

    async def mount(self, container: Container) -> str:
        """Mount the container's filesystem; returns its directory. Its image may be forgotten: its layers are not."""
        try:
            image = self.images.resolve(container.definition.image_id)
        except NotFound:
            image = None
        return await self.images.mount(container.id, image)

    def change(self, container: Container, **changes: object) -> None:
        """Change a container's condition and write it."""
        container.condition = replace(container.condition, **changes)
        self.records.save(container.id, container.condition)

    def redefine(self, container: Container, definition: Definition) -> None:
        """Change what a container is, durably."""
        self.records.define(definition)
        container.definition = definition

    def publish(self, container: Container, action: str, **attributes: str) -> None:
        """Tell of a container."""
        definition = container.definition
        labels = definition.config.labels
        described = {**labels, "image": definition.image, "name": definition.name, **attributes}
        self.events.publish("container", action, definition.id, described)

    def left_exit_code(self, container_id: str) -> int | None:
        """What the monitor wrote when the container ended; None while it has not."""
        try:
            return int((self.exits / container_id).read_text())
        except (OSError, ValueError):
            return None
