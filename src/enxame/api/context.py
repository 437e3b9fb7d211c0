"""What the API is built on: this machine's engine, its relation to a swarm, and who it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from enxame.api.disk_usage import Sizes
from enxame.model.backup import Restored, RestoreRequest
from enxame.model.cluster import InitRequest, JoinRequest, SwarmInfo

if TYPE_CHECKING:
    from pathlib import Path

    from enxame.backup.files import Secret
    from enxame.engine.building.builder import Builder
    from enxame.engine.containers import ContainerManager
    from enxame.engine.events import EventBus
    from enxame.engine.images.store import ImageStore
    from enxame.engine.networks.manager import NetworkManager
    from enxame.engine.volumes import VolumeStore
    from enxame.manager.leadership import LeaderLocator
    from enxame.manager.manager import Manager


class Engine(Protocol):
    """This machine's containers and what they are made of."""

    @property
    def containers(self) -> ContainerManager:
        """Containers and execs."""
        ...

    @property
    def images(self) -> ImageStore:
        """Images."""
        ...

    @property
    def volumes(self) -> VolumeStore:
        """Volumes."""
        ...

    @property
    def networks(self) -> NetworkManager:
        """This machine's networks."""
        ...

    @property
    def builder(self) -> Builder:
        """Builds of images."""
        ...

    @property
    def events(self) -> EventBus:
        """What happens."""
        ...


class Membership(Protocol):
    """This node's relation to a swarm."""

    def info(self) -> SwarmInfo:
        """The ``Swarm`` block of ``GET /info``."""
        ...

    async def init(self, request: InitRequest) -> str:
        """Make a new swarm of this node; returns the node's id."""
        ...

    async def join(self, request: JoinRequest) -> None:
        """Join a swarm that is there."""
        ...

    async def leave(self, force: bool) -> None:
        """Forget the swarm."""
        ...

    async def restore(self, path: Path, secret: Secret | None, wanted: RestoreRequest) -> Restored:
        """Become the manager that made a backup."""
        ...

    async def unlock(self, key: str) -> None:
        """Give a locked manager its key."""
        ...

    @property
    def manager(self) -> Manager:
        """The manager's side. Raises Unavailable (503) with Swarm's text when this node is no manager."""
        ...

    @property
    def leadership(self) -> LeaderLocator:
        """Who leads the swarm. Raises as :attr:`manager`."""
        ...


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """An OCI runtime: its program and what it is given with each call."""

    path: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFacts:
    """What ``/info`` shows of how the daemon was started."""

    #: Identity of the daemon, stable over restarts.
    id: str
    #: Host name.
    name: str
    data_root: str
    labels: list[str] = field(default_factory=list)
    debug: bool = False
    insecure_registries: list[str] = field(default_factory=list)
    registry_mirrors: list[str] = field(default_factory=list)
    #: (base in CIDR, size of the networks cut from it)
    default_address_pools: list[tuple[str, int]] = field(default_factory=list)
    #: Addresses such as ``0.0.0.0:2375`` where everybody may give orders.
    insecure_listeners: list[str] = field(default_factory=list)
    #: By name.
    runtimes: dict[str, RuntimeFacts] = field(default_factory=dict)
    default_runtime: str = "crun"
    #: Configured ``name=value`` or ``name=n`` of the node.
    generic_resources: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """Everything that handlers call."""

    engine: Engine
    membership: Membership
    facts: DaemonFacts
    sizes: Sizes = field(default_factory=Sizes)
