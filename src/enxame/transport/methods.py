"""Everything that crosses the network between nodes: names, who may call, types. See docs/design/0009."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from msgspec import field

from enxame.model.attachment import Attached, AttachRequest, DetachRequest
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
    """PEM; and the swarm's ``incarnation``, which is higher after every recovery."""

    root: str = ""
    incarnation: int = 0


class IssueRequest(Model):
    """A new node asks for its certificate. ``signing_request`` is PEM; ``addr`` where a manager will listen, empty:
    where it calls from; ``manager_trouble``: why it cannot become a manager. A manager that passes the request on to
    the leader says in ``seen_from`` whose it is (an IP).
    """

    token: str = ""
    signing_request: str = ""
    availability: str = ""
    addr: str = ""
    manager_trouble: str = ""
    seen_from: str = ""


class NodeCertificate(Model):
    """What a node needs to be one. ``managers`` are addresses (``host:port``); ``next_root``: see SessionNews."""

    node_id: str = ""
    cluster_id: str = ""
    role: str = ""
    certificate: str = ""
    root: str = ""
    next_root: str = ""
    managers: list[str] = field(default_factory=list)


class RenewRequest(Model):
    """A node asks for a fresh certificate. ``addr`` is where it listens if it is a manager."""

    signing_request: str = ""
    addr: str = ""


class SessionRequest(Model):
    """A node reports for duty. ``incarnation`` is the highest of the swarm that it knows."""

    description: NodeDescription = field(default_factory=NodeDescription)
    incarnation: int = 0
    #: Why the node could not be a manager; empty when it could.
    manager_trouble: str = ""


class SessionNews(Model):
    """What a node should know of the swarm. ``heartbeat_period`` in seconds.

    With a ``redirect`` (``host:port``) there is nothing else: the manager that leads, and serves sessions, is there.
    ``manages``: the node has a part in the managers' agreement (still, when ``spec`` says worker).
    """

    redirect: str = ""
    manages: bool = False
    managers: list[PeerNode] = field(default_factory=list)
    spec: NodeSpec = field(default_factory=NodeSpec)
    root: str = ""
    #: While the root is rotated: the one to come. Certificates are to be of this one; both are believed.
    next_root: str = ""
    heartbeat_period: float = 0.0
    incarnation: int = 0


class NodeNews(Model):
    """What a node says about itself now."""

    description: NodeDescription = field(default_factory=NodeDescription)


class Beat(Model):
    """A node lives. ``trouble``, of a manager: why it has no part in the managers' agreement at the moment."""

    trouble: str = ""


class Heartbeat(Model):
    """Seconds until the next one is due."""

    period: float = 0.0


class LeaveRequest(Model):
    """A node has ended its tasks and leaves the swarm for good; or, with ``back_within`` (seconds), its daemon stops
    for a moment and its tasks go on.
    """

    back_within: float = 0.0


class Withdrawal(Model):
    """A task of the calling node is about to stop: answered when nobody sends it anything new."""

    task_id: str = ""


class Acknowledgement(Model):
    """The calling node did what it was told with this number, and all before."""

    number: int = 0


class StatusReport(Model):
    """What tasks of the calling node came to."""

    updates: list[TaskStatusUpdate] = field(default_factory=list)


class ManagerJoin(Model):
    """A new manager asks for its part in the managers' agreement. ``peer_url``: where its etcd member will be found;
    ``addr``: where it listens to nodes.
    """

    peer_url: str = ""
    addr: str = ""


class ManagerJoinNews(Model):
    """First who the members are (name → peer URL), the cluster's token and the keys of the state (``KeyMaterial`` as
    msgpack), or a ``redirect`` (``host:port``) to the manager that leads; then, once the new one has said that it is
    ready, ``done``.
    """

    redirect: str = ""
    members: dict[str, str] = field(default_factory=dict)
    cluster_token: str = ""
    state_keys: bytes = b""
    done: bool = False


class ManagerStanding(Model):
    """Whether the calling manager has a part in the managers' agreement."""

    member: bool = False


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


class ForwardRequest(Model):
    """A client's request that another manager passes on to the leader. ``target`` is path and query as they came, with
    the version in front; ``object_id`` that of the object which it makes, if it makes one, so that the same request
    made again does not make another. ``looks_only``: secrets are to be left out of the answer.
    """

    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    object_id: str = ""
    looks_only: bool = False


class ForwardPart(Model):
    """A piece of the answer. The first has HTTP's ``status`` and headers, 421 when nothing was done because this
    manager does not lead; ``in_doubt``: nobody knows whether it was done. ``whole``: no further piece comes.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    whole: bool = False
    in_doubt: bool = False


CA_ROOT: Final = Method("ca.root", ANYBODY, Nothing, RootCertificate)
CA_ISSUE: Final = Method("ca.issue", ANYBODY, IssueRequest, NodeCertificate)
CA_RENEW: Final = Method("ca.renew", NODES, RenewRequest, NodeCertificate)
NODE_SESSION: Final = Method("node.session", NODES, SessionRequest, SessionNews, stream=True)
NODE_ASSIGNMENTS: Final = Method("node.assignments", NODES, Nothing, Assignments, stream=True)
NODE_REPORT: Final = Method("node.report", NODES, StatusReport, Nothing)
NODE_HEARTBEAT: Final = Method("node.heartbeat", NODES, Beat, Heartbeat)
NODE_DESCRIBE: Final = Method("node.describe", NODES, NodeNews, Nothing)
NODE_WITHDRAW: Final = Method("node.withdraw", NODES, Withdrawal, Nothing)
NODE_ACKNOWLEDGE: Final = Method("node.acknowledge", NODES, Acknowledgement, Nothing)
NODE_ATTACH: Final = Method("node.attach", NODES, AttachRequest, Attached)
NODE_DETACH: Final = Method("node.detach", NODES, DetachRequest, Nothing)
NODE_LEAVE: Final = Method("node.leave", NODES, LeaveRequest, Nothing)
#: To be served by the manager that leads; the caller's member has started when it says that it is ready.
MANAGER_JOIN: Final = Method("manager.join", MANAGERS, ManagerJoin, ManagerJoinNews, stream=True)
MANAGER_READY: Final = Method("manager.ready", MANAGERS, Nothing, Nothing)
MANAGER_STANDING: Final = Method("manager.standing", MANAGERS, Nothing, ManagerStanding)
#: Called by the manager, over the connection that the node opened.
NODE_LOGS: Final = Method("node.logs", MANAGERS, LogRequest, LogLine, stream=True)
API_FORWARD: Final = Method("api.forward", MANAGERS, ForwardRequest, ForwardPart, stream=True)
