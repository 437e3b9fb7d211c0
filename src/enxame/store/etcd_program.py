"""The etcd program: where it is, whether its version can be trusted, the words it is started with."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from enxame.errors import Unavailable
from enxame.store.etcd_files import TlsFiles

__all__ = ["EtcdSettings", "check_version", "command_line", "environment", "find"]

_PLACES: Final = ("/usr/bin/etcd", "/usr/local/bin/etcd", "/usr/sbin/etcd")
_MISSING: Final = (
    "a swarm of several managers needs etcd, which is not installed on this machine: install the package etcd-server"
)
#: Managers' certificates carry this name; workers' do not.
_MANAGER_NAME: Final = "swarm-manager"


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How one member runs. Times in seconds, sizes in bytes; ``name`` is the node's id.

    Peers reach the member at ``peer_host``:``peer_port``, and its certificate must be valid for that host; it listens
    on ``peer_listen``. Clients reach it on loopback alone. ``initial_cluster`` (name → peer URL) and ``joining`` only
    matter until the data directory exists.
    """

    name: str
    data_dir: Path
    tls: TlsFiles
    peer_host: str
    peer_port: int
    client_port: int
    peer_listen: str = "0.0.0.0"
    client_host: str = "127.0.0.1"
    cluster_token: str = ""
    initial_cluster: Mapping[str, str] = field(default_factory=dict)
    joining: bool = False
    heartbeat: float = 0.1
    #: A follower waits between once and twice this long for its leader.
    election_timeout: float = 0.7
    max_txn_ops: int = 16_384
    max_request_bytes: int = 8 << 20
    quota_bytes: int = 8 << 30
    snapshot_count: int = 10_000
    #: Revisions that watches may go back.
    kept_revisions: int = 10_000

    @property
    def peer_url(self) -> str:
        """Where peers find this member."""
        return f"https://{_bracketed(self.peer_host)}:{self.peer_port}"

    @property
    def client_endpoint(self) -> str:
        """Where this machine's own daemon finds it (``host:port``)."""
        return f"{_bracketed(self.client_host)}:{self.client_port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def find(places: tuple[str, ...] = _PLACES) -> str:
    """The program's path. Raises Unavailable, saying what to install."""
    for place in places:
        if Path(place).is_file():
            return place
    raise Unavailable(_MISSING)


def check_version(output: str) -> str:
    """The version out of what ``etcd --version`` prints.

    Raises:
        Unavailable: it is older than 3.4.22 or 3.5.6, which may lose or corrupt what they acknowledged, or unreadable.
    """
    match = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", output)
    if match is None:
        raise Unavailable(f"etcd does not say its version: {output.strip()[:200] or 'no output'}")
    version = tuple(int(part) for part in match.groups())
    least = (3, 4, 22) if version < (3, 5, 0) else (3, 5, 6)
    text = ".".join(match.groups())
    if version < least:
        raise Unavailable(f"etcd {text} is not safe to keep a swarm's state: 3.4.22 or 3.5.6, or later, is needed")
    return text


def environment(machine: str = platform.machine()) -> dict[str, str]:
    """What the child sees: none of our own variables (etcd takes ``ETCD_*`` for options)."""
    variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    if machine == "aarch64":
        variables["ETCD_UNSUPPORTED_ARCH"] = "arm64"
    return variables


def command_line(program: str, settings: EtcdSettings, *, force_new_cluster: bool = False) -> list[str]:
    """The child's arguments. It dies with the daemon: a member without its manager would keep others from leading."""
    tls = settings.tls
    initial = dict(settings.initial_cluster) or {settings.name: settings.peer_url}
    options = {
        "name": settings.name,
        "data-dir": str(settings.data_dir),
        "listen-peer-urls": f"https://{_bracketed(settings.peer_listen)}:{settings.peer_port}",
        "initial-advertise-peer-urls": settings.peer_url,
        "listen-client-urls": f"https://{settings.client_endpoint}",
        "advertise-client-urls": f"https://{settings.client_endpoint}",
        "initial-cluster": ",".join(f"{name}={url}" for name, url in initial.items()),
        "initial-cluster-state": "existing" if settings.joining else "new",
        "initial-cluster-token": settings.cluster_token or "enxame",
        "cert-file": str(tls.cert),
        "key-file": str(tls.key),
        "trusted-ca-file": str(tls.ca),
        "client-cert-auth": "true",
        "client-cert-allowed-hostname": _MANAGER_NAME,
        "peer-cert-file": str(tls.cert),
        "peer-key-file": str(tls.key),
        "peer-trusted-ca-file": str(tls.ca),
        "peer-client-cert-auth": "true",
        "peer-cert-allowed-hostname": _MANAGER_NAME,
        # A manager may call from another of its addresses than the one in its certificate.
        "experimental-peer-skip-client-san-verification": "true",
        "heartbeat-interval": str(round(settings.heartbeat * 1000)),
        "election-timeout": str(round(settings.election_timeout * 1000)),
        "pre-vote": "true",
        # Members join as learners and are promoted when they have caught up, which cannot cost the quorum; removals are
        # checked in etcd_members. The check would only refuse every change within five seconds of the one before.
        "strict-reconfig-check": "false",
        "max-txn-ops": str(settings.max_txn_ops),
        "max-request-bytes": str(settings.max_request_bytes),
        "quota-backend-bytes": str(settings.quota_bytes),
        "snapshot-count": str(settings.snapshot_count),
        "auto-compaction-mode": "revision",
        "auto-compaction-retention": str(settings.kept_revisions),
        "experimental-initial-corrupt-check": "true",
        # Its own way in over JSON: nobody uses it.
        "enable-grpc-gateway": "false",
        "logger": "zap",
        "log-outputs": "stderr",
        "log-level": "info",
    }
    if tls.revoked is not None:
        options["peer-crl-file"] = options["client-crl-file"] = str(tls.revoked)
    # The member's heartbeats go before other work of a busy machine, where this is allowed.
    command = ["setpriv", "--pdeathsig", "KILL", "nice", "-n", "-5", program]
    command += [f"--{name}={value}" for name, value in options.items()]
    if force_new_cluster:
        command.append("--force-new-cluster=true")
    return command
