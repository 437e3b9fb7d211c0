"""How containers are shown: inspect, list, wait, top. Sizes in bytes."""

from __future__ import annotations

from datetime import datetime

from enxame.model.base import ZERO_TIME, Model, always
from enxame.model.container import ContainerConfig, EndpointSettings, HostConfig, PortBinding


class ContainerCreateResponse(Model):
    """Answer of ``POST /containers/create``."""

    id: str = always(default="", name="Id")
    warnings: list[str] = always(default_factory=list)


class HealthResult(Model):
    """One probe. ``output`` holds at most 4096 characters; ``exit_code`` -1 when the probe timed out."""

    start: datetime = always(default=ZERO_TIME)
    end: datetime = always(default=ZERO_TIME)
    exit_code: int = always(default=0)
    output: str = always(default="")


class Health(Model):
    """``status``: starting|healthy|unhealthy; ``log`` is the last five probes."""

    status: str = always(default="starting")
    failing_streak: int = always(default=0)
    log: list[HealthResult] = always(default_factory=list)


class ContainerState(Model):
    """``status``: created|running|paused|restarting|removing|exited|dead."""

    status: str = always(default="created")
    running: bool = always(default=False)
    paused: bool = always(default=False)
    restarting: bool = always(default=False)
    oom_killed: bool = always(default=False, name="OOMKilled")
    dead: bool = always(default=False)
    pid: int = always(default=0, name="Pid")
    exit_code: int = always(default=0)
    error: str = always(default="")
    started_at: datetime = always(default=ZERO_TIME)
    finished_at: datetime = always(default=ZERO_TIME)
    health: Health | None = None


class MountPoint(Model):
    """A mount as it became. ``type``: bind|volume|tmpfs; ``rw`` false is read-only."""

    type: str = ""
    name: str = ""
    source: str = always(default="")
    destination: str = always(default="")
    driver: str = ""
    mode: str = always(default="")
    rw: bool = always(default=True, name="RW")
    propagation: str = always(default="")


class NetworkSettings(Model):
    """A container's networks. The addresses beside ``networks`` are those on the default bridge."""

    bridge: str = always(default="")
    sandbox_id: str = always(default="")
    hairpin_mode: bool = always(default=False)
    link_local_ipv6_address: str = always(default="", name="LinkLocalIPv6Address")
    link_local_ipv6_prefix_len: int = always(default=0, name="LinkLocalIPv6PrefixLen")
    ports: dict[str, list[PortBinding] | None] = always(default_factory=dict)
    sandbox_key: str = always(default="")
    secondary_ip_addresses: list[str] | None = always(default=None, name="SecondaryIPAddresses")
    secondary_ipv6_addresses: list[str] | None = always(default=None, name="SecondaryIPv6Addresses")
    endpoint_id: str = always(default="")
    gateway: str = always(default="")
    global_ipv6_address: str = always(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = always(default=0, name="GlobalIPv6PrefixLen")
    ip_address: str = always(default="", name="IPAddress")
    ip_prefix_len: int = always(default=0, name="IPPrefixLen")
    ipv6_gateway: str = always(default="", name="IPv6Gateway")
    mac_address: str = always(default="")
    networks: dict[str, EndpointSettings] = always(default_factory=dict)


class GraphDriver(Model):
    """Where the root filesystem lies."""

    data: dict[str, str] = always(default_factory=dict)
    name: str = always(default="overlay2")


class ContainerInspect(Model):
    """Answer of ``GET /containers/{id}/json``."""

    id: str = always(default="", name="Id")
    created: datetime = always(default=ZERO_TIME)
    path: str = always(default="")
    args: list[str] = always(default_factory=list)
    state: ContainerState = always(default_factory=ContainerState)
    image: str = always(default="")
    resolv_conf_path: str = always(default="")
    hostname_path: str = always(default="")
    hosts_path: str = always(default="")
    log_path: str = always(default="")
    name: str = always(default="")
    restart_count: int = always(default=0)
    driver: str = always(default="overlay2")
    platform: str = always(default="linux")
    mount_label: str = always(default="")
    process_label: str = always(default="")
    app_armor_profile: str = always(default="")
    exec_ids: list[str] | None = always(default=None, name="ExecIDs")
    host_config: HostConfig = always(default_factory=HostConfig)
    graph_driver: GraphDriver = always(default_factory=GraphDriver)
    size_rw: int | None = None
    size_root_fs: int | None = None
    mounts: list[MountPoint] = always(default_factory=list)
    config: ContainerConfig = always(default_factory=ContainerConfig)
    network_settings: NetworkSettings = always(default_factory=NetworkSettings)


class Port(Model):
    """A line of the PORTS column. ``public_port`` 0: exposed, not published."""

    ip: str = ""
    private_port: int = always(default=0)
    public_port: int = 0
    type: str = always(default="tcp")


class SummaryHostConfig(Model):
    """What the list shows of the host config."""

    network_mode: str = always(default="")


class SummaryNetworkSettings(Model):
    """What the list shows of the networks."""

    networks: dict[str, EndpointSettings] = always(default_factory=dict)


class ContainerSummary(Model):
    """An item of ``GET /containers/json``. ``created`` in seconds since 1970."""

    id: str = always(default="", name="Id")
    names: list[str] = always(default_factory=list)
    image: str = always(default="")
    image_id: str = always(default="")
    command: str = always(default="")
    created: int = always(default=0)
    ports: list[Port] = always(default_factory=list)
    size_rw: int | None = None
    size_root_fs: int | None = None
    labels: dict[str, str] = always(default_factory=dict)
    state: str = always(default="")
    status: str = always(default="")
    host_config: SummaryHostConfig = always(default_factory=SummaryHostConfig)
    network_settings: SummaryNetworkSettings = always(default_factory=SummaryNetworkSettings)
    mounts: list[MountPoint] = always(default_factory=list)


class WaitError(Model):
    """Why a wait has no exit code."""

    message: str = always(default="")


class WaitResult(Model):
    """Answer of ``POST /containers/{id}/wait``."""

    status_code: int = always(default=0)
    error: WaitError | None = None


class TopResult(Model):
    """Answer of ``GET /containers/{id}/top``: ``ps``'s columns and one row a process."""

    titles: list[str] = always(default_factory=list)
    processes: list[list[str]] = always(default_factory=list)


class PruneReport(Model):
    """Answer of ``POST /containers/prune``."""

    containers_deleted: list[str] = always(default_factory=list)
    space_reclaimed: int = always(default=0)


class ContainerUpdateResponse(Model):
    """Answer of ``POST /containers/{id}/update``."""

    warnings: list[str] = always(default_factory=list)


class FilesystemChange(Model):
    """An item of ``GET /containers/{id}/changes``. ``kind``: 0 modified, 1 added, 2 deleted."""

    path: str = always(default="")
    kind: int = always(default=0)


class PathStat(Model, rename="camel"):
    """What is at a path in a container. ``mode`` is Go's ``os.FileMode``, ``mtime`` RFC 3339, the target absolute."""

    name: str = always(default="", name="name")
    size: int = always(default=0, name="size")
    mode: int = always(default=0, name="mode")
    mtime: str = always(default="", name="mtime")
    link_target: str = always(default="", name="linkTarget")
