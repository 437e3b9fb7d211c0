"""The images of this machine: what the API and the container engine call."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from enxame.engine.images import views
from enxame.engine.images.archive import ARCHITECTURE, ArchivedImage, images_of
from enxame.engine.images.changes import apply_changes
from enxame.engine.images.index import ImageIndex, ImageRecord, check_layer_count, make_record
from enxame.engine.images.layers import Layer, LayerStore
from enxame.engine.images.overlay import ContainerLayers
from enxame.engine.images.pulling import PulledImage, Puller, SharedPull
from enxame.engine.images.reference import Reference, parse, parse_repository
from enxame.engine.images.registry import Registry
from enxame.engine.images.removal import ImageUser, plan_removal
from enxame.engine.images.worker_process import stage_archive
from enxame.engine.mount_syscalls import syncfs
from enxame.errors import EnxameError, InvalidArgument, NotFound
from enxame.model.base import decode, encode
from enxame.model.filters import Filters
from enxame.model.image import (
    DistributionInspect,
    HistoryEntry,
    Image,
    ImageConfig,
    ImageDeleteItem,
    ImageFile,
    ImageFileRootFS,
    ImageHistoryItem,
    ImageInspect,
    ImagesPruneReport,
    ImageSummary,
    ProgressMessage,
    RegistryAuth,
)

__all__ = ["EventPublisher", "ImageStore", "ImageUser"]

_log = logging.getLogger(__name__)
Progress = Callable[[ProgressMessage], None]


class EventPublisher(Protocol):
    """Where events go."""

    def publish(self, type_: str, action: str, actor_id: str, attributes: dict[str, str], scope: str = "local") -> None:
        """Tell of one event."""


class ImageStore:
    """The images of this machine and the filesystems of its containers.

    ``users`` tells which containers were made from an image (by id); the container engine sets it.
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
        self._root = root
        self._overlay_root = overlay_root
        self._events = events
        self._layers = LayerStore(root)
        self._index = ImageIndex(root, root / "blobs" / "sha256")
        self._containers = ContainerLayers(overlay_root)
        self._registry = Registry(root / "registry", insecure=insecure_registries, mirrors=mirrors)
        self._puller = Puller(self._registry, self._layers)
        self._pulls: dict[tuple[str, str, RegistryAuth | None], SharedPull] = {}
        self._changing = asyncio.Lock()
        self.users: Callable[[str], Sequence[ImageUser]] = lambda _image_id: ()

    async def start(self) -> None:
        """Read what is there, finish or drop what was interrupted."""
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        for path in (self._root, self._overlay_root):
            path.mkdir(mode=0o710, parents=True, exist_ok=True)
        self._layers.load()
        self._index.load()
        self._containers.load()
        self._registry.start()

    async def stop(self) -> None:
        """End what goes on; containers' mounts stay."""
        pulls = [shared.task for shared in self._pulls.values() if not shared.task.done()]
        for task in pulls:
            task.cancel()
        if pulls:
            await asyncio.wait(pulls)
        await asyncio.to_thread(self._containers.close)

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
        wanted = filters or Filters()
        rows = []
        for record in self._index.records.values():
            names = self._index.references_of(record.image.id)
            if views.matches(record, names, wanted, self._index.lookup):
                rows.append(views.summary(record, names))
        return sorted(rows, key=lambda row: (-row.created, row.id))

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
            InvalidArgument: it is no such archive, or it is damaged; nothing of it stays.
            EnxameError: the disk is full.
        """
        tmp = self._layers.new_tmp()
        try:
            images = images_of(await stage_archive(stream, tmp))
            loaded: list[str] = []
            for archived in images:
                loaded += await self._load_image(archived, progress)
            return loaded
        except OSError as error:
            raise EnxameError(f"cannot load the images: {error}") from error
        finally:
            await asyncio.shield(self._layers.discard(tmp))

    async def _load_image(self, archived: ArchivedImage, progress: Progress) -> builtins.list[str]:
        config = await asyncio.to_thread(Path(archived.config.path).read_bytes)
        file = decode(config, ImageFile)
        check_layer_count(len(archived.layers), file)
        image_id = archived.config.digest
        pairs = list(zip(archived.layers, file.rootfs.diff_ids, strict=True))
        with self._layers.lease([image_id, *file.rootfs.diff_ids, *(layer.digest for layer in archived.layers)]):
            blobs = {layer.digest: Path(layer.path) for layer in archived.layers}
            layers = await self._layers.unpack_all(
                [(blobs[layer.digest], layer.digest, diff_id) for layer, diff_id in pairs]
            )
            await self._register(image_id, config, layers, blobs, names=archived.names, progress=progress)
        for name in archived.names:
            self._publish("load", image_id, name.familiar)
            progress(ProgressMessage(stream=f"Loaded image: {name.familiar}\n"))
        if not archived.names:
            self._publish("load", image_id, image_id)
            progress(ProgressMessage(stream=f"Loaded image ID: {image_id}\n"))
        return [name.familiar for name in archived.names] or [image_id]

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
        """Make an image of a root filesystem's tar. Returns the image's id.

        Raises:
            InvalidArgument: a bad name, change or archive.
            EnxameError: the disk is full.
        """
        name = parse_repository(repository, tag) if repository else None
        config = apply_changes(ImageConfig(), changes)
        architecture = platform.split("/")[1] if platform.count("/") else ARCHITECTURE
        tmp = self._layers.new_tmp()
        try:
            blob = tmp / "layer"
            await _spool(stream, blob)
            layer = await self._layers.unpack(blob)
            now = datetime.now(UTC)
            comment = message or "Imported from -"
            file = ImageFile(
                architecture=architecture,
                os="linux",
                created=now,
                comment=comment,
                config=config,
                rootfs=ImageFileRootFS(diff_ids=[layer.diff_id]),
                history=[HistoryEntry(created=now, comment=comment)],
            )
            content = encode(file)
            image_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
            with self._layers.lease([image_id, layer.diff_id, layer.blob]):
                await self._register(image_id, content, [layer], {layer.blob: blob}, names=[name] if name else [])
        except OSError as error:
            raise EnxameError(f"cannot import the image: {error}") from error
        finally:
            await asyncio.shield(self._layers.discard(tmp))
        self._publish("import", image_id, name.familiar if name else image_id)
        return image_id

    async def _register(
        self,
        image_id: str,
        config: bytes,
        layers: Sequence[Layer],
        blobs: dict[str, Path],
        *,
        names: Sequence[Reference],
        progress: Progress | None = None,
    ) -> ImageRecord:
        """The image's layers are unpacked: make it known under its names. It is on the disk when this returns."""
        record = make_record(image_id, config, layers, datetime.now(UTC))
        async with self._changing:
            if progress is not None:
                for name in names:
                    old = self._index.names.get(str(name), image_id)
                    if old != image_id:
                        text = f"The image {name.familiar} already exists, renaming the old one with ID {old}"
                        progress(ProgressMessage(stream=f"{text} to empty string\n"))
            await asyncio.to_thread(self._store, record, config, blobs, names)
        return record

    def _store(self, record: ImageRecord, config: bytes, blobs: dict[str, Path], names: Sequence[Reference]) -> None:
        image_id = record.image.id
        for digest, path in blobs.items():
            if path.exists() and not self._layers.blob_path(digest).exists():
                self._layers.add_blob(digest, path)
        draft = self._layers.new_tmp() / "config"
        draft.write_bytes(config)
        self._layers.add_blob(image_id, draft)
        draft.parent.rmdir()
        syncfs(str(self._root))
        self._index.put(record)
        self._index.rename({str(name): image_id for name in names})

    async def pull(
        self, reference: str, *, auth: RegistryAuth | None = None, platform: str = "", progress: Progress
    ) -> Image:
        """Bring an image from its registry. Several pulls of one reference are one.

        Raises:
            InvalidArgument: a bad reference or platform, or what the registry has is no image for us.
            NotFound: the registry has no such image, or does not show it.
            EnxameError: the registry cannot be reached; the disk is full.
        """
        name = parse(reference).tagged()
        if name.digest:
            name = name.canonical(name.digest)
        key = (str(name), platform, auth)
        shared = self._pulls.get(key)
        if shared is None or shared.task.done():
            shared = self._pulls[key] = SharedPull(lambda tell: self._pull(name, auth, platform, tell))
        try:
            await shared.join(progress)
        finally:
            if shared.task.done() and self._pulls.get(key) is shared:
                del self._pulls[key]
        return self.resolve(str(name))

    async def _pull(self, name: Reference, auth: RegistryAuth | None, platform: str, progress: Progress) -> None:
        names: builtins.list[Reference] = []
        new = False

        def known(digest: str) -> bool:
            names[:] = [name, name.canonical(digest)] if name.tag else [name]
            return not platform and str(name.canonical(digest)) in self._index.names

        async def keep(pulled: PulledImage) -> None:
            nonlocal new
            new = self._index.names.get(str(name)) != pulled.image_id
            await self._register(pulled.image_id, pulled.config, pulled.layers, pulled.blobs, names=names)

        try:
            digest = await self._puller.pull(
                name, auth=auth, platform=platform, known=known, keep=keep, progress=progress
            )
            if name.tag and not new:  # what is here already may have got another tag in the registry
                image_id = self._index.names[str(name.canonical(digest))]
                new = self._index.names.get(str(name)) != image_id
                async with self._changing:
                    await asyncio.to_thread(self._index.rename, {str(name): image_id})
        except OSError as error:
            raise EnxameError(f"cannot pull {name.familiar}: {error}") from error
        progress(ProgressMessage(status=f"Digest: {digest}"))
        what = "Downloaded newer image" if new else "Image is up to date"
        progress(ProgressMessage(status=f"Status: {what} for {name.familiar}"))
        self._publish("pull", name.familiar, name.familiar_name)

    async def distribution(self, reference: str, auth: RegistryAuth | None = None) -> DistributionInspect:
        """What the registry says of a reference: its digest and platforms. Fails within some two seconds when the
        registry cannot be reached.

        Raises:
            InvalidArgument, NotFound, EnxameError: as :meth:`pull`.
        """
        return await self._puller.distribution(parse(reference).tagged(), auth)

    # Naming and removing

    async def tag(self, ref: str, repository: str, tag: str = "") -> None:
        """Give an image one more name; a name that another image had moves.

        Raises:
            NotFound: no such image.
            InvalidArgument: the name breaks a rule.
        """
        name = parse_repository(repository, tag)
        async with self._changing:
            record = self._index.lookup(ref)
            image_id = record.image.id
            record = msgspec.structs.replace(record, tagged_at=datetime.now(UTC))
            await asyncio.to_thread(self._index.put, record)
            await asyncio.to_thread(self._index.rename, {str(name): image_id})
        self._publish("tag", image_id, name.familiar)

    async def remove(self, ref: str, *, force: bool = False, prune: bool = True) -> builtins.list[ImageDeleteItem]:  # noqa: ARG002
        """Take a name away, and the image with its last name. ``prune`` concerns untagged parents: there are none.

        Raises:
            NotFound: no such image.
            Conflict: a container or another name is in the way.
        """
        async with self._changing:
            return await self._remove(ref, force=force)

    async def _remove(self, ref: str, *, force: bool) -> builtins.list[ImageDeleteItem]:
        record = self._index.lookup(ref)
        image_id = record.image.id
        names = self._index.references_of(image_id)
        named = next((name for name in names if _is_name(name, ref)), None)
        plan = plan_removal(ref, image_id, named, names, self.users(image_id), force=force)
        items = [ImageDeleteItem(untagged=name.familiar) for name in plan.untag]
        await asyncio.to_thread(self._index.rename, {str(name): "" for name in plan.untag})
        for _ in plan.untag:
            self._publish("untag", image_id, image_id)
        if plan.delete:
            await asyncio.to_thread(self._index.forget, image_id)
            gone, _ = await self._collect(record)
            items.append(ImageDeleteItem(deleted=image_id))
            items += [ImageDeleteItem(deleted=chain) for chain in views.deleted_layers(record, gone)]
            self._publish("delete", image_id, image_id)
        return items

    async def _collect(self, record: ImageRecord) -> tuple[builtins.list[str], int]:
        """Delete what only a forgotten image needed. Returns the diff-ids that went and the bytes of their files."""
        layers_kept = self._index.layers_in_use() | self._containers.layers_in_use()
        blobs_kept = self._index.blobs_in_use()
        diff_ids = {layer.diff_id for layer in record.layers} - layers_kept
        digests = ({layer.blob for layer in record.layers} | {record.image.id}) - blobs_kept
        gone = [diff_id for diff_id in diff_ids if not self._layers.leased(diff_id)]
        freed = await self._layers.remove(gone, [digest for digest in digests if not self._layers.leased(digest)])
        return gone, freed

    async def prune(self, filters: Filters | None = None) -> ImagesPruneReport:
        """Remove images that no container uses: those without a name, all with ``dangling=false``.

        Raises:
            InvalidArgument: a filter that there is not.
        """
        wanted = filters or Filters()
        items: builtins.list[ImageDeleteItem] = []
        freed = 0
        async with self._changing:
            for record in list(self._index.records.values()):
                names = self._index.references_of(record.image.id)
                if self.users(record.image.id) or not views.prunable(record, names, wanted, datetime.now(UTC)):
                    continue
                await asyncio.to_thread(self._index.forget, record.image.id)
                gone, size = await self._collect(record)
                freed += size
                items += [ImageDeleteItem(untagged=name.familiar) for name in names]
                items.append(ImageDeleteItem(deleted=record.image.id))
                items += [ImageDeleteItem(deleted=chain) for chain in views.deleted_layers(record, gone)]
                self._publish("delete", record.image.id, record.image.id)
        self._events.publish("image", "prune", "", {"reclaimed": str(freed)})
        return ImagesPruneReport(images_deleted=items or None, space_reclaimed=freed)

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
        below = set(await self._containers.delete(container_id))
        orphans = below - self._index.layers_in_use()
        if orphans:
            async with self._changing:
                kept = self._index.layers_in_use() | self._containers.layers_in_use()
                await self._layers.remove([one for one in orphans - kept if not self._layers.leased(one)], [])

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

    def _publish(self, action: str, actor_id: str, name: str) -> None:
        self._events.publish("image", action, actor_id, {"name": name})


def _is_name(name: Reference, ref: str) -> bool:
    try:
        asked = parse(ref).tagged()
    except InvalidArgument:
        return False
    return name == (asked.canonical(asked.digest) if asked.digest else asked)


async def _spool(stream: AsyncIterator[bytes], path: Path) -> None:
    with path.open("xb") as file:
        async for chunk in stream:
            await asyncio.to_thread(file.write, chunk)
