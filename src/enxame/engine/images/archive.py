"""What a staged image archive holds: reads the tables of contents of docker-archives and OCI layouts. Pure but for
reading the small JSON files.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import field

from enxame.engine.images.reference import Reference, parse
from enxame.engine.images.worker_process import Staged, StagedFile
from enxame.errors import InvalidArgument
from enxame.model.base import Model, convert
from enxame.model.image import Descriptor

__all__ = ["ARCHITECTURE", "INDEX_TYPES", "ArchivedImage", "Manifest", "images_of"]

#: A table of contents larger than this is not one (bytes).
_JSON_LIMIT: Final = 16 << 20
_NESTING_LIMIT: Final = 4

INDEX_TYPES: Final = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}
#: This machine's architecture, as images call it.
ARCHITECTURE: Final = _ARCHITECTURES.get(platform.machine(), platform.machine())

T = TypeVar("T")


@dataclass(frozen=True)
class ArchivedImage:
    """One image of an archive; ``layers`` lowest first."""

    config: StagedFile
    layers: list[StagedFile]
    names: list[Reference]


class _DockerManifest(Model):
    config: str = ""
    repo_tags: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)


class Manifest(Model, rename="camel"):
    """A manifest or an index of them, OCI's or Docker's."""

    schema_version: int = 2
    media_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] = field(default_factory=list)
    manifests: list[Descriptor] = field(default_factory=list)


def images_of(staged: Staged) -> list[ArchivedImage]:
    """The images of an archive that ``docker save``, ``podman save``, ``skopeo`` or ``buildah`` wrote.

    Raises:
        InvalidArgument: it is no such archive, or something is missing in it.
    """
    if _find(staged, "manifest.json") is not None:
        return _docker_images(staged)
    if _find(staged, "index.json") is not None:
        return _oci_images(staged)
    raise InvalidArgument("unrecognized image format: the archive has neither manifest.json nor index.json")


def _docker_images(staged: Staged) -> list[ArchivedImage]:
    manifest = _read(_get(staged, "manifest.json"), list[_DockerManifest])
    return [
        ArchivedImage(
            config=_get(staged, entry.config),
            layers=[_get(staged, name) for name in entry.layers],
            names=[parse(tag).tagged() for tag in entry.repo_tags],
        )
        for entry in manifest
    ]


def _oci_images(staged: Staged) -> list[ArchivedImage]:
    index = _read(_get(staged, "index.json"), Manifest)
    images: dict[str, ArchivedImage] = {}
    for descriptor in index.manifests:
        manifest = _platform_manifest(staged, descriptor, 0)
        if manifest is None or manifest.config is None:
            continue
        config = _blob(staged, manifest.config.digest)
        names = list(_oci_names(descriptor))
        known = images.get(config.digest)
        if known is not None:
            known.names.extend(names)
            continue
        layers = [_blob(staged, layer.digest) for layer in manifest.layers]
        images[config.digest] = ArchivedImage(config=config, layers=layers, names=names)
    if not images:
        raise InvalidArgument(f"the archive holds no image for linux/{ARCHITECTURE}")
    return list(images.values())


def _platform_manifest(staged: Staged, descriptor: Descriptor, depth: int) -> Manifest | None:
    if depth > _NESTING_LIMIT:
        raise InvalidArgument("the image index is nested too deeply")
    manifest = _read(_blob(staged, descriptor.digest), Manifest)
    if descriptor.media_type not in INDEX_TYPES and not manifest.manifests:
        return manifest
    fitting = [
        entry
        for entry in manifest.manifests
        if entry.platform is None or (entry.platform.os, entry.platform.architecture) == ("linux", ARCHITECTURE)
    ]
    for entry in fitting:
        if _find(staged, _blob_name(entry.digest)) is not None:
            return _platform_manifest(staged, entry, depth + 1)
    return None


def _oci_names(descriptor: Descriptor) -> Iterator[Reference]:
    name = descriptor.annotations.get("io.containerd.image.name")
    if name is None:
        name = descriptor.annotations.get("org.opencontainers.image.ref.name", "")
        if not any(mark in name for mark in ":/"):
            return  # a tag alone says nothing of the repository
    reference = parse(name)
    yield reference.tagged()


def _find(staged: Staged, name: str) -> StagedFile | None:
    name = name.removeprefix("./")
    for _ in range(_NESTING_LIMIT):
        if name in staged.files:
            return staged.files[name]
        if name not in staged.links:
            return None
        name = staged.links[name]
    return None


def _get(staged: Staged, name: str) -> StagedFile:
    found = _find(staged, name)
    if found is None:
        raise InvalidArgument(f"invalid archive: {name!r} is missing")
    return found


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _blob(staged: Staged, digest: str) -> StagedFile:
    found = _get(staged, _blob_name(digest))
    if found.digest != digest:
        raise InvalidArgument(f"invalid archive: blob {digest} is damaged")
    return found


def _read(file: StagedFile, as_type: type[T]) -> T:
    if file.size > _JSON_LIMIT:
        raise InvalidArgument("invalid archive: its table of contents is too large")
    try:
        return convert(msgspec.json.decode(Path(file.path).read_bytes()), as_type)
    except (msgspec.DecodeError, InvalidArgument) as error:
        raise InvalidArgument(f"invalid archive: {error}") from error
