"""Flags of ``service create`` → the ServiceSpec that the API takes."""

from collections.abc import Mapping
from typing import Any

from enxame.cli.client import Client, quoted
from enxame.cli.command import Flags
from enxame.cli.errors import CliError
from enxame.cli.options.fields import encode_filters, environment, to_map
from enxame.cli.options.hosts import swarm_hosts
from enxame.cli.options.limits import effective_capabilities, parse_generic_resources, unique_ulimits
from enxame.cli.options.numbers import SECOND

Json = dict[str, Any]

UPDATE_FIELDS = (
    ("parallelism", "Parallelism"),
    ("delay", "Delay"),
    ("failure-action", "FailureAction"),
    ("monitor", "Monitor"),
    ("max-failure-ratio", "MaxFailureRatio"),
    ("order", "Order"),
)
HEALTH_FLAGS = (
    "health-cmd",
    "health-interval",
    "health-retries",
    "health-timeout",
    "health-start-period",
    "health-start-interval",
)


def compact(values: Mapping[str, Any]) -> Json:
    """Without what is empty: the API's ``omitempty``."""
    return {key: value for key, value in values.items() if value}


def default_update_config() -> Json:
    """What an update does when one of its flags is given and the others are not."""
    return {
        "Parallelism": 1,
        "FailureAction": "pause",
        "Monitor": 5 * SECOND,
        "MaxFailureRatio": 0,
        "Order": "stop-first",
    }


def default_restart_policy() -> Json:
    """The same for restarts."""
    return {"Condition": "any", "Delay": 5 * SECOND, "MaxAttempts": 0}


def update_config(flags: Flags, kind: str, base: Json | None) -> Json | None:
    """An UpdateConfig with the given ``--update-*`` (or ``--rollback-*``) flags; ``base`` itself without any."""
    names = [name for name, _ in UPDATE_FIELDS]
    if not flags.changed(*(f"{kind}-{name}" for name in names)):
        return base
    config = default_update_config() if base is None else dict(base)
    for name, key in UPDATE_FIELDS:
        if flags.changed(f"{kind}-{name}"):
            config[key] = flags[f"{kind}-{name}"]
    return {
        key: config[key]
        for key in ("Parallelism", "Delay", "FailureAction", "Monitor", "MaxFailureRatio", "Order")
        if key in config and (config[key] or key in {"Parallelism", "MaxFailureRatio"})
    }


def restart_policy(flags: Flags, base: Json | None) -> Json | None:
    """A RestartPolicy with the given flags."""
    fields = (
        ("restart-condition", "Condition"),
        ("restart-delay", "Delay"),
        ("restart-max-attempts", "MaxAttempts"),
        ("restart-window", "Window"),
    )
    if not flags.changed(*(name for name, _ in fields)):
        return base
    policy = default_restart_policy() if base is None else dict(base)
    for name, key in fields:
        if flags.changed(name):
            policy[key] = flags[name]
    return {k: v for k, v in policy.items() if v or k != "Condition"}


def service_mode(flags: Flags) -> Json:
    """The ServiceMode. Raises CliError for flags that do not go with it."""
    mode, replicas = flags["mode"], flags["replicas"]
    per_node, concurrent = flags["replicas-max-per-node"], flags["max-concurrent"]
    if mode in {"global", "global-job"}:
        if replicas is not None:
            raise CliError("replicas can only be used with replicated or replicated-job mode")
        if per_node:
            raise CliError("replicas-max-per-node can only be used with replicated or replicated-job mode")
    if mode in {"global", "replicated", "global-job"} and concurrent is not None:
        raise CliError("max-concurrent can only be used with replicated-job mode")
    match mode:
        case "replicated":
            return {"Replicated": {} if replicas is None else {"Replicas": replicas}}
        case "global":
            return {"Global": {}}
        case "replicated-job":
            limit = replicas if concurrent is None else concurrent
            return {
                "ReplicatedJob": {
                    **({} if limit is None else {"MaxConcurrent": limit}),
                    **({} if replicas is None else {"TotalCompletions": replicas}),
                }
            }
        case "global-job":
            return {"GlobalJob": {}}
    raise CliError(f"Unknown mode: {mode}, only replicated and global supported")


def health_config(flags: Flags) -> Json | None:
    """The Healthcheck of new services."""
    checks = compact(
        {
            "Test": ["CMD-SHELL", flags["health-cmd"]] if flags["health-cmd"] else None,
            "Interval": flags["health-interval"],
            "Timeout": flags["health-timeout"],
            "StartPeriod": flags["health-start-period"],
            "StartInterval": flags["health-start-interval"],
            "Retries": flags["health-retries"],
        }
    )
    given = bool(checks) or flags.changed(
        *(name for name in HEALTH_FLAGS if name not in {"health-cmd", "health-retries"})
    )
    if flags["no-healthcheck"]:
        if given:
            raise CliError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    return checks if given else None


def unique_environment(variables: list[str]) -> list[str]:
    """The last of each name, in the order of their last appearance."""
    found: dict[str, str] = {}
    for variable in variables:
        name = variable.partition("=")[0]
        found.pop(name, None)
        found[name] = variable
    return list(found.values())


def resolve_network(client: Client, name: str) -> str:
    """The id of a swarm network."""
    return str(client.get(f"/networks/{quoted(name)}", {"scope": "swarm"})["Id"])


def network_attachments(client: Client, networks: tuple[Json, ...]) -> list[Json]:
    """Networks by id, sorted."""
    found = [
        compact(
            {
                "Target": resolve_network(client, n["Target"]),
                "Aliases": n.get("Aliases"),
                "DriverOpts": n.get("DriverOpts"),
            }
        )
        for n in networks
    ]
    return sorted(found, key=lambda n: n["Target"])


def resolve_files(client: Client, kind: str, references: list[Json]) -> list[Json]:
    """Secrets (or configs) with their ids. ``kind`` is "Secret" or "Config". Raises CliError."""
    if not references:
        return []
    noun, names = kind.lower(), [r[f"{kind}Name"] for r in references]
    targets = [r["File"]["Name"] for r in references if "File" in r]
    for target in targets:
        if targets.count(target) > 1:
            name = next(r[f"{kind}Name"] for r in references if r["File"]["Name"] == target)
            raise CliError(f"duplicate {noun} target for {name} not allowed")
    found = client.get(f"/{noun}s", {"filters": encode_filters(("name", n) for n in names)}) or []
    ids = {item["Spec"]["Name"]: item["ID"] for item in found}
    for name in names:
        if name not in ids:
            raise CliError(f"{noun} not found: {name}")
    return [{**r, f"{kind}ID": ids[r[f"{kind}Name"]]} for r in references]


def resources(flags: Flags) -> Json:
    """ResourceRequirements of new services."""
    try:
        generic = parse_generic_resources(flags["generic-resource"])
    except ValueError as problem:
        raise CliError(str(problem)) from None
    found: Json = {
        "Limits": compact(
            {"NanoCPUs": flags["limit-cpu"], "MemoryBytes": flags["limit-memory"], "Pids": flags["limit-pids"]}
        ),
        "Reservations": compact(
            {"NanoCPUs": flags["reserve-cpu"], "MemoryBytes": flags["reserve-memory"], "GenericResources": generic}
        ),
    }
    if flags.changed("memory-swap"):
        found["SwapBytes"] = flags["memory-swap"]
    if flags.changed("memory-swappiness"):
        found["MemorySwappiness"] = flags["memory-swappiness"]
    return found


def container_spec(flags: Flags, image: str, args: list[str], client: Client) -> Json:
    """The ContainerSpec, without the credential spec."""
    try:
        variables = unique_environment(environment(flags["env-file"], flags["env"]))
    except ValueError as problem:
        raise CliError(str(problem)) from None
    capabilities_add, capabilities_drop = effective_capabilities(flags["cap-add"], flags["cap-drop"])
    spec = compact(
        {
            "Image": image,
            "Labels": to_map(flags["container-label"]),
            "Command": flags["entrypoint"],
            "Args": args,
            "Hostname": flags["hostname"],
            "Env": variables,
            "Dir": flags["workdir"],
            "User": flags["user"],
            "Groups": list(flags["group"]),
            "StopSignal": flags["stop-signal"],
            "TTY": flags["tty"],
            "ReadOnly": flags["read-only"],
            "Mounts": list(flags["mount"]),
            "Hosts": swarm_hosts(flags["host"]),
            "Isolation": flags["isolation"],
            "Sysctls": to_map(flags["sysctl"]),
            "CapabilityAdd": capabilities_add,
            "CapabilityDrop": capabilities_drop,
            "Ulimits": unique_ulimits(flags["ulimit"]),
            "OomScoreAdj": flags["oom-score-adj"],
        }
    )
    spec["Init"] = flags["init"]
    spec["DNSConfig"] = compact(
        {"Nameservers": list(flags["dns"]), "Search": list(flags["dns-search"]), "Options": list(flags["dns-option"])}
    )
    if flags.changed("stop-grace-period"):
        spec["StopGracePeriod"] = flags["stop-grace-period"]
    health = health_config(flags)
    if health is not None:
        spec["Healthcheck"] = health
    secrets = resolve_files(client, "Secret", list(flags["secret"]))
    if secrets:
        spec["Secrets"] = secrets
    _add_configs(flags, spec, client)
    return spec


def _add_configs(flags: Flags, spec: Json, client: Client) -> None:
    credential = dict(flags["credential-spec"] or {})
    references = [dict(c) for c in flags["config"]]
    if credential.get("Config"):
        references.append({"Runtime": {}, "ConfigID": "", "ConfigName": credential["Config"]})
    configs = resolve_files(client, "Config", references)
    if configs:
        spec["Configs"] = configs
    if credential:
        if credential["Config"]:
            credential["Config"] = next(c["ConfigID"] for c in configs if c["ConfigName"] == credential["Config"])
        spec["Privileges"] = {"CredentialSpec": credential, "SELinuxContext": None}


def service_spec(flags: Flags, image: str, args: list[str], client: Client) -> Json:
    """The whole spec. Asks the daemon for the ids of networks, secrets and configs. Raises CliError."""
    mode = service_mode(flags)
    conduct = {
        "UpdateConfig": update_config(flags, "update", None),
        "RollbackConfig": update_config(flags, "rollback", None),
    }
    if ("ReplicatedJob" in mode or "GlobalJob" in mode) and any(conduct.values()):
        raise CliError("update and rollback configuration is not supported for jobs")
    health_config(flags)
    networks = network_attachments(client, flags["network"])
    log_driver = (
        {"Name": flags["log-driver"], **compact({"Options": to_map(flags["log-opt"])})} if flags["log-driver"] else None
    )
    task = {
        "ContainerSpec": container_spec(flags, image, args, client),
        "Resources": resources(flags),
        **compact({"RestartPolicy": restart_policy(flags, None)}),
        "Placement": compact(
            {
                "Constraints": list(flags["constraint"]),
                "Preferences": list(flags["placement-pref"]),
                "MaxReplicas": flags["replicas-max-per-node"],
            }
        ),
        **compact({"Networks": networks, "LogDriver": log_driver}),
        "ForceUpdate": 0,
    }
    ports = [port for ports in flags["publish"] for port in ports]
    return {
        **compact({"Name": flags["name"]}),
        "Labels": to_map(flags["label"]),
        "TaskTemplate": task,
        "Mode": mode,
        **{k: v for k, v in conduct.items() if v is not None},
        "EndpointSpec": compact({"Mode": flags["endpoint-mode"].lower(), "Ports": ports}),
    }
