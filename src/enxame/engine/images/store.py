"""The images of this machine: what the API and the container engine call."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from enxame.engine.events import EventPublisher
from enxame.engine.images import usage, views
from enxame.engine.images.catalog import Catalog
from enxame.engine.images.changes import apply_changes
from enxame.engine.images.dir_layout import lay_out
from enxame.engine.images.image_events import ImageEvents
from enxame.engine.images.intake import Intake
from enxame.engine.images.platforms import parse_platform
from enxame.engine.images.pulling import Progress
from enxame.engine.images.reference import Reference, parse, parse_repository
from enxame.engine.images.registries import Registries
from enxame.engine.images.registry import Registry
from enxame.engine.images.removal import ImageUser, plan_removal
from enxame.engine.images.saving import SavedImage, choose_images, write_archive
from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.model.base import decode
from enxame.model.filters import Filters
from enxame.model.image import (
    HistoryEntry,
    Image,
    ImageConfig,
    ImageDeleteItem,
    ImageFile,
    ImageHistoryItem,
    ImageInspect,
    ImagesPruneReport,
    ImageSummary,
    ProgressMessage,
)

__all__ = ["ImageStore", "ImageUser"]

#: Seconds between two looks at what was fetched and not used.
_EXPIRE_EVERY: Final = 3600.0


class ImageStore:
    """The images of this machine and the filesystems of its containers.

    ``users`` tells which containers were made from an image (by id); the container engine sets it. ``registries``
    brings images from elsewhere and sends them there.
    """

    def __init__(
        self,
        root: Path,
        *,
        overlay_root: Path,
        events: EventPublisher,
        insecure_registries: Sequence[str] = (),
        mirrors: Sequence[str] = (),
    ) -> None:
        self._catalog = Catalog(root, overlay_root)
        self._layers, self._index = self._catalog.layers, self._catalog.index
        self._containers = self._catalog.containers
        self._intake = Intake(self._layers, self._catalog.register)
        self._registry = Registry(root / "registry", insecure=insecure_registries, mirrors=mirrors)
        self._events = ImageEvents(events, self._index)
        self.registries = Registries(self._registry, self._catalog, self._events)
        self._expiring: asyncio.Task[None] | None = None
        self.users: Callable[[str], Sequence[ImageUser]] = lambda _image_id: ()

    async def start(self) -> None:
        """Read what is there, finish or drop what was interrupted."""
        await asyncio.to_thread(self._load)
        self._expiring = asyncio.ensure_future(self._expire_fetched())

    def _load(self) -> None:
        self._catalog.load()
        self._registry.start()

    async def stop(self) -> None:
        """End what goes on; containers' mounts stay."""
        await self.registries.stop()
        if self._expiring is not None:
            self._expiring.cancel()
            await asyncio.wait({self._expiring})
        await asyncio.to_thread(self._containers.close)

    async def _expire_fetched(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRE_EVERY)
            await asyncio.to_thread(self._layers.fetched.expire)

    # Looking

    def resolve(self, ref: str) -> Image:
        """The image of a name, an id or a unique prefix of an id.

        Raises:
            NotFound: ``No such image: X``.
            InvalidArgument: ``invalid reference format``.
        """
        return self._index.lookup(ref).image

    def list(self, *, filters: Filters | None = None, all: bool = False) -> builtins.list[ImageSummary]:  # noqa: A002, ARG002
        """The images, newest first. ``all`` would add intermediate images, which are not made here."""
        wanted, now = filters or Filters(), datetime.now(UTC)
        views.check_filters(wanted, views.LIST_FILTERS, now)
        rows = []
        for record in self._index.records.values():
            names = self._index.references_of(record.image.id)
            if views.matches(record, names, wanted, lookup=self._index.lookup, now=now):
                rows.append(views.summary(record, views.shown_names(names, wanted)))
        return sorted(rows, key=lambda row: (-row.created, row.id))

    def disk_usage(self, containers: Mapping[str, int]) -> tuple[int, builtins.list[ImageSummary]]:
        """Bytes of all layers, and the images with what they share; ``containers``: how many use an image, by id."""
        records = self._index.records
        return usage.layers_size(records.values()), usage.with_usage(self.list(), records, containers)

    def inspect(self, ref: str) -> ImageInspect:
        """The whole image. Raises as :meth:`resolve`."""
        record = self._index.lookup(ref)
        return views.inspection(record, self._index.references_of(record.image.id), self._layers.directory)

    def history(self, ref: str) -> builtins.list[ImageHistoryItem]:
        """How the image came to be, newest step first. Raises as :meth:`resolve`."""
        record = self._index.lookup(ref)
        return views.history(record, self._index.references_of(record.image.id))

    # Bringing in

    async def load(self, stream: AsyncIterator[bytes], progress: Progress) -> builtins.list[str]:
        """Take in the images of a docker-archive or an OCI layout (a tar, compressed or not).
        Returns their names, or ids where they have none.

        Raises:
            InvalidArgument: it is no such archive, or it is damaged; nothing unfinished stays.
            EnxameError: the disk is full.
        """

        def loaded(image_id: str, names: builtins.list[Reference]) -> None:
            for name in names:
                self._events.publish("load", image_id, name.familiar)
                progress(ProgressMessage(stream=f"Loaded image: {name.familiar}\n"))
            if not names:
                self._events.publish("load", image_id, image_id)
                progress(ProgressMessage(stream=f"Loaded image ID: {image_id}\n"))

        async with self._catalog.cleaning_up():
            done = await self._intake.load(stream, loaded)
        return [text for image_id, names in done for text in ([name.familiar for name in names] or [image_id])]

    async def import_(
        self,
        stream: AsyncIterator[bytes],
        *,
        repository: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
    ) -> str:
        """Make an image of a root filesystem's tar. ``changes`` are Dockerfile instructions. Returns the image's id.

        Raises:
            InvalidArgument: a bad name, change or archive.
            EnxameError: the disk is full.
        """
        if repository and parse(repository).digest:
            raise InvalidArgument("cannot import digest reference")
        name = parse_repository(repository, tag) if repository else None
        if platform and parse_platform(platform).os != "linux":
            raise InvalidArgument("operating system is not supported")
        config = apply_changes(ImageConfig(), changes)
        async with self._catalog.cleaning_up():
            image_id = await self._intake.import_(stream, name=name, message=message, config=config, platform=platform)
        self._events.publish("import", image_id, name.familiar if name else image_id)
        return image_id

    # Building

    @contextmanager
    def keeping(self, image: Image) -> Iterator[None]:
        """Keep the image's blobs and layers, whatever is removed meanwhile."""
        with self._layers.lease([image.id, *image.layers]):
            yield

    @asynccontextmanager
    async def laid_out(self, ref: str) -> AsyncIterator[Path]:
        """A directory that is skopeo's ``dir:`` of the image; gone in the end. Raises as :meth:`resolve`."""
        record = self._index.lookup(ref)
        tmp = self._layers.new_tmp()
        try:
            await asyncio.to_thread(lay_out, record, self._layers, tmp)
            yield tmp
        finally:
            await asyncio.shield(self._layers.discard(tmp))

    async def take(
        self, image_id: str, config: bytes, fetch: Callable[[builtins.list[tuple[int, Path]]], Awaitable[None]]
    ) -> None:
        """Take over an image that was made on this machine. ``fetch`` writes those of its layers that are not here
        yet, by their position, to files.

        Raises:
            InvalidArgument: the image is not what its configuration says.
            EnxameError: the disk is full.
        """
        diff_ids = decode(config, ImageFile).rootfs.diff_ids
        tmp = self._layers.new_tmp()
        try:
            with self._layers.lease([image_id, *diff_ids]):
                missing = [at for at, one in enumerate(diff_ids) if self._layers.get(one) is None]
                await fetch([(at, tmp / str(at)) for at in missing])
                layers = await self._layers.unpack_all([(tmp / str(at), "", one) for at, one in enumerate(diff_ids)])
                await self._catalog.register(image_id, config, layers, [])
        except OSError as error:
            raise EnxameError(f"cannot keep the image: {error}") from error
        finally:
            await asyncio.shield(self._layers.discard(tmp))

    # Giving away

    def save(self, refs: Sequence[str]) -> AsyncIterator[bytes]:
        """The images as one archive, which Docker and :meth:`load` read. A repository's name means all its tags.

        Raises:
            NotFound: no such image.
            InvalidArgument: no names, or one that breaks a rule.
        """
        if not refs:
            raise InvalidArgument("no image was named")
        chosen = choose_images(self._index, refs)
        for image in chosen:
            self._events.publish("save", image.record.image.id, image.record.image.id)
        return self._leased(chosen)

    async def _leased(self, images: Sequence[SavedImage]) -> AsyncIterator[bytes]:
        try:
            async with aclosing(write_archive(images, self._layers)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:  # what was removed meanwhile was only kept for this
            if any(image.record.image.id not in self._index.records for image in images):
                await asyncio.shield(self._catalog.collect_garbage())

    # Naming and removing

    async def tag(self, ref: str, repository: str, tag: str = "") -> None:
        """Give an image one more name; a name that another image had moves.

        Raises:
            NotFound: no such image.
            InvalidArgument: the name breaks a rule.
        """
        name = parse_repository(repository, tag)
        async with self._catalog.changing:
            record = self._index.lookup(ref)
            await self._catalog.tag(record, name)
        self._events.publish("tag", record.image.id, name.familiar)

    async def remove(self, ref: str, *, force: bool = False, prune: bool = True) -> builtins.list[ImageDeleteItem]:  # noqa: ARG002
        """Take a name away, and the image with its last name. ``prune`` concerns untagged parents: there are none.

        Raises:
            NotFound: no such image.
            Conflict: a container or another name is in the way.
        """
        async with self._catalog.changing:
            return await self._remove(ref, force=force)

    async def _remove(self, ref: str, *, force: bool) -> builtins.list[ImageDeleteItem]:
        record = self._index.lookup(ref)
        image_id = record.image.id
        names = self._index.references_of(image_id)
        named = next((name for name in names if _is_name(name, ref)), None)
        plan = plan_removal(ref, image_id, named, names, self.users(image_id), force=force)
        items = [ImageDeleteItem(untagged=name.familiar) for name in plan.untag]
        await self._catalog.untag(plan.untag)
        for _ in plan.untag:
            self._events.publish("untag", image_id, image_id)
        if plan.delete:
            gone, _ = await self._catalog.forget(record)
            items.append(ImageDeleteItem(deleted=image_id))
            items += [ImageDeleteItem(deleted=chain) for chain in views.deleted_layers(record, gone)]
            self._events.publish("delete", image_id, image_id)
        return items

    async def prune(self, filters: Filters | None = None) -> ImagesPruneReport:
        """Remove images that no container uses: those without a name, all with ``dangling=false``.

        Raises:
            InvalidArgument: a filter that there is not, or a bad value.
        """
        wanted = filters or Filters()
        views.check_filters(wanted, views.PRUNE_FILTERS, datetime.now(UTC))
        items: builtins.list[ImageDeleteItem] = []
        freed = 0
        async with self._catalog.changing:
            for record in list(self._index.records.values()):
                names = self._index.references_of(record.image.id)
                if self.users(record.image.id) or not views.prunable(record, names, wanted, datetime.now(UTC)):
                    continue
                gone, size = await self._catalog.forget(record)
                freed += size
                items += [ImageDeleteItem(untagged=name.familiar) for name in names]
                items.append(ImageDeleteItem(deleted=record.image.id))
                items += [ImageDeleteItem(deleted=chain) for chain in views.deleted_layers(record, gone)]
                self._events.publish("delete", record.image.id, record.image.id)
        freed += await asyncio.to_thread(self._layers.fetched.clear)
        self._events.publish_prune(freed)
        return ImagesPruneReport(images_deleted=items or None, space_reclaimed=freed)

    async def commit(
        self,
        container_id: str,
        layer: AsyncIterator[bytes] | None,
        *,
        image_id: str,
        config: ImageConfig,
        repository: str = "",
        tag: str = "",
        author: str = "",
        message: str = "",
        created_by: str = "",
    ) -> str:
        """Make an image of the layers below a container and of ``layer``, the tar of what it wrote (None: nothing).
        ``image_id``: what the container was made from. Returns the new image's id.

        Raises:
            InvalidArgument: the name breaks a rule.
            EnxameError: the disk is full.
        """
        name = parse_repository(repository, tag) if repository else None
        parent = self._index.records.get(image_id)
        below = [known for one in self._containers.lower(container_id) or () if (known := self._layers.get(one))]
        async with self._catalog.cleaning_up():
            made = await self._intake.commit(
                layer,
                below=below,
                parent=parent.file if parent else None,
                config=config,
                name=name,
                entry=HistoryEntry(author=author, comment=message, created_by=created_by),
                container_id=container_id,
            )
        if name is not None:
            self._events.publish("tag", made, name.familiar)
        return made

    # Containers' filesystems

    async def mount(self, container_id: str, image: Image | None = None) -> str:
        """Mount the container's filesystem over the image's layers; made on first use. Returns the merged directory.
        Idempotent, also after a crash. Without ``image``: the layers that it was made with.

        Raises:
            NotFound: the image's layers are gone, or the container has no filesystem yet.
            EnxameError: the kernel refused.
        """
        lower = self._containers.lower(container_id)
        if lower is None and image is None:
            raise NotFound(f"container {container_id} has no filesystem")
        diff_ids = lower if lower is not None or image is None else tuple(image.layers)
        assert diff_ids is not None
        for diff_id in diff_ids:
            if self._layers.get(diff_id) is None:
                raise NotFound(f"layer does not exist: {diff_id}")
        directories = [self._layers.directory(diff_id) for diff_id in diff_ids]
        return await self._containers.mount(container_id, diff_ids, directories)

    async def unmount(self, container_id: str) -> None:
        """Unmount the container's filesystem; what it wrote stays. Idempotent."""
        await self._containers.unmount(container_id)

    async def delete_layer(self, container_id: str) -> None:
        """Remove the container's filesystem. Idempotent."""
        await self._catalog.release_layers(set(await self._containers.delete(container_id)))

    def graph_driver_data(self, container_id: str) -> dict[str, str]:
        """Where a container's filesystem lies, as ``GraphDriver.Data`` of its inspection says it."""
        home = self._containers.directory(container_id)
        lower = self._containers.lower(container_id) or ()
        return {
            "LowerDir": ":".join(str(self._layers.directory(diff_id)) for diff_id in reversed(lower)),
            "MergedDir": str(home / "merged"),
            "UpperDir": str(home / "diff"),
            "WorkDir": str(home / "work"),
        }


def _is_name(name: Reference, ref: str) -> bool:
    try:
        asked = parse(ref).tagged()
    except InvalidArgument:
        return False
    return name == (asked.canonical(asked.digest) if asked.digest else asked)
