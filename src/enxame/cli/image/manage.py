"""``tag``, ``rm``, ``inspect``, ``history``, ``prune`` of images."""

from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Command, Flags, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import switch, text
from enxame.cli.humanise import ago, shorten, size_words
from enxame.cli.images import InvalidReference, split_reference, with_tag
from enxame.cli.inspecting import inspect_objects
from enxame.cli.listflags import FORMAT_HELP, filter_flag, format_flag, no_trunc_flag, quiet_flag
from enxame.cli.options.fields import encode_filters
from enxame.cli.session import Session
from enxame.cli.table import Table, short_id
from enxame.cli.timestamps import rfc3339_nano

Json = dict[str, Any]


@command(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    count=(2, 2),
    completes="image",
)
def tag(cli: Session, flags: Flags, args: Args) -> None:
    """Gives an image another name."""
    try:
        name, tag_, digest = split_reference(with_tag(args[1]))
    except InvalidReference as problem:
        raise CliError(f'Error parsing reference: "{args[1]}" is not a valid repository/tag: {problem}') from None
    if digest:
        raise CliError("refusing to create a tag with a digest reference")
    cli.client.post(f"/images/{quoted(args[0])}/tag", query={"repo": name, "tag": tag_})


def _make_rm(name: str, aliases: tuple[str, ...]) -> Command:
    @command(
        name,
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        flags=[switch("f,force", "Force removal of the image"), switch("no-prune", "Do not delete untagged parents")],
        count=(1, -1),
        aliases=aliases,
        completes="image",
    )
    def run(cli: Session, flags: Flags, args: Args) -> None:
        problems = []
        for image in args:
            try:
                gone = cli.client.delete(
                    f"/images/{quoted(image)}", {"force": flags["force"], "noprune": flags["no-prune"]}
                )
            except DaemonError as problem:
                problems.append(problem.message)
                continue
            for item in gone or []:
                cli.say(
                    f"Deleted: {item['Deleted']}" if item.get("Deleted") else f"Untagged: {item.get('Untagged', '')}"
                )
        if problems:
            raise CliError("\n".join(problems))

    return run


rmi = _make_rm("rmi", ())
rm_in_group = _make_rm("rm", ("remove",))


@command(
    "inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    flags=[text("f,format", FORMAT_HELP)],
    count=(1, -1),
    completes="image",
)
def inspect(cli: Session, flags: Flags, args: Args) -> None:
    """Prints images."""
    inspect_objects(cli, args, lambda name: cli.client.get(f"/images/{quoted(name)}/json"), flags["format"])


def _history_table(*, human: bool, trunc: bool) -> Table:
    def when(row: Json) -> str:
        return local_rfc(row["Created"])

    def local_rfc(seconds: int) -> str:
        return rfc3339_nano(seconds, 0).replace(".000000000", "")

    def layer(row: Json) -> str:
        return short_id(row["Id"]) if trunc and row["Id"] != "<missing>" else str(row["Id"])

    def made_by(row: Json) -> str:
        words = row.get("CreatedBy", "").replace("\t", " ")
        return shorten(words, 45) if trunc else words

    return Table(
        {
            "ID": layer,
            "CreatedAt": when,
            "CreatedSince": lambda h: (ago(h["Created"]) if h["Created"] > -(10**10) else "N/A") if human else when(h),
            "CreatedBy": made_by,
            "Size": lambda h: size_words(h.get("Size", 0), 3) if human else str(h.get("Size", 0)),
            "Comment": lambda h: h.get("Comment", ""),
        },
        (
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ),
        {"CreatedAt": "CREATED AT"},
    )


@command(
    "history",
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    flags=[
        format_flag(),
        switch("H,human", "Print sizes and dates in human readable format", default=True),
        no_trunc_flag(),
        quiet_flag("Only show image IDs"),
    ],
    count=(1, 1),
    completes="image",
)
def history(cli: Session, flags: Flags, args: Args) -> None:
    """Prints an image's layers, newest first."""
    rows = cli.client.get(f"/images/{quoted(args[0])}/history") or []
    table = _history_table(human=flags["human"], trunc=not flags["no-trunc"])
    table.write(cli.out, rows, flags["format"], quiet=flags["quiet"])


@command(
    "prune",
    "[OPTIONS]",
    "Remove unused images",
    flags=[
        switch("a,all", "Remove all unused images, not just dangling ones"),
        filter_flag("filter", "Provide filter values (e.g. 'until=<timestamp>')"),
        switch("f,force", "Do not prompt for confirmation"),
    ],
)
def prune(cli: Session, flags: Flags, args: Args) -> None:
    """Removes images that nothing uses."""
    kind = "all images without at least one container associated to them" if flags["all"] else "all dangling images"
    if not flags["force"] and not cli.confirm(f"WARNING! This will remove {kind}.\nAre you sure you want to continue?"):
        return
    filters = [*flags["filter"], ("dangling", "false" if flags["all"] else "true")]
    found = cli.client.post("/images/prune", query={"filters": encode_filters(filters)}) or {}
    if found.get("ImagesDeleted"):
        lines = [
            f"untagged: {i['Untagged']}" if i.get("Untagged") else f"deleted: {i.get('Deleted', '')}"
            for i in found["ImagesDeleted"]
        ]
        cli.say("Deleted Images:\n" + "\n".join(lines) + "\n")
    cli.say(f"Total reclaimed space: {size_words(found.get('SpaceReclaimed', 0))}")
