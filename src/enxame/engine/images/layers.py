"""The blobs and unpacked layers on the disk, shared between images.

    blobs/sha256/<hex>     configurations, and layers as they came
    layers/<hex>/diff      a layer unpacked, by its diff-id, in overlayfs's form; layer.json beside it says its size
    fetched/<hex>          layers as they came, whole, for a pull that was interrupted and may come again
    tmp/                   whatever is not finished; emptied at the start

Things are made in ``tmp`` and renamed: what stands under its name is whole.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from enxame.engine.images.disk_placement import spread_children
from enxame.engine.images.fetched import FetchedBlobs
from enxame.engine.images.worker_process import unpack_layer
from enxame.engine.uncancelled import to_the_end
from enxame.errors import EnxameError, InvalidArgument

__all__ = ["Layer", "LayerStore"]

_log = logging.getLogger(__name__)


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of this machine. ``size`` is the content of its files, in bytes."""

    diff_id: str
    blob: str
    blob_size: int
    size: int


class LayerStore:
    """Blobs and layers. Several operations may want one layer at once: it is unpacked once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._layers: dict[str, Layer] = {}
        self._unpacking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._leases: Counter[str] = Counter()
        #: What a pull need not fetch again.
        self.fetched = FetchedBlobs(root / "fetched", leased=self.leased)
        self._workers = asyncio.Semaphore(max(1, os.cpu_count() or 1))

    def load(self) -> None:
        """Make the directories, drop what was interrupted, read what is there. Blocks."""
        for name in ("blobs/sha256", "layers", "tmp"):
            (self._root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.fetched.load()
        spread_children(self._root / "tmp")  # layers are made there
        for leftover in (self._root / "tmp").iterdir():
            _remove(leftover)
        self._layers.clear()
        for directory in (self._root / "layers").iterdir():
            try:
                layer = msgspec.json.decode((directory / "layer.json").read_bytes(), type=Layer)
            except (OSError, msgspec.DecodeError) as error:
                _log.warning("layer %s is damaged and will be fetched again: %s", directory.name, error)
                _remove(directory)
                continue
            self._layers[layer.diff_id] = layer

    def new_tmp(self) -> Path:
        """A fresh directory for unfinished work; the caller removes it with :meth:`discard`."""
        path = self._root / "tmp" / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        return path

    async def discard(self, path: Path) -> None:
        """Remove unfinished work."""
        await asyncio.to_thread(_remove, path)

    def get(self, diff_id: str) -> Layer | None:
        """The layer, if it is here."""
        return self._layers.get(diff_id)

    def diff_ids(self) -> set[str]:
        """All layers that are here."""
        return set(self._layers)

    def directory(self, diff_id: str) -> Path:
        """Where the layer is unpacked."""
        return self._root / "layers" / _hex(diff_id) / "diff"

    def blob_path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self._root / "blobs" / "sha256" / _hex(digest)

    def write_blob(self, digest: str, content: bytes) -> None:
        """Keep a small blob whose digest was checked. Blocks."""
        draft = self._root / "tmp" / secrets.token_hex(8)
        draft.write_bytes(content)
        draft.replace(self.blob_path(digest))

    def drop_blob(self, digest: str) -> None:
        """Remove a blob. Blocks."""
        self.blob_path(digest).unlink(missing_ok=True)

    def sweep(self, diff_ids: set[str], digests: set[str]) -> None:
        """Remove all layers but ``diff_ids``, and all blobs but theirs and ``digests``: the next pull of an image that
        was interrupted finds them among the fetched ones. Blocks.
        """
        for diff_id in self._layers.keys() - diff_ids:
            _remove(self._bury(diff_id, refetch=False))
        keep = digests | {layer.blob for layer in self._layers.values()}
        for entry in (self._root / "blobs" / "sha256").iterdir():
            if f"sha256:{entry.name}" not in keep:
                self.fetched.keep(f"sha256:{entry.name}", entry)

    @contextmanager
    def lease(self, names: Iterable[str]) -> Iterator[None]:
        """Keep blobs and layers (by digest, diff-id) from being collected while an operation needs them."""
        held = list(names)
        self._leases.update(held)
        try:
            yield
        finally:
            self._leases.subtract(held)
            self._leases = +self._leases

    def leased(self, name: str) -> bool:
        """Whether an operation needs the blob or layer."""
        return name in self._leases

    async def unpack(self, blob: Path, *, digest: str = "", diff_id: str = "") -> Layer:
        """Make sure that the layer is unpacked. Without ``diff_id`` it is found by unpacking.

        Raises:
            InvalidArgument: the blob is damaged or hostile, or is not what the digests say.
            EnxameError: the disk is full.
        """
        if not diff_id:
            return await self._unpack(blob, digest, "")
        lock = self._unpacking.get(diff_id)
        if lock is None:
            lock = self._unpacking[diff_id] = asyncio.Lock()
        async with lock:
            return self._layers.get(diff_id) or await self._unpack(blob, digest, diff_id)

    async def unpack_all(self, wanted: Sequence[tuple[Path, str, str]]) -> list[Layer]:
        """Make sure that all layers, given as (blob, digest, diff-id), are unpacked; in their order.

        Raises:
            InvalidArgument, EnxameError: the first that failed, as :meth:`unpack`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.unpack(blob, digest=digest, diff_id=one)) for blob, digest, one in wanted
                ]
        except* EnxameError as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _unpack(self, blob: Path, digest: str, diff_id: str) -> Layer:
        async with self._workers:
            draft = self.new_tmp()
            try:
                diff = draft / "diff"
                diff.mkdir(mode=0o755)
                result = await unpack_layer(blob, diff)
                if digest and result.digest != digest:
                    raise InvalidArgument(f"filesystem layer verification failed for digest {digest}")
                if diff_id and result.diff_id != diff_id:
                    raise InvalidArgument(
                        f"layer {digest or blob.name} is damaged: expected {diff_id}, got {result.diff_id}"
                    )
                layer = Layer(diff_id=result.diff_id, blob=result.digest, blob_size=result.blob_size, size=result.size)
                await to_the_end(lambda: self._commit(draft, layer, blob))
            finally:
                await asyncio.shield(self.discard(draft))
        return layer

    def _commit(self, draft: Path, layer: Layer, blob: Path) -> None:
        """The blob is kept with its layer: pushing and saving need it byte for byte."""
        if not self.blob_path(layer.blob).exists():
            blob.rename(self.blob_path(layer.blob))
        (draft / "layer.json").write_bytes(msgspec.json.encode(layer))
        target = self.directory(layer.diff_id).parent
        try:
            draft.rename(target)
        except OSError as error:
            if not target.exists():
                raise EnxameError(f"cannot keep layer {layer.diff_id}: {error.strerror}") from error
        self._layers[layer.diff_id] = layer

    async def remove(self, diff_ids: Iterable[str], *, refetch: bool = True) -> int:
        """Delete layers that nobody needs, with their blobs. Returns the bytes of their files. Without ``refetch`` the
        blobs are kept for a pull that may come again.
        """
        here = [diff_id for diff_id in diff_ids if diff_id in self._layers]
        freed = sum(self._layers[diff_id].size for diff_id in here)
        graves = [self._bury(diff_id, refetch=refetch) for diff_id in here]
        await to_the_end(lambda: _remove_all(graves))
        return freed

    def _bury(self, diff_id: str, *, refetch: bool) -> Path:
        """Out of the way by one rename: a layer that stands under its name is whole. Returns where it is now."""
        layer = self._layers.pop(diff_id)
        if refetch:
            self.drop_blob(layer.blob)
        elif self.blob_path(layer.blob).exists():
            self.fetched.keep(layer.blob, self.blob_path(layer.blob))
        grave = self._root / "tmp" / secrets.token_hex(8)
        self.directory(diff_id).parent.rename(grave)
        return grave


def _hex(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    if algorithm != "sha256" or len(encoded) != 64 or not set(encoded) <= set("0123456789abcdef"):
        raise InvalidArgument(f"invalid digest {digest!r}")
    return encoded


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("cannot remove %s: %s", path, error)


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        _remove(path)
