"""Flags of ``service update`` over an existing spec, with the stock command's rules for ``--X-add``/``--X-rm``."""

from collections.abc import Callable, Iterable
from typing import Any

from enxame.cli.client import Client
from enxame.cli.command import Flags
from enxame.cli.errors import CliError
from enxame.cli.options.fields import to_map
from enxame.cli.options.hosts import swarm_hosts
from enxame.cli.options.limits import (
    ALL,
    RESET,
    capability_list,
    capability_set,
    parse_generic_resources,
    unique_ulimits,
)
from enxame.cli.service.spec import (
    HEALTH_FLAGS,
    compact,
    resolve_files,
    resolve_network,
    restart_policy,
    update_config,
)

Json = dict[str, Any]


def merge(flags: Flags, spec: Json, client: Client) -> None:
    """Changes ``spec`` in place. Raises CliError (and DaemonError for unknown networks)."""
    task = spec["TaskTemplate"]
    container = task.setdefault("ContainerSpec", {})
    _labels(flags, "label", spec, "Labels")
    _container(flags, container)
    _resources(flags, task)
    _put(task, "RestartPolicy", restart_policy(flags, task.get("RestartPolicy")))
    _placement(flags, task)
    if flags.changed("network-add", "network-rm"):
        _networks(flags, spec, client)
    _replicas(flags, spec)
    _put(spec, "UpdateConfig", update_config(flags, "update", spec.get("UpdateConfig")))
    _put(spec, "RollbackConfig", update_config(flags, "rollback", spec.get("RollbackConfig")))
    if flags.changed("endpoint-mode"):
        spec.setdefault("EndpointSpec", {})["Mode"] = flags["endpoint-mode"]
    if flags.changed("publish-add", "publish-rm"):
        endpoint = spec.setdefault("EndpointSpec", {})
        _put(endpoint, "Ports", _ports(flags, endpoint.get("Ports") or []))
    if flags["log-driver"]:
        task["LogDriver"] = {"Name": flags["log-driver"], **compact({"Options": to_map(flags["log-opt"])})}
    if flags["force"]:
        task["ForceUpdate"] = task.get("ForceUpdate", 0) + 1
    task.setdefault("ForceUpdate", 0)
    spec.setdefault("Labels", {})
    _secrets(flags, container, client)
    _configs(flags, container, client)


def _put(holder: Json, key: str, value: Any) -> None:
    """Sets a field, or takes it out when it is empty."""
    if not value:
        holder.pop(key, None)
    else:
        holder[key] = value


def _container(flags: Flags, container: Json) -> None:
    _labels(flags, "container-label", container, "Labels")
    for name, key in (
        ("image", "Image"),
        ("args", "Args"),
        ("entrypoint", "Command"),
        ("workdir", "Dir"),
        ("user", "User"),
        ("hostname", "Hostname"),
        ("isolation", "Isolation"),
        ("oom-score-adj", "OomScoreAdj"),
        ("tty", "TTY"),
        ("read-only", "ReadOnly"),
        ("stop-signal", "StopSignal"),
    ):
        if flags.changed(name):
            _put(container, key, flags[name])
    _put(container, "Env", _environment(flags, container.get("Env") or []))
    if flags.changed("init"):
        container["Init"] = flags["init"]
    _put(container, "Mounts", _mounts(flags, container.get("Mounts") or []))
    _labels(flags, "sysctl", container, "Sysctls", removing=lambda text: text.partition("=")[0])
    _put(container, "Ulimits", _ulimits(flags, container.get("Ulimits") or []))
    if flags.changed("stop-grace-period"):
        container["StopGracePeriod"] = flags["stop-grace-period"]
    if flags.changed("group-add", "group-rm"):
        _put(container, "Groups", sorted(_listed(flags, "group", container.get("Groups") or [])))
    if flags.changed(*(f"dns{part}-{verb}" for part in ("", "-option", "-search") for verb in ("add", "rm"))):
        _dns(flags, container)
    if flags.changed("host-add", "host-rm"):
        _put(container, "Hosts", _hosts(flags, container.get("Hosts") or []))
    _health(flags, container)
    if flags.changed("cap-add", "cap-drop"):
        _capabilities(flags, container)


def _labels(
    flags: Flags, flag: str, holder: Json, key: str, removing: Callable[[str], str] = lambda text: text
) -> None:
    if not flags.changed(f"{flag}-add", f"{flag}-rm"):
        return
    labels = dict(holder.get(key) or {})
    for name in flags[f"{flag}-rm"]:
        labels.pop(removing(name), None)
    labels.update(to_map(flags[f"{flag}-add"]))
    if labels or key in holder:
        holder[key] = labels
        if (not labels and key != "Labels") or (not labels and flag == "container-label"):
            del holder[key]


def _environment(flags: Flags, current: list[str]) -> list[str]:
    removed = set(flags["env-rm"])
    kept = [v for v in current if v.partition("=")[0] not in removed]
    if not flags.changed("env-add"):
        return kept
    found = {v.partition("=")[0]: v for v in (*kept, *flags["env-add"])}
    return list(found.values())


def _mounts(flags: Flags, current: list[Json]) -> list[Json]:
    found: dict[str, Json] = {}
    for mount in flags["mount-add"]:
        if mount["Target"] in found:
            raise CliError("duplicate mount target")
        found[mount["Target"]] = mount
    for mount in current:
        found.setdefault(mount.get("Target", ""), mount)
    removed = set(flags["mount-rm"])
    kept = [m for target, m in found.items() if target not in removed]
    return sorted(kept, key=lambda m: (m.get("Source", ""), m.get("Target", "")))


def _ulimits(flags: Flags, current: list[Json]) -> list[Json]:
    removed = {text.partition("=")[0] for text in flags["ulimit-rm"]}
    kept = [u for u in current if u["Name"] not in removed]
    return unique_ulimits([*kept, *flags["ulimit-add"]])


def _listed(flags: Flags, flag: str, current: Iterable[str]) -> list[str]:
    """Current and added values without the removed ones."""
    removed = set(flags[f"{flag}-rm"])
    return [v for v in (*current, *flags[f"{flag}-add"]) if v not in removed]


def _dns(flags: Flags, container: Json) -> None:
    current = container.get("DNSConfig") or {}
    container["DNSConfig"] = compact(
        {
            key: sorted(dict.fromkeys(_listed(flags, flag, current.get(key) or [])))
            for key, flag in (("Nameservers", "dns"), ("Search", "dns-search"), ("Options", "dns-option"))
        }
    )


def _hosts(flags: Flags, current: list[str]) -> list[str]:
    """Entries are "IP name [alias…]"; a removal is "name" (from every entry) or "name:IP" (from that address's)."""
    removals = [(name, ip) for name, _, ip in (entry.partition(":") for entry in flags["host-rm"])]
    kept = []
    for entry in current:
        address, *names = entry.split() or [""]
        gone = {name for name, ip in removals if ip in {"", address}}
        left = [name for name in names if name not in gone]
        if left:
            kept.append(f"{address} {' '.join(left)}")
    return list(dict.fromkeys([*kept, *swarm_hosts(flags["host-add"])]))


def _health(flags: Flags, container: Json) -> None:
    if not flags.changed("no-healthcheck", *HEALTH_FLAGS):
        return
    if flags["no-healthcheck"]:
        if flags.changed(*HEALTH_FLAGS):
            raise CliError("--no-healthcheck conflicts with --health-* options")
        container["Healthcheck"] = {"Test": ["NONE"]}
        return
    health = dict(container.get("Healthcheck") or {})
    if (health.get("Test") or [""])[0] == "NONE":
        del health["Test"]
    for name, key in (
        ("health-interval", "Interval"),
        ("health-timeout", "Timeout"),
        ("health-start-period", "StartPeriod"),
        ("health-start-interval", "StartInterval"),
        ("health-retries", "Retries"),
    ):
        if flags.changed(name):
            _put(health, key, flags[name])
    if flags.changed("health-cmd"):
        _put(health, "Test", ["CMD-SHELL", flags["health-cmd"]] if flags["health-cmd"] else None)
    container["Healthcheck"] = health


def _capabilities(flags: Flags, container: Json) -> None:
    """Three states: adding what was dropped only takes it off the dropped ones, and the other way round."""
    dropped = capability_set(container.get("CapabilityDrop") or [])
    added = capability_set(container.get("CapabilityAdd") or [])
    to_add, to_drop = capability_set(flags["cap-add"]), capability_set(flags["cap-drop"])
    if RESET in to_add:
        added = set()
    if RESET in to_drop:
        dropped = set()
    to_add -= {RESET}
    to_drop -= {RESET}
    for name in to_drop - to_add:
        if name in added:
            added.remove(name)
        else:
            dropped.add(name)
    for name in to_add:
        if name in dropped:
            dropped.remove(name)
        else:
            added.add(name)
    _put(container, "CapabilityDrop", [ALL] if ALL in dropped else capability_list(dropped))
    _put(container, "CapabilityAdd", [ALL] if ALL in added else capability_list(added))


def _resources(flags: Flags, task: Json) -> None:
    groups = (
        ("Limits", (("limit-cpu", "NanoCPUs"), ("limit-memory", "MemoryBytes"), ("limit-pids", "Pids"))),
        ("Reservations", (("reserve-cpu", "NanoCPUs"), ("reserve-memory", "MemoryBytes"))),
    )
    for key, fields in groups:
        if flags.changed(*(name for name, _ in fields)):
            found = task.setdefault("Resources", {})
            found.setdefault("Limits", {})
            found.setdefault("Reservations", {})
            for name, field in fields:
                if flags.changed(name):
                    _put(found[key], field, flags[name])
    for name, key in (("memory-swap", "SwapBytes"), ("memory-swappiness", "MemorySwappiness")):
        if flags.changed(name):
            task.setdefault("Resources", {})[key] = flags[name]
    if flags.changed("generic-resource-add", "generic-resource-rm"):
        _generic_resources(flags, task)


def _generic_resources(flags: Flags, task: Json) -> None:
    reservations = task.setdefault("Resources", {}).setdefault("Reservations", {})
    found = {
        r["DiscreteResourceSpec"]["Kind"]: r
        for r in reservations.get("GenericResources") or []
        if "DiscreteResourceSpec" in r
    }
    try:
        added = parse_generic_resources(flags["generic-resource-add"])
    except ValueError as problem:
        raise CliError(str(problem)) from None
    found.update({r["DiscreteResourceSpec"]["Kind"]: r for r in added})
    for kind in flags["generic-resource-rm"]:
        if kind not in found:
            raise CliError(f"could not find generic-resource `{kind}` to remove it")
        del found[kind]
    _put(reservations, "GenericResources", [found[kind] for kind in sorted(found)])


def _placement(flags: Flags, task: Json) -> None:
    placement = dict(task.get("Placement") or {})
    if flags.changed("constraint-add", "constraint-rm"):
        _put(placement, "Constraints", sorted(_listed(flags, "constraint", placement.get("Constraints") or [])))
    if flags.changed("placement-pref-add", "placement-pref-rm"):
        gone = [p["Spread"]["SpreadDescriptor"] for p in flags["placement-pref-rm"]]
        kept = [
            p for p in placement.get("Preferences") or [] if (p.get("Spread") or {}).get("SpreadDescriptor") not in gone
        ]
        _put(placement, "Preferences", [*kept, *flags["placement-pref-add"]])
    if flags.changed("replicas-max-per-node"):
        _put(placement, "MaxReplicas", flags["replicas-max-per-node"])
    if placement or "Placement" in task:
        task["Placement"] = placement


def _networks(flags: Flags, spec: Json, client: Client) -> None:
    task = spec["TaskTemplate"]
    current = task.get("Networks") or spec.get("Networks") or []
    spec.pop("Networks", None)
    gone = {resolve_network(client, name) for name in flags["network-rm"]}
    kept = [n for n in current if n.get("Target") not in gone]
    for network in flags["network-add"]:
        identifier = resolve_network(client, network["Target"])
        if any(n["Target"] == identifier for n in kept):
            raise CliError(f"service is already attached to network {network['Target']}")
        kept.append(
            compact({"Target": identifier, "Aliases": network.get("Aliases"), "DriverOpts": network.get("DriverOpts")})
        )
    _put(task, "Networks", sorted(kept, key=lambda n: n["Target"]))


def _replicas(flags: Flags, spec: Json) -> None:
    mode = spec.get("Mode") or {}
    if flags.changed("replicas"):
        if "Replicated" in mode:
            mode["Replicated"] = {**(mode["Replicated"] or {}), "Replicas": flags["replicas"]}
        elif "ReplicatedJob" in mode:
            mode["ReplicatedJob"] = {**(mode["ReplicatedJob"] or {}), "TotalCompletions": flags["replicas"]}
        else:
            raise CliError("replicas can only be used with replicated or replicated-job mode")
    if flags.changed("max-concurrent"):
        if "ReplicatedJob" not in mode:
            raise CliError("max-concurrent can only be used with replicated-job mode")
        mode["ReplicatedJob"] = {**(mode["ReplicatedJob"] or {}), "MaxConcurrent": flags["max-concurrent"]}


def _port_key(port: Json) -> str:
    published, target = port.get("PublishedPort", 0), port.get("TargetPort", 0)
    return f"{published}:{target}/{port.get('Protocol', '')}/{port.get('PublishMode', '')}"


def _ports(flags: Flags, current: list[Json]) -> list[Json]:
    removed = {
        (p["TargetPort"], p.get("Protocol") or "tcp", p.get("PublishMode") or "ingress")
        for ports in flags["publish-rm"]
        for p in ports
    }
    existing = {_port_key(p): p for p in current}
    kept = [
        p
        for p in existing.values()
        if (p.get("TargetPort"), p.get("Protocol") or "tcp", p.get("PublishMode") or "ingress") not in removed
    ]
    added = [p for ports in flags["publish-add"] for p in ports if _port_key(p) not in existing]
    return sorted([*kept, *added], key=_port_key)


def _secrets(flags: Flags, container: Json, client: Client) -> None:
    gone = set(flags["secret-rm"])
    kept = [s for s in container.get("Secrets") or [] if s.get("SecretName") not in gone]
    _put(container, "Secrets", [*kept, *resolve_files(client, "Secret", list(flags["secret-add"]))])


def _configs(flags: Flags, container: Json, client: Client) -> None:
    credential = dict(flags["credential-spec"] or {})
    wanted = credential.get("Config", "")
    used = ""
    if not flags.changed("credential-spec"):
        used = ((container.get("Privileges") or {}).get("CredentialSpec") or {}).get("Config", "")
    gone = set(flags["config-rm"])
    kept: list[Json] = []
    for config in container.get("Configs") or []:
        if "Runtime" in config:
            if (wanted and config["ConfigName"] == wanted) or (used and config["ConfigID"] == used):
                kept.append(config)
        elif config.get("ConfigName") not in gone:
            kept.append(config)
    added = [dict(c) for c in flags["config-add"]]
    if wanted and not any(c.get("ConfigName") == wanted and "Runtime" in c for c in kept):
        added.append({"Runtime": {}, "ConfigID": "", "ConfigName": wanted})
    configs = [*kept, *resolve_files(client, "Config", added)]
    _put(container, "Configs", configs)
    if flags.changed("credential-spec"):
        if wanted:
            credential["Config"] = next(c["ConfigID"] for c in configs if c["ConfigName"] == wanted)
        privileges = container.setdefault("Privileges", {})
        _put(privileges, "CredentialSpec", credential)
