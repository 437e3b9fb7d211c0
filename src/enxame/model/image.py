"""Images: their configuration, and what the API says of them. Times of containers' health checks are nanoseconds,
sizes bytes. Identifiers and digests are ``sha256:<64 hex>``.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import field

from enxame.model.base import ZERO_TIME, Model, always
from enxame.model.container import ContainerConfig

__all__ = [
    "BuildPruneReport",
    "Descriptor",
    "DistributionInspect",
    "GraphDriverData",
    "HistoryEntry",
    "Image",
    "ImageConfig",
    "ImageDeleteItem",
    "ImageFile",
    "ImageHistoryItem",
    "ImageInspect",
    "ImageMetadata",
    "ImageSummary",
    "ImagesPruneReport",
    "OCIPlatform",
    "ProgressDetail",
    "ProgressMessage",
    "RegistryAuth",
    "RootFS",
]


class ImageConfig(ContainerConfig):
    """How a container of the image runs unless told otherwise: the ``config`` block of an image."""

    on_build: list[str] | None = always(default=None)
    args_escaped: bool = False


class Image(Model):
    """An image of this machine. ``layers`` are the diff-ids (digests of the uncompressed tars), lowest first."""

    id: str = always(default="")
    config: ImageConfig = field(default_factory=ImageConfig)
    layers: list[str] = always(default_factory=list)
    architecture: str = always(default="")
    os: str = always(default="linux")
    variant: str = ""
    created: datetime = always(default=ZERO_TIME)
    size: int = always(default=0)


class HistoryEntry(Model, rename=None):
    """One step of an image's history, as the image's configuration stores it."""

    created: datetime = ZERO_TIME
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageFileRootFS(Model, rename=None):
    """The layers that an image's configuration names."""

    type: str = always(default="layers")
    diff_ids: list[str] = always(default_factory=list)


class ImageFile(Model, rename=None):
    """An image's configuration blob, in Docker's and OCI's common form; its digest is the image's id."""

    architecture: str = always(default="")
    variant: str = ""
    os: str = always(default="")
    os_version: str = field(default="", name="os.version")
    author: str = ""
    created: datetime = ZERO_TIME
    docker_version: str = ""
    comment: str = ""
    container: str = ""
    config: ImageConfig = field(default_factory=ImageConfig)
    rootfs: ImageFileRootFS = field(default_factory=ImageFileRootFS)
    history: list[HistoryEntry] = field(default_factory=list)


class RootFS(Model):
    """The image's layers as the API shows them."""

    type: str = always(default="layers")
    layers: list[str] = field(default_factory=list)


class GraphDriverData(Model):
    """Where the layers lie on this machine."""

    data: dict[str, str] = always(default_factory=dict)
    name: str = always(default="overlay2")


class ImageMetadata(Model):
    """What this machine notes about an image."""

    last_tag_time: datetime = always(default=ZERO_TIME)


class ImageInspect(Model):
    """Answer of ``GET /images/{name}/json``."""

    id: str = always(default="", name="Id")
    repo_tags: list[str] = always(default_factory=list)
    repo_digests: list[str] = always(default_factory=list)
    parent: str = always(default="")
    comment: str = always(default="")
    created: datetime = always(default=ZERO_TIME)
    container: str = always(default="")
    docker_version: str = always(default="")
    author: str = always(default="")
    config: ImageConfig = always(default_factory=ImageConfig)
    architecture: str = always(default="")
    variant: str = ""
    os: str = always(default="", name="Os")
    os_version: str = field(default="", name="OsVersion")
    size: int = always(default=0)
    virtual_size: int = always(default=0)
    graph_driver: GraphDriverData = always(default_factory=GraphDriverData)
    root_fs: RootFS = always(default_factory=RootFS, name="RootFS")
    metadata: ImageMetadata = always(default_factory=ImageMetadata)


class ImageSummary(Model):
    """One row of ``GET /images/json``. ``created`` is seconds since 1970; -1 means *not counted*."""

    id: str = always(default="", name="Id")
    parent_id: str = always(default="", name="ParentId")
    repo_tags: list[str] = always(default_factory=list)
    repo_digests: list[str] = always(default_factory=list)
    created: int = always(default=0)
    size: int = always(default=0)
    virtual_size: int = always(default=0)
    shared_size: int = always(default=-1)
    labels: dict[str, str] | None = always(default=None)
    containers: int = always(default=-1)


class ImageHistoryItem(Model):
    """One row of ``GET /images/{name}/history``, newest first. ``created`` is seconds since 1970."""

    id: str = always(default="<missing>", name="Id")
    created: int = always(default=0)
    created_by: str = always(default="")
    tags: list[str] | None = always(default=None)
    size: int = always(default=0)
    comment: str = always(default="")


class ImageDeleteItem(Model):
    """One thing that a removal did: a name that went, or an image or layer that went."""

    untagged: str = ""
    deleted: str = ""


class ImagesPruneReport(Model):
    """Answer of ``POST /images/prune``."""

    images_deleted: list[ImageDeleteItem] | None = always(default=None)
    space_reclaimed: int = always(default=0)


class BuildPruneReport(Model):
    """Answer of ``POST /build/prune``."""

    caches_deleted: list[str] | None = always(default=None)
    space_reclaimed: int = always(default=0)


class ProgressDetail(Model, rename=None):
    """How far a transfer is, in bytes."""

    current: int = 0
    total: int = 0


class ProgressMessage(Model, rename=None):
    """One line of the stream that pull, load and import answer with."""

    status: str = ""
    progress_detail: ProgressDetail | None = field(default=None, name="progressDetail")
    progress: str = ""
    id: str = ""
    stream: str = ""
    #: What programs read: ``Tag``, ``Digest`` and ``Size`` of a push, the ``ID`` of a build.
    aux: dict[str, str | int] | None = None


class RegistryAuth(Model, rename="lower"):
    """The ``X-Registry-Auth`` header, decoded."""

    username: str = ""
    password: str = ""
    auth: str = ""
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class OCIPlatform(Model, rename=None):
    """What an image runs on."""

    architecture: str = always(default="")
    os: str = always(default="")
    os_version: str = field(default="", name="os.version")
    variant: str = ""


class Descriptor(Model, rename="camel"):
    """A blob of a registry: what it is, its digest and its size."""

    media_type: str = always(default="")
    digest: str = always(default="")
    size: int = always(default=0)
    urls: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    platform: OCIPlatform | None = None


class DistributionInspect(Model):
    """Answer of ``GET /distribution/{name}/json``."""

    descriptor: Descriptor = always(default_factory=Descriptor)
    platforms: list[OCIPlatform] = always(default_factory=list)
