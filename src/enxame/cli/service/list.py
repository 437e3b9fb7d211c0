"""``enxame service ls`` and ``service ps``."""

from typing import Any

from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.flags import switch
from enxame.cli.humanise import natural_key
from enxame.cli.listflags import filter_flag, format_flag, no_trunc_flag, quiet_flag
from enxame.cli.options.fields import encode_filters
from enxame.cli.session import Session
from enxame.cli.table import Table

Json = dict[str, Any]


def mode_name(service: Json) -> str:
    """``replicated``, ``global``, ``replicated job``, ``global job``."""
    mode = service["Spec"].get("Mode", {})
    for key, name in (("Global", "global"), ("ReplicatedJob", "replicated job"), ("GlobalJob", "global job")):
        if key in mode:
            return name
    return "replicated"


def replicas(service: Json) -> str:
    """``2/3``, with the limit for each node and what of a job is complete."""
    status = service.get("ServiceStatus") or {}
    running, desired, complete = (status.get(k, 0) for k in ("RunningTasks", "DesiredTasks", "CompletedTasks"))
    per_node = (service["Spec"].get("TaskTemplate", {}).get("Placement") or {}).get("MaxReplicas", 0)
    suffix = f" (max {per_node} per node)" if per_node else ""
    mode = service["Spec"].get("Mode", {})
    if "ReplicatedJob" in mode:
        total = (mode["ReplicatedJob"] or {}).get("TotalCompletions", 1)
        return f"{running}/{desired} ({complete}/{total} completed){suffix}"
    if "GlobalJob" in mode:
        return f"{running}/{desired} ({complete}/{desired + complete} completed)"
    return f"{running}/{desired}{suffix}"


def image_name(image: str) -> str:
    """The name with its tag, without a digest (which stays when there is no tag)."""
    name, separator, _ = image.partition("@")
    return name if separator and ":" in name.rsplit("/", 1)[-1] else image


def port_ranges(ports: list[Json]) -> str:
    """Ingress ports, neighbours joined: ``*:8080-8081->80-81/tcp``, ``*:8080-8081->80/tcp``."""
    found = sorted(
        (p.get("Protocol", "tcp"), p.get("PublishedPort", 0), p.get("TargetPort", 0))
        for p in ports
        if p.get("PublishMode", "ingress") == "ingress"
    )
    runs: list[list[Any]] = []
    for protocol, published, target in found:
        last = runs[-1] if runs else None
        # Several ports may lead to one, but only where that is the whole run.
        steps = () if last is None else (1,) if last[3] != last[4] else (0, 1)
        if last and last[0] == protocol and published - last[2] <= 1 and target - last[4] in steps:
            last[2], last[4] = published, target
        else:
            runs.append([protocol, published, published, target, target])
    return ", ".join(
        f"*:{_range(first, last)}->{_range(target, last_target)}/{protocol}"
        for protocol, first, last, target, last_target in runs
    )


def _range(first: int, last: int) -> str:
    return f"{first}-{last}" if last > first else str(first)


TABLE = Table(
    {
        "ID": lambda s: s["ID"][:12],
        "Name": lambda s: s["Spec"].get("Name", ""),
        "Mode": mode_name,
        "Replicas": replicas,
        "Image": lambda s: image_name((s["Spec"]["TaskTemplate"].get("ContainerSpec") or {}).get("Image", "")),
        "Ports": lambda s: port_ranges((s.get("Endpoint") or {}).get("Ports") or []),
    },
    (
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Mode", "MODE"),
        ("Replicas", "REPLICAS"),
        ("Image", "IMAGE"),
        ("Ports", "PORTS"),
    ),
)


@command(
    "ls",
    "[OPTIONS]",
    "List services",
    flags=[filter_flag(), format_flag(), quiet_flag()],
    aliases=("list",),
)
def ls(cli: Session, flags: Flags, args: Args) -> None:
    """Prints all services."""
    services = cli.client.get("/services", {"filters": encode_filters(flags["filter"]), "status": "true"}) or []
    services.sort(key=lambda s: natural_key(s["Spec"].get("Name", "")))
    if flags["quiet"] and not flags["format"]:
        cli.out.writelines(f"{s['ID'][:12]}\n" for s in services)
        return
    TABLE.write(cli.out, services, flags["format"], quiet=flags["quiet"])


@command(
    "ps",
    "[OPTIONS] SERVICE [SERVICE...]",
    "List the tasks of one or more services",
    flags=[
        filter_flag(),
        format_flag(),
        switch("no-resolve", "Do not map IDs to Names"),
        no_trunc_flag(),
        quiet_flag("Only display task IDs"),
    ],
    count=(1, -1),
    completes="service",
)
def ps(cli: Session, flags: Flags, args: Args) -> None:
    """Prints the tasks of services; names that are none are complained about at the end."""
    identifiers, missing = find_services(cli, args)
    if not identifiers:
        raise CliError("\n".join(missing))
    from enxame.cli.tasks import write_tasks

    wanted = [*flags["filter"], *(("service", i) for i in identifiers)]
    tasks = cli.client.get("/tasks", {"filters": encode_filters(_node_self(cli, wanted))}) or []
    write_tasks(
        cli,
        tasks,
        template=flags["format"],
        quiet=flags["quiet"],
        trunc=not flags["no-trunc"],
        resolve=not flags["no-resolve"],
    )
    if missing:
        raise CliError("\n".join(missing))


def _node_self(cli: Session, filters: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if ("node", "self") not in filters:
        return filters
    own = cli.client.get("/info")["Swarm"]["NodeID"]
    return [("node", own) if f == ("node", "self") else f for f in filters]


def find_services(cli: Session, references: Args) -> tuple[list[str], list[str]]:
    """Ids of services by id, name or unique prefix of an id; and a complaint for each that is none."""
    by_name = cli.client.get("/services", {"filters": encode_filters(("name", r) for r in references)}) or []
    by_id = cli.client.get("/services", {"filters": encode_filters(("id", r) for r in references)}) or []
    found: list[str] = []
    missing: list[str] = []
    for reference in references:
        exact = [s["ID"] for s in by_id if s["ID"] == reference] or [
            s["ID"] for s in by_name if s["Spec"]["Name"] == reference
        ]
        matches = exact or [s["ID"] for s in by_id if s["ID"].startswith(reference)]
        if not matches:
            missing.append(f"no such service: {reference}")
        elif len(matches) > 1:
            raise CliError(f'multiple services found with provided prefix: "{reference}"')
        else:
            found.append(matches[0])
    return found, missing
