"""Nodes: the machines of a swarm."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Meta, Model, always
from enxame.model.cluster import TLSInfo
from enxame.model.service import GenericResource, Platform


class NodeSpec(Model):
    """``role``: worker|manager; ``availability``: active|pause|drain."""

    name: str = ""
    labels: dict[str, str] = always(default_factory=dict)
    role: str = ""
    availability: str = ""


class NodeResources(Model):
    """What a node has to give. 10⁹ nano CPUs are one core."""

    nano_cpus: int = always(default=0, name="NanoCPUs")
    memory_bytes: int = always(default=0)
    generic_resources: list[GenericResource] = field(default_factory=list)


class PluginDescription(Model):
    """``type`` is Volume, Network, Log…"""

    type: str = ""
    name: str = ""


class EngineDescription(Model):
    """``labels`` are the daemon's own (``--label``), not the node's."""

    engine_version: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    plugins: list[PluginDescription] = field(default_factory=list)


class NodeDescription(Model):
    """What a node says about itself. ``data_path_addr`` is where other nodes send the packets of its containers: an IP
    address; empty: its status's ``addr``.
    """

    hostname: str = ""
    platform: Platform = field(default_factory=Platform)
    resources: NodeResources = field(default_factory=NodeResources)
    engine: EngineDescription = field(default_factory=EngineDescription)
    tls_info: TLSInfo = field(default_factory=TLSInfo)
    data_path_addr: str = ""
    #: What it reaches without a router (CIDR): no network of the swarm may have these addresses.
    subnets: list[str] = field(default_factory=list)
    #: IPv6 is switched off there, or its kernel has none: its containers have no IPv6 on the swarm's networks.
    ipv4_only: bool = False
    #: Of the certificate that it shows, in hex.
    certificate_serial: str = ""


class NodeStatus(Model):
    """``state``: unknown|down|ready|disconnected; ``addr`` is the node's IP as the managers see it."""

    state: str = always(default="unknown")
    message: str = ""
    addr: str = ""


class ManagerStatus(Model):
    """``reachability``: unknown|unreachable|reachable; ``addr`` is ``host:port``."""

    leader: bool = False
    reachability: str = ""
    addr: str = ""


class Node(Meta):
    """A machine of the swarm."""

    spec: NodeSpec = field(default_factory=NodeSpec)
    description: NodeDescription = field(default_factory=NodeDescription)
    status: NodeStatus = field(default_factory=NodeStatus)
    manager_status: ManagerStatus | None = None

    @property
    def data_path_addr(self) -> str:
        """Where other nodes send the packets of its containers: an IP address, empty while none is known."""
        return self.description.data_path_addr or self.status.addr
