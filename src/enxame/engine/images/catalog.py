"""The index, the layers and the containers' overlays together: what is kept, and what goes when nobody needs it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from enxame.engine.images.index import ImageIndex, ImageRecord, make_record
from enxame.engine.images.layers import Layer, LayerStore
from enxame.engine.images.overlay import ContainerLayers
from enxame.engine.images.reference import Reference
from enxame.engine.mount_syscalls import syncfs
from enxame.engine.uncancelled import to_the_end

__all__ = ["Catalog"]

_log = logging.getLogger(__name__)


class Catalog:
    """Changes go through here, one at a time: hold ``changing`` around what reads and then changes."""

    def __init__(self, root: Path, overlay_root: Path) -> None:
        self._root = root
        self._overlay_root = overlay_root
        self.layers = LayerStore(root)
        self.index = ImageIndex(root, root / "blobs" / "sha256")
        self.containers = ContainerLayers(overlay_root)
        self.changing = asyncio.Lock()
        #: Configurations of images that went while an operation still needed them.
        self._orphans: set[str] = set()

    def load(self) -> None:
        """Read everything; drop what an interruption left behind. Blocks."""
        for path in (self._root, self._overlay_root):
            path.mkdir(mode=0o710, parents=True, exist_ok=True)
        self.layers.load()
        self.index.load()
        self.containers.load()
        for record in list(self.index.records.values()):
            if any(self.layers.get(layer.diff_id) is None for layer in record.layers):
                _log.error("image %s has lost a layer and is forgotten: pull or load it again", record.image.id)
                self.index.forget(record.image.id)
        if not self.index.damaged:
            self.layers.sweep(self._layers_in_use(), set(self.index.records))

    def _layers_in_use(self) -> set[str]:
        return self.index.layers_in_use() | self.containers.layers_in_use()

    async def register(
        self, image_id: str, config: bytes, layers: Sequence[Layer], names: Sequence[Reference], /
    ) -> None:
        """Make an image known whose layers are unpacked. It is on the disk when this returns."""
        record = make_record(image_id, config, layers, datetime.now(UTC))
        async with self.changing:
            await to_the_end(lambda: self._register(record, config, names))

    def _register(self, record: ImageRecord, config: bytes, names: Sequence[Reference]) -> None:
        self.layers.write_blob(record.image.id, config)
        syncfs(str(self._root))  # the layers first: what the index names must be there after a power loss
        self.index.put(record)
        self.index.rename({str(name): record.image.id for name in names})

    async def tag(self, record: ImageRecord, name: Reference) -> None:
        """Give an image a name; hold ``changing``."""
        tagged = msgspec.structs.replace(record, tagged_at=datetime.now(UTC))
        await to_the_end(lambda: self.index.put(tagged))
        await to_the_end(lambda: self.index.rename({str(name): record.image.id}))

    async def add_name(self, record: ImageRecord, name: Reference) -> None:
        """Give an image a name that no user chose, such as a digest; hold ``changing``."""
        await to_the_end(lambda: self.index.rename({str(name): record.image.id}))

    async def untag(self, names: Sequence[Reference]) -> None:
        """Take names away; hold ``changing``."""
        await to_the_end(lambda: self.index.rename({str(name): "" for name in names}))

    async def forget(self, record: ImageRecord) -> tuple[list[str], int]:
        """Remove an image with its names and with the layers that only it needed; hold ``changing``.
        Returns the diff-ids that went and the bytes of their files.
        """
        await to_the_end(lambda: self.index.forget(record.image.id))
        self._orphans.add(record.image.id)
        return await self._collect({layer.diff_id for layer in record.layers})

    async def release_layers(self, diff_ids: set[str]) -> None:
        """A container that had these layers below it is gone."""
        if diff_ids - self.index.layers_in_use():
            async with self.changing:
                await self._collect(diff_ids)

    async def collect_garbage(self, *, refetch: bool = True) -> None:
        """Something failed half-way: drop layers that it had already unpacked. Without ``refetch`` their blobs are
        kept, for a pull that may come again.
        """
        async with self.changing:
            await self._collect(self.layers.diff_ids(), refetch=refetch)

    @asynccontextmanager
    async def cleaning_up(self, *, refetch: bool = True) -> AsyncIterator[None]:
        """What brings an image in: when it fails, it leaves nothing. ``refetch`` as in :meth:`collect_garbage`."""
        try:
            yield
        except BaseException:
            await asyncio.shield(self.collect_garbage(refetch=refetch))
            raise

    async def _collect(self, candidates: set[str], *, refetch: bool = True) -> tuple[list[str], int]:
        for image_id in [one for one in self._orphans if not self.layers.leased(one)]:
            self._orphans.discard(image_id)
            if image_id not in self.index.records:
                await to_the_end(partial(self.layers.drop_blob, image_id))
        gone = [one for one in candidates - self._layers_in_use() if not self.layers.leased(one)]
        return gone, await self.layers.remove(gone, refetch=refetch)
