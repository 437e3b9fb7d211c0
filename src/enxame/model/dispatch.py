"""What a manager and a node's agent say to each other.

A session begins with the agent's :class:`NodeDescription`; then the manager sends :class:`Assignments` (first complete,
then differences) and the agent sends :class:`TaskStatusUpdate` batches. The same objects travel in-process and as
msgpack between machines.
"""

from __future__ import annotations

from msgspec import field

from enxame.model.attachment import Attachment
from enxame.model.base import Model
from enxame.model.cluster import NetworkKey
from enxame.model.network import Network
from enxame.model.secret import Config, Secret
from enxame.model.service import PortConfig
from enxame.model.task import Task, TaskStatus


class NetworkEndpoint(Model):
    """A task, or a container outside any service, on a network. ``id`` is the task's or the attachment's.

    ``addresses`` are plain IPs; ``data_path`` is where its node takes packets for it (an IP). ``names``: its own, the
    first being the proper one; ``aliases`` it shares with others. ``serving``: it runs, is healthy and is meant to run
    (the others are there to be reached, not to be named or sent new work). ``ports``, on the ingress network: those
    that it was made with. ``link_address``: where it is not the one that follows from its IPv4 address.
    """

    id: str = ""
    node_id: str = ""
    service_id: str = ""
    addresses: list[str] = field(default_factory=list)
    data_path: str = ""
    names: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    serving: bool = False
    ports: list[PortConfig] = field(default_factory=list)
    link_address: str = ""


class NetworkService(Model):
    """A service on a network. ``vip`` and, where the network has IPv6, ``vip6`` are plain IPs, empty for dnsrr
    (``mode``); ``ports``, on the ingress network: those it publishes there. ``labels`` are the service's that begin
    with ``enxame.network.``.
    """

    id: str = ""
    name: str = ""
    aliases: list[str] = field(default_factory=list)
    mode: str = "vip"
    vip: str = ""
    vip6: str = ""
    ports: list[PortConfig] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


class NetworkPeer(Model):
    """A node that takes part in a network: every node in the ingress network, else those with endpoints there.
    ``data_path`` is an IP. ``ipv4_only``: its containers have no IPv6.
    """

    id: str = ""
    name: str = ""
    data_path: str = ""
    ipv4_only: bool = False


class NetworkTable(Model):
    """Who is on a network, on every node. ``complete``: nobody else; else a difference on the table before."""

    network_id: str = ""
    complete: bool = False
    endpoints: list[NetworkEndpoint] = field(default_factory=list)
    removed_endpoints: list[str] = field(default_factory=list)
    services: list[NetworkService] = field(default_factory=list)
    removed_services: list[str] = field(default_factory=list)
    peers: list[NetworkPeer] = field(default_factory=list)
    removed_peers: list[str] = field(default_factory=list)


class DataPath(Model):
    """Where a node takes packets for its containers: an IP, empty while it is not known, and a UDP port. ``keys``,
    oldest first, when it is on an encrypted network: all are understood, the last but one encrypts, the last is next.
    """

    node_id: str = ""
    address: str = ""
    port: int = 0
    keys: list[NetworkKey] = field(default_factory=list)


class Assignments(Model):
    """What a node is to have. ``complete``: everything not named is to go; else a difference on the set before.

    ``networks`` are those the tasks need; ``tables`` tell who is on them, complete for a network that the node is told
    of anew; a network's table goes with it. ``data_path`` is the node's own, when it may be news. ``attachments`` are
    all that the node has, in a complete set. ``acknowledge``: the node is to repeat this number when packets and names
    go as the tables say; 0: it need not.
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
    data_path: DataPath | None = None
    attachments: list[Attachment] = field(default_factory=list)
    tables: list[NetworkTable] = field(default_factory=list)
    acknowledge: int = 0


class TaskStatusUpdate(Model):
    """A task's new status, as its node sees it."""

    task_id: str = ""
    status: TaskStatus = field(default_factory=TaskStatus)
