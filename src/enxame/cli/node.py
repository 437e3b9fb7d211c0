"""``enxame node``."""

from collections.abc import Callable
from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, Group, command
from enxame.cli.each import each
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import many, switch, text
from enxame.cli.humanise import natural_key
from enxame.cli.inspecting import inspect_objects
from enxame.cli.listflags import FORMAT_HELP, filter_flag, format_flag, no_trunc_flag, quiet_flag
from enxame.cli.options.fields import encode_filters, parse_label, to_map
from enxame.cli.session import Session
from enxame.cli.table import Table

Json = dict[str, Any]

group = Group(
    "node",
    "Manage Swarm nodes",
    {
        "demote": "node:demote",
        "inspect": "node:inspect",
        "ls": "node:ls",
        "promote": "node:promote",
        "ps": "node:ps",
        "rm": "node:rm",
        "update": "node:update",
    },
    {"list": "ls", "remove": "rm"},
)


def own_node(cli: Session) -> str:
    """This node's id. Raises CliError when it is no manager of a swarm."""
    swarm = cli.client.get("/info").get("Swarm") or {}
    if not swarm.get("NodeID"):
        # The daemon's own words say why: any manager's call gives them.
        cli.client.get("/nodes")
        raise CliError("This node is not part of a swarm")
    return str(swarm["NodeID"])


def resolve_node(cli: Session, reference: str) -> str:
    """``self`` is this node."""
    return own_node(cli) if reference == "self" else reference


def _manager_status(node: Json) -> str:
    status = node.get("ManagerStatus")
    if not status:
        return ""
    return "Leader" if status.get("Leader") else str(status.get("Reachability", "")).capitalize()


def _tls_status(swarm: Callable[[], Json]) -> Callable[[Json], str]:
    def status(node: Json) -> str:
        own = node.get("Description", {}).get("TLSInfo") or {}
        wanted = swarm().get("TLSInfo") or {}
        if not wanted or not own:
            return "Unknown"
        return "Ready" if own == wanted else "Needs Rotation"

    return status


def _table(own: str, swarm: Callable[[], Json]) -> Table:
    return Table(
        {
            "ID": lambda n: n["ID"],
            "Self": lambda n: n["ID"] == own,
            "Hostname": lambda n: n.get("Description", {}).get("Hostname", ""),
            "Status": lambda n: n.get("Status", {}).get("State", "").capitalize(),
            "Availability": lambda n: n["Spec"].get("Availability", "").capitalize(),
            "ManagerStatus": _manager_status,
            "EngineVersion": lambda n: n.get("Description", {}).get("Engine", {}).get("EngineVersion", ""),
            "TLSStatus": _tls_status(swarm),
            "_IDMark": lambda n: f"{n['ID']} *" if n["ID"] == own else f"{n['ID']}  ",
        },
        (
            ("_IDMark", "ID"),
            ("Hostname", "HOSTNAME"),
            ("Status", "STATUS"),
            ("Availability", "AVAILABILITY"),
            ("ManagerStatus", "MANAGER STATUS"),
            ("EngineVersion", "ENGINE VERSION"),
        ),
        {"ID": "ID", "TLSStatus": "TLS STATUS", "Self": ""},
    )


@command(
    "ls", "[OPTIONS]", "List nodes in the swarm", flags=[filter_flag(), format_flag(), quiet_flag()], aliases=("list",)
)
def ls(cli: Session, flags: Flags, args: Args) -> None:
    """Prints all nodes."""
    nodes = cli.client.get("/nodes", {"filters": encode_filters(flags["filter"])}) or []
    nodes.sort(key=lambda n: natural_key(n.get("Description", {}).get("Hostname", "")))
    own = ""
    if nodes and not flags["quiet"]:
        own = (cli.client.get("/info").get("Swarm") or {}).get("NodeID", "")
    cache: list[Json] = []

    def swarm() -> Json:
        if not cache:
            cache.append(cli.client.get("/swarm"))
        return cache[0]

    _table(own, swarm).write(cli.out, nodes, flags["format"], quiet=flags["quiet"])


@command(
    "inspect",
    "[OPTIONS] self|NODE [NODE...]",
    "Display detailed information on one or more nodes",
    flags=[text("f,format", FORMAT_HELP), switch("pretty", "Print the information in a human friendly format")],
    count=(1, -1),
    completes="node",
)
def inspect(cli: Session, flags: Flags, args: Args) -> None:
    """Prints nodes."""
    if flags["pretty"] and flags["format"]:
        raise CliError("--format is incompatible with human friendly format")

    def fetch(reference: str) -> Any:
        return cli.client.get(f"/nodes/{quoted(resolve_node(cli, reference))}")

    if not flags["pretty"] and flags["format"] != "pretty":
        inspect_objects(cli, args, fetch, flags["format"])
        return
    from enxame.cli.prettynode import pretty_node

    for reference in args:
        cli.out.write(pretty_node(fetch(reference)))


@command(
    "ps",
    "[OPTIONS] [NODE...]",
    "List tasks running on one or more nodes, defaults to current node",
    flags=[
        filter_flag(),
        format_flag(),
        switch("no-resolve", "Do not map IDs to Names"),
        no_trunc_flag(),
        quiet_flag("Only display task IDs"),
    ],
    count=(0, -1),
    completes="node",
)
def ps(cli: Session, flags: Flags, args: Args) -> None:
    """Prints the tasks of nodes (this one without any)."""
    from enxame.cli.tasks import write_tasks

    problems: list[str] = []
    tasks: dict[str, Json] = {}
    for reference in args or ("self",):
        try:
            node = cli.client.get(f"/nodes/{quoted(resolve_node(cli, reference))}")
            wanted = [*flags["filter"], ("node", node["ID"])]
            tasks.update({t["ID"]: t for t in cli.client.get("/tasks", {"filters": encode_filters(wanted)}) or []})
        except DaemonError as problem:
            problems.append(problem.message)
    if tasks or not problems:
        write_tasks(
            cli,
            tasks.values(),
            template=flags["format"],
            quiet=flags["quiet"],
            trunc=not flags["no-trunc"],
            resolve=not flags["no-resolve"],
        )
    if problems:
        raise CliError("\n".join(problems))


@command(
    "rm",
    "[OPTIONS] NODE [NODE...]",
    "Remove one or more nodes from the swarm",
    flags=[switch("f,force", "Force remove a node from the swarm")],
    count=(1, -1),
    aliases=("remove",),
    completes="node",
)
def rm(cli: Session, flags: Flags, args: Args) -> None:
    """Takes nodes out of the swarm."""
    each(cli, args, lambda reference: cli.client.delete(f"/nodes/{quoted(reference)}", {"force": flags["force"]}))


def _change(cli: Session, reference: str, change: Callable[[Json], bool]) -> bool:
    """Reads a node's spec, changes it, writes it; False when ``change`` says that there is nothing to do."""
    node = cli.client.get(f"/nodes/{quoted(resolve_node(cli, reference))}")
    if not change(node["Spec"]):
        return False
    cli.client.post(f"/nodes/{node['ID']}/update", node["Spec"], {"version": node["Version"]["Index"]})
    return True


def _set_role(cli: Session, args: Args, role: str, done: str) -> None:
    def change(spec: Json) -> bool:
        if spec.get("Role") == role:
            return False
        spec["Role"] = role
        return True

    for reference in args:
        changed = _change(cli, reference, change)
        cli.say(done.format(reference) if changed else f"Node {reference} is already a {role}.")


@command(
    "promote", "NODE [NODE...]", "Promote one or more nodes to manager in the swarm", count=(1, -1), completes="node"
)
def promote(cli: Session, flags: Flags, args: Args) -> None:
    """Makes workers managers."""
    _set_role(cli, args, "manager", "Node {} promoted to a manager in the swarm.")


@command(
    "demote", "NODE [NODE...]", "Demote one or more nodes from manager in the swarm", count=(1, -1), completes="node"
)
def demote(cli: Session, flags: Flags, args: Args) -> None:
    """Makes managers workers."""
    _set_role(cli, args, "worker", "Manager {} demoted in the swarm.")


@command(
    "update",
    "[OPTIONS] NODE",
    "Update a node",
    flags=[
        text("availability", 'Availability of the node ("active"|"pause"|"drain")'),
        many("label-add", "list", "Add or update a node label (key=value)", parse_label),
        many("label-rm", "list", "Remove a node label if exists"),
        text("role", 'Role of the node ("worker"|"manager")'),
    ],
    count=(1, 1),
    completes="node",
)
def update(cli: Session, flags: Flags, args: Args) -> None:
    """Changes a node's role, availability, labels."""

    def change(spec: Json) -> bool:
        if flags.changed("role"):
            if flags["role"] not in {"worker", "manager"}:
                raise CliError(f"unknown role {flags['role']}")
            spec["Role"] = flags["role"]
        if flags.changed("availability"):
            spec["Availability"] = flags["availability"]
        labels = spec.get("Labels") or {}
        labels.update(to_map(flags["label-add"]))
        for key in flags["label-rm"]:
            if key not in labels:
                raise CliError(f"key {key} doesn't exist in node's labels")
            del labels[key]
        spec["Labels"] = labels
        return True

    _change(cli, args[0], change)
    cli.say(args[0])
