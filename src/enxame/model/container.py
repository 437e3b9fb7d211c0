"""What a client asks of a container: the body of ``POST /containers/create``. Durations are nanoseconds."""

from __future__ import annotations

from msgspec import field

from enxame.model.base import Model, always


class HealthConfig(Model):
    """``test``: [] inherit, ["NONE"], ["CMD", …] or ["CMD-SHELL", "…"]. Zero means inherit or the default."""

    test: list[str] = field(default_factory=list)
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class BindOptions(Model):
    """Options of a bind mount."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeOptions(Model):
    """Options of a volume mount."""

    no_copy: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    driver_config: VolumeDriver | None = None
    subpath: str = ""


class VolumeDriver(Model):
    """Driver of a volume made on first use."""

    name: str = ""
    options: dict[str, str] = field(default_factory=dict)


class TmpfsOptions(Model):
    """``mode`` is the permission bits."""

    size_bytes: int = 0
    mode: int = 0


class Mount(Model):
    """``type``: bind|volume|tmpfs."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class Ulimit(Model):
    """A process limit, such as nofile."""

    name: str = ""
    soft: int = always(default=0)
    hard: int = always(default=0)


class Empty(Model):
    """Go's ``struct{}``: the value of sets rendered as maps."""


class ContainerConfig(Model):
    """The portable part of a container. Unset lists and maps are inherited from the image."""

    hostname: str = always(default="")
    domainname: str = always(default="")
    user: str = always(default="")
    attach_stdin: bool = always(default=False)
    attach_stdout: bool = always(default=False)
    attach_stderr: bool = always(default=False)
    exposed_ports: dict[str, Empty] = field(default_factory=dict)
    tty: bool = always(default=False, name="Tty")
    open_stdin: bool = always(default=False)
    stdin_once: bool = always(default=False)
    env: list[str] | None = always(default=None)
    cmd: list[str] | str | None = always(default=None)
    healthcheck: HealthConfig | None = None
    image: str = always(default="")
    volumes: dict[str, Empty] | None = always(default=None)
    working_dir: str = always(default="")
    entrypoint: list[str] | str | None = always(default=None)
    network_disabled: bool = False
    mac_address: str = ""
    labels: dict[str, str] = always(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] = field(default_factory=list)


class PortBinding(Model):
    """``host_port`` is text: empty for any, ``a-b`` for one of a range."""

    host_ip: str = always(default="", name="HostIp")
    host_port: str = always(default="")


class LogConfig(Model):
    """``type``: json-file|local|none|…"""

    type: str = always(default="")
    config: dict[str, str] = always(default_factory=dict)


class ContainerRestartPolicy(Model):
    """``name``: no|always|on-failure|unless-stopped."""

    name: str = always(default="")
    maximum_retry_count: int = always(default=0)


class DeviceMapping(Model):
    """A host device shown in the container."""

    path_on_host: str = always(default="")
    path_in_container: str = always(default="")
    cgroup_permissions: str = always(default="")


class DeviceRequest(Model):
    """What ``--gpus`` asks for: devices that a driver is to hand out."""

    driver: str = always(default="")
    count: int = always(default=0)
    device_ids: list[str] | None = always(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = always(default=None)
    options: dict[str, str] | None = always(default=None)


class WeightDevice(Model):
    """The share of a block device's time, 10 to 1000."""

    path: str = always(default="")
    weight: int = always(default=0)


class ThrottleDevice(Model):
    """Bytes or operations a second of a block device."""

    path: str = always(default="")
    rate: int = always(default=0)


class HostConfig(Model):
    """The part of a container that belongs to its machine. Memory in bytes; ``nano_cpus`` 10⁹ is one core."""

    binds: list[str] | None = always(default=None)
    container_id_file: str = always(default="", name="ContainerIDFile")
    log_config: LogConfig = field(default_factory=LogConfig)
    network_mode: str = always(default="")
    port_bindings: dict[str, list[PortBinding]] = always(default_factory=dict)
    restart_policy: ContainerRestartPolicy = field(default_factory=ContainerRestartPolicy)
    auto_remove: bool = always(default=False)
    volume_driver: str = always(default="")
    volumes_from: list[str] | None = always(default=None)
    cap_add: list[str] | None = always(default=None)
    cap_drop: list[str] | None = always(default=None)
    cgroupns_mode: str = always(default="")
    cgroup_parent: str = always(default="")
    dns: list[str] = always(default_factory=list, name="Dns")
    dns_options: list[str] = always(default_factory=list, name="DnsOptions")
    dns_search: list[str] = always(default_factory=list, name="DnsSearch")
    extra_hosts: list[str] | None = always(default=None)
    group_add: list[str] | None = always(default=None)
    ipc_mode: str = always(default="")
    cgroup: str = always(default="")
    console_size: list[int] = always(default_factory=lambda: [0, 0])
    links: list[str] | None = always(default=None)
    oom_score_adj: int = always(default=0)
    pid_mode: str = always(default="", name="PidMode")
    privileged: bool = always(default=False)
    publish_all_ports: bool = always(default=False)
    readonly_rootfs: bool = always(default=False)
    security_opt: list[str] | None = always(default=None)
    tmpfs: dict[str, str] = field(default_factory=dict)
    uts_mode: str = always(default="")
    userns_mode: str = always(default="")
    shm_size: int = always(default=0)
    sysctls: dict[str, str] = field(default_factory=dict)
    runtime: str = always(default="")
    isolation: str = always(default="")
    cpu_shares: int = always(default=0, name="CpuShares")
    memory: int = always(default=0)
    nano_cpus: int = always(default=0, name="NanoCpus")
    cpu_period: int = always(default=0, name="CpuPeriod")
    cpu_quota: int = always(default=0, name="CpuQuota")
    cpuset_cpus: str = always(default="", name="CpusetCpus")
    cpuset_mems: str = always(default="", name="CpusetMems")
    devices: list[DeviceMapping] | None = always(default=None)
    memory_reservation: int = always(default=0)
    memory_swap: int = always(default=0)
    memory_swappiness: int | None = always(default=None)
    oom_kill_disable: bool | None = always(default=None)
    pids_limit: int | None = always(default=None)
    blkio_weight: int = always(default=0)
    blkio_weight_device: list[WeightDevice] | None = always(default=None)
    blkio_device_read_bps: list[ThrottleDevice] | None = always(default=None)
    blkio_device_write_bps: list[ThrottleDevice] | None = always(default=None)
    blkio_device_read_iops: list[ThrottleDevice] | None = always(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[ThrottleDevice] | None = always(default=None, name="BlkioDeviceWriteIOps")
    cpu_count: int = always(default=0, name="CpuCount")
    cpu_percent: int = always(default=0, name="CpuPercent")
    io_maximum_iops: int = always(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = always(default=0, name="IOMaximumBandwidth")
    cpu_realtime_period: int = always(default=0, name="CpuRealtimePeriod")
    cpu_realtime_runtime: int = always(default=0, name="CpuRealtimeRuntime")
    storage_opt: dict[str, str] = field(default_factory=dict, name="StorageOpt")
    annotations: dict[str, str] = field(default_factory=dict)
    device_cgroup_rules: list[str] | None = always(default=None, name="DeviceCgroupRules")
    device_requests: list[DeviceRequest] | None = always(default=None)
    ulimits: list[Ulimit] | None = always(default=None)
    mounts: list[Mount] = field(default_factory=list)
    masked_paths: list[str] | None = always(default=None)
    readonly_paths: list[str] | None = always(default=None)
    init: bool | None = None


class EndpointIPAMConfig(Model):
    """Addresses that a container asks for on a network."""

    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] = field(default_factory=list, name="LinkLocalIPs")


class EndpointSettings(Model):
    """A container's place on one network: what it asks for and what it got."""

    ipam_config: EndpointIPAMConfig | None = always(default=None)
    links: list[str] | None = always(default=None)
    aliases: list[str] | None = always(default=None)
    mac_address: str = always(default="")
    driver_opts: dict[str, str] | None = always(default=None)
    network_id: str = always(default="")
    endpoint_id: str = always(default="")
    gateway: str = always(default="")
    ip_address: str = always(default="")
    ip_prefix_len: int = always(default=0)
    ipv6_gateway: str = always(default="")
    global_ipv6_address: str = always(default="")
    global_ipv6_prefix_len: int = always(default=0)
    dns_names: list[str] | None = always(default=None)
    gw_priority: int = 0


class NetworkingConfig(Model):
    """Networks to join, by name or id."""

    endpoints_config: dict[str, EndpointSettings] = field(default_factory=dict)


class ContainerCreateRequest(ContainerConfig):
    """Body of ``POST /containers/create``: the config with two blocks beside it."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class ContainerUpdateRequest(Model):
    """Body of ``POST /containers/{id}/update``. What is zero, empty or absent stays as it is."""

    blkio_weight: int = 0
    cpu_shares: int = field(default=0, name="CpuShares")
    nano_cpus: int = field(default=0, name="NanoCpus")
    cpu_period: int = field(default=0, name="CpuPeriod")
    cpu_quota: int = field(default=0, name="CpuQuota")
    cpuset_cpus: str = field(default="", name="CpusetCpus")
    cpuset_mems: str = field(default="", name="CpusetMems")
    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    pids_limit: int | None = None
    restart_policy: ContainerRestartPolicy = field(default_factory=ContainerRestartPolicy)
