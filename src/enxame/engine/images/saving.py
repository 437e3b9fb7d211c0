"""Writing images as one archive: what ``docker save`` gives, an OCI layout at the same time.

blobs/sha256/<hex>     configurations, layers as they are kept, OCI manifests; each once
manifest.json, repositories     Docker's tables of contents
index.json, oci-layout     OCI's
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from enxame.engine.children import child
from enxame.engine.images.blob_kinds import ZSTD, compression, oci_manifest
from enxame.engine.images.index import ImageIndex, ImageRecord, chain_ids
from enxame.engine.images.layers import Layer, LayerStore
from enxame.engine.images.reference import Reference, parse
from enxame.errors import EnxameError, InvalidArgument, NotFound

__all__ = ["SavedImage", "choose_images", "write_archive"]

_PIECE: Final = 1 << 20
#: Seconds for uncompressing one layer.
_DECOMPRESS_DEADLINE: Final = 600.0


@dataclass(frozen=True)
class SavedImage:
    """An image of an archive to be, with the names that it shall have there."""

    record: ImageRecord
    names: list[Reference]


@dataclass(frozen=True)
class _Blob:
    """A kept file and what an archive calls it."""

    path: Path
    digest: str
    size: int
    kind: str


def choose_images(index: ImageIndex, wanted: Sequence[str]) -> list[SavedImage]:
    """What ``docker save`` takes for each word: a repository with all its tags, one tag, or an image without names.

    Raises:
        NotFound: no such image.
        InvalidArgument: the text is no reference at all.
    """
    chosen: dict[str, SavedImage] = {}

    def add(record: ImageRecord, name: Reference | None) -> None:
        image = chosen.setdefault(record.image.id, SavedImage(record, []))
        if name is not None and name.tag and name not in image.names:
            image.names.append(name)

    for word in wanted:
        for record, name in _meant(index, word):
            add(record, name)
    return list(chosen.values())


def _meant(index: ImageIndex, word: str) -> list[tuple[ImageRecord, Reference | None]]:
    reference = None
    with suppress(InvalidArgument):
        reference = parse(word)
    if reference is not None and not reference.digest:
        if not reference.tag:
            tags = [parse(text) for text in sorted(index.names)]
            found = [name for name in tags if name.name == reference.name and name.tag]
            if found:
                return [(index.records[index.names[str(name)]], name) for name in found]
        elif str(reference) in index.names:
            return [(index.records[index.names[str(reference)]], reference)]
    try:
        return [(index.lookup(word), None)]
    except NotFound:
        if reference is None:
            raise
        raise NotFound(f"No such image: {word}") from None


async def write_archive(images: Sequence[SavedImage], layers: LayerStore) -> AsyncGenerator[bytes, None]:
    """The archive, piece by piece; memory does not grow with it. Nothing in it is collected meanwhile.

    Raises:
        EnxameError: a blob cannot be read.
    """
    held = [image.record.image.id for image in images]
    held += [layer.diff_id for image in images for layer in image.record.layers]
    tmp = layers.new_tmp()
    try:
        with layers.lease(held):
            async for piece in _write(images, layers, tmp):
                yield piece
    except OSError as error:
        raise EnxameError(f"cannot save the images: {error}") from error
    finally:
        await asyncio.shield(layers.discard(tmp))


async def _write(images: Sequence[SavedImage], store: LayerStore, tmp: Path) -> AsyncIterator[bytes]:
    written: set[str] = set()
    blobs: dict[str, _Blob] = {}
    docker: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    manifests: list[dict[str, Any]] = []
    for image in images:
        record = image.record
        for layer in record.layers:
            if layer.diff_id not in blobs:
                blobs[layer.diff_id] = await _layer_blob(layer, store, tmp)
            blob = blobs[layer.diff_id]
            if blob.digest not in written:
                written.add(blob.digest)
                async for piece in _file(_name(blob.digest), blob.path, blob.size):
                    yield piece
        stack = [blobs[layer.diff_id] for layer in record.layers]
        config = await asyncio.to_thread(store.blob_path(record.image.id).read_bytes)
        manifest = oci_manifest((record.image.id, len(config)), [(one.digest, one.size, one.kind) for one in stack])
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        for key, content in ((record.image.id, config), (digest, manifest)):
            if key not in written:
                written.add(key)
                yield _small(_name(key), content)
        docker.append(
            {
                "Config": _name(record.image.id),
                "RepoTags": [name.familiar for name in image.names] or None,
                "Layers": [_name(one.digest) for one in stack],
            }
        )
        top = chain_ids(record.image.layers)[-1:] or [record.image.id]
        for name in image.names:
            repositories.setdefault(name.familiar_name, {})[name.tag] = top[0].removeprefix("sha256:")
        manifests += _descriptors(digest, len(manifest), image)
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }
    yield _small("index.json", json.dumps(index).encode())
    yield _small("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield _small("manifest.json", json.dumps(docker).encode())
    if repositories:
        yield _small("repositories", json.dumps(repositories).encode())
    yield b"\0" * 1024


def _descriptors(digest: str, size: int, image: SavedImage) -> list[dict[str, Any]]:
    platform = {"architecture": image.record.image.architecture, "os": image.record.image.os}
    bare = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size}
    if not image.names:
        return [bare | {"platform": platform}]
    return [
        bare
        | {
            "platform": platform,
            "annotations": {"io.containerd.image.name": str(name), "org.opencontainers.image.ref.name": name.tag},
        }
        for name in image.names
    ]


async def _layer_blob(layer: Layer, store: LayerStore, tmp: Path) -> _Blob:
    path = store.blob_path(layer.blob)
    kind = await asyncio.to_thread(compression, path)
    if kind != ZSTD:
        return _Blob(path, layer.blob, layer.blob_size, kind)
    # Docker before 23 cannot read it.
    plain = tmp / layer.diff_id.removeprefix("sha256:")
    try:
        async with (
            asyncio.timeout(_DECOMPRESS_DEADLINE),
            child("zstd", "-dqf", str(path), "-o", str(plain)) as process,
        ):
            if await process.wait() != 0:
                raise EnxameError(f"zstd cannot uncompress {layer.blob}")
    except TimeoutError as error:
        raise EnxameError(f"uncompressing {layer.blob} took longer than {_DECOMPRESS_DEADLINE:.0f} s") from error
    except FileNotFoundError as error:
        raise EnxameError("zstd is not installed: this image cannot be saved") from error
    size = (await asyncio.to_thread(plain.stat)).st_size
    return _Blob(plain, layer.diff_id, size, "")


def _name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return b"\0" * (-size % 512)


def _small(name: str, content: bytes) -> bytes:
    return _header(name, len(content)) + content + _padding(len(content))


async def _file(name: str, path: Path, size: int) -> AsyncIterator[bytes]:
    yield _header(name, size)
    file: BinaryIO = await asyncio.to_thread(open, path, "rb", 0)
    try:
        left = size
        while left:
            piece = await asyncio.to_thread(file.read, min(_PIECE, left))
            if not piece:
                raise EnxameError(f"blob {path.name} is shorter than it should be")
            left -= len(piece)
            yield piece
    finally:
        file.close()
    yield _padding(size)
