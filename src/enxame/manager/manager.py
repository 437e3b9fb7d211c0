"""A manager's side of the swarm: what the API calls."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from enxame.backup.form import Item
from enxame.manager.backup_schedule import BackupSchedules
from enxame.manager.backups import BackupControl
from enxame.manager.configs import ConfigControl
from enxame.manager.logs import LogBroker, TaskLogReader
from enxame.manager.networks import NetworkControl
from enxame.manager.nodes import NodeControl, no_trouble
from enxame.manager.secrets import SecretControl
from enxame.manager.services import ServiceControl
from enxame.manager.swarm import SwarmControl
from enxame.manager.tasks import TaskControl
from enxame.security.ids import new_id as random_id
from enxame.store.store import Store
from enxame.transport.identity import Identity

__all__ = ["Manager"]


def _wall_clock() -> datetime:
    return datetime.now(UTC)


def _no_files() -> Sequence[Item]:
    return ()


def _random_name() -> str:
    return f"service-{secrets.token_hex(4)}"


class Manager:
    """The use cases over one store. Exists while this node is a manager; ``node_id`` is this node's.

    ``read_log`` reads one task's log on its node; ``new_name`` names services that were given none;
    ``leads``: whether this manager does; ``node_files`` is what backups keep of this node;
    ``own`` is its identity, which external signers want to see; ``manager_trouble`` says why a node cannot become a
    manager, ``own_trouble`` why this one cannot have others beside it.
    """

    def __init__(
        self,
        store: Store,
        *,
        node_id: str,
        read_log: TaskLogReader,
        wall: Callable[[], datetime] = _wall_clock,
        new_id: Callable[[], str] = random_id,
        new_name: Callable[[], str] = _random_name,
        node_files: Callable[[], Sequence[Item]] = _no_files,
        leads: Callable[[], bool] = lambda: True,
        manager_trouble: Callable[[str], str] = lambda _node_id: "",
        own_trouble: Callable[[], Awaitable[str]] = no_trouble,
        own: Callable[[], Identity | None] = lambda: None,
        settled: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.store = store
        self.node_id = node_id
        self.swarm = SwarmControl(store, wall=wall, own=own, settled=settled)
        self.services = ServiceControl(store, wall=wall, new_id=new_id, new_name=new_name)
        self.tasks = TaskControl(store, node_id)
        self.nodes = NodeControl(store, node_id, manager_trouble=manager_trouble, own_trouble=own_trouble)
        self.networks = NetworkControl(store, new_id)
        self.secrets = SecretControl(store, new_id)
        self.configs = ConfigControl(store, new_id)
        self.logs = LogBroker(store, read_log)
        self.backups = BackupControl(store, node_id, wall=wall, node_files=node_files)
        self.backup_schedules = BackupSchedules(store, self.backups, wall=wall, leads=leads)
