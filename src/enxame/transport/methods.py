"""Everything that crosses the network between nodes: names, who may call, types. See docs/design/0009."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from msgspec import field

from enxame.model.base import Model
from enxame.model.cluster import PeerNode
from enxame.model.dispatch import Assignments, TaskStatusUpdate
from enxame.model.node import NodeDescription, NodeSpec
from enxame.model.task import Task

Q = TypeVar("Q", bound=Model)
A = TypeVar("A", bound=Model)

ANYBODY: Final = frozenset({"", "worker", "manager"})
NODES: Final = frozenset({"worker", "manager"})
MANAGERS: Final = frozenset({"manager"})


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, A]):
    """``roles`` are those of the caller's certificate; "" is a caller without one."""

    name: str
    roles: frozenset[str]
    request: type[Q]
    answer: type[A]
    stream: bool = False


class Nothing(Model):
    """No arguments, or nothing to say."""


class RootCertificate(Model):
    """PEM."""

    root: str = ""


class IssueRequest(Model):
    """A new node asks for its certificate. ``signing_request`` is PEM; ``addr`` where a manager will listen."""

    token: str = ""
    signing_request: str = ""
    availability: str = ""
    addr: str = ""


class NodeCertificate(Model):
    """What a node needs to be one. ``managers`` are addresses (``host:port``)."""

    node_id: str = ""
    cluster_id: str = ""
    role: str = ""
    certificate: str = ""
    root: str = ""
    managers: list[str] = field(default_factory=list)


class RenewRequest(Model):
    """A node asks for a fresh certificate."""

    signing_request: str = ""


class SessionRequest(Model):
    """A node reports for duty."""

    description: NodeDescription = field(default_factory=NodeDescription)


class SessionNews(Model):
    """What a node should know of the swarm. ``heartbeat_period`` in seconds."""

    managers: list[PeerNode] = field(default_factory=list)
    spec: NodeSpec = field(default_factory=NodeSpec)
    root: str = ""
    heartbeat_period: float = 0.0


class Heartbeat(Model):
    """Seconds until the next one is due."""

    period: float = 0.0


class LeaveRequest(Model):
    """A node has ended its tasks and leaves the swarm for good."""


class StatusReport(Model):
    """What tasks of the calling node came to."""

    updates: list[TaskStatusUpdate] = field(default_factory=list)


class LogRequest(Model):
    """Lines of one task's log; the options as in ``model/stream.py``."""

    task: Task = field(default_factory=Task)
    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int | None = None
    since: float = 0.0
    until: float = 0.0


class LogLine(Model):
    """One line of a log."""

    stream: int = 1
    timestamp: str = ""
    data: bytes = b""


CA_ROOT: Final = Method("ca.root", ANYBODY, Nothing, RootCertificate)
CA_ISSUE: Final = Method("ca.issue", ANYBODY, IssueRequest, NodeCertificate)
CA_RENEW: Final = Method("ca.renew", NODES, RenewRequest, NodeCertificate)
NODE_SESSION: Final = Method("node.session", NODES, SessionRequest, SessionNews, stream=True)
NODE_ASSIGNMENTS: Final = Method("node.assignments", NODES, Nothing, Assignments, stream=True)
NODE_REPORT: Final = Method("node.report", NODES, StatusReport, Nothing)
NODE_HEARTBEAT: Final = Method("node.heartbeat", NODES, Nothing, Heartbeat)
NODE_LEAVE: Final = Method("node.leave", NODES, LeaveRequest, Nothing)
#: Called by the manager, over the connection that the node opened.
NODE_LOGS: Final = Method("node.logs", MANAGERS, LogRequest, LogLine, stream=True)
