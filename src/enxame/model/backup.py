"""Backups of a swarm, as the API tells of them."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Model, always


class RestoreRequest(Model):
    """Query of ``POST /swarm/restore``: addresses of the manager on this machine; empty: as before, if possible."""

    listen_addr: str = ""
    advertise_addr: str = ""
    data_path_addr: str = ""


class Restored(Model):
    """What was restored: the node, where it listens for others, and what the backup holds."""

    node_id: str = always(default="")
    cluster_id: str = always(default="")
    advertise_addr: str = always(default="")
    former_addr: str = always(default="")
    revision: int = always(default=0)
    time: str = always(default="")
    counts: dict[str, int] = field(default_factory=dict)
