"""``enxame network``."""

import ipaddress
from contextlib import suppress
from typing import Any

from enxame.cli.client import check_name, quoted
from enxame.cli.command import Args, Flags, Group, command
from enxame.cli.errors import CliError, DaemonError, Unreachable
from enxame.cli.flags import many, switch, text, value
from enxame.cli.humanise import natural_key
from enxame.cli.inspecting import inspect_objects
from enxame.cli.listflags import FORMAT_HELP, filter_flag, format_flag, no_trunc_flag, quiet_flag
from enxame.cli.options.fields import encode_filters, parse_label, parse_pair, to_map
from enxame.cli.options.numbers import parse_int
from enxame.cli.session import Session
from enxame.cli.swarmfile import label_of, label_text
from enxame.cli.table import Table, plain
from enxame.cli.timestamps import go_time

Json = dict[str, Any]
_INGRESS_WARNING = (
    "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker "
    "engine version. Otherwise, removal may not be effective and functionality of newly create ingress networks will "
    "be impaired.\n"
    "Are you sure you want to continue?"
)

group = Group(
    "network",
    "Manage networks",
    {
        "connect": "network:connect",
        "create": "network:create",
        "disconnect": "network:disconnect",
        "inspect": "network:inspect",
        "ls": "network:ls",
        "prune": "network:prune",
        "rm": "network:rm",
    },
    {"list": "ls", "remove": "rm"},
)


def _table(*, trunc: bool) -> Table:
    return Table(
        {
            "ID": lambda n: n["Id"][:12] if trunc else n["Id"],
            "Name": lambda n: n["Name"],
            "Driver": lambda n: n.get("Driver", ""),
            "Scope": lambda n: n.get("Scope", ""),
            "IPv4": lambda n: plain(n.get("EnableIPv4", True)),
            "IPv6": lambda n: plain(n.get("EnableIPv6", False)),
            "Internal": lambda n: plain(n.get("Internal", False)),
            "Labels": lambda n: label_text(n.get("Labels")),
            "Label": label_of(lambda n: n.get("Labels")),
            "CreatedAt": lambda n: go_time(n.get("Created", "")),
        },
        (("ID", "NETWORK ID"), ("Name", "NAME"), ("Driver", "DRIVER"), ("Scope", "SCOPE")),
        {"IPv4": "IPV4", "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT"},
    )


@command(
    "ls",
    "[OPTIONS]",
    "List networks",
    flags=[
        filter_flag(summary='Provide filter values (e.g. "driver=bridge")'),
        format_flag(),
        no_trunc_flag(),
        quiet_flag("Only display network IDs"),
    ],
    aliases=("list",),
)
def ls(cli: Session, flags: Flags, args: Args) -> None:
    """Prints all networks."""
    networks = cli.client.get("/networks", {"filters": encode_filters(flags["filter"])}) or []
    networks.sort(key=lambda n: natural_key(n["Name"]))
    _table(trunc=not flags["no-trunc"]).write(cli.out, networks, flags["format"], quiet=flags["quiet"])


def _listed(flags: Flags, name: str) -> list[str]:
    return [part.strip() for text_ in flags[name] for part in text_.split(",")]


def _ipam(flags: Flags) -> list[Json]:
    """One entry for each subnet, with what lies in it. Raises CliError."""
    subnets, ranges, gateways = (_listed(flags, name) for name in ("subnet", "ip-range", "gateway"))
    auxiliary = to_map(flags["aux-address"])
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise CliError("every ip-range or gateway must have a corresponding subnet")
    entries: dict[str, Json] = {}
    for subnet in subnets:
        for other in entries:
            if _overlap(subnet, other):
                raise CliError("multiple overlapping subnet configuration is not supported")
        entries[subnet] = {"Subnet": subnet}
    try:
        for key, found, noun, on in (("IPRange", ranges, "range", "on"), ("Gateway", gateways, "gateway", "for")):
            for address in found:
                holder = _holder(entries, address)
                if holder is None:
                    raise CliError(f"no matching subnet for {noun} {address}")
                if key in holder:
                    raise CliError(
                        f"cannot configure multiple {noun}s ({address}, {holder[key]}) "
                        f"{on} the same subnet ({holder['Subnet']})"
                    )
                holder[key] = address
    except ValueError as problem:
        raise CliError(_no_cidr(problem)) from None
    for name, address in auxiliary.items():
        holder = None
        with suppress(ValueError):
            holder = _holder(entries, address)
        if holder is None:
            raise CliError(f"no matching subnet for aux-address {address}")
        holder.setdefault("AuxiliaryAddresses", {})[name] = address
    return [
        {k: e[k] for k in ("Subnet", "IPRange", "Gateway", "AuxiliaryAddresses") if k in e} for e in entries.values()
    ]


def _overlap(one: str, other: str) -> bool:
    try:
        first, second = _network(one), _network(other)
    except ValueError as problem:
        raise CliError(f"invalid subnet: {_no_cidr(problem)}") from None
    return first.version == second.version and bool(first.overlaps(second))


def _no_cidr(problem: ValueError) -> str:
    return f"invalid CIDR address: {str(problem).split()[0].strip(chr(39))}"


def _network(text_: str) -> Any:
    if "/" not in text_:
        raise ValueError(text_)
    return ipaddress.ip_network(text_, strict=False)


def _holder(entries: dict[str, Json], address: str) -> Json | None:
    wanted = ipaddress.ip_network(address, strict=False)
    for subnet, entry in entries.items():
        network = _network(subnet)
        if network.version == wanted.version and wanted.network_address in network:
            return entry
    return None


@command(
    "create",
    "[OPTIONS] NETWORK",
    "Create a network",
    flags=[
        switch("attachable", "Enable manual container attachment"),
        many("aux-address", "map", "Auxiliary IPv4 or IPv6 addresses used by Network driver", parse_pair),
        text("config-from", "The network from which to copy the configuration", completes="configuration"),
        switch("config-only", "Create a configuration only network"),
        text("d,driver", "Driver to manage the Network", default="bridge", completes="network-driver"),
        many("gateway", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
        switch("ingress", "Create swarm routing-mesh network"),
        switch("internal", "Restrict external access to the network"),
        many("ip-range", "strings", "Allocate container ip from a sub-range"),
        text("ipam-driver", "IP Address Management Driver", default="default"),
        many("ipam-opt", "map", "Set IPAM driver specific options", parse_pair),
        switch("ipv4", "Enable or disable IPv4 address assignment", default=True),
        switch("ipv6", "Enable or disable IPv6 address assignment"),
        many("label", "list", "Set metadata on a network", parse_label),
        many("o,opt", "map", "Set driver specific options", parse_pair),
        text("scope", "Control the network's scope", completes="scope"),
        many("subnet", "strings", "Subnet in CIDR format that represents a network segment"),
    ],
    count=(1, 1),
)
def create(cli: Session, flags: Flags, args: Args) -> None:
    """Makes a network and prints its id."""
    request: Json = {
        "Name": args[0],
        "CheckDuplicate": True,
        "Driver": flags["driver"],
        "Scope": flags["scope"],
        "EnableIPv6": flags["ipv6"],
        "IPAM": {"Driver": flags["ipam-driver"], "Options": to_map(flags["ipam-opt"]), "Config": _ipam(flags)},
        "Internal": flags["internal"],
        "Attachable": flags["attachable"],
        "Ingress": flags["ingress"],
        "ConfigOnly": flags["config-only"],
        "ConfigFrom": {"Network": flags["config-from"]} if flags["config-from"] else None,
        "Options": to_map(flags["opt"]),
        "Labels": to_map(flags["label"]),
    }
    if flags.changed("ipv4"):
        request["EnableIPv4"] = flags["ipv4"]
    answer = cli.client.post("/networks/create", request)
    if answer.get("Warning"):
        cli.warn(f"WARNING: {answer['Warning']}")
    cli.say(answer["Id"])


@command(
    "inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    flags=[text("f,format", FORMAT_HELP), switch("v,verbose", "Verbose output for diagnostics")],
    count=(1, -1),
    completes="network",
)
def inspect(cli: Session, flags: Flags, args: Args) -> None:
    """Prints networks."""
    query = {"verbose": "true" if flags["verbose"] else None}
    inspect_objects(cli, args, lambda name: cli.client.get(f"/networks/{quoted(name)}", query), flags["format"])


@command(
    "rm",
    "NETWORK [NETWORK...]",
    "Remove one or more networks",
    flags=[switch("f,force", "Do not error if the network does not exist")],
    count=(1, -1),
    aliases=("remove",),
    completes="network",
)
def rm(cli: Session, flags: Flags, args: Args) -> None:
    """Removes networks."""
    problems = []
    for name in args:
        try:
            found = cli.client.get(f"/networks/{quoted(name)}")
            if found.get("Ingress") and not cli.confirm(_INGRESS_WARNING):
                continue
            cli.client.delete(f"/networks/{quoted(name)}")
        except Unreachable:
            raise
        except CliError as problem:
            if not (flags["force"] and isinstance(problem, DaemonError) and problem.status == 404):
                problems.append(problem.message)
        else:
            cli.say(name)
    if problems:
        cli.complain("\n".join(problems))


@command(
    "connect",
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    flags=[
        many("alias", "strings", "Add network-scoped alias for the container"),
        many("driver-opt", "strings", "driver options for the network"),
        value(
            "gw-priority",
            "int",
            parse_int,
            "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
        ),
        text("ip", 'IPv4 address (e.g., "172.30.100.104")'),
        text("ip6", 'IPv6 address (e.g., "2001:db8::33")'),
        many("link", "list", "Add link to another container"),
        many("link-local-ip", "strings", "Add a link-local address for the container"),
    ],
    count=(2, 2),
    completes="network",
)
def connect(cli: Session, flags: Flags, args: Args) -> None:
    """Puts a container on a network."""
    check_name("container", args[1])
    options = _listed(flags, "driver-opt")
    if any("=" not in o for o in options):
        raise CliError("invalid key/value pair format in driver options")
    ipam = {"IPv4Address": flags["ip"], "IPv6Address": flags["ip6"], "LinkLocalIPs": _listed(flags, "link-local-ip")}
    ipam = {key: found for key, found in ipam.items() if found}
    endpoint = {
        "IPAMConfig": ipam or None,
        "Links": list(flags["link"]) or None,
        "Aliases": _listed(flags, "alias"),
        "DriverOpts": to_map(options),
    }
    if flags.changed("gw-priority"):
        endpoint["GwPriority"] = flags["gw-priority"]
    cli.client.post(f"/networks/{quoted(args[0])}/connect", {"Container": args[1], "EndpointConfig": endpoint})


@command(
    "disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    flags=[switch("f,force", "Force the container to disconnect from a network")],
    count=(2, 2),
    completes="network",
)
def disconnect(cli: Session, flags: Flags, args: Args) -> None:
    """Takes a container off a network."""
    check_name("container", args[1])
    cli.client.post(f"/networks/{quoted(args[0])}/disconnect", {"Container": args[1], "Force": flags["force"]})


@command(
    "prune",
    "[OPTIONS]",
    "Remove all unused networks",
    flags=[
        filter_flag("filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        switch("f,force", "Do not prompt for confirmation"),
    ],
)
def prune(cli: Session, flags: Flags, args: Args) -> None:
    """Removes networks that nothing uses."""
    question = (
        "WARNING! This will remove all custom networks not used by at least one container.\n"
        "Are you sure you want to continue?"
    )
    if not flags["force"] and not cli.confirm(question):
        return
    found = cli.client.post("/networks/prune", query={"filters": encode_filters(flags["filter"])}) or {}
    if found.get("NetworksDeleted"):
        cli.say("Deleted Networks:\n" + "\n".join(found["NetworksDeleted"]) + "\n")
