"""``enxame volume``."""

from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, Group, command
from enxame.cli.each import each
from enxame.cli.errors import CliError
from enxame.cli.flags import many, switch, text
from enxame.cli.humanise import natural_key, size_words
from enxame.cli.inspecting import inspect_objects
from enxame.cli.listflags import FORMAT_HELP, filter_flag, format_flag, quiet_flag
from enxame.cli.options.fields import encode_filters, parse_label, parse_pair, to_map
from enxame.cli.session import Session
from enxame.cli.swarmfile import label_of, label_text
from enxame.cli.table import Table

Json = dict[str, Any]

group = Group(
    "volume",
    "Manage volumes",
    {
        "create": "volume:create",
        "inspect": "volume:inspect",
        "ls": "volume:ls",
        "prune": "volume:prune",
        "rm": "volume:rm",
    },
    {"list": "ls", "remove": "rm"},
)


def _usage(volume: Json, key: str) -> int:
    found = (volume.get("UsageData") or {}).get(key, -1)
    return int(found)


TABLE = Table(
    {
        "Name": lambda v: v["Name"],
        "Driver": lambda v: v.get("Driver", ""),
        "Scope": lambda v: v.get("Scope", ""),
        "Mountpoint": lambda v: v.get("Mountpoint", ""),
        "Labels": lambda v: label_text(v.get("Labels")),
        "Label": label_of(lambda v: v.get("Labels")),
        "Links": lambda v: "N/A" if _usage(v, "RefCount") < 0 else str(_usage(v, "RefCount")),
        "Size": lambda v: "N/A" if _usage(v, "Size") < 0 else size_words(_usage(v, "Size")),
        "Group": lambda v: ((v.get("ClusterVolume") or {}).get("Spec") or {}).get("Group", "N/A") or "N/A",
        "Availability": lambda v: ((v.get("ClusterVolume") or {}).get("Spec") or {}).get("Availability", "N/A"),
        "Status": lambda _: "N/A",
    },
    (("Driver", "DRIVER"), ("Name", "VOLUME NAME")),
    {
        "Scope": "SCOPE",
        "Mountpoint": "MOUNTPOINT",
        "Labels": "LABELS",
        "Links": "LINKS",
        "Size": "SIZE",
        "Group": "GROUP",
        "Availability": "AVAILABILITY",
        "Status": "STATUS",
    },
    quiet="Name",
)


@command(
    "ls",
    "[OPTIONS]",
    "List volumes",
    flags=[filter_flag(), format_flag(), quiet_flag("Only display volume names")],
    aliases=("list",),
)
def ls(cli: Session, flags: Flags, args: Args) -> None:
    """Prints all volumes."""
    found = cli.client.get("/volumes", {"filters": encode_filters(flags["filter"])}) or {}
    volumes = sorted(found.get("Volumes") or [], key=lambda v: natural_key(v["Name"]))
    TABLE.write(cli.out, volumes, flags["format"], quiet=flags["quiet"])


@command(
    "create",
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    flags=[
        text("d,driver", "Specify volume driver name", default="local"),
        many("label", "list", "Set metadata for a volume", parse_label),
        text("name", "Specify volume name", hidden=True),
        many("o,opt", "map", "Set driver specific options", parse_pair),
    ],
    count=(0, 1),
)
def create(cli: Session, flags: Flags, args: Args) -> None:
    """Makes a volume and prints its name."""
    if args and flags["name"]:
        raise CliError("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
    request = {
        "Driver": flags["driver"],
        "DriverOpts": to_map(flags["opt"]),
        "Labels": to_map(flags["label"]),
        "Name": args[0] if args else flags["name"],
    }
    cli.say(cli.client.post("/volumes/create", request)["Name"])


@command(
    "inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Display detailed information on one or more volumes",
    flags=[text("f,format", FORMAT_HELP)],
    count=(1, -1),
    completes="volume",
)
def inspect(cli: Session, flags: Flags, args: Args) -> None:
    """Prints volumes."""
    inspect_objects(cli, args, lambda name: cli.client.get(f"/volumes/{quoted(name)}"), flags["format"])


@command(
    "rm",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes",
    flags=[switch("f,force", "Force the removal of one or more volumes")],
    count=(1, -1),
    aliases=("remove",),
    completes="volume",
)
def rm(cli: Session, flags: Flags, args: Args) -> None:
    """Removes volumes."""
    each(cli, args, lambda name: cli.client.delete(f"/volumes/{quoted(name)}", {"force": flags["force"]}))


@command(
    "prune",
    "[OPTIONS]",
    "Remove unused local volumes",
    flags=[
        switch("a,all", "Remove all unused volumes, not just anonymous ones"),
        filter_flag("filter", 'Provide filter values (e.g. "label=<label>")'),
        switch("f,force", "Do not prompt for confirmation"),
    ],
)
def prune(cli: Session, flags: Flags, args: Args) -> None:
    """Removes volumes that nothing uses."""
    kind = "all local volumes" if flags["all"] else "anonymous local volumes"
    if not flags["force"] and not cli.confirm(
        f"WARNING! This will remove {kind} not used by at least one container.\nAre you sure you want to continue?"
    ):
        return
    filters = [*flags["filter"], *([("all", "true")] if flags["all"] else [])]
    found = cli.client.post("/volumes/prune", query={"filters": encode_filters(filters)}) or {}
    if found.get("VolumesDeleted"):
        cli.say("Deleted Volumes:\n" + "\n".join(found["VolumesDeleted"]) + "\n")
    cli.say(f"Total reclaimed space: {size_words(found.get('SpaceReclaimed', 0))}")
