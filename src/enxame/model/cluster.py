"""The swarm itself: its settings, tokens and trust."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import field

from enxame.model.backup import BackupSchedule
from enxame.model.base import Meta, Model, always

NANOSECONDS: Final = 1_000_000_000

# Defaults of `docker swarm init` (docker/cli cli/command/swarm/opts.go, swarmkit manager/manager.go).
DEFAULT_HEARTBEAT: Final = 5 * NANOSECONDS
DEFAULT_CERT_EXPIRY: Final = 90 * 24 * 3600 * NANOSECONDS
DEFAULT_TASK_HISTORY: Final = 5
DEFAULT_DATA_PATH_PORT: Final = 4789


class OrchestrationConfig(Model):
    """``task_history_retention_limit``: terminal tasks kept per slot; negative keeps all."""

    task_history_retention_limit: int | None = None


class RaftConfig(Model):
    """Accepted and shown for compatibility; etcd has its own snapshots and ticks."""

    snapshot_interval: int = 0
    keep_old_snapshots: int | None = None
    log_entries_for_slow_followers: int = 0
    election_tick: int = always(default=0)
    heartbeat_tick: int = always(default=0)


class DispatcherConfig(Model):
    """``heartbeat_period`` in nanoseconds."""

    heartbeat_period: int = 0


class ExternalCA(Model):
    """A certificate signer outside the swarm (cfssl protocol)."""

    protocol: str = "cfssl"
    url: str = ""
    options: dict[str, str] = field(default_factory=dict)
    ca_cert: str = ""


class CAConfig(Model):
    """``node_cert_expiry`` in nanoseconds."""

    node_cert_expiry: int = 0
    external_cas: list[ExternalCA] = field(default_factory=list, name="ExternalCAs")
    signing_ca_cert: str = ""
    signing_ca_key: str = ""
    force_rotate: int = 0


class EncryptionConfig(Model):
    """Whether managers need an unlock key after a restart."""

    auto_lock_managers: bool = always(default=False)


class Driver(Model):
    """A named driver with options (logs, secrets, templating)."""

    name: str = ""
    options: dict[str, str] = field(default_factory=dict)


class TaskDefaults(Model):
    """What tasks get when their spec is silent."""

    log_driver: Driver | None = None


class SwarmSpec(Model):
    """What a user can set of a swarm."""

    name: str = ""
    labels: dict[str, str] = always(default_factory=dict)
    orchestration: OrchestrationConfig = field(default_factory=OrchestrationConfig)
    raft: RaftConfig = field(default_factory=RaftConfig)
    dispatcher: DispatcherConfig = field(default_factory=DispatcherConfig)
    ca_config: CAConfig = field(default_factory=CAConfig)
    task_defaults: TaskDefaults = field(default_factory=TaskDefaults)
    encryption_config: EncryptionConfig = field(default_factory=EncryptionConfig)


class TLSInfo(Model):
    """Whom a node trusts; subject and key are base64 DER."""

    trust_root: str = ""
    cert_issuer_subject: str = ""
    cert_issuer_public_key: str = ""


class JoinTokens(Model):
    """What a new node needs to ask for a certificate."""

    worker: str = always(default="")
    manager: str = always(default="")


class RootRotation(Model):
    """The root that takes the place of the present one (PEM). ``cross_signed`` is the new root's key certified by the
    old root, for nodes that have not heard of the new one. ``issuer`` is what certificates of the new root show,
    ``join_tokens`` are those of the time after.
    """

    ca_cert: str = ""
    ca_key: str = ""
    cross_signed: str = ""
    issuer: TLSInfo = field(default_factory=TLSInfo)
    join_tokens: JoinTokens = field(default_factory=JoinTokens)


class NetworkKey(Model):
    """A key of the swarm's encrypted networks; larger numbers are newer."""

    number: int = 0
    secret: bytes = b""


class ClusterSecrets(Model):
    """Never leaves the managers: the CA's key (PEM; empty when only an external CA has it), the unlock key.

    ``forced_rotations`` is the ``ForceRotate`` that was acted on last.

    ``incarnation`` is another one, and higher, after every recovery (a restored backup, a forced new cluster): nodes
    follow the managers of the highest one they heard of. It is no lower than the time in seconds. ``moved``: the
    manager was at another address before.
    """

    incarnation: int = 0
    moved: bool = False
    ca_cert: str = ""
    ca_key: str = ""
    unlock_key: str = ""
    rotation: RootRotation | None = None
    #: Serial numbers (hex) of the managers' certificates, by node id.
    manager_certificates: dict[str, str] = field(default_factory=dict)
    #: Of those that open nothing any more, with the time of that (seconds since 1970).
    revoked_certificates: dict[str, int] = field(default_factory=dict)
    forced_rotations: int = 0
    #: Of encrypted networks, oldest first; the last was added at that moment.
    network_keys: list[NetworkKey] = field(default_factory=list)
    network_keys_since: datetime | None = None


class Cluster(Meta):
    """The one cluster object of a swarm."""

    spec: SwarmSpec = field(default_factory=SwarmSpec)
    tls_info: TLSInfo = field(default_factory=TLSInfo)
    root_rotation_in_progress: bool = always(default=False)
    default_addr_pool: list[str] = always(default_factory=list)
    subnet_size: int = always(default=24)
    data_path_port: int = always(default=DEFAULT_DATA_PATH_PORT)
    #: Not of the spec: clients that know nothing of it would drop it whenever they change something else.
    backup_schedule: BackupSchedule | None = None
    #: Rendered only by ``GET /swarm``.
    join_tokens: JoinTokens | None = None
    internal: ClusterSecrets | None = None


class PeerNode(Model):
    """A manager's identity and control address (``host:port``)."""

    node_id: str = always(default="")
    addr: str = always(default="")


class SwarmInfo(Model):
    """The ``Swarm`` block of ``GET /info``. ``local_node_state``: inactive, pending, active, error, locked."""

    node_id: str = always(default="")
    node_addr: str = always(default="")
    local_node_state: str = always(default="inactive")
    control_available: bool = always(default=False)
    error: str = always(default="")
    remote_managers: list[PeerNode] | None = None
    nodes: int = 0
    managers: int = 0
    cluster: Cluster | None = None
    warnings: list[str] = field(default_factory=list)


class InitRequest(Model):
    """Body of ``POST /swarm/init``."""

    listen_addr: str = ""
    advertise_addr: str = ""
    data_path_addr: str = ""
    data_path_port: int = 0
    force_new_cluster: bool = False
    spec: SwarmSpec = field(default_factory=SwarmSpec)
    auto_lock_managers: bool = False
    availability: str = ""
    default_addr_pool: list[str] = field(default_factory=list)
    subnet_size: int = 0


class JoinRequest(Model):
    """Body of ``POST /swarm/join``."""

    listen_addr: str = ""
    advertise_addr: str = ""
    data_path_addr: str = ""
    remote_addrs: list[str] = field(default_factory=list)
    join_token: str = ""
    availability: str = ""


class UnlockRequest(Model):
    """Body of ``POST /swarm/unlock``."""

    unlock_key: str = ""
