"""What the container manager needs of images, volumes and networks; the rest of them it does not know."""

from __future__ import annotations

from typing import Protocol

from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.model.image import Image
from enxame.model.volume import Volume, VolumeCreateRequest


class Images(Protocol):
    """Root filesystems. ``resolve`` raises NotFound ``No such image: X``."""

    def resolve(self, ref: str) -> Image:
        """The image that a reference means."""
        ...

    async def mount(self, container_id: str, image: Image) -> str:
        """Mount a container's root filesystem; returns its directory. Idempotent."""
        ...

    async def unmount(self, container_id: str) -> None:
        """Unmount it; what was written stays. Idempotent."""
        ...

    async def delete_layer(self, container_id: str) -> None:
        """Delete what the container wrote. Idempotent."""
        ...

    def graph_driver_data(self, container_id: str) -> dict[str, str]:
        """Where the filesystem lies: ``UpperDir`` is what the container wrote."""
        ...


class Volumes(Protocol):
    """Named volumes. ``acquire`` makes a missing one and returns its directory; ``release`` drops every hold of
    a container.
    """

    async def create(self, request: VolumeCreateRequest) -> Volume:
        """Make a volume, or find the one of that name."""
        ...

    async def acquire(self, name: str, container_id: str) -> str:
        """Hold a volume for a container; returns its directory."""
        ...

    async def release(self, container_id: str) -> None:
        """Give back all that a container holds. Idempotent."""
        ...

    async def remove(self, name: str, force: bool = False) -> None:
        """Delete a volume that nobody holds."""
        ...


class Networks(Protocol):
    """Network namespaces with their links, addresses and published ports."""

    async def connect(self, container_id: str, request: SandboxRequest) -> SandboxInfo:
        """Make the container's network side. Idempotent."""
        ...

    async def release(self, container_id: str) -> None:
        """Take the container's network side down. Idempotent."""
        ...

    async def restore(self, container_id: str, info: SandboxInfo) -> None:
        """Take over that of a running container after a restart."""
        ...
