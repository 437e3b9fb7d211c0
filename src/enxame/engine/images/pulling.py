"""Pulling an image: find its manifest, fetch what is missing, unpack, with progress in Docker's words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from enxame.engine.images.archive import INDEX_TYPES, Manifest
from enxame.engine.images.image_proxy import ImageProxy
from enxame.engine.images.index import check_layer_count
from enxame.engine.images.layers import Layer, LayerStore
from enxame.engine.images.platforms import check_platform, choose_platform, parse_platform
from enxame.engine.images.reference import Reference
from enxame.engine.images.registry import FoundManifest, Registry, Session
from enxame.errors import EnxameError, InvalidArgument, Unavailable
from enxame.model.base import decode
from enxame.model.image import (
    Descriptor,
    DistributionInspect,
    ImageFile,
    OCIPlatform,
    ProgressDetail,
    ProgressMessage,
    RegistryAuth,
)

__all__ = ["PulledImage", "Puller", "SharedPull"]

_log = logging.getLogger(__name__)
Progress = Callable[[ProgressMessage], None]
#: Downloads at the same time, of one image.
_DOWNLOADS: Final = 3
_CONFIG_TYPES: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_LAYER_TYPES: Final = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1"


@dataclass(frozen=True)
class PulledImage:
    """What a pull brought."""

    image_id: str
    config: bytes
    layers: list[Layer]


class SharedPull:
    """One pull that several callers wait for; it goes on as long as one of them does."""

    def __init__(self, start: Callable[[Progress], Awaitable[None]]) -> None:
        self._listeners: list[Progress] = []
        #: Nobody waits any more: it is being stopped, and must not be joined.
        self.abandoned = False
        self._told: list[ProgressMessage] = []
        self.task = asyncio.ensure_future(start(self._tell))

    def _tell(self, message: ProgressMessage) -> None:
        if message.progress_detail is None or not message.progress_detail.total:
            self._told.append(message)
        for listener in self._listeners:
            listener(message)

    async def join(self, progress: Progress) -> None:
        """Wait for the end, being told of all that was and will be done. Raises what the pull raised."""
        for message in self._told:
            progress(message)
        self._listeners.append(progress)
        try:
            await asyncio.wait({self.task})
            if self.task.cancelled():
                raise Unavailable("the daemon is shutting down: the pull was stopped")
            self.task.result()
        finally:
            self._listeners.remove(progress)
            if not self._listeners and not self.task.done():
                self.abandoned = True
                self.task.cancel()
                await asyncio.wait({self.task})


class Puller:
    """Brings images from registries into the layer store."""

    def __init__(self, registry: Registry, layers: LayerStore) -> None:
        self._registry = registry
        self._layers = layers

    async def pull(
        self,
        reference: Reference,
        *,
        auth: RegistryAuth | None,
        platform: str,
        known: Callable[[str], bool],
        keep: Callable[[PulledImage], Awaitable[None]],
        progress: Progress,
    ) -> str:
        """Bring one image; ``keep`` takes it over before its unfinished files are cleared away. Where ``known`` says
        that the digest is here already, nothing is fetched. Returns the digest.

        Raises:
            EnxameError: in Docker's words; nothing half-made stays.
        """
        wanted = parse_platform(platform)
        async with self._registry.session(reference, auth) as session:
            # What fails before the first message is told by the answer's status, as with Docker.
            top = await self._registry.manifest(reference, session)
            called = str(reference) if reference.digest else reference.tagged().tag
            progress(ProgressMessage(status=f"Pulling from {reference.path}", id=called))
            if known(top.digest):
                return top.digest
            at = reference.canonical(top.digest)
            manifest, at = await self._image_manifest(top, at, session, wanted)
            await self._fetch(
                manifest, at, session, explicit=wanted if platform else None, keep=keep, progress=progress
            )
            return top.digest

    async def distribution(self, reference: Reference, auth: RegistryAuth | None) -> DistributionInspect:
        """What the registry says of a reference. Raises as :meth:`pull`."""
        async with self._registry.session(reference, auth) as session:
            found = await self._registry.manifest(reference, session)
            manifest = _read_manifest(found)
            if manifest.media_type in INDEX_TYPES:
                platforms = [entry.platform for entry in manifest.manifests if entry.platform is not None]
            else:
                config = await self._registry.config(reference.canonical(found.digest), session)
                file = decode(config, ImageFile)
                platforms = [
                    OCIPlatform(
                        architecture=file.architecture, os=file.os, os_version=file.os_version, variant=file.variant
                    )
                ]
        return DistributionInspect(
            descriptor=Descriptor(media_type=manifest.media_type, digest=found.digest, size=len(found.content)),
            platforms=platforms,
        )

    async def _image_manifest(
        self, found: FoundManifest, at: Reference, session: Session, wanted: OCIPlatform
    ) -> tuple[Manifest, Reference]:
        manifest = _read_manifest(found)
        for _ in range(3):  # an index may lead to an index
            if manifest.media_type not in INDEX_TYPES:
                return manifest, at
            at = at.canonical(choose_platform(manifest.manifests, wanted).digest)
            manifest = _read_manifest(await self._registry.manifest(at, session))
        raise InvalidArgument("the image index is nested too deeply")

    async def _fetch(
        self,
        manifest: Manifest,
        at: Reference,
        session: Session,
        *,
        explicit: OCIPlatform | None,
        keep: Callable[[PulledImage], Awaitable[None]],
        progress: Progress,
    ) -> None:
        config = manifest.config
        if config is None or config.media_type not in _CONFIG_TYPES:
            raise InvalidArgument(f"unsupported media type {config.media_type if config else ''!r}: this is no image")
        for layer in manifest.layers:
            if not layer.media_type.startswith(_LAYER_TYPES):
                raise InvalidArgument(f"unsupported layer media type {layer.media_type!r}")
        await asyncio.to_thread(self._layers.fetched.expire)
        tmp = self._layers.new_tmp()
        try:
            async with AsyncExitStack() as stack:
                proxies = _Proxies(stack, at, session)
                content = await self._config(config, tmp, proxies)
                file = decode(content, ImageFile)
                if explicit is not None:
                    check_platform(file, at.familiar_name, explicit)
                diff_ids = check_layer_count(len(manifest.layers), file)
                blobs = [layer.digest for layer in manifest.layers]
                stack.enter_context(self._layers.lease([config.digest, *diff_ids, *blobs]))
                wanted = list(zip(manifest.layers, diff_ids, strict=True))
                layers = await self._bring_layers(wanted, tmp, proxies, progress)
                await keep(PulledImage(config.digest, content, layers))
        finally:
            await asyncio.shield(self._layers.discard(tmp))

    async def _config(self, config: Descriptor, tmp: Path, proxies: _Proxies) -> bytes:
        here = self._layers.blob_path(config.digest)
        if not here.exists():
            here = tmp / "config"
            await proxies.fetch(config, here, lambda _done: None)
        return await asyncio.to_thread(here.read_bytes)

    async def _bring_layers(
        self,
        wanted: Sequence[tuple[Descriptor, str]],
        tmp: Path,
        proxies: _Proxies,
        progress: Progress,
    ) -> list[Layer]:
        for descriptor, diff_id in wanted:
            have = self._layers.get(diff_id) is not None
            _tell(progress, descriptor, "Already exists" if have else "Pulling fs layer")

        def report_to(descriptor: Descriptor) -> Callable[[int], None]:
            def report(done: int) -> None:
                _tell(progress, descriptor, "Downloading", ProgressDetail(current=done, total=descriptor.size))

            return report

        async def bring(number: int, descriptor: Descriptor, diff_id: str) -> Layer:
            layer = self._layers.get(diff_id)
            if layer is not None:
                return layer
            blob, fetched = self._layers.blob_path(descriptor.digest), self._layers.fetched
            if not blob.exists():
                blob = fetched.path(descriptor.digest)
            layer = await self._unpack_again(blob, descriptor, diff_id) if blob.exists() else None
            if layer is None:
                await proxies.fetch(descriptor, tmp / str(number), report_to(descriptor))
                _tell(progress, descriptor, "Verifying Checksum")
                blob = fetched.keep(descriptor.digest, tmp / str(number))
                _tell(progress, descriptor, "Download complete")
                try:
                    layer = await self._layers.unpack(blob, digest=descriptor.digest, diff_id=diff_id)
                except InvalidArgument:
                    fetched.drop(descriptor.digest)
                    raise
            else:
                _tell(progress, descriptor, "Download complete")
            fetched.drop(descriptor.digest)
            _tell(progress, descriptor, "Pull complete")
            return layer

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(bring(number, *pair)) for number, pair in enumerate(wanted)]
        except* EnxameError as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _unpack_again(self, blob: Path, descriptor: Descriptor, diff_id: str) -> Layer | None:
        """A layer of a blob that was here already; None when it is not what it should be: a power loss may cut it."""
        try:
            return await self._layers.unpack(blob, digest=descriptor.digest, diff_id=diff_id)
        except InvalidArgument as error:
            _log.warning("%s is fetched again: %s", descriptor.digest, error.message)
            self._layers.fetched.drop(descriptor.digest)
            return None


class _Proxies:
    """A few connections to the registry, opened as they are needed."""

    def __init__(self, stack: AsyncExitStack, at: Reference, session: Session) -> None:
        self._stack = stack
        self._at = at
        self._session = session
        self._turns = asyncio.Semaphore(_DOWNLOADS)
        self._idle: list[ImageProxy] = []

    async def fetch(self, blob: Descriptor, target: Path, report: Callable[[int], None]) -> None:
        async with self._turns:
            if self._idle:
                proxy = self._idle.pop()
            else:
                proxy = await self._stack.enter_async_context(ImageProxy.open(self._at, self._session))
            await proxy.fetch(blob.digest, blob.size, target, report)
            self._idle.append(proxy)


def _read_manifest(found: FoundManifest) -> Manifest:
    manifest = decode(found.content, Manifest)
    if manifest.schema_version != 2 or manifest.media_type.startswith(_SCHEMA_1):
        raise InvalidArgument("unsupported manifest: this image has the format of before 2016 (schema version 1)")
    if manifest.media_type:
        return manifest
    kind = "index" if manifest.manifests else "manifest"  # OCI lets it be left out
    return msgspec.structs.replace(manifest, media_type=f"application/vnd.oci.image.{kind}.v1+json")


def _tell(progress: Progress, descriptor: Descriptor, status: str, detail: ProgressDetail | None = None) -> None:
    short = descriptor.digest.partition(":")[2][:12]
    progress(ProgressMessage(status=status, progress_detail=detail or ProgressDetail(), id=short))
