"""What the daemon tells of itself: use of the disk."""

from __future__ import annotations

from datetime import datetime

from enxame.model.base import ZERO_TIME, Model, always
from enxame.model.container_view import ContainerSummary
from enxame.model.image import ImageSummary
from enxame.model.volume import Volume


class BuildCacheRecord(Model):
    """A part of the cache of builds; ``size`` in bytes."""

    id: str = always(default="")
    parents: list[str] | None = None
    type: str = always(default="regular")
    description: str = always(default="")
    in_use: bool = always(default=False)
    shared: bool = always(default=False)
    size: int = always(default=0)
    created_at: datetime = always(default=ZERO_TIME)
    last_used_at: datetime | None = always(default=None)
    usage_count: int = always(default=0)


class DiskUsage(Model):
    """``GET /system/df``; kinds that were not asked for are left out. Sizes in bytes."""

    #: Of all layers, each counted once.
    layers_size: int | None = None
    images: list[ImageSummary] | None = None
    containers: list[ContainerSummary] | None = None
    volumes: list[Volume] | None = None
    build_cache: list[BuildCacheRecord] | None = None
    builder_size: int | None = None
