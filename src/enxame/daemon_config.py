"""The options of ``enxamed``: flags, and the JSON file of ``--config-file`` with dockerd's keys."""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from enxame import __version__

DEFAULT_DATA_ROOT: Final = Path("/var/lib/enxame")
DEFAULT_EXEC_ROOT: Final = Path("/run/enxame")
#: Where the managers of a swarm find each other's part of the shared state.
DEFAULT_PEER_PORT: Final = 2380
DEFAULT_CONFIG_FILE: Final = Path("/etc/enxame/daemon.json")

# Keys of the file that are named in the plural, as in dockerd's daemon.json.
_PLURALS: Final = {
    "hosts": "host",
    "read-only-hosts": "read_only_host",
    "labels": "label",
    "insecure-registries": "insecure_registry",
    "registry-mirrors": "registry_mirror",
    "default-address-pools": "default_address_pool",
    "node-generic-resources": "node_generic_resource",
    "runtimes": "add_runtime",
}


class ConfigError(Exception):
    """The daemon's options are wrong; the text says which and how."""


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What the daemon was told. Lists are empty and texts blank where nothing was."""

    hosts: list[str]
    data_root: Path
    exec_root: Path
    pidfile: Path
    read_only_hosts: list[str] = field(default_factory=list)
    debug: bool = False
    log_level: str = "info"
    group: str = ""
    labels: list[str] = field(default_factory=list)
    insecure_registries: list[str] = field(default_factory=list)
    registry_mirrors: list[str] = field(default_factory=list)
    default_address_pools: list[tuple[str, int]] = field(default_factory=list)
    bip: str = ""
    ipv6: bool = False
    fixed_cidr_v6: str = ""
    mesh_shortcuts: bool = True
    swarm_default_advertise_addr: str = ""
    swarm_peer_port: int = DEFAULT_PEER_PORT
    metrics_addr: str = ""
    node_generic_resources: list[str] = field(default_factory=list)
    default_runtime: str = ""
    #: By name: the program, and further words for each call of it.
    runtimes: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""

    @property
    def engine_labels(self) -> dict[str, str]:
        """``--label`` as key to value."""
        return dict(label.partition("=")[::2] for label in self.labels)

    @property
    def default_host(self) -> str:
        """Where to listen when ``hosts`` says nothing."""
        return f"unix://{self.exec_root}/enxame.sock"

    @property
    def hostname(self) -> str:
        """This machine's name."""
        return socket.gethostname()


def parser() -> argparse.ArgumentParser:
    """The flags, named as dockerd names them."""
    parser = argparse.ArgumentParser(
        prog="enxamed",
        description="The daemon of Enxame: runs containers on this machine and takes part in a swarm.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-v", "--version", action="version", version=f"Enxame version {__version__}")
    add(
        "-H",
        "--host",
        action="append",
        metavar="URL",
        help="socket to listen on: unix://PATH, tcp://ADDRESS:PORT, or fd:// for those of systemd (repeatable)",
    )
    add(
        "--read-only-host",
        action="append",
        metavar="URL",
        help="socket for tools that only look: nothing can be changed there, secrets are left out (repeatable)",
    )
    add("--data-root", metavar="DIR", help=f"persistent state (default {DEFAULT_DATA_ROOT})")
    add("--exec-root", metavar="DIR", help=f"state that may vanish at a reboot (default {DEFAULT_EXEC_ROOT})")
    add("-p", "--pidfile", metavar="FILE", help="where the daemon writes its process id (default EXEC-ROOT/enxame.pid)")
    add("--config-file", metavar="FILE", help=f"options as JSON (default {DEFAULT_CONFIG_FILE})")
    add("-D", "--debug", action="store_true", default=None, help="log everything")
    add(
        "-l",
        "--log-level",
        choices=["debug", "info", "warn", "error", "fatal"],
        help="least severity that is logged (default info)",
    )
    add("-G", "--group", metavar="GROUP", help="group that may use the unix socket")
    add("--label", action="append", metavar="KEY=VALUE", help="label of this engine (repeatable)")
    add("--insecure-registry", action="append", metavar="HOST", help="registry that is used without TLS (repeatable)")
    add("--registry-mirror", action="append", metavar="URL", help="mirror of the default registry (repeatable)")
    add(
        "--default-address-pool",
        action="append",
        metavar="base=CIDR,size=N",
        help="pool for local networks (repeatable)",
    )
    add("--bip", metavar="CIDR", help="address of the default bridge")
    add("--ipv6", action="store_true", default=None, help="give the default bridge IPv6 as well")
    add("--fixed-cidr-v6", metavar="CIDR", help="IPv6 subnet of the default bridge (default: one of its own)")
    add(
        "--no-mesh-shortcuts",
        action="store_true",
        default=None,
        help="lead every packet of published service ports through the packet filter",
    )
    add(
        "--swarm-default-advertise-addr",
        metavar="ADDR",
        help="address or interface that `swarm init` advertises by default",
    )
    add(
        "--swarm-peer-port",
        type=_port,
        metavar="PORT",
        help=f"port where the swarm's other managers reach this one's share of the state (default {DEFAULT_PEER_PORT})",
    )
    add("--metrics-addr", metavar="ADDR", help="address of the metrics endpoint")
    add(
        "--node-generic-resource",
        action="append",
        metavar="KIND=VALUE",
        help="resource that this node offers (repeatable)",
    )
    add("--default-runtime", metavar="NAME", help="OCI runtime (default: the faster of crun and runc that works here)")
    add("--add-runtime", action="append", metavar="NAME=PATH", help="further OCI runtime (repeatable)")
    add(
        "--live-restore",
        nargs="?",
        const=True,
        default=None,
        help="accepted for compatibility: containers always outlive the daemon",
    )
    add("--tls", action="store_true", default=None, help="use TLS on tcp sockets; implied by --tlsverify")
    add("--tlsverify", action="store_true", default=None, help="demand a client certificate on tcp sockets")
    add("--tlscacert", metavar="FILE", help="CA of the clients' certificates")
    add("--tlscert", metavar="FILE", help="certificate of the daemon")
    add("--tlskey", metavar="FILE", help="key of the daemon")
    return parser


def load(arguments: Sequence[str] | None = None) -> DaemonConfig:
    """Flags and file together.

    Raises:
        ConfigError: an unknown key, a wrong value, or an option that both give.
    """
    flags = parser().parse_args(arguments)
    given = {name: value for name, value in vars(flags).items() if value is not None and name != "config_file"}
    merged = {**_read_file(flags.config_file, given), **given}
    data_root = Path(merged.get("data_root", DEFAULT_DATA_ROOT)).absolute()
    exec_root = Path(merged.get("exec_root", DEFAULT_EXEC_ROOT)).absolute()
    if any(not label.partition("=")[0] for label in merged.get("label", [])):
        raise ConfigError("bad attribute format in --label: expected KEY=VALUE")
    runtimes = _runtimes(merged.get("add_runtime", []))
    if merged.get("default_runtime", "") not in {"", "crun", "runc", *runtimes}:
        raise ConfigError(f"specified default runtime '{merged['default_runtime']}' does not exist")
    return DaemonConfig(
        hosts=[_absolute_socket(host) for host in merged.get("host", [])],
        read_only_hosts=[_absolute_socket(host) for host in merged.get("read_only_host", [])],
        data_root=data_root,
        exec_root=exec_root,
        pidfile=Path(merged.get("pidfile", exec_root / "enxame.pid")).absolute(),
        debug=bool(merged.get("debug")),
        log_level="debug" if merged.get("debug") else merged.get("log_level", "info"),
        group=merged.get("group", ""),
        labels=merged.get("label", []),
        insecure_registries=merged.get("insecure_registry", []),
        registry_mirrors=merged.get("registry_mirror", []),
        default_address_pools=[_pool(item) for item in merged.get("default_address_pool", [])],
        bip=merged.get("bip", ""),
        ipv6=bool(merged.get("ipv6")),
        fixed_cidr_v6=merged.get("fixed_cidr_v6", ""),
        mesh_shortcuts=not merged.get("no_mesh_shortcuts"),
        swarm_default_advertise_addr=merged.get("swarm_default_advertise_addr", ""),
        swarm_peer_port=merged.get("swarm_peer_port", DEFAULT_PEER_PORT),
        metrics_addr=merged.get("metrics_addr", ""),
        node_generic_resources=merged.get("node_generic_resource", []),
        default_runtime=merged.get("default_runtime", ""),
        runtimes=runtimes,
        tls=bool(merged.get("tls") or merged.get("tlsverify")),
        tlsverify=bool(merged.get("tlsverify")),
        tlscacert=_absolute(merged.get("tlscacert", "")),
        tlscert=_absolute(merged.get("tlscert", "")),
        tlskey=_absolute(merged.get("tlskey", "")),
    )


def _read_file(named: str | None, flags: dict[str, Any]) -> dict[str, Any]:
    path = Path(named) if named else DEFAULT_CONFIG_FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        if named:
            raise ConfigError(f"unable to configure the daemon with file {path}: no such file") from None
        return {}
    except OSError as error:
        raise ConfigError(f"unable to configure the daemon with file {path}: {error.strerror}") from error
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"unable to configure the daemon with file {path}: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"unable to configure the daemon with file {path}: expected a JSON object")
    known = {action.dest for action in parser()._actions}  # noqa: SLF001  # argparse offers no public list
    options: dict[str, Any] = {}
    for key, value in raw.items():
        name = _PLURALS.get(key, key.replace("-", "_"))
        if name not in known or name in {"help", "version", "config_file"}:
            raise ConfigError(f"the following directives don't match any configuration option: {key}")
        kind, expected = (dict, "an object") if key == "runtimes" else (list, "a list")
        if key in _PLURALS and not isinstance(value, kind):
            raise ConfigError(f"unable to configure the daemon with file {path}: {key}: expected {expected}")
        options[name] = value
    twice = sorted(set(options) & set(flags) - {"debug"})
    if twice:
        both = ", ".join(
            f"{name.replace('_', '-')}: (from flag: {flags[name]}, from file: {options[name]})" for name in twice
        )
        raise ConfigError(
            f"the following directives are specified both as a flag and in the configuration file: {both}"
        )
    return options


def _runtimes(given: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    """``NAME=PATH`` of flags, or the map of the file: ``{NAME: {"path": PATH, "runtimeArgs": [WORD…]}}``."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    if isinstance(given, list):
        given = {name: {"path": path} for name, _, path in (text.partition("=") for text in given)}
    for name, described in given.items():
        if name == "runc":
            raise ConfigError("runtime name 'runc' is reserved")
        if not isinstance(described, dict) or set(described) - {"path", "runtimeArgs"}:
            raise ConfigError(f"invalid runtime {name}: expected its path and runtimeArgs; shims are not supported")
        path, words = described.get("path"), described.get("runtimeArgs", [])
        if not name or not isinstance(path, str) or not path:
            raise ConfigError(f"invalid runtime name {name!r}: expected NAME=PATH")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ConfigError(f"invalid runtime {name}: runtimeArgs is a list of words")
        found[name] = (_absolute(path) if "/" in path else path, tuple(words))
    return found


def _absolute(path: str) -> str:
    """The daemon leaves the directory that it was started in."""
    return str(Path(path).absolute()) if path else ""


def _absolute_socket(host: str) -> str:
    scheme, separator, path = host.partition("://")
    return f"{scheme}{separator}{_absolute(path)}" if scheme == "unix" and path else host


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _pool(item: Any) -> tuple[str, int]:
    if isinstance(item, dict):
        pairs = {str(key): str(value) for key, value in item.items()}
    else:
        pairs = dict(part.partition("=")[::2] for part in str(item).split(","))
    try:
        return pairs["base"], int(pairs["size"])
    except (KeyError, ValueError):
        raise ConfigError(f"invalid default address pool {item!r}: expected base=CIDR,size=N") from None
