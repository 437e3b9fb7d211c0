"""Services and the specs of their tasks. All durations are nanoseconds."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import field

from enxame.model.base import Meta, Model, ObjectVersion, always
from enxame.model.cluster import NANOSECONDS, Driver
from enxame.model.container import HealthConfig, Mount, Ulimit

# Defaults as `GET /services/{id}?insertDefaults=true` shows them (swarmkit api/defaults/service.go).
DEFAULT_STOP_GRACE: Final = 10 * NANOSECONDS
DEFAULT_RESTART_DELAY: Final = 5 * NANOSECONDS
DEFAULT_MONITOR: Final = 5 * NANOSECONDS


class Platform(Model):
    """``architecture`` as the kernel says it (x86_64, aarch64); ``os`` is linux."""

    architecture: str = ""
    os: str = ""


class NamedGenericResource(Model):
    """One named piece, such as GPU=UUID1."""

    kind: str = ""
    value: str = ""


class DiscreteGenericResource(Model):
    """An amount, such as SSD=3."""

    kind: str = ""
    value: int = 0


class GenericResource(Model):
    """One of the two is set."""

    named_resource_spec: NamedGenericResource | None = None
    discrete_resource_spec: DiscreteGenericResource | None = None


class Limit(Model):
    """Upper bounds; 0 is none."""

    nano_cpus: int = field(default=0, name="NanoCPUs")
    memory_bytes: int = 0
    pids: int = field(default=0, name="Pids")


class Reservation(Model):
    """What the scheduler sets aside."""

    nano_cpus: int = field(default=0, name="NanoCPUs")
    memory_bytes: int = 0
    generic_resources: list[GenericResource] = field(default_factory=list)


class ResourceRequirements(Model):
    """Limits and reservations of a task."""

    limits: Limit | None = None
    reservations: Reservation | None = None
    swap_bytes: int | None = None
    memory_swappiness: int | None = None


class RestartPolicy(Model):
    """``condition``: none|on-failure|any."""

    condition: str = ""
    delay: int | None = None
    max_attempts: int | None = None
    window: int | None = None


class SpreadOver(Model):
    """``node.labels.X`` or ``engine.labels.X``."""

    spread_descriptor: str = ""


class PlacementPreference(Model):
    """Only spread exists."""

    spread: SpreadOver | None = None


class Placement(Model):
    """Where tasks may go. ``max_replicas`` per node; 0 is no limit."""

    constraints: list[str] = field(default_factory=list)
    preferences: list[PlacementPreference] = field(default_factory=list)
    max_replicas: int = 0
    platforms: list[Platform] = field(default_factory=list)


class NetworkAttachmentConfig(Model):
    """``target`` is a network's id or name."""

    target: str = ""
    aliases: list[str] = field(default_factory=list)
    driver_opts: dict[str, str] = field(default_factory=dict)


class FileTarget(Model):
    """Where a secret or config shows in the container."""

    name: str = ""
    uid: str = always(default="0")
    gid: str = always(default="0")
    mode: int = always(default=0o444)


class SecretReference(Model):
    """A secret that a task needs."""

    file: FileTarget | None = None
    secret_id: str = ""
    secret_name: str = ""


class ConfigReference(Model):
    """A config that a task needs."""

    file: FileTarget | None = None
    runtime: dict[str, str] | None = None
    config_id: str = ""
    config_name: str = ""


class DNSConfig(Model):
    """resolv.conf of the container."""

    nameservers: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)


class SELinuxContext(Model):
    """SELinux labels."""

    disable: bool = False
    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class CredentialSpec(Model):
    """Windows only; refused."""

    config: str = ""
    file: str = ""
    registry: str = ""


class SeccompOptions(Model):
    """``mode``: default|unconfined|custom; ``profile`` is base64 JSON."""

    mode: str = ""
    profile: str = ""


class AppArmorOptions(Model):
    """``mode``: default|disabled."""

    mode: str = ""


class Privileges(Model):
    """Security options of a service's containers."""

    credential_spec: CredentialSpec | None = None
    selinux_context: SELinuxContext | None = field(default=None, name="SELinuxContext")
    seccomp: SeccompOptions | None = None
    apparmor: AppArmorOptions | None = field(default=None, name="AppArmor")
    no_new_privileges: bool = False


class ContainerSpec(Model):
    """The container of a task. ``command`` replaces the image's entrypoint, ``args`` its command."""

    image: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    args: list[str] = field(default_factory=list)
    hostname: str = ""
    env: list[str] = field(default_factory=list)
    dir: str = ""
    user: str = ""
    groups: list[str] = field(default_factory=list)
    privileges: Privileges | None = None
    stop_signal: str = ""
    tty: bool = False
    open_stdin: bool = False
    read_only: bool = False
    mounts: list[Mount] = field(default_factory=list)
    stop_grace_period: int | None = None
    healthcheck: HealthConfig | None = None
    hosts: list[str] = field(default_factory=list)
    dns_config: DNSConfig | None = None
    secrets: list[SecretReference] = field(default_factory=list)
    configs: list[ConfigReference] = field(default_factory=list)
    isolation: str = ""
    init: bool | None = None
    sysctls: dict[str, str] = field(default_factory=dict)
    capability_add: list[str] = field(default_factory=list)
    capability_drop: list[str] = field(default_factory=list)
    ulimits: list[Ulimit] = field(default_factory=list)
    oom_score_adj: int = 0


class NetworkAttachmentSpec(Model):
    """A task that only holds a network attachment of a standalone container."""

    container_id: str = ""


class TaskSpec(Model):
    """What a task runs and how. Never changes once the task exists."""

    container_spec: ContainerSpec | None = None
    network_attachment_spec: NetworkAttachmentSpec | None = None
    resources: ResourceRequirements | None = None
    restart_policy: RestartPolicy | None = None
    placement: Placement | None = None
    networks: list[NetworkAttachmentConfig] = field(default_factory=list)
    log_driver: Driver | None = None
    force_update: int = always(default=0)
    runtime: str = ""


class ReplicatedService(Model):
    """``replicas`` unset means 1."""

    replicas: int | None = None


class GlobalService(Model):
    """One task on every fitting node."""


class ReplicatedJob(Model):
    """Runs ``total_completions`` tasks to completion, ``max_concurrent`` at a time."""

    max_concurrent: int | None = None
    total_completions: int | None = None


class GlobalJob(Model):
    """Runs once on every fitting node."""


class ServiceMode(Model):
    """Exactly one is set."""

    replicated: ReplicatedService | None = None
    global_: GlobalService | None = None
    replicated_job: ReplicatedJob | None = None
    global_job: GlobalJob | None = None


class UpdateConfig(Model):
    """How tasks are replaced. ``parallelism`` 0 is all at once; ``order``: stop-first|start-first;
    ``failure_action``: pause|continue|rollback.
    """

    parallelism: int = always(default=0)
    delay: int = 0
    failure_action: str = ""
    monitor: int = 0
    max_failure_ratio: float = always(default=0.0)
    order: str = ""


class PortConfig(Model):
    """A published port. ``protocol``: tcp|udp|sctp; ``publish_mode``: ingress|host; ``published_port`` 0: any."""

    name: str = ""
    protocol: str = ""
    target_port: int = 0
    published_port: int = 0
    publish_mode: str = ""


class EndpointSpec(Model):
    """``mode``: vip|dnsrr."""

    mode: str = ""
    ports: list[PortConfig] = field(default_factory=list)


class ServiceSpec(Model):
    """What a user asks for."""

    name: str = ""
    labels: dict[str, str] = always(default_factory=dict)
    task_template: TaskSpec = field(default_factory=TaskSpec)
    mode: ServiceMode = field(default_factory=ServiceMode)
    update_config: UpdateConfig | None = None
    rollback_config: UpdateConfig | None = None
    #: Deprecated place of ``task_template.networks``; still accepted and moved there.
    networks: list[NetworkAttachmentConfig] = field(default_factory=list)
    endpoint_spec: EndpointSpec | None = None


class VirtualIP(Model):
    """A service's address (CIDR) on a network."""

    network_id: str = ""
    addr: str = ""


class Endpoint(Model):
    """What the allocator gave: ports and virtual addresses."""

    spec: EndpointSpec = field(default_factory=EndpointSpec)
    ports: list[PortConfig] = field(default_factory=list)
    virtual_ips: list[VirtualIP] = field(default_factory=list, name="VirtualIPs")


class UpdateStatus(Model):
    """``state``: updating|paused|completed|rollback_started|rollback_paused|rollback_completed."""

    state: str = ""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    message: str = always(default="")


class ServiceStatus(Model):
    """Counts shown by ``service ls``; computed, never stored."""

    running_tasks: int = always(default=0)
    desired_tasks: int = always(default=0)
    completed_tasks: int = always(default=0)


class JobStatus(Model):
    """Which run of a job this is."""

    job_iteration: ObjectVersion = field(default_factory=ObjectVersion)
    last_execution: datetime | None = None


class ServiceInternal(Model):
    """Never rendered. ``spec_version`` grows when the task template or endpoint changes; tasks carry the one they
    were made from. ``registry_auth`` is the client's ``X-Registry-Auth`` (base64url JSON).
    """

    spec_version: int = 0
    previous_spec_version: int = 0
    registry_auth: str = ""
    previous_registry_auth: str = ""


class Service(Meta):
    """A set of equal tasks, kept running."""

    spec: ServiceSpec = field(default_factory=ServiceSpec)
    previous_spec: ServiceSpec | None = None
    endpoint: Endpoint = field(default_factory=Endpoint)
    update_status: UpdateStatus | None = None
    service_status: ServiceStatus | None = None
    job_status: JobStatus | None = None
    internal: ServiceInternal | None = None


class ServiceCreateResponse(Model):
    """Answer of ``POST /services/create``."""

    id: str = always(default="")
    warnings: list[str] | None = always(default=None)


class ServiceUpdateResponse(Model):
    """Answer of ``POST /services/{id}/update``."""

    warnings: list[str] | None = always(default=None)
