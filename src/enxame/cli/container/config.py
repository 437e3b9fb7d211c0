"""Flags of ``run`` and ``create`` → the body of POST /containers/create."""

import json
import re
from typing import Any, Final

from enxame.cli.command import Flags
from enxame.cli.errors import CliError
from enxame.cli.options.fields import environment, read_label_file, to_map
from enxame.cli.options.limits import parse_restart_policy, unique_ulimits
from enxame.cli.options.ports import parse_container_port, parse_expose

Json = dict[str, Any]

_BUILT_IN_NETWORKS: Final = {"", "default", "bridge", "host", "none"}
_MAC: Final = re.compile(r"^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$")


def container_request(flags: Flags, image: str, command: list[str]) -> Json:
    """The whole body. Raises CliError with docker's words for flags that contradict each other."""
    try:
        return _request(flags, image, command)
    except ValueError as problem:
        raise CliError(str(problem)) from None


def _request(flags: Flags, image: str, command: list[str]) -> Json:
    _check(flags)
    attach = set(flags["attach"])
    stdin = flags["interactive"] or "stdin" in attach
    exposed, bindings = _ports(flags)
    binds, anonymous = _volumes(flags["volume"])
    entrypoint = [flags["entrypoint"]] if flags.changed("entrypoint") else None
    body: Json = {
        "Hostname": flags["hostname"],
        "Domainname": flags["domainname"],
        "User": flags["user"],
        "AttachStdin": stdin,
        "AttachStdout": not attach or "stdout" in attach,
        "AttachStderr": not attach or "stderr" in attach,
        **({"ExposedPorts": exposed} if exposed else {}),
        "Tty": flags["tty"],
        "OpenStdin": flags["interactive"],
        "StdinOnce": flags["interactive"] and stdin,
        "Env": environment(flags["env-file"], flags["env"]) or None,
        "Cmd": command or None,
        **({"Healthcheck": health} if (health := _health(flags)) is not None else {}),
        "Image": image,
        "Volumes": {path: {} for path in anonymous},
        "WorkingDir": flags["workdir"],
        "Entrypoint": entrypoint,
        **({"MacAddress": flags["mac-address"]} if flags["mac-address"] else {}),
        "OnBuild": None,
        "Labels": to_map(
            [line for path in flags["label-file"] for line in read_label_file(path)] + list(flags["label"])
        ),
        **({"StopSignal": flags["stop-signal"]} if flags.changed("stop-signal") else {}),
        **({"StopTimeout": flags["stop-timeout"]} if flags.changed("stop-timeout") else {}),
    }
    if stdin and not flags["interactive"]:
        body["OpenStdin"] = flags["interactive"]
    networks = [*flags["net"], *flags["network"]]
    body["HostConfig"] = _host_config(flags, bindings, binds, networks)
    body["NetworkingConfig"] = {"EndpointsConfig": _endpoints(flags, networks)}
    return body


def _check(flags: Flags) -> None:
    if flags["mac-address"] and not _MAC.match(flags["mac-address"]):
        raise CliError(f"{flags['mac-address']} is not a valid mac address")
    swappiness = flags["memory-swappiness"]
    if not -1 <= swappiness <= 100:
        raise CliError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    if flags["rm"] and parse_restart_policy(flags["restart"])["Name"] not in {"", "no"}:
        raise CliError("conflicting options: cannot specify both --restart and --rm")
    if flags["log-driver"] == "none" and flags["log-opt"]:
        raise CliError("invalid logging opts for driver none")
    if flags["pull"] not in {"always", "missing", "never"}:
        raise CliError(f'invalid pull option: \'{flags["pull"]}\': must be one of "always", "missing" or "never"')
    for option in flags["storage-opt"]:
        if "=" not in option:
            raise CliError("invalid storage option")
    for name, valid in (
        ("pid", {"", "host"}),
        ("uts", {"", "host"}),
        ("userns", {"", "host"}),
        ("cgroupns", {"", "host", "private"}),
    ):
        wanted = flags[name]
        if wanted not in valid and not (name == "pid" and wanted.startswith("container:") and wanted != "container:"):
            kind = {"pid": "PID", "uts": "UTS", "userns": "USER", "cgroupns": "CGROUP"}[name]
            raise CliError(f"--{name}: invalid {kind} mode")


def _ports(flags: Flags) -> tuple[Json, Json]:
    exposed: Json = {}
    bindings: Json = {}
    for text in flags["publish"]:
        for binding in parse_container_port(text):
            key = f"{binding.port}/{binding.protocol}"
            exposed[key] = {}
            bindings.setdefault(key, []).append({"HostIp": binding.host_ip, "HostPort": binding.host_port})
    for text in flags["expose"]:
        exposed.update({key: {} for key in parse_expose(text)})
    return exposed, bindings


def _volumes(volumes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """(binds, anonymous volumes)."""
    import os

    binds, anonymous = [], []
    for text in volumes:
        if ":" not in text:
            anonymous.append(text)
            continue
        source, _, rest = text.partition(":")
        # A path that starts with a dot is one of this machine's, seen from here.
        binds.append(
            f"{os.path.abspath(source)}:{rest}" if source in {".", ".."} or source.startswith(("./", "../")) else text
        )
    return binds, anonymous


def _health(flags: Flags) -> Json | None:
    names = (
        "health-cmd",
        "health-interval",
        "health-retries",
        "health-timeout",
        "health-start-period",
        "health-start-interval",
    )
    given = any(flags[name] for name in names)
    if flags["no-healthcheck"]:
        if given:
            raise CliError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not given:
        return None
    for name in names[1:]:
        if flags[name] < 0:
            raise CliError(f"--{name} cannot be negative")
    found = {
        "Test": ["CMD-SHELL", flags["health-cmd"]] if flags["health-cmd"] else None,
        "Interval": flags["health-interval"],
        "Timeout": flags["health-timeout"],
        "StartPeriod": flags["health-start-period"],
        "StartInterval": flags["health-start-interval"],
        "Retries": flags["health-retries"],
    }
    return {key: value for key, value in found.items() if value}


def _security(options: tuple[str, ...]) -> tuple[list[str], bool]:
    """(options for the daemon, whether system paths are to be left open). Seccomp profiles are read here."""
    out, open_paths = [], False
    for option in options:
        key, separator, value = option.partition("=")
        if not separator and key != "no-new-privileges":
            key, separator, value = option.partition(":")
            if not separator:
                raise CliError(f'invalid --security-opt: "{option}"')
        if option == "systempaths=unconfined":
            open_paths = True
        elif key == "seccomp" and value not in {"unconfined", "builtin"}:
            try:
                with open(value, encoding="utf-8") as file:
                    profile = json.dumps(json.load(file), separators=(",", ":"))
            except OSError as problem:
                raise CliError(
                    f"opening seccomp profile ({value}) failed: open {value}: {(problem.strerror or '').lower()}"
                ) from None
            except ValueError as problem:
                raise CliError(f"compacting json for seccomp profile ({value}) failed: {problem}") from None
            out.append(f"seccomp={profile}")
        else:
            out.append(option)
    return out, open_paths


def _host_config(flags: Flags, bindings: Json, binds: list[str], networks: list[Json]) -> Json:
    security, open_paths = _security(flags["security-opt"])

    def listed(name: str) -> list[Any] | None:
        return list(flags[name]) or None

    config: Json = {
        "Binds": binds or None,
        "ContainerIDFile": flags["cidfile"],
        "LogConfig": {"Type": flags["log-driver"], "Config": to_map(flags["log-opt"])},
        "NetworkMode": networks[0]["Target"] if networks else "default",
        "PortBindings": bindings,
        "RestartPolicy": parse_restart_policy(flags["restart"]),
        "AutoRemove": flags["rm"],
        "VolumeDriver": flags["volume-driver"],
        "VolumesFrom": listed("volumes-from"),
        "CapAdd": listed("cap-add"),
        "CapDrop": listed("cap-drop"),
        "CgroupnsMode": flags["cgroupns"],
        "Dns": list(flags["dns"]),
        "DnsOptions": [*flags["dns-opt"], *flags["dns-option"]],
        "DnsSearch": list(flags["dns-search"]),
        "ExtraHosts": listed("add-host"),
        "GroupAdd": listed("group-add"),
        "IpcMode": flags["ipc"],
        "Cgroup": "",
        "Links": listed("link"),
        "OomScoreAdj": flags["oom-score-adj"],
        "PidMode": flags["pid"],
        "Privileged": flags["privileged"],
        "PublishAllPorts": flags["publish-all"],
        "ReadonlyRootfs": flags["read-only"],
        "SecurityOpt": security or None,
        "UTSMode": flags["uts"],
        "UsernsMode": flags["userns"],
        "ShmSize": flags["shm-size"],
        "ConsoleSize": [0, 0],
        "Isolation": flags["isolation"],
        **_limits(flags),
        "MaskedPaths": [] if open_paths else None,
        "ReadonlyPaths": [] if open_paths else None,
    }
    optional = {
        "StorageOpt": to_map(flags["storage-opt"]),
        "Tmpfs": {path: options for path, _, options in (t.partition(":") for t in flags["tmpfs"])},
        "Sysctls": to_map(flags["sysctl"]),
        "Runtime": flags["runtime"],
        "Mounts": list(flags["mount"]),
        "Annotations": to_map(flags["annotation"]),
    }
    config.update({key: value for key, value in optional.items() if value})
    if flags.changed("init"):
        config["Init"] = flags["init"]
    return config


def _limits(flags: Flags) -> Json:
    def listed(name: str) -> list[Any] | None:
        return list(flags[name]) or None

    return {
        "CpuShares": flags["cpu-shares"],
        "Memory": flags["memory"],
        "NanoCpus": flags["cpus"],
        "CgroupParent": flags["cgroup-parent"],
        "BlkioWeight": flags["blkio-weight"],
        "BlkioWeightDevice": list(flags["blkio-weight-device"]),
        "BlkioDeviceReadBps": listed("device-read-bps"),
        "BlkioDeviceWriteBps": listed("device-write-bps"),
        "BlkioDeviceReadIOps": listed("device-read-iops"),
        "BlkioDeviceWriteIOps": listed("device-write-iops"),
        "CpuPeriod": flags["cpu-period"],
        "CpuQuota": flags["cpu-quota"],
        "CpuRealtimePeriod": flags["cpu-rt-period"],
        "CpuRealtimeRuntime": flags["cpu-rt-runtime"],
        "CpusetCpus": flags["cpuset-cpus"],
        "CpusetMems": flags["cpuset-mems"],
        "Devices": [mapping for mappings in flags["device"] for mapping in mappings],
        "DeviceCgroupRules": listed("device-cgroup-rule"),
        "DeviceRequests": None,
        "KernelMemory": flags["kernel-memory"],
        "KernelMemoryTCP": 0,
        "MemoryReservation": flags["memory-reservation"],
        "MemorySwap": flags["memory-swap"],
        "MemorySwappiness": flags["memory-swappiness"],
        "OomKillDisable": flags["oom-kill-disable"],
        "PidsLimit": flags["pids-limit"],
        "Ulimits": unique_ulimits(flags["ulimit"]) or None,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def _endpoints(flags: Flags, networks: list[Json]) -> Json:
    """EndpointsConfig: what is asked of each network; the flags without a network's name are about the first."""
    aliases, links = [*flags["net-alias"], *flags["network-alias"]], list(flags["link"])
    out: Json = {}
    for index, given in enumerate(networks or [{"Target": "default"}]):
        network = dict(given)
        if index == 0:
            for flag, key, value, noun in (
                ("--network-alias", "Aliases", aliases, "per-network alias"),
                ("--ip", "IPv4Address", flags["ip"], "per-network IPv4 address"),
                ("--ip6", "IPv6Address", flags["ip6"], "per-network IPv6 address"),
                (
                    "--link-local-ip",
                    "LinkLocalIPs",
                    list(flags["link-local-ip"]),
                    "per-network link-local IP addresses",
                ),
            ):
                if value and network.get(key):
                    raise CliError(f"conflicting options: cannot specify both {flag} and {noun}")
                if value:
                    network[key] = value
            if links and network["Target"] not in _BUILT_IN_NETWORKS:
                network["Links"] = links
        target = network["Target"]
        user_defined = target not in _BUILT_IN_NETWORKS and not target.startswith("container:")
        if network.get("Aliases") and not user_defined:
            raise CliError("network-scoped aliases are only supported for user-defined networks")
        if target in out:
            raise CliError(f'network "{target}" is specified multiple times')
        endpoint = _endpoint(network)
        if endpoint or len(networks) > 1:
            out[target] = endpoint
    kinds = {n["Target"] in _BUILT_IN_NETWORKS for n in networks}
    if len(kinds) > 1:
        raise CliError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return out


def _endpoint(network: Json) -> Json:
    ipam = {k: network[k] for k in ("IPv4Address", "IPv6Address", "LinkLocalIPs") if network.get(k)}
    wanted = {
        "IPAMConfig": ipam,
        "Links": network.get("Links"),
        "Aliases": network.get("Aliases"),
        "MacAddress": network.get("MacAddress"),
        "DriverOpts": network.get("DriverOpts"),
        "GwPriority": network.get("GwPriority"),
    }
    return {key: value for key, value in wanted.items() if value}
