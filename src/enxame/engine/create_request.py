"""Checks and completes what a client asks of a new container. Pure but for the question whether bind sources exist."""

from __future__ import annotations

import os
import re
from datetime import datetime

from msgspec.structs import replace

from enxame.engine import capabilities, restart_policy, security_options
from enxame.engine.container_record import Definition
from enxame.engine.devices import DEVICE_RULE
from enxame.engine.endpoint_requests import check_endpoints
from enxame.engine.image_defaults import as_list, merge
from enxame.engine.kernel_limits import KernelLimits
from enxame.engine.log_rotation import bounds_of
from enxame.engine.mount_requests import MountRequest, parse_mounts
from enxame.engine.naming import new_id
from enxame.engine.network_modes import check_network_mode, with_link_address
from enxame.engine.oci_spec import MASKED_PATHS, READONLY_PATHS, open_system_paths
from enxame.engine.resource_limits import possible_limits
from enxame.engine.signals import parse_signal
from enxame.engine.syslog_messages import parse_target
from enxame.errors import InvalidArgument
from enxame.model.container import (
    ContainerConfig,
    ContainerCreateRequest,
    HealthConfig,
    HostConfig,
    LogConfig,
    NetworkingConfig,
)
from enxame.model.image import Image

_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_LEAST_PROBE_TIME = 1_000_000
_LOG_DRIVERS = ("json-file", "local", "none", "syslog")
_JOURNAL = "/run/systemd/journal/socket"
_CONFIG_FIELDS = tuple(ContainerConfig.__struct_fields__)


def define(
    name: str,
    request: ContainerCreateRequest,
    image: Image,
    created: datetime,
    inherited_mounts: list[MountRequest],
    *,
    kernel: KernelLimits,
) -> tuple[Definition, list[str]]:
    """The definition of a new container, and warnings for the user.

    Raises:
        InvalidArgument: the request breaks a rule, in Docker's words.
    """
    given = ContainerConfig(**{field: getattr(request, field) for field in _CONFIG_FIELDS})
    config = merge(given, image.config)
    host = request.host_config or HostConfig()
    _check_config(config)
    warnings: list[str] = []
    check_network_mode(given, host, warnings)
    networking = request.networking_config or NetworkingConfig()
    check_endpoints(networking.endpoints_config, warnings)
    host = _checked_host(host, warnings, kernel=kernel)
    identity = new_id()
    mounts = parse_mounts(config, host, new_volume_name=new_id, inherited=inherited_mounts)
    if not config.hostname and host.network_mode != "host" and host.uts_mode != "host":
        config = replace(config, hostname=identity[:12])
    elif not config.hostname:
        config = replace(config, hostname=os.uname().nodename)
    definition = Definition(
        id=identity,
        name=name,
        created=created,
        config=config,
        host=host,
        image_id=image.id,
        image=request.image,
        networks=with_link_address(given.mac_address, host.network_mode, networking.endpoints_config),
        mounts=mounts,
        log_driver=host.log_config.type or "json-file",
    )
    return definition, warnings


def _check_config(config: ContainerConfig) -> None:
    if not as_list(config.entrypoint) and not as_list(config.cmd):
        raise InvalidArgument("No command specified")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if len(config.hostname) > 63 or (config.hostname and not re.fullmatch(r"[A-Za-z0-9_.-]+", config.hostname)):
        raise InvalidArgument(f"invalid hostname format: {config.hostname}")
    for text in config.env or []:
        if text.startswith("=") or not text:
            raise InvalidArgument(f"invalid environment variable: {text}")
    for text in (*as_list(config.entrypoint), *as_list(config.cmd), *(config.env or [])):
        if "\0" in text:
            raise InvalidArgument("invalid argument: arguments and variables cannot contain a NUL byte")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    for port in config.exposed_ports:
        check_port(port)
    if config.healthcheck is not None:
        check_health(config.healthcheck)


def check_port(text: str) -> None:
    """Raise InvalidArgument unless it is ``80``, ``80/tcp`` or ``80-90/udp``."""
    match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?(?:/(tcp|udp|sctp))?", text, re.ASCII)
    if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]) < 65536:
        raise InvalidArgument(f"Invalid port specification: {text!r}".replace("'", '"'))


def check_health(health: HealthConfig) -> None:
    """Raise InvalidArgument for a probe that makes no sense, in Docker's words."""
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value and value < _LEAST_PROBE_TIME:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    if health.test and health.test[0] not in {"NONE", "CMD", "CMD-SHELL", ""}:
        raise InvalidArgument(f"unknown type for Healthcheck test: {health.test[0]}")


def _checked_host(host: HostConfig, warnings: list[str], *, kernel: KernelLimits) -> HostConfig:
    restart_policy.check(host.restart_policy)
    if host.auto_remove and host.restart_policy.name not in {"", "no"}:
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    security_options.check(host)
    everything = frozenset(capabilities.ALL)
    capabilities.effective(host.cap_add or [], host.cap_drop or [], privileged=False, available=everything)
    host = possible_limits(host, warnings, kernel)
    for port, bindings in host.port_bindings.items():
        check_port(port)
        for binding in bindings:
            if binding.host_port and not re.fullmatch(r"\d{1,5}(-\d{1,5})?", binding.host_port):
                raise InvalidArgument(f'Invalid port specification: "{binding.host_port}"')
    _check_log(host.log_config)
    _check_namespaces(host)
    _check_sysctls(host)
    _check_devices(host)
    for limit in host.ulimits or []:
        if limit.soft > limit.hard >= 0 or (limit.hard >= 0 and limit.soft < 0):
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidArgument(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if ".." in host.cgroup_parent.split("/"):
        raise InvalidArgument(f"invalid cgroup parent: {host.cgroup_parent}")
    if host.cgroupns_mode not in {"", "private", "host"}:
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.userns_mode not in {"", "host"}:
        raise InvalidArgument(f"invalid USER mode: {host.userns_mode}")
    if host.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    for name in host.storage_opt:
        if name != "size":
            raise InvalidArgument(f"Unknown option {name}")
        raise InvalidArgument("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    if host.isolation not in {"", "default"}:
        raise InvalidArgument(f"invalid isolation '{host.isolation}' on linux")
    private_groups = kernel.cgroup_version == 2 and not host.privileged
    # What a client sees is what the container has, as with Docker; where it has all of /proc and /sys, that is null.
    covered = not host.privileged and not open_system_paths(host)
    return replace(
        host,
        shm_size=host.shm_size or 64 << 20,
        cgroupns_mode=host.cgroupns_mode or ("private" if private_groups else "host"),
        ipc_mode=host.ipc_mode or "private",
        memory_swappiness=None if host.memory_swappiness == -1 else host.memory_swappiness,
        pids_limit=host.pids_limit if host.pids_limit is not None and host.pids_limit > 0 else None,
        masked_paths=MASKED_PATHS if covered and host.masked_paths is None else host.masked_paths,
        readonly_paths=READONLY_PATHS if covered and host.readonly_paths is None else host.readonly_paths,
        network_mode=host.network_mode or "default",
        # Clients look here to decide whether logs can be read.
        log_config=replace(host.log_config, type=host.log_config.type or "json-file"),
    )


def log_drivers() -> list[str]:
    """Those that containers of this machine can have."""
    return sorted([*_LOG_DRIVERS, *(["journald"] if os.path.exists(_JOURNAL) else [])])


def _check_log(config: LogConfig) -> None:
    driver = config.type
    if driver == "journald" and not os.path.exists(_JOURNAL):
        raise InvalidArgument("journald is not enabled on this host")
    if driver and driver not in log_drivers():
        raise InvalidArgument(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    if driver == "syslog":
        parse_target(config.config)
    bounds_of(config)


def _check_namespaces(host: HostConfig) -> None:
    for kind, mode, further in (
        ("PID", host.pid_mode, ()),
        ("IPC", host.ipc_mode, ("private", "shareable", "none")),
        ("UTS", host.uts_mode, ()),
    ):
        shared = mode.startswith("container:") and len(mode) > len("container:")
        if mode not in {"", "host", *further} and not shared:
            raise InvalidArgument(f"invalid {kind} mode: {mode}")


def _check_sysctls(host: HostConfig) -> None:
    for name in host.sysctls:
        key = name.replace("/", ".")
        if key.startswith("net."):
            if host.network_mode == "host":
                raise InvalidArgument(f"sysctl '{name}' not allowed in host network namespace")
        elif key.startswith("fs.mqueue.") or key in _IPC_SYSCTLS:
            if host.ipc_mode == "host":
                raise InvalidArgument(f"sysctl '{name}' not allowed in host ipc namespace")
        elif key in {"kernel.domainname", "kernel.hostname"}:
            if host.uts_mode == "host":
                raise InvalidArgument(f"sysctl '{name}' not allowed in host uts namespace")
        else:
            raise InvalidArgument(f"sysctl '{name}' is not whitelisted")


def _check_devices(host: HostConfig) -> None:
    for rule in host.device_cgroup_rules or []:
        if DEVICE_RULE.fullmatch(rule) is None:
            raise InvalidArgument(f"invalid device cgroup rule format: '{rule}'")
    for wanted in host.devices or []:
        if not set(wanted.cgroup_permissions) <= set("rwm"):
            raise InvalidArgument(f"invalid device mode: {wanted.cgroup_permissions}")
    for request in host.device_requests or []:
        names = sorted({name for group in request.capabilities or [] for name in group})
        raise InvalidArgument(
            f'could not select device driver "{request.driver}" with capabilities: [[{" ".join(names)}]]'
        )
