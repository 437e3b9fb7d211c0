"""``enxame image`` and its short-cuts."""

import sys
from collections.abc import Iterator
from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Command, Flags, Group, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import many, switch, text
from enxame.cli.humanise import ago, shorten, size_words
from enxame.cli.images import InvalidReference, checked, split_reference, with_tag
from enxame.cli.inspecting import inspect_objects
from enxame.cli.listflags import FORMAT_HELP, filter_flag, format_flag, no_trunc_flag, quiet_flag
from enxame.cli.options.fields import encode_filters
from enxame.cli.session import Session
from enxame.cli.table import Table, short_id
from enxame.cli.timestamps import local_time, rfc3339_nano

Json = dict[str, Any]
_NONE = "<none>"
_CHUNK = 1 << 16

group = Group(
    "image",
    "Manage images",
    {
        "history": "image:history",
        "import": "image:import_",
        "inspect": "image:inspect",
        "load": "image:load_",
        "ls": "image:ls_in_group",
        "prune": "image:prune",
        "pull": "image:pull",
        "push": "image:push",
        "rm": "image:rm_in_group",
        "save": "image:save",
        "tag": "image:tag",
    },
    {"list": "ls", "remove": "rm"},
)


def _rows(images: list[Json], *, digests: bool) -> list[Json]:
    """One row for each name; ``<none>`` for images without any."""
    rows = []
    for image in images:
        tags = [t for t in image.get("RepoTags") or [] if t != "<none>:<none>"]
        found: dict[str, list[str]] = {}
        for name in tags:
            repository, _, tag_ = name.rpartition(":")
            found.setdefault(repository, []).append(tag_)
        by_digest: dict[str, list[str]] = {}
        for name in image.get("RepoDigests") or []:
            repository, _, digest = name.partition("@")
            if repository != _NONE:
                by_digest.setdefault(repository, []).append(digest)
        if not found and not by_digest:
            rows.append({**image, "_repository": _NONE, "_tag": _NONE, "_digest": _NONE})
        for repository, names in found.items():
            known = by_digest.pop(repository, [])
            for name in names:
                for digest in known if digests and known else [_NONE]:
                    rows.append({**image, "_repository": repository, "_tag": name, "_digest": digest})
        for repository, known in by_digest.items():
            if digests:
                rows += [{**image, "_repository": repository, "_tag": _NONE, "_digest": d} for d in known]
            else:
                rows.append({**image, "_repository": repository, "_tag": _NONE, "_digest": _NONE})
    return rows


def _count(number: int) -> str:
    return "N/A" if number < 0 else str(number)


def _table(*, trunc: bool, digests: bool) -> Table:
    columns = [
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
    ]
    if digests:
        columns.insert(2, ("Digest", "DIGEST"))
    return Table(
        {
            "ID": lambda i: short_id(i["Id"]) if trunc else i["Id"],
            "Repository": lambda i: i["_repository"],
            "Tag": lambda i: i["_tag"],
            "Digest": lambda i: i["_digest"],
            "CreatedSince": lambda i: ago(i["Created"]) if i.get("Created", 0) > 0 else "N/A",
            "CreatedAt": lambda i: local_time(i["Created"]),
            "Size": lambda i: size_words(i.get("Size", 0), 3),
            "Containers": lambda i: _count(i.get("Containers", -1)),
            "SharedSize": lambda i: "N/A" if i.get("SharedSize", -1) < 0 else size_words(i["SharedSize"]),
            "UniqueSize": lambda i: "N/A" if i.get("SharedSize", -1) < 0 else size_words(i["Size"] - i["SharedSize"]),
            "VirtualSize": lambda i: size_words(i.get("Size", 0), 3),
        },
        columns,
        {
            "Digest": "DIGEST",
            "CreatedAt": "CREATED AT",
            "Containers": "CONTAINERS",
            "SharedSize": "SHARED SIZE",
            "UniqueSize": "UNIQUE SIZE",
            "VirtualSize": "SIZE",
        },
    )


def _make_ls(name: str, aliases: tuple[str, ...]) -> Command:
    @command(
        name,
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        flags=[
            switch("a,all", "Show all images (default hides intermediate images)"),
            switch("digests", "Show digests"),
            filter_flag(),
            format_flag(),
            no_trunc_flag(),
            quiet_flag("Only show image IDs"),
        ],
        count=(0, 1),
        aliases=aliases,
    )
    def run(cli: Session, flags: Flags, args: Args) -> None:
        filters = [*flags["filter"], *(("reference", a) for a in args)]
        images = cli.client.get("/images/json", {"all": flags["all"], "filters": encode_filters(filters)}) or []
        template = flags["format"]
        rows = _rows(images, digests=flags["digests"] or ".Digest" in template)
        _table(trunc=not flags["no-trunc"], digests=flags["digests"]).write(
            cli.out, rows, template, quiet=flags["quiet"]
        )

    return run


ls = _make_ls("images", ())
ls_in_group = _make_ls("ls", ("list",))


@command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Pull an image or a repository from a registry",
    flags=[
        switch("a,all-tags", "Download all tagged images in the repository"),
        text("platform", "Set platform if server is multi-platform capable"),
        switch("q,quiet", "Suppress verbose output"),
        switch("disable-content-trust", "Skip image verification", default=True, hidden=True),
    ],
    count=(1, 1),
)
def pull(cli: Session, flags: Flags, args: Args) -> None:
    """Fetches an image and prints its whole name."""
    from enxame.cli.pulling import pull_image

    image = checked(args[0])
    if flags["all-tags"] and split_reference(image)[1]:
        raise CliError("tag can't be used with --all-tags/-a")
    if (
        not flags["all-tags"]
        and not flags["quiet"]
        and with_tag(image) != image
        and ":" not in image.rsplit("/", 1)[-1]
        and "@" not in image
    ):
        cli.say("Using default tag: latest")
        cli.out.flush()
    name = pull_image(cli, image, platform=flags["platform"], quiet=flags["quiet"], all_tags=flags["all-tags"])
    cli.say(_canonical(name))


def _canonical(name: str) -> str:
    """With its registry: ``docker.io/library/alpine:latest``."""
    first, separator, _ = name.partition("/")
    if separator and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if separator else f"docker.io/library/{name}"


@command(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Push an image or a repository to a registry",
    flags=[
        switch("a,all-tags", "Push all tags of an image to the repository"),
        switch("q,quiet", "Suppress verbose output"),
        switch("disable-content-trust", "Skip image signing", default=True, hidden=True),
    ],
    count=(1, 1),
    completes="image",
)
def push(cli: Session, flags: Flags, args: Args) -> None:
    """Sends an image to its registry."""
    from enxame.cli.pulling import show_messages
    from enxame.cli.registry import encoded_auth

    image = checked(args[0])
    if not flags["all-tags"]:
        full = with_tag(image)
        if full != image and not flags["quiet"]:
            cli.say("Using default tag: latest")
        image = full
    name, tag_, _ = split_reference(image)
    headers = {"X-Registry-Auth": encoded_auth(image) or "e30="}
    query = {"tag": tag_ if not flags["all-tags"] else None}
    with cli.client.stream("POST", f"/images/{quoted(name)}/push", query, headers=headers) as stream:
        show_messages(stream.messages(), None if flags["quiet"] else cli.out)
    if flags["quiet"]:
        cli.say(_canonical(image))


@command(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    count=(2, 2),
    completes="image",
)
def tag(cli: Session, flags: Flags, args: Args) -> None:  # noqa: ARG001
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


def _chunks(path: str) -> Iterator[bytes]:
    """A file's bytes, or stdin's for no path. Raises CliError."""
    if not path:
        while data := sys.stdin.buffer.read(_CHUNK):
            yield data
        return
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            yield data


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as problem:
        raise CliError(f"open {path}: {(problem.strerror or '').lower()}") from None


@command(
    "load",
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    flags=[
        text("i,input", "Read from tar archive file, instead of STDIN"),
        switch("q,quiet", "Suppress the load output"),
        text("platform", "Load only the given platform variant"),
    ],
)
def load_(cli: Session, flags: Flags, args: Args) -> None:  # noqa: ARG001
    """Takes images from an archive."""
    from enxame.cli.pulling import show_messages

    if flags["input"]:
        _check_readable(flags["input"])
    elif sys.stdin.isatty():
        raise CliError("requested load from stdin, but stdin is empty")
    quiet = flags["quiet"] or not cli.out_is_terminal()
    query = {"quiet": quiet, "platform": flags["platform"] or None}
    with cli.client.stream("POST", "/images/load", query, _chunks(flags["input"])) as stream:
        show_messages(stream.messages(), cli.out)


@command(
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    flags=[
        many("c,change", "list", "Apply Dockerfile instruction to the created image"),
        text("m,message", "Set commit message for imported image"),
        text("platform", "Set platform if server is multi-platform capable"),
    ],
    count=(1, 2),
)
def import_(cli: Session, flags: Flags, args: Args) -> None:
    """Makes an image of a file tree."""
    from enxame.cli.pulling import show_messages

    repository = tag_ = ""
    if len(args) > 1:
        repository, tag_, _ = split_reference(checked(args[1]))
    remote = args[0].startswith(("http://", "https://"))
    if args[0] != "-" and not remote:
        _check_readable(args[0])
    query = {
        "fromSrc": args[0] if remote else "-",
        "repo": f"{repository}:{tag_}" if tag_ else repository or None,
        "message": flags["message"] or None,
        "platform": flags["platform"] or None,
    }
    path = "/images/create"
    body = None if remote else _chunks("" if args[0] == "-" else args[0])
    if flags["change"]:
        from urllib.parse import urlencode

        path += "?" + urlencode([("changes", c) for c in flags["change"]])
    with cli.client.stream("POST", path, query, body) as stream:
        show_messages(stream.messages(), cli.out)


@command(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    flags=[
        text("o,output", "Write to a file, instead of STDOUT"),
        text("platform", "Save only the given platform variant"),
    ],
    count=(1, -1),
    completes="image",
)
def save(cli: Session, flags: Flags, args: Args) -> None:
    """Writes images to an archive."""
    import os
    from urllib.parse import urlencode

    if not flags["output"] and cli.out_is_terminal():
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    path = "/images/get?" + urlencode([("names", name) for name in args])
    with cli.client.stream("GET", path) as stream:
        if not flags["output"]:
            for data in stream.chunks():
                cli.out.buffer.write(data)
            cli.out.buffer.flush()
            return
        part = f"{flags['output']}.{os.getpid()}.part"
        try:
            with open(part, "wb") as file:
                for data in stream.chunks():
                    file.write(data)
            os.replace(part, flags["output"])
        finally:
            if os.path.exists(part):
                os.unlink(part)


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
def prune(cli: Session, flags: Flags, args: Args) -> None:  # noqa: ARG001
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


def image_usage_rows(images: list[Json]) -> list[Json]:
    """Rows for ``system df -v``."""
    return _rows(images, digests=False)


def image_usage_table() -> Table:
    """The table of ``system df -v``."""
    return Table(
        _table(trunc=True, digests=False).fields,
        (
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("ID", "IMAGE ID"),
            ("CreatedSince", "CREATED"),
            ("Size", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
            ("Containers", "CONTAINERS"),
        ),
    )
