"""Containers as they are shown: inspect, list, sizes."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
from collections.abc import Iterator
from datetime import datetime

from enxame.engine import container_view
from enxame.engine.container import Container
from enxame.engine.container_filter import ListFilter
from enxame.engine.container_table import ContainerTable
from enxame.engine.files.placeholders import made_for_the_container
from enxame.engine.surroundings import Surroundings
from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.model.container_view import ContainerInspect, ContainerSummary
from enxame.model.filters import Filters
from enxame.model.image import Image


class Listing:
    """What :class:`ContainerManager` shows. Sizes are read from the disk: ask :meth:`measure` for them before."""

    def __init__(self, around: Surroundings, table: ContainerTable) -> None:
        self._around, self._table = around, table

    def inspect(self, container: Container) -> ContainerInspect:
        """Everything about one container."""
        around = self._around
        return container_view.show(
            container,
            around.records.directory(container.id),
            around.log_path(container),
            graph=around.images.graph_driver_data(container.id),
        )

    def choose(
        self,
        *,
        all: bool,  # noqa: A002 - the API's word
        limit: int,
        filters: Filters,
    ) -> builtins.list[Container]:
        """Those that ``list`` shows, newest first. Raises NotFound, InvalidArgument for filters that make no sense."""
        chosen = self._filter(filters)
        by_age = sorted(self._table, key=lambda container: container.definition.created, reverse=True)
        everything = all or limit > 0 or "status" in filters or "exited" in filters
        found = [
            container
            for container in by_age
            if (everything or container.condition.status in {"running", "restarting"}) and chosen.passes(container)
        ]
        return found[:limit] if limit > 0 else found

    def summaries(
        self, containers: builtins.list[Container], sizes: dict[str, tuple[int, int]] | None = None
    ) -> builtins.list[ContainerSummary]:
        """Rows of ``list``; ``sizes`` by id."""
        now = container_view.utc_now()
        named = self._still_named({(one.definition.image, one.definition.image_id) for one in containers})
        return [
            container_view.summarize(
                container,
                now,
                sizes=sizes.get(container.id) if sizes else None,
                image=name if (name := container.definition.image, container.definition.image_id) in named else "",
            )
            for container in containers
        ]

    def _still_named(self, pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """Of names and ids of images: those where the name means the same as ever. One with a digest always does."""
        meant = {name: self._image(name) for name, _ in pairs if "@" not in name}
        return {
            (name, image_id)
            for name, image_id in pairs
            if "@" in name or ((image := meant[name]) is not None and image.id == image_id)
        }

    def _filter(self, filters: Filters) -> ListFilter:
        def moments(name: str) -> builtins.list[datetime]:
            return [self._table.find(ref).definition.created for ref in filters.get(name)]

        ancestors: set[str] = set(filters.get("ancestor"))
        for ref in filters.get("ancestor"):
            if (image := self._image(ref)) is not None:
                ancestors |= {image.id, *self._made_from(image)}
        return ListFilter(
            filters,
            before=min(moments("before"), default=None),
            since=max(moments("since"), default=None),
            ancestors=ancestors,
        )

    def _image(self, ref: str) -> Image | None:
        try:
            return self._around.images.resolve(ref)
        except (NotFound, InvalidArgument):
            return None

    def _made_from(self, image: Image) -> Iterator[str]:
        """Ids of containers' images that lie on all of this one's layers."""
        count = len(image.layers)
        for other in {container.definition.image_id for container in self._table}:
            found = self._image(other)
            if found is not None and count and len(found.layers) > count and found.layers[:count] == image.layers:
                yield other

    async def measure(self, containers: builtins.list[Container]) -> dict[str, tuple[int, int]]:
        """Bytes that each container has written, and with its image's; by id."""
        uppers = [self._around.images.graph_driver_data(one.id).get("UpperDir", "") for one in containers]
        written = await asyncio.to_thread(lambda: [disk_use(upper) for upper in uppers])
        return {
            container.id: (size, self._image_size(container) + size)
            for container, size in zip(containers, written, strict=True)
        }

    def _image_size(self, container: Container) -> int:
        try:
            return self._around.images.resolve(container.definition.image_id).size
        except EnxameError:
            return 0


def disk_use(directory: str) -> int:
    """Bytes of the files below ``directory``, without what every container has; a hard link counts once. Blocking."""
    total, seen = 0, set()
    for current, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                info = os.lstat(path := os.path.join(current, name))
                if made_for_the_container(path[len(directory) :], info):
                    continue
                if info.st_nlink > 1:
                    if info.st_ino in seen:
                        continue
                    seen.add(info.st_ino)
                total += info.st_size
    return total
