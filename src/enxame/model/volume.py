"""Volumes of this machine, as the API says them."""

from __future__ import annotations

from datetime import datetime

from msgspec import field

from enxame.model.base import ZERO_TIME, Model, always

__all__ = ["Volume", "VolumeCreateRequest", "VolumeListResponse", "VolumeUsage", "VolumesPruneReport"]


class VolumeUsage(Model):
    """Bytes in the volume and containers that hold it; -1 means *not counted*."""

    size: int = always(default=-1)
    ref_count: int = always(default=-1)


class Volume(Model):
    """A volume. ``mountpoint`` is its directory on this machine."""

    created_at: datetime = always(default=ZERO_TIME)
    driver: str = always(default="local")
    labels: dict[str, str] | None = always(default=None)
    mountpoint: str = always(default="")
    name: str = always(default="")
    options: dict[str, str] | None = always(default=None)
    scope: str = always(default="local")
    status: dict[str, str] = field(default_factory=dict)
    usage_data: VolumeUsage | None = None


class VolumeCreateRequest(Model):
    """Body of ``POST /volumes/create``; an empty name asks for an anonymous volume."""

    name: str = ""
    driver: str = "local"
    driver_opts: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


class VolumeListResponse(Model):
    """Answer of ``GET /volumes``."""

    volumes: list[Volume] = always(default_factory=list)
    warnings: list[str] | None = always(default=None)


class VolumesPruneReport(Model):
    """Answer of ``POST /volumes/prune``."""

    volumes_deleted: list[str] | None = always(default=None)
    space_reclaimed: int = always(default=0)
