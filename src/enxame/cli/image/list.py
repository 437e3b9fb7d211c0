"""``enxame images``: the table of images."""

from typing import Any

from enxame.cli.command import Args, Command, Flags, command
from enxame.cli.flags import switch
from enxame.cli.humanise import ago, size_words
from enxame.cli.listflags import filter_flag, format_flag, no_trunc_flag, quiet_flag
from enxame.cli.options.fields import encode_filters
from enxame.cli.session import Session
from enxame.cli.table import Table, short_id
from enxame.cli.timestamps import local_time

Json = dict[str, Any]
_NONE = "<none>"


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
                shown = known if digests and known else [_NONE]
                rows += [{**image, "_repository": repository, "_tag": name, "_digest": digest} for digest in shown]
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
