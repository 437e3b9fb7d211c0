"""What a manager and a node's agent say to each other.

A session begins with the agent's :class:`NodeDescription`; then the manager sends :class:`Assignments` (first complete,
then differences) and the agent sends :class:`TaskStatusUpdate` batches. The same objects travel in-process and as
msgpack between machines.
"""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Model
from enxame.model.network import Network
from enxame.model.secret import Config, Secret
from enxame.model.service import PortConfig
from enxame.model.task import Task, TaskStatus


class IngressBackend(Model):
    """Where a connection to a published port may go: a running, healthy task's address and target port."""

    task_id: str = ""
    ip: str = ""
    port: int = 0


class IngressPort(Model):
    """A port published through the routing mesh and who answers it."""

    service_id: str = ""
    port: PortConfig = field(default_factory=PortConfig)
    backends: list[IngressBackend] = field(default_factory=list)


class Assignments(Model):
    """What a node is to have. ``complete``: everything not named is to go; else a difference on the set before.

    ``networks`` are those the tasks need; ``ingress`` is always the whole list when present (``None``: unchanged).
    """

    complete: bool = False
    tasks: list[Task] = field(default_factory=list)
    removed_tasks: list[str] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)
    removed_networks: list[str] = field(default_factory=list)
    secrets: list[Secret] = field(default_factory=list)
    removed_secrets: list[str] = field(default_factory=list)
    configs: list[Config] = field(default_factory=list)
    removed_configs: list[str] = field(default_factory=list)
    ingress: list[IngressPort] | None = None


class TaskStatusUpdate(Model):
    """A task's new status, as its node sees it."""

    task_id: str = ""
    status: TaskStatus = field(default_factory=TaskStatus)
