"""A service in words: ``service inspect --pretty``."""

from collections.abc import Callable
from typing import Any

from enxame.cli.gotemplate.values import format_float, format_value
from enxame.cli.humanise import ago, binary_size_words
from enxame.cli.options.numbers import SECOND, format_duration
from enxame.cli.timestamps import epoch

Json = dict[str, Any]


def pretty_service(service: Json, network_name: Callable[[str], str]) -> str:
    """Several lines, the first of them empty."""
    spec = service["Spec"]
    task = spec["TaskTemplate"]
    container = task.get("ContainerSpec") or {}
    lines = ["", f"ID:\t\t{service['ID']}", f"Name:\t\t{spec.get('Name', '')}"]
    if spec.get("Labels"):
        lines += ["Labels:", *(f" {k}{f'={v}' if v else ''}" for k, v in sorted(spec["Labels"].items()))]
    lines += _mode(spec.get("Mode") or {})
    lines += _update_status(service.get("UpdateStatus") or {})
    lines += _placement(task.get("Placement") or {})
    lines += _conduct("UpdateConfig", "Update order:      ", spec.get("UpdateConfig"))
    lines += _conduct("RollbackConfig", "Rollback order:    ", spec.get("RollbackConfig"))
    lines += _container(container)
    lines += _log_driver(task.get("LogDriver"))
    lines += _resources(task.get("Resources"))
    networks = [network_name(n["Target"]) for n in task.get("Networks") or spec.get("Networks") or []]
    if networks:
        lines.append("Networks:" + "".join(f" {n}" for n in networks) + " ")
    lines += _endpoint(spec.get("EndpointSpec") or {}, (service.get("Endpoint") or {}).get("Ports") or [])
    lines += _health(container.get("Healthcheck"))
    return "\n".join(lines) + "\n"


def _mode(mode: Json) -> list[str]:
    if "Global" in mode:
        return ["Service Mode:\tGlobal"]
    if "Replicated" in mode:
        replicas = (mode["Replicated"] or {}).get("Replicas")
        return ["Service Mode:\tReplicated", *([] if replicas is None else [f" Replicas:\t{replicas}"])]
    if "ReplicatedJob" in mode:
        job = mode["ReplicatedJob"] or {}
        return [
            "Service Mode:\tReplicatedJob",
            f" Max Concurrent:\t{job.get('MaxConcurrent', 1)}",
            f" Total Completions:\t{job.get('TotalCompletions', 1)}",
        ]
    return ["Service Mode:\tGlobalJob"] if "GlobalJob" in mode else ["Service Mode:"]


def _update_status(status: Json) -> list[str]:
    if not status.get("State"):
        return []
    lines = ["UpdateStatus:", f" State:\t\t{status['State']}"]
    if status.get("StartedAt"):
        lines.append(f" Started:\t{ago(epoch(status['StartedAt']))}")
    if status["State"] == "completed" and status.get("CompletedAt"):
        lines.append(f" Completed:\t{ago(epoch(status['CompletedAt']))}")
    return [*lines, f" Message:\t{status.get('Message', '')}"]


def _placement(placement: Json) -> list[str]:
    lines = ["Placement:"]
    if placement.get("Constraints"):
        lines.append(f" Constraints:\t{format_value(placement['Constraints'])}")
    preferences = [
        f"spread={p['Spread']['SpreadDescriptor']}" for p in placement.get("Preferences") or [] if p.get("Spread")
    ]
    if preferences:
        lines.append(f" Preferences:   {format_value(preferences)}")
    if placement.get("MaxReplicas"):
        lines.append(f" Max Replicas Per Node:   {placement['MaxReplicas']}")
    return lines


def _conduct(title: str, order: str, config: Json | None) -> list[str]:
    if config is None:
        return []
    lines = [f"{title}:", f" Parallelism:\t{config.get('Parallelism', 0)}"]
    if config.get("Delay"):
        lines.append(f" Delay:\t\t{format_duration(config['Delay'])}")
    lines.append(f" On failure:\t{config.get('FailureAction', '')}")
    if config.get("Monitor"):
        lines.append(f" Monitoring Period: {format_duration(config['Monitor'])}")
    return [
        *lines,
        f" Max failure ratio: {format_float(float(config.get('MaxFailureRatio', 0)))}",
        f" {order}{config.get('Order', '')}",
    ]


def _container(container: Json) -> list[str]:
    lines = ["ContainerSpec:", f" Image:\t\t{container.get('Image', '')}"]
    for key, title in (("Args", "Args:\t\t"), ("Env", "Env:\t\t")):
        if container.get(key):
            lines.append(f" {title}" + "".join(f"{v} " for v in container[key]))
    if container.get("Dir"):
        lines.append(f" Dir:\t\t{container['Dir']}")
    if container.get("Init") is not None:
        lines.append(f" Init:\t\t{format_value(container['Init'])}")
    if container.get("User"):
        lines.append(f" User: {container['User']}")
    added, dropped = container.get("CapabilityAdd") or [], container.get("CapabilityDrop") or []
    if added or dropped:
        lines.append("Capabilities:")
        lines += [f" Add: {', '.join(added)}"] if added else []
        lines += [f" Drop: {', '.join(dropped)}"] if dropped else []
    if container.get("Sysctls"):
        lines += ["SysCtls:", *(f" {k}{f': {v}' if v else ''}" for k, v in sorted(container["Sysctls"].items()))]
    if container.get("Ulimits"):
        limits = sorted((u["Name"], u) for u in container["Ulimits"])
        lines += ["Ulimits:", *(f" {name}: {u.get('Soft', 0)}:{u.get('Hard', 0)}" for name, u in limits)]
    if container.get("Mounts"):
        lines.append("Mounts:")
        for mount in container["Mounts"]:
            lines += [
                f" Target:\t{mount.get('Target', '')}",
                f"  Source:\t{mount.get('Source', '')}",
                f"  ReadOnly:\t{format_value(mount.get('ReadOnly', False))}",
                f"  Type:\t\t{mount.get('Type', '')}",
            ]
    for kind in ("Config", "Secret"):
        if container.get(f"{kind}s"):
            lines.append(f"{kind}s:")
            for reference in container[f"{kind}s"]:
                lines += [
                    f" Target:\t{(reference.get('File') or {}).get('Name', '')}",
                    f"  Source:\t{reference[f'{kind}Name']}",
                ]
    return lines


def _log_driver(driver: Json | None) -> list[str]:
    if driver is None:
        return []
    lines = ["Log Driver:"]
    if driver.get("Name"):
        lines.append(f" Name:\t\t{driver['Name']}")
    if driver.get("Options"):
        lines += [" LogOpts:", *(f"  {k}{f':       {v}' if v else ''}" for k, v in sorted(driver["Options"].items()))]
    return [*lines, ""]


def _resources(resources: Json | None) -> list[str]:
    if resources is None:
        return []
    lines = ["Resources:"]
    reserved, limits = resources.get("Reservations") or {}, resources.get("Limits") or {}
    if reserved.get("NanoCPUs") or reserved.get("MemoryBytes"):
        lines += [" Reservations:", *_amounts(reserved)]
    if limits.get("NanoCPUs") or limits.get("MemoryBytes") or limits.get("Pids"):
        lines += [" Limits:", *_amounts(limits)]
    if limits.get("Pids"):
        lines.append(f"  PIDs:\t\t{limits['Pids']}")
    return lines


def _amounts(amounts: Json) -> list[str]:
    lines = []
    if amounts.get("NanoCPUs"):
        lines.append(f"  CPU:\t\t{format_float(amounts['NanoCPUs'] / SECOND)}")
    if amounts.get("MemoryBytes"):
        lines.append(f"  Memory:\t{binary_size_words(amounts['MemoryBytes'])}")
    return lines


def _endpoint(endpoint: Json, ports: list[Json]) -> list[str]:
    lines = [f"Endpoint Mode:\t{endpoint.get('Mode', '')}"]
    if ports:
        lines.append("Ports:")
        for port in ports:
            lines += [
                f" PublishedPort = {port.get('PublishedPort', 0)}",
                f"  Protocol = {port.get('Protocol', '')}",
                f"  TargetPort = {port.get('TargetPort', 0)}",
                f"  PublishMode = {port.get('PublishMode', '')}",
            ]
        lines[-1] += " "
    return lines


def _health(health: Json | None) -> list[str]:
    if not health:
        return []
    lines = [
        " Healthcheck:",
        f"  Interval = {format_duration(health.get('Interval', 0))}",
        f"  Retries = {health.get('Retries', 0)}",
        f"  StartPeriod =\t{format_duration(health.get('StartPeriod', 0))}",
        f"  Timeout =\t{format_duration(health.get('Timeout', 0))}",
    ]
    if health.get("Test"):
        lines += ["  Tests:", *(f"\t Test = {t}" for t in health["Test"])]
        lines[-1] += " "
    return lines
