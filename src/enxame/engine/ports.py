"""What the container manager needs of images, volumes and networks; the rest of them it does not know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.model.container import EndpointSettings
from enxame.model.image import Image, ImageConfig
from enxame.model.network import NetworkResource
from enxame.model.volume import Volume, VolumeCreateRequest


class Images(Protocol):
    """Root filesystems. ``resolve`` raises NotFound ``No such image: X``."""

    def resolve(self, ref: str) -> Image:
        """The image that a reference means."""
        ...

    async def mount(self, container_id: str, image: Image | None) -> str:
        """Mount a container's root filesystem; returns its directory. Idempotent. None: as it was made."""
        ...

    async def unmount(self, container_id: str) -> None:
        """Unmount it; what was written stays. Idempotent."""
        ...

    async def delete_layer(self, container_id: str) -> None:
        """Delete what the container wrote. Idempotent."""
        ...

    async def commit(
        self,
        container_id: str,
        layer: AsyncIterator[bytes] | None,
        *,
        image_id: str,
        config: ImageConfig,
        repository: str,
        tag: str,
        author: str,
        message: str,
        created_by: str,
    ) -> str:
        """Make an image of the layers below a container and, if given, one more. Returns its id."""
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

    async def may_be_filled(self, name: str) -> bool:
        """Whether the volume is empty, as far as that is known without mounting it."""
        ...

    async def populate(self, name: str, source_dir: str, *, root: str | None = None) -> bool:
        """Copy a directory of the filesystem at ``root`` into the volume, if it is empty."""
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

    def inspect(self, ref: str) -> NetworkResource:
        """The network that a reference means. Raises NotFound."""
        ...

    def known(self, ref: str) -> NetworkResource | None:
        """The same; None when this machine has no such network (one of the swarm's may be elsewhere)."""
        ...

    async def join(self, container_id: str, ref: str, settings: EndpointSettings) -> SandboxInfo:
        """Put a connected container on another network."""
        ...

    async def part(self, container_id: str, ref: str) -> SandboxInfo:
        """Take a connected container off a network."""
        ...

    async def rename(self, container_id: str, name: str) -> SandboxInfo | None:
        """Let a connected container be found by another name; None for one that is not connected."""
        ...

    async def restore(self, container_id: str, info: SandboxInfo) -> None:
        """Take over that of a running container after a restart."""
        ...
