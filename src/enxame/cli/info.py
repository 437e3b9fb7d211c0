"""``enxame info``."""

from typing import Any

from enxame import __version__
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError, Exit, Unreachable
from enxame.cli.flags import text
from enxame.cli.humanise import binary_size_words
from enxame.cli.options.numbers import SECOND
from enxame.cli.session import Session
from enxame.durations import duration_words

Json = dict[str, Any]


@command(
    "info",
    "[OPTIONS]",
    "Display system-wide information",
    flags=[text("f,format", "Format output using a Go template, or 'json'")],
)
def info(cli: Session, flags: Flags, args: Args) -> None:
    """Prints what the daemon says of itself."""
    problem: CliError | None = None
    found: Json = {}
    try:
        found = cli.client.get("/info")
    except Unreachable as unreachable:
        problem = unreachable
    if flags["format"]:
        if problem:
            raise problem
        from enxame.cli.gotemplate import Template
        from enxame.cli.table import to_json

        data = {**found, "ClientInfo": {"Debug": cli.debug, "Context": "default", "Version": __version__}}
        cli.say(to_json(data) if flags["format"] == "json" else Template(flags["format"]).render(data))
        return
    lines = [
        "Client: Enxame",
        f" Version:    {__version__}",
        " Context:    default",
        f" Debug Mode: {_yes(cli.debug)}",
        "",
        "Server:",
    ]
    if problem:
        cli.say("\n".join(lines))
        cli.warn(f"ERROR: {problem.message}\nerrors pretty printing info")
        raise Exit(1)
    cli.say("\n".join([*lines, *server_lines(found)]))
    cli.say("")
    for warning in found.get("Warnings") or []:
        cli.warn(warning)


def _yes(value: Any) -> str:
    return "true" if value else "false"


def server_lines(found: Json) -> list[str]:
    """The lines below "Server:"."""
    lines = [
        f" Containers: {found.get('Containers', 0)}",
        f"  Running: {found.get('ContainersRunning', 0)}",
        f"  Paused: {found.get('ContainersPaused', 0)}",
        f"  Stopped: {found.get('ContainersStopped', 0)}",
        f" Images: {found.get('Images', 0)}",
    ]
    lines += _given(found, " ", (("ServerVersion", "Server Version"), ("Driver", "Storage Driver")))
    lines += [f"  {name}: {value}" for name, value in found.get("DriverStatus") or []]
    lines += _given(
        found,
        " ",
        (("LoggingDriver", "Logging Driver"), ("CgroupDriver", "Cgroup Driver"), ("CgroupVersion", "Cgroup Version")),
    )
    plugins = found.get("Plugins") or {}
    lines.append(" Plugins:")
    lines.append(f"  Volume: {' '.join(plugins.get('Volume') or [])}")
    lines.append(f"  Network: {' '.join(plugins.get('Network') or [])}")
    if plugins.get("Authorization"):
        lines.append(f"  Authorization: {' '.join(plugins['Authorization'])}")
    lines.append(f"  Log: {' '.join(plugins.get('Log') or [])}")
    lines += swarm_lines(found.get("Swarm") or {})
    lines += _runtimes(found)
    lines += _host(found)
    return lines


def _given(found: Json, indent: str, fields: tuple[tuple[str, str], ...]) -> list[str]:
    return [f"{indent}{title}: {found[key]}" for key, title in fields if found.get(key)]


def _runtimes(found: Json) -> list[str]:
    lines = []
    if found.get("Runtimes"):
        lines += [
            f" Runtimes: {' '.join(sorted(found['Runtimes']))}",
            f" Default Runtime: {found.get('DefaultRuntime', '')}",
        ]
    lines += _given(found, " ", (("InitBinary", "Init Binary"),))
    for key, title in (("ContainerdCommit", "containerd"), ("RuncCommit", "runc"), ("InitCommit", "init")):
        commit = found.get(key)
        if commit and (commit.get("ID") or key != "ContainerdCommit"):
            expected = commit.get("Expected", "")
            wrong = f" (expected: {expected})" if expected and expected != commit.get("ID", "") else ""
            lines.append(f" {title} version: {commit.get('ID', '')}{wrong}")
    if found.get("SecurityOptions"):
        lines.append(" Security Options:")
        for option in found["SecurityOptions"]:
            parts = dict(part.partition("=")[::2] for part in option.split(","))
            name = parts.pop("name", option)
            lines.append(f"  {name}")
            lines += [f"   {'Profile' if key == 'profile' else key}: {value}" for key, value in parts.items()]
    return lines


def _host(found: Json) -> list[str]:
    lines = _given(
        found,
        " ",
        (
            ("KernelVersion", "Kernel Version"),
            ("OperatingSystem", "Operating System"),
            ("OSType", "OSType"),
            ("Architecture", "Architecture"),
        ),
    )
    lines += [f" CPUs: {found.get('NCPU', 0)}", f" Total Memory: {binary_size_words(found.get('MemTotal', 0))}"]
    lines += _given(found, " ", (("Name", "Name"), ("ID", "ID"), ("DockerRootDir", "Docker Root Dir")))
    lines.append(f" Debug Mode: {_yes(found.get('Debug'))}")
    if found.get("Debug"):
        lines += _given(
            found,
            "  ",
            (
                ("NFd", "File Descriptors"),
                ("NGoroutines", "Goroutines"),
                ("SystemTime", "System Time"),
                ("NEventsListener", "EventsListeners"),
            ),
        )
    lines += _given(found, " ", (("HttpProxy", "HTTP Proxy"), ("HttpsProxy", "HTTPS Proxy"), ("NoProxy", "No Proxy")))
    if found.get("Labels"):
        lines += [" Labels:", *(f"  {label}" for label in found["Labels"])]
    lines.append(f" Experimental: {_yes(found.get('ExperimentalBuild'))}")
    registries = found.get("RegistryConfig") or {}
    insecure = [name for name, entry in (registries.get("IndexConfigs") or {}).items() if not entry.get("Secure", True)]
    insecure += registries.get("InsecureRegistryCIDRs") or []
    if insecure:
        lines += [" Insecure Registries:", *(f"  {name}" for name in insecure)]
    if registries.get("Mirrors"):
        lines += [" Registry Mirrors:", *(f"  {name}" for name in registries["Mirrors"])]
    lines.append(f" Live Restore Enabled: {_yes(found.get('LiveRestoreEnabled'))}")
    if found.get("DefaultAddressPools"):
        lines.append(" Default Address Pools:")
        lines += [f"   Base: {pool['Base']}, Size: {pool['Size']}" for pool in found["DefaultAddressPools"]]
    return lines


def swarm_lines(swarm: Json) -> list[str]:
    """The block about the swarm."""
    state = swarm.get("LocalNodeState", "inactive")
    lines = [f" Swarm: {state}"]
    if state in {"inactive", "locked"}:
        return lines
    lines.append(f"  NodeID: {swarm.get('NodeID', '')}")
    if swarm.get("Error"):
        lines.append(f"  Error: {swarm['Error']}")
    lines.append(f"  Is Manager: {_yes(swarm.get('ControlAvailable'))}")
    cluster = swarm.get("Cluster")
    if cluster and swarm.get("ControlAvailable") and not swarm.get("Error"):
        lines += _cluster_lines(swarm, cluster)
    lines.append(f"  Node Address: {swarm.get('NodeAddr', '')}")
    managers = sorted(m["Addr"] for m in swarm.get("RemoteManagers") or [])
    if managers:
        lines += ["  Manager Addresses:", *(f"   {address}" for address in managers)]
    return lines


def _cluster_lines(swarm: Json, cluster: Json) -> list[str]:
    spec = cluster.get("Spec") or {}
    raft, ca = spec.get("Raft") or {}, spec.get("CAConfig") or {}
    pools = "".join(f"{pool}  " for pool in cluster.get("DefaultAddrPool") or [])
    lines = [
        f"  ClusterID: {cluster.get('ID', '')}",
        f"  Managers: {swarm.get('Managers', 0)}",
        f"  Nodes: {swarm.get('Nodes', 0)}",
    ]
    if pools:
        lines += [f"  Default Address Pool: {pools}", f"  SubnetSize: {cluster.get('SubnetSize', 0)}"]
    if cluster.get("DataPathPort"):
        lines.append(f"  Data Path Port: {cluster['DataPathPort']}")
    history = (spec.get("Orchestration") or {}).get("TaskHistoryRetentionLimit", 0)
    lines += [
        "  Orchestration:",
        f"   Task History Retention Limit: {history}",
        "  Raft:",
        f"   Snapshot Interval: {raft.get('SnapshotInterval', 0)}",
    ]
    if raft.get("KeepOldSnapshots") is not None:
        lines.append(f"   Number of Old Snapshots to Retain: {raft['KeepOldSnapshots']}")
    heartbeat = (spec.get("Dispatcher") or {}).get("HeartbeatPeriod", 0)
    lines += [
        f"   Heartbeat Tick: {raft.get('HeartbeatTick', 0)}",
        f"   Election Tick: {raft.get('ElectionTick', 0)}",
        "  Dispatcher:",
        f"   Heartbeat Period: {duration_words(heartbeat / SECOND)}",
        "  CA Configuration:",
        f"   Expiry Duration: {duration_words(ca.get('NodeCertExpiry', 0) / SECOND)}",
        f"   Force Rotate: {ca.get('ForceRotate', 0)}",
    ]
    if (ca.get("SigningCACert") or "").strip():
        lines.append(f"   Signing CA Certificate: \n{ca['SigningCACert'].strip()}\n")
    if ca.get("ExternalCAs"):
        lines += [
            "   External CAs:",
            *(f"     {entry.get('Protocol', '')}: {entry.get('URL', '')}" for entry in ca["ExternalCAs"]),
        ]
    return [
        *lines,
        f"  Autolock Managers: {_yes((spec.get('EncryptionConfig') or {}).get('AutoLockManagers'))}",
        f"  Root Rotation In Progress: {_yes(cluster.get('RootRotationInProgress'))}",
    ]
