"""Backups of a swarm, as the API tells of them."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Model, always


class RestoreRequest(Model):
    """Query of ``POST /swarm/restore``: addresses of the manager on this machine; empty: as before, if possible."""

    listen_addr: str = ""
    advertise_addr: str = ""
    data_path_addr: str = ""


class BackupSchedule(Model):
    """Backups that the leader makes by itself: in ``directory`` of its machine, ``every`` so many nanoseconds; the
    newest ``keep`` stay (0: all). ``key_file``: a file of each manager that encrypts them; empty: they are in the
    clear.
    """

    directory: str = ""
    every: int = 0
    keep: int = always(default=0)
    key_file: str = ""


class BackupStatus(Model):
    """What came of the schedule on the manager that leads. Times are RFC 3339, empty where there was none."""

    schedule: BackupSchedule | None = None
    last: str = always(default="")
    last_file: str = always(default="")
    next: str = always(default="")
    failed: str = always(default="")
    error: str = always(default="")
    made: int = always(default=0)
    failures: int = always(default=0)


class Restored(Model):
    """What was restored: the node, where it listens for others, and what the backup holds."""

    node_id: str = always(default="")
    cluster_id: str = always(default="")
    advertise_addr: str = always(default="")
    former_addr: str = always(default="")
    revision: int = always(default=0)
    time: str = always(default="")
    counts: dict[str, int] = field(default_factory=dict)
