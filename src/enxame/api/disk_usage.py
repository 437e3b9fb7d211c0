"""``/system/df``, and the sizes of containers that lists and inspections show when asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from enxame.engine.disk_usage import WrittenSizes
from enxame.errors import EnxameError
from enxame.model.container_view import ContainerInspect, ContainerSummary
from enxame.model.filters import Filters
from enxame.model.system import BuildCacheRecord, DiskUsage

if TYPE_CHECKING:
    from enxame.api.context import Engine

KINDS: Final = ("container", "image", "volume", "build-cache")

T = TypeVar("T", ContainerSummary, ContainerInspect)


class Sizes:
    """Looks at the disk on behalf of requests."""

    def __init__(self) -> None:
        self._written = WrittenSizes()

    async def added(self, engine: Engine, containers: Sequence[T]) -> list[T]:
        """The same containers with what they have written and what they and their image take together."""
        images = engine.images
        written = await self._written.of(
            {container.id: images.graph_driver_data(container.id).get("UpperDir", "") for container in containers}
        )
        return [
            replace(
                container,
                size_rw=written[container.id],
                size_root_fs=written[container.id] + _image_size(engine, container),
            )
            for container in containers
        ]

    async def report(self, engine: Engine, kinds: Collection[str]) -> DiskUsage:
        """What those kinds of objects take (see ``KINDS``)."""
        answer = DiskUsage()
        containers = engine.containers.list(all=True, filters=Filters())
        if "image" in kinds:
            used = Counter(container.image_id for container in containers)
            layers_size, images = engine.images.disk_usage(used)
            answer = replace(answer, layers_size=layers_size, images=images)
        if "container" in kinds:
            answer = replace(answer, containers=await self.added(engine, containers))
        if "volume" in kinds:
            answer = replace(answer, volumes=await engine.volumes.usage())
        if "build-cache" in kinds:
            size = await engine.builder.cache_size()
            # Its steps cannot be told apart by size: layers are shared.
            whole = BuildCacheRecord(id="buildah", description="the cache of builds", size=size)
            answer = replace(answer, build_cache=[whole] if size else [], builder_size=size)
        return answer


def _image_size(engine: Engine, container: ContainerSummary | ContainerInspect) -> int:
    image_id = container.image_id if isinstance(container, ContainerSummary) else container.image
    try:
        return engine.images.resolve(image_id).size
    except EnxameError:
        return 0
