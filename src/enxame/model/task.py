"""Tasks: one container each, in a slot of a service."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from msgspec import field

from enxame.model.base import ZERO_TIME, Meta, Model, ObjectVersion, always
from enxame.model.network import Network
from enxame.model.service import GenericResource, PortConfig, TaskSpec


class TaskState(Enum):
    """States in order; a task only moves to greater ones (swarmkit api/types.proto)."""

    NEW = "new"
    PENDING = "pending"
    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    PREPARING = "preparing"
    READY = "ready"
    STARTING = "starting"
    RUNNING = "running"
    COMPLETE = "complete"
    SHUTDOWN = "shutdown"
    FAILED = "failed"
    REJECTED = "rejected"
    #: Only ever a desired state: delete the task once it has stopped.
    REMOVE = "remove"
    ORPHANED = "orphaned"

    #: The place in the order, and whether a task in this state will never run (again).
    rank: int
    is_terminal: bool

    def __lt__(self, other: TaskState) -> bool:
        return self.rank < other.rank

    def __le__(self, other: TaskState) -> bool:
        return self.rank <= other.rank

    def __gt__(self, other: TaskState) -> bool:
        return self.rank > other.rank

    def __ge__(self, other: TaskState) -> bool:
        return self.rank >= other.rank

    # States are compared and looked up all the time: each is one object, and its identity will do.
    __hash__ = object.__hash__


for _rank, _state in enumerate(TaskState):
    _state.rank, _state.is_terminal = _rank, _rank >= list(TaskState).index(TaskState.COMPLETE)


class ContainerStatus(Model):
    """The container of a task. ``addresses`` (CIDR, by network id) are those that its node gave it; Enxame's own."""

    container_id: str = ""
    pid: int = 0
    exit_code: int = always(default=0)
    addresses: dict[str, list[str]] = field(default_factory=dict)


class PortStatus(Model):
    """Ports published in host mode."""

    ports: list[PortConfig] = field(default_factory=list)


class TaskStatus(Model):
    """What the task's node last said."""

    timestamp: datetime = always(default=ZERO_TIME)
    state: TaskState = always(default=TaskState.NEW)
    message: str = ""
    err: str = ""
    container_status: ContainerStatus | None = None
    port_status: PortStatus = field(default_factory=PortStatus)


class NetworkAttachment(Model):
    """``network`` as it was when the task was allocated; ``addresses`` in CIDR."""

    network: Network = field(default_factory=Network)
    addresses: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)


class TaskInternal(Model):
    """Never rendered. What the agent and the orchestrator must know of the service the task came from.

    ``ports`` are the service's published ports (all modes, allocated).
    """

    service_name: str = ""
    service_labels: dict[str, str] = field(default_factory=dict)
    spec_version: int = 0
    ports: list[PortConfig] = field(default_factory=list)
    registry_auth: str = ""
    #: The service's virtual addresses by network id (CIDR).
    virtual_ips: dict[str, str] = field(default_factory=dict)


class Task(Meta):
    """One attempt at running a slot of a service."""

    name: str = ""
    labels: dict[str, str] = always(default_factory=dict)
    spec: TaskSpec = field(default_factory=TaskSpec)
    service_id: str = ""
    slot: int = 0
    node_id: str = ""
    assigned_generic_resources: list[GenericResource] = field(default_factory=list)
    status: TaskStatus = field(default_factory=TaskStatus)
    desired_state: TaskState = always(default=TaskState.NEW)
    networks_attachments: list[NetworkAttachment] = field(default_factory=list)
    job_iteration: ObjectVersion | None = None
    internal: TaskInternal | None = None
