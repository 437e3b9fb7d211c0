"""A container's config in the runtime's language: the OCI ``config.json``. Pure."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from enxame.engine.image_defaults import as_list, merge_env
from enxame.engine.users import ResolvedUser
from enxame.errors import InvalidArgument
from enxame.model.container import ContainerConfig, HostConfig

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE = 64 << 20
INIT_PATH = "/sbin/docker-init"

MASKED_PATHS = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

#: null, zero, full, random, urandom, tty, console, ptmx, pts; and mknod of anything, as Docker allows.
_DEVICE_RULES: list[dict[str, Any]] = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
    ),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
]


@dataclass(frozen=True, slots=True)
class BoundMount:
    """A mount whose host side is known. ``type``: bind|tmpfs; tmpfs options as mount(8) writes them."""

    destination: str
    source: str = ""
    type: str = "bind"
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device node to make in the container."""

    path: str
    type: str
    major: int
    minor: int
    access: str = "rwm"
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SpecInput:
    """All that the translation needs, looked up before.

    ``namespaces``: paths to join by OCI name (``network``, ``pid``, ``ipc``, ``uts``); an empty path is a new one,
    a missing name is the host's. ``capabilities`` in the kernel's order. ``host_mqueue``: /dev/mqueue is mounted here.
    """

    hostname: str
    rootfs: str
    config: ContainerConfig
    host: HostConfig
    user: ResolvedUser
    cgroups_path: str
    cgroup_version: int
    namespaces: dict[str, str]
    mounts: list[BoundMount]
    capabilities: list[str]
    seccomp: msgspec.Raw | dict[str, Any] | None
    devices: list[Device] = field(default_factory=list)
    device_rules: list[dict[str, Any]] = field(default_factory=list)
    shm_source: str = ""
    swap_limit: bool = True
    annotations: dict[str, str] = field(default_factory=dict)
    block_io: dict[str, Any] = field(default_factory=dict)
    host_mqueue: bool = True
    hard_limit: Callable[[int], int] = lambda kind: resource.getrlimit(kind)[1]


def build_spec(given: SpecInput) -> dict[str, Any]:
    """The OCI config. Raises InvalidArgument for wishes that make no sense, in Docker's words."""
    config, host = given.config, given.host
    linux: dict[str, Any] = {
        "cgroupsPath": given.cgroups_path,
        "namespaces": [
            {"type": name, "path": path} if path else {"type": name} for name, path in given.namespaces.items()
        ],
        "resources": _resources(given),
        "maskedPaths": [],
        "readonlyPaths": [],
    }
    if not host.privileged and not open_system_paths(host):
        linux["maskedPaths"] = MASKED_PATHS if host.masked_paths is None else host.masked_paths
        linux["readonlyPaths"] = READONLY_PATHS if host.readonly_paths is None else host.readonly_paths
    if given.devices:
        linux["devices"] = [
            {
                "path": device.path,
                "type": device.type,
                "major": device.major,
                "minor": device.minor,
                "fileMode": device.mode,
                "uid": device.uid,
                "gid": device.gid,
            }
            for device in given.devices
        ]
    if given.seccomp is not None:
        linux["seccomp"] = given.seccomp
    if sysctls := _sysctls(given):
        linux["sysctl"] = sysctls
    spec: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": build_process(
            args=command_line(config, host),
            env=container_env(config, given.hostname, given.user.home),
            cwd=config.working_dir or "/",
            user=given.user,
            capabilities=given.capabilities,
            terminal=config.tty,
            no_new_privileges=no_new_privileges(host),
            rlimits=_rlimits(given),
            oom_score_adj=host.oom_score_adj,
        ),
        "root": {"path": given.rootfs, "readonly": host.readonly_rootfs},
        "mounts": _mounts(given),
        "annotations": given.annotations,
        "linux": linux,
    }
    if "uts" in given.namespaces and not given.namespaces["uts"]:
        spec["hostname"] = given.hostname
        if config.domainname:
            spec["domainname"] = config.domainname
    return spec


def command_line(config: ContainerConfig, host: HostConfig) -> list[str]:
    """Entrypoint and command, under an init process if asked for."""
    args = [*as_list(config.entrypoint), *as_list(config.cmd)]
    return [INIT_PATH, "--", *args] if host.init else args


def container_env(config: ContainerConfig, hostname: str, home: str) -> list[str]:
    """The environment of the container's process (and of execs in it)."""
    base = [DEFAULT_PATH, f"HOSTNAME={hostname}"]
    if config.tty:
        base.append("TERM=xterm")
    env = merge_env(base, config.env or [])
    if not any(text.startswith("HOME=") for text in env):
        env.append(f"HOME={home}")
    return env


def build_process(
    *,
    args: list[str],
    env: list[str],
    cwd: str,
    user: ResolvedUser,
    capabilities: list[str],
    terminal: bool,
    no_new_privileges: bool,
    rlimits: list[dict[str, Any]] | None = None,
    oom_score_adj: int = 0,
) -> dict[str, Any]:
    """The OCI ``process`` of a container or of an exec."""
    effective = capabilities if user.uid == 0 else []
    process: dict[str, Any] = {
        "terminal": terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": args,
        "env": env,
        "cwd": cwd,
        "capabilities": {
            "bounding": capabilities,
            "effective": effective,
            "permitted": effective,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": no_new_privileges,
    }
    if rlimits:
        process["rlimits"] = rlimits
    if oom_score_adj:
        process["oomScoreAdj"] = oom_score_adj
    return process


def no_new_privileges(host: HostConfig) -> bool:
    """Whether a security option asks for it."""
    return any(
        option in {"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}
        for option in host.security_opt or []
    )


def open_system_paths(host: HostConfig) -> bool:
    """Whether a security option asks for nothing of /proc and /sys to be hidden or read-only."""
    return any(option in {"systempaths=unconfined", "systempaths:unconfined"} for option in host.security_opt or [])


def _resources(given: SpecInput) -> dict[str, Any]:
    host = given.host
    rules = [{"allow": True, "access": "rwm"}] if host.privileged else list(_DEVICE_RULES)
    if not host.privileged:
        rules += [
            {"allow": True, "type": d.type, "major": d.major, "minor": d.minor, "access": d.access}
            for d in given.devices
        ]
        rules += given.device_rules
    resources = limits(host, swap_limit=given.swap_limit, cgroup_version=given.cgroup_version)
    if given.block_io:
        resources["blockIO"] = given.block_io
    return {"devices": rules, **resources}


def limits(host: HostConfig, *, swap_limit: bool, cgroup_version: int) -> dict[str, Any]:
    """Memory, processor, processes: those of the OCI ``resources`` that can change while the container runs."""
    resources: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    if host.memory:
        memory["limit"] = host.memory
        if swap_limit:
            # Unset swap is as much again as the memory, as Docker has it.
            memory["swap"] = host.memory_swap or 2 * host.memory
    if host.memory_reservation:
        memory["reservation"] = host.memory_reservation
    if host.memory_swappiness is not None and host.memory_swappiness >= 0 and cgroup_version == 1:
        memory["swappiness"] = host.memory_swappiness
    if host.oom_kill_disable and cgroup_version == 1:
        memory["disableOOMKiller"] = True
    if memory:
        resources["memory"] = memory
    cpu = _cpu(host)
    if cpu:
        resources["cpu"] = cpu
    if host.pids_limit is not None and host.pids_limit > 0:
        resources["pids"] = {"limit": host.pids_limit}
    if host.blkio_weight:
        resources["blockIO"] = {"weight": host.blkio_weight}
    return resources


def _cpu(host: HostConfig) -> dict[str, Any]:
    cpu: dict[str, Any] = {}
    if host.cpu_shares:
        cpu["shares"] = host.cpu_shares
    if host.nano_cpus:
        cpu["period"] = 100_000
        cpu["quota"] = max(host.nano_cpus * 100_000 // 1_000_000_000, 1_000)
    if host.cpu_period:
        cpu["period"] = host.cpu_period
    if host.cpu_quota:
        cpu["quota"] = host.cpu_quota
    if host.cpu_realtime_period:
        cpu["realtimePeriod"] = host.cpu_realtime_period
    if host.cpu_realtime_runtime:
        cpu["realtimeRuntime"] = host.cpu_realtime_runtime
    if host.cpuset_cpus:
        cpu["cpus"] = host.cpuset_cpus
    if host.cpuset_mems:
        cpu["mems"] = host.cpuset_mems
    return cpu


def _sysctls(given: SpecInput) -> dict[str, str]:
    sysctls: dict[str, str] = {}
    own_network = given.host.network_mode != "host" and "network" in given.namespaces
    if own_network and not given.host.network_mode.startswith("container:"):
        # Ports below 1024 and ping without privileges: harmless in a namespace of its own.
        sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
        sysctls["net.ipv4.ping_group_range"] = "0 2147483647"
    return {**sysctls, **given.host.sysctls}


def _rlimits(given: SpecInput) -> list[dict[str, Any]]:
    limits = []
    for wanted in given.host.ulimits or []:
        kind = getattr(resource, f"RLIMIT_{wanted.name.upper()}", None)
        if kind is None:
            raise InvalidArgument(f"invalid ulimit type: {wanted.name}")
        ceiling = given.hard_limit(kind)
        soft, hard = _at_most(wanted.soft, ceiling), _at_most(wanted.hard, ceiling)
        limits.append({"type": f"RLIMIT_{wanted.name.upper()}", "soft": soft, "hard": hard})
    return limits


def _at_most(value: int, ceiling: int) -> int:
    """``value`` (negative: no limit) as far as the machine lets us."""
    if ceiling == resource.RLIM_INFINITY:
        return value if value >= 0 else 2**64 - 1
    return ceiling if value < 0 else min(value, ceiling)


def _mounts(given: SpecInput) -> list[dict[str, Any]]:
    host = given.host
    sealed = ["nosuid", "noexec", "nodev"]
    sys_mode = "rw" if host.privileged else "ro"
    cgroup_type = "cgroup" if given.cgroup_version == 1 else "cgroup2"
    system: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": sealed},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        # Never the host's own, bound: with it would come what is mounted below.
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*sealed, sys_mode]},
        {
            "destination": "/sys/fs/cgroup",
            "type": cgroup_type,
            "source": cgroup_type,
            "options": [*sealed, "relatime", sys_mode],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": sealed},
    ]
    if "ipc" not in given.namespaces and given.host_mqueue:
        system[-1] = {"destination": "/dev/mqueue", "type": "bind", "source": "/dev/mqueue", "options": ["rbind"]}
    if given.shm_source:
        shm: dict[str, Any] = {
            "destination": "/dev/shm",
            "type": "bind",
            "source": given.shm_source,
            "options": ["rbind", "rw", *sealed],
        }
    else:
        size = host.shm_size or DEFAULT_SHM_SIZE
        shm = {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*sealed, "mode=1777", f"size={size}"],
        }
    if host.ipc_mode != "none":
        system.append(shm)
    wanted = {mount.destination for mount in given.mounts}
    return [mount for mount in system if mount["destination"] not in wanted] + [
        {
            "destination": mount.destination,
            "type": mount.type,
            "source": mount.source or mount.type,
            "options": list(mount.options),
        }
        for mount in given.mounts
    ]
