"""What the daemon tells of itself: use of the disk."""

from __future__ import annotations

from typing import Any

from enxame.model.base import Model
from enxame.model.container_view import ContainerSummary
from enxame.model.image import ImageSummary
from enxame.model.volume import Volume


class DiskUsage(Model):
    """``GET /system/df``; kinds that were not asked for are left out. Sizes in bytes."""

    #: Of all layers, each counted once.
    layers_size: int | None = None
    images: list[ImageSummary] | None = None
    containers: list[ContainerSummary] | None = None
    volumes: list[Volume] | None = None
    build_cache: list[dict[str, Any]] | None = None
    builder_size: int | None = None
