"""Images that come as files: archives to load, root filesystems to import."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from enxame.engine.images.archive import ARCHITECTURE, ArchivedImage, images_of
from enxame.engine.images.index import check_layer_count
from enxame.engine.images.layers import Layer, LayerStore
from enxame.engine.images.reference import Reference
from enxame.engine.images.worker_process import stage_archive
from enxame.errors import EnxameError
from enxame.model.base import decode, encode
from enxame.model.image import HistoryEntry, ImageConfig, ImageFile, ImageFileRootFS

__all__ = ["Intake", "Register"]


class Register(Protocol):
    """Makes an image known whose layers are unpacked, under its names."""

    def __call__(
        self, image_id: str, config: bytes, layers: Sequence[Layer], names: Sequence[Reference], /
    ) -> Awaitable[object]:
        """It is on the disk when this returns."""


class Intake:
    """Takes in images from streams. Streams are untrusted."""

    def __init__(self, layers: LayerStore, register: Register) -> None:
        self._layers = layers
        self._register = register

    async def load(
        self, stream: AsyncIterator[bytes], loaded: Callable[[str, list[Reference]], None]
    ) -> list[tuple[str, list[Reference]]]:
        """Take in the images of a docker-archive or an OCI layout. ``loaded`` is told of each one's id and names.

        Raises:
            InvalidArgument: it is no such archive, or it is damaged; nothing unfinished stays.
            EnxameError: the disk is full.
        """
        tmp = self._layers.new_tmp()
        done: list[tuple[str, list[Reference]]] = []
        try:
            for archived in images_of(await stage_archive(stream, tmp)):
                await self._load_image(archived)
                loaded(archived.config.digest, archived.names)
                done.append((archived.config.digest, archived.names))
        except OSError as error:
            raise EnxameError(f"cannot load the images: {error}") from error
        finally:
            await asyncio.shield(self._layers.discard(tmp))
        return done

    async def _load_image(self, archived: ArchivedImage) -> None:
        config = await asyncio.to_thread(Path(archived.config.path).read_bytes)
        diff_ids = check_layer_count(len(archived.layers), decode(config, ImageFile))
        image_id = archived.config.digest
        with self._layers.lease([image_id, *diff_ids]):
            wanted = [
                (Path(layer.path), layer.digest, diff_id)
                for layer, diff_id in zip(archived.layers, diff_ids, strict=True)
            ]
            layers = await self._layers.unpack_all(wanted)
            await self._register(image_id, config, layers, archived.names)

    async def import_(
        self, stream: AsyncIterator[bytes], *, name: Reference | None, message: str, config: ImageConfig, platform: str
    ) -> str:
        """Make an image of one layer from a root filesystem's tar. Returns its id.

        Raises:
            InvalidArgument: the archive is damaged.
            EnxameError: the disk is full.
        """
        architecture = platform.split("/")[1] if "/" in platform else ARCHITECTURE
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
            with self._layers.lease([image_id, layer.diff_id]):
                await self._register(image_id, content, [layer], [name] if name else [])
        except OSError as error:
            raise EnxameError(f"cannot import the image: {error}") from error
        finally:
            await asyncio.shield(self._layers.discard(tmp))
        return image_id

    async def commit(
        self,
        stream: AsyncIterator[bytes] | None,
        *,
        below: Sequence[Layer],
        parent: ImageFile | None,
        config: ImageConfig,
        name: Reference | None,
        entry: HistoryEntry,
        container_id: str,
    ) -> str:
        """Make an image of the layers ``below`` and one more (None: no more). ``entry``: its step in the history.
        Returns its id.

        Raises:
            EnxameError: the disk is full.
        """
        tmp = self._layers.new_tmp()
        layers = list(below)
        try:
            with self._layers.lease([layer.diff_id for layer in below]):
                if stream is not None:
                    blob = tmp / "layer"
                    await _spool(stream, blob)
                    layers.append(await self._layers.unpack(blob))
                now = datetime.now(UTC)
                step = replace(entry, created=now, empty_layer=stream is None)
                file = replace(
                    parent or ImageFile(architecture=ARCHITECTURE, os="linux"),
                    created=now,
                    author=entry.author,
                    comment=entry.comment,
                    container=container_id,
                    config=config,
                    rootfs=ImageFileRootFS(diff_ids=[layer.diff_id for layer in layers]),
                    history=[*(parent.history if parent else []), step],
                )
                content = encode(file)
                image_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
                with self._layers.lease([image_id, *(layer.diff_id for layer in layers)]):
                    await self._register(image_id, content, layers, [name] if name else [])
        except OSError as error:
            raise EnxameError(f"cannot keep the image: {error}") from error
        finally:
            await asyncio.shield(self._layers.discard(tmp))
        return image_id


async def _spool(stream: AsyncIterator[bytes], path: Path) -> None:
    with path.open("xb") as file:
        async for chunk in stream:
            await asyncio.to_thread(file.write, chunk)
