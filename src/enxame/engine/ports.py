"""What the container manager needs of images, volumes and networks; the rest of them it does not know."""

from __future__ import annotations

from typing import Protocol

from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.model.container import ContainerConfig


class ImageView(Protocol):
    """An image as a container sees it: ``id`` is ``sha256:…``, ``config`` what containers inherit."""

    @property
    def id(self) -> str: ...

    @property
    def config(self) -> ContainerConfig: ...


class Images(Protocol):
    """Root filesystems. ``resolve`` raises NotFound ``No such image: X``."""

    def resolve(self, ref: str) -> ImageView: ...

    async def mount(self, container_id: str, image: ImageView) -> str: ...

    async def unmount(self, container_id: str) -> None: ...

    async def delete_layer(self, container_id: str) -> None: ...


class Volumes(Protocol):
    """Named volumes. ``acquire`` makes a missing one and returns its directory; ``release`` drops every hold of
    a container.
    """

    async def acquire(self, name: str, container_id: str) -> str: ...

    async def release(self, container_id: str) -> None: ...

    async def remove(self, name: str, force: bool = False) -> None: ...


class Networks(Protocol):
    """Network namespaces with their links, addresses and published ports."""

    async def connect(self, container_id: str, request: SandboxRequest) -> SandboxInfo: ...

    async def release(self, container_id: str) -> None: ...

    async def restore(self, container_id: str, info: SandboxInfo) -> None: ...
