"""``enxame system``: disk usage, and cleaning up."""

from operator import itemgetter
from typing import Any

from enxame.cli.command import Args, Flags, Group, command
from enxame.cli.errors import CliError
from enxame.cli.flags import switch
from enxame.cli.humanise import size_words
from enxame.cli.listflags import filter_flag, format_flag
from enxame.cli.options.fields import encode_filters
from enxame.cli.session import Session
from enxame.cli.table import Table

Json = dict[str, Any]

group = Group(
    "system",
    "Manage the daemon",
    {"df": "system:df", "events": "events:events", "info": "info:info", "prune": "system:prune"},
)


def _row(kind: str, total: int, active: int, size: float, reclaimable: float) -> Json:
    share = f" ({int(reclaimable * 100 / size)}%)" if size > 0 else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": size_words(size),
        "Reclaimable": f"{size_words(reclaimable)}{share if kind != 'Build Cache' else ''}",
    }


def usage_rows(found: Json) -> list[Json]:
    """Images, containers, volumes, build cache: how many, how much, how much of it could be freed."""
    images, containers = found.get("Images") or [], found.get("Containers") or []
    volumes, cache = found.get("Volumes") or [], found.get("BuildCache") or []
    used_images = [i for i in images if i.get("Containers", 0) > 0]
    used = sum(i.get("Size", 0) - max(i.get("SharedSize", 0), 0) for i in used_images)
    layers = found.get("LayersSize", 0)
    running = [c for c in containers if c.get("State", "").lower() in {"running", "paused", "restarting"}]

    def written(items: list[Json]) -> int:
        return sum(c.get("SizeRw", 0) for c in items)

    usages = [v.get("UsageData") or {} for v in volumes]
    volume_size = sum(max(u.get("Size", 0), 0) for u in usages)
    free_volumes = sum(max(u.get("Size", 0), 0) for u in usages if u.get("RefCount", 0) == 0)
    return [
        _row("Images", len(images), len(used_images), layers, layers - used),
        _row("Containers", len(containers), len(running), written(containers), written(containers) - written(running)),
        _row("Local Volumes", len(volumes), sum(u.get("RefCount", 0) > 0 for u in usages), volume_size, free_volumes),
        _row(
            "Build Cache",
            len(cache),
            sum(bool(c.get("InUse")) for c in cache),
            sum(c.get("Size", 0) for c in cache if not c.get("Shared")),
            sum(c.get("Size", 0) for c in cache if not c.get("InUse") and not c.get("Shared")),
        ),
    ]


TABLE = Table(
    {name: itemgetter(name) for name in ("Type", "TotalCount", "Active", "Size", "Reclaimable")},
    (("Type", "TYPE"), ("TotalCount", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")),
)


@command(
    "df",
    "[OPTIONS]",
    "Show disk usage",
    flags=[format_flag(), switch("v,verbose", "Show detailed information on space usage")],
)
def df(cli: Session, flags: Flags, args: Args) -> None:
    """Prints how much space what takes."""
    if flags["verbose"] and flags["format"]:
        raise CliError("the verbose and the format options conflict")
    found = cli.client.get("/system/df") or {}
    if not flags["verbose"]:
        TABLE.write(cli.out, usage_rows(found), flags["format"])
        return
    _verbose(cli, found)


def _verbose(cli: Session, found: Json) -> None:
    from enxame.cli.container.list import table as container_table
    from enxame.cli.image.list import image_usage_rows, image_usage_table
    from enxame.cli.volume import TABLE as VOLUMES

    cli.say("Images space usage:\n")
    image_usage_table().write(cli.out, image_usage_rows(found.get("Images") or []))
    cli.say("\nContainers space usage:\n")
    containers = container_table(trunc=True, size=True)
    Table(
        containers.fields,
        (
            ("ID", "CONTAINER ID"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Size", "SIZE"),
            ("RunningFor", "CREATED"),
            ("Status", "STATUS"),
            ("Names", "NAMES"),
        ),
    ).write(cli.out, [{**c, "SizeRootFs": 0} for c in found.get("Containers") or []])
    cli.say("\nLocal Volumes space usage:\n")
    Table(VOLUMES.fields, (("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE"))).write(
        cli.out, found.get("Volumes") or []
    )
    cache = sum(c.get("Size", 0) for c in found.get("BuildCache") or [] if not c.get("Shared"))
    cli.say(f"\nBuild cache usage: {size_words(cache)}\n")


@command(
    "prune",
    "[OPTIONS]",
    "Remove unused data",
    flags=[
        switch("a,all", "Remove all unused images not just dangling ones"),
        filter_flag("filter", 'Provide filter values (e.g. "label=<key>=<value>")'),
        switch("f,force", "Do not prompt for confirmation"),
        switch("volumes", "Prune anonymous volumes"),
    ],
)
def prune(cli: Session, flags: Flags, args: Args) -> None:
    """Removes stopped containers, unused networks and images, and with ``--volumes`` volumes."""
    kinds = ["all stopped containers", "all networks not used by at least one container"]
    if flags["volumes"]:
        kinds.append("all anonymous volumes not used by at least one container")
    kinds.append(
        "all images without at least one container associated to them" if flags["all"] else "all dangling images"
    )
    question = (
        "WARNING! This will remove:\n" + "\n".join(f"  - {k}" for k in kinds) + "\n\nAre you sure you want to continue?"
    )
    if not flags["force"] and not cli.confirm(question):
        return
    filters = list(flags["filter"])
    space = 0
    steps = [
        ("containers", "ContainersDeleted", "Containers", filters),
        ("networks", "NetworksDeleted", "Networks", filters),
    ]
    if flags["volumes"]:
        steps.append(("volumes", "VolumesDeleted", "Volumes", filters))
    steps.append(("images", "ImagesDeleted", "Images", [*filters, ("dangling", "false" if flags["all"] else "true")]))
    for path, key, title, wanted in steps:
        done = cli.client.post(f"/{path}/prune", query={"filters": encode_filters(wanted)}) or {}
        space += done.get("SpaceReclaimed", 0)
        if done.get(key):
            cli.say(f"Deleted {title}:\n" + "\n".join(_deleted(item) for item in done[key]) + "\n")
    cli.say(f"Total reclaimed space: {size_words(space)}")


def _deleted(item: Any) -> str:
    if isinstance(item, str):
        return item
    return f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item.get('Deleted', '')}"
