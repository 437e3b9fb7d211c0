"""The documents that ``/info`` and ``/version`` answer with."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from enxame import API_VERSION, MIN_API_VERSION, __version__
from enxame.api.context import ApiContext, DaemonFacts
from enxame.api.host_facts import HostFacts, program_version
from enxame.engine.drivers import drivers
from enxame.engine.init_program import find_init_program
from enxame.model.cluster import SwarmInfo
from enxame.model.filters import Filters
from enxame.store.backend import NoLeader

_DOCKER_HUB: Final = "https://index.docker.io/v1/"
_LOOPBACK_REGISTRIES: Final = ["::1/128", "127.0.0.0/8"]
_TWO_MANAGERS: Final = (
    "WARNING: Running Swarm in a two-manager configuration. This configuration provides\n"
    "         no fault tolerance, and poses a high risk to lose control over the cluster.\n"
    "         Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the\n"
    "         Swarm for fault-tolerance."
)


def version_view(host: HostFacts) -> dict[str, Any]:
    """``GET /version``."""
    python = ".".join(map(str, sys.version_info[:3]))
    components: list[dict[str, Any]] = [
        {
            "Name": "Engine",
            "Version": __version__,
            "Details": {
                "ApiVersion": API_VERSION,
                "Arch": host.go_architecture,
                "BuildTime": "",
                "Experimental": "false",
                "GitCommit": "",
                "GoVersion": f"python{python}",
                "KernelVersion": host.kernel,
                "MinAPIVersion": MIN_API_VERSION,
                "Os": "linux",
            },
        }
    ]
    for program in ("conmon", "crun", "runc"):
        version = program_version(program)
        if version:
            components.append({"Name": program, "Version": version, "Details": {"GitCommit": ""}})
    return {
        "Platform": {"Name": "Enxame"},
        "Components": components,
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": f"python{python}",
        "Os": "linux",
        "Arch": host.go_architecture,
        "KernelVersion": host.kernel,
        "BuildTime": "",
    }


def info_view(api: ApiContext, host: HostFacts, runtime_version: str) -> dict[str, Any]:
    """``GET /info``."""
    facts, swarm = api.facts, _swarm(api)
    return {
        "ID": facts.id,
        "Name": facts.name,
        "Labels": facts.labels,
        "ServerVersion": __version__,
        "SystemTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        **_contents(api),
        **_process(api),
        **_machine(host),
        **_limits_offered(host),
        **_drivers(),
        **_runtimes(facts, runtime_version),
        **_configuration(facts),
        "Swarm": _without_secrets(swarm),
        "SecurityOptions": _security(host),
        "Warnings": warnings(facts, host, swarm),
    }


def _contents(api: ApiContext) -> dict[str, Any]:
    containers = api.engine.containers.list(all=True, filters=Filters())
    states = Counter(container.state for container in containers)
    running, paused = states["running"], states["paused"]
    return {
        "Containers": len(containers),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(containers) - running - paused,
        "Images": len(api.engine.images.list()),
    }


def _process(api: ApiContext) -> dict[str, Any]:
    return {
        "Debug": api.facts.debug,
        "NFd": len(list(Path("/proc/self/fd").iterdir())),
        # What runs side by side here: tasks and threads.
        "NGoroutines": len(asyncio.all_tasks()) + threading.active_count(),
        "NEventsListener": api.engine.events.listeners,
    }


def _machine(host: HostFacts) -> dict[str, Any]:
    return {
        "KernelVersion": host.kernel,
        "OperatingSystem": host.operating_system,
        "OSVersion": host.os_version,
        "OSType": "linux",
        "Architecture": host.architecture,
        "NCPU": host.cpus,
        "MemTotal": host.memory,
        "IPv4Forwarding": host.ipv4_forwarding,
        # Newer kernels pass bridged packets by the host's firewall unless asked; containers do not depend on it.
        "BridgeNfIptables": True,
        "BridgeNfIp6tables": True,
        "Isolation": "",
    }


def _limits_offered(host: HostFacts) -> dict[str, Any]:
    v1 = host.cgroup_version == "1"
    return {
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": host.cgroup_version,
        "MemoryLimit": "memory" in host.controllers,
        "SwapLimit": host.swap_accounting or not v1,
        **({"KernelMemoryTCP": True} if v1 else {}),
        "OomKillDisable": v1 and "memory" in host.controllers,
        "CpuCfsPeriod": "cpu" in host.controllers,
        "CpuCfsQuota": "cpu" in host.controllers,
        "CPUShares": "cpu" in host.controllers,
        "CPUSet": "cpuset" in host.controllers,
        "PidsLimit": "pids" in host.controllers,
    }


def _drivers() -> dict[str, Any]:
    return {
        "Driver": "overlay2",
        "DriverStatus": [["Supports d_type", "true"], ["Native Overlay Diff", "true"]],
        "LoggingDriver": "json-file",
        "Plugins": {"Authorization": None, **drivers()},
    }


def _runtimes(facts: DaemonFacts, runtime_version: str) -> dict[str, Any]:
    return {
        "Runtimes": {
            name: {"path": one.path, **({"runtimeArgs": list(one.arguments)} if one.arguments else {})}
            for name, one in facts.runtimes.items()
        },
        "DefaultRuntime": facts.default_runtime,
        "InitBinary": find_init_program().rpartition("/")[2],
        "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": runtime_version, "Expected": runtime_version},
        "InitCommit": {"ID": "", "Expected": ""},
    }


def _configuration(facts: DaemonFacts) -> dict[str, Any]:
    return {
        "DockerRootDir": facts.data_root,
        "IndexServerAddress": _DOCKER_HUB,
        "RegistryConfig": _registries(facts),
        **({"DefaultAddressPools": _pools(facts)} if facts.default_address_pools else {}),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "GenericResources": None,
        "CDISpecDirs": [],
        "ExperimentalBuild": False,
        "LiveRestoreEnabled": True,
    }


def warnings(facts: DaemonFacts, host: HostFacts, swarm: SwarmInfo) -> list[str]:
    """What the stock command prints under ``docker info``."""
    told = [
        f"WARNING: API is accessible on http://{address} without encryption.\n"
        "         Access to the remote API is equivalent to root access on the host. Refer\n"
        "         to the 'Docker daemon attack surface' section in the documentation for\n"
        "         more information: https://docs.docker.com/go/attack-surface/"
        for address in facts.insecure_listeners
    ]
    if "memory" not in host.controllers:
        told.append("WARNING: No memory limit support")
    if "cpu" not in host.controllers:
        told.append("WARNING: No cpu cfs quota support")
    if "pids" not in host.controllers:
        told.append("WARNING: No pids limit support")
    if not host.seccomp:
        told.append("WARNING: No seccomp profile: containers may use every system call")
    if not host.ipv4_forwarding:
        told.append("WARNING: IPv4 forwarding is disabled")
    if swarm.managers == 2:
        told.append(_TWO_MANAGERS)
    return told + swarm.warnings


def _swarm(api: ApiContext) -> SwarmInfo:
    """What this node knows of its swarm, from its own copy of the state: told at once, leader or not."""
    swarm = api.membership.info()
    if swarm.control_available and not swarm.error and api.membership.leadership.leader is None:
        return replace(swarm, error=NoLeader().message)
    return swarm


def _without_secrets(swarm: SwarmInfo) -> SwarmInfo:
    if swarm.cluster is None:
        return swarm
    return replace(swarm, cluster=replace(swarm.cluster, internal=None, join_tokens=None))


def _registries(facts: DaemonFacts) -> dict[str, Any]:
    index = {
        "docker.io": {"Name": "docker.io", "Mirrors": facts.registry_mirrors, "Secure": True, "Official": True},
        **{
            name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
            for name in facts.insecure_registries
            if "/" not in name
        },
    }
    networks = sorted({*_LOOPBACK_REGISTRIES, *(name for name in facts.insecure_registries if "/" in name)})
    return {
        "AllowNondistributableArtifactsCIDRs": None,
        "AllowNondistributableArtifactsHostnames": None,
        "InsecureRegistryCIDRs": networks,
        "IndexConfigs": index,
        "Mirrors": facts.registry_mirrors or None,
    }


def _security(host: HostFacts) -> list[str]:
    options = ["name=apparmor"] if host.apparmor else []
    if host.seccomp:
        options.append("name=seccomp,profile=builtin")
    if host.cgroup_version == "2":
        options.append("name=cgroupns")
    return options


def _pools(facts: DaemonFacts) -> list[dict[str, Any]]:
    return [{"Base": base, "Size": size} for base, size in facts.default_address_pools]
