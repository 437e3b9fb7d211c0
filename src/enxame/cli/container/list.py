"""``enxame ps``: the table of containers."""

from typing import Any

from enxame.cli.command import Args, Command, Flags, command
from enxame.cli.flags import switch, value
from enxame.cli.humanise import ago, shorten, size_words
from enxame.cli.listflags import filter_flag, format_flag, no_trunc_flag, quiet_flag
from enxame.cli.options.fields import encode_filters
from enxame.cli.options.numbers import parse_int
from enxame.cli.session import Session
from enxame.cli.swarmfile import label_of, label_text
from enxame.cli.table import Table
from enxame.cli.timestamps import local_time

Json = dict[str, Any]


def port_text(ports: list[Json]) -> str:
    """``0.0.0.0:8080->80/tcp, 443/tcp``; neighbours joined to ranges, alike bindings of IPv4 and IPv6 apart."""
    groups: dict[tuple[str, str], tuple[int, int]] = {}
    order = sorted(
        ports, key=lambda p: (p.get("PrivatePort", 0), p.get("IP", ""), p.get("PublicPort", 0), p.get("Type", ""))
    )
    result: list[str] = []
    host_mapped: list[str] = []
    for port in order:
        private, public, kind, ip = (
            port.get("PrivatePort", 0),
            port.get("PublicPort", 0),
            port.get("Type", ""),
            port.get("IP", ""),
        )
        if ip and public != private:
            address = f"[{ip}]" if ":" in ip else ip
            host_mapped.append(f"{address}:{public}->{private}/{kind}")
            continue
        group = groups.get((ip, kind))
        if group is None:
            groups[ip, kind] = (private, private)
        elif private == group[1] + 1:
            groups[ip, kind] = (group[0], private)
        elif private != group[1]:
            result.append(_group(ip, kind, *group))
            groups[ip, kind] = (private, private)
    result += [_group(ip, kind, *span) for (ip, kind), span in groups.items()]
    return ", ".join([*result, *host_mapped])


def _group(ip: str, kind: str, start: int, end: int) -> str:
    span = f"{start}" if start == end else f"{start}-{end}"
    if not ip:
        return f"{span}/{kind}"
    address = f"[{ip}]" if ":" in ip else ip
    return f"{address}:{span}->{span}/{kind}"


def _names(container: Json, *, trunc: bool) -> str:
    names = [n.removeprefix("/") for n in container.get("Names") or []]
    if trunc:
        names = [n for n in names if "/" not in n]
    return ",".join(names)


def _command(container: Json, *, trunc: bool) -> str:
    text = str(container.get("Command", ""))
    if trunc:
        text = shorten(text, 20)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def _image(container: Json, *, trunc: bool) -> str:
    image = container.get("Image", "") or "<no image>"
    if not trunc:
        return str(image)
    if image.startswith("sha256:"):
        return str(image.removeprefix("sha256:")[:12])
    name, separator, _ = str(image).partition("@")
    return name if separator and ":" in name.rsplit("/", 1)[-1] else str(image)


def _size(container: Json) -> str:
    own, whole = container.get("SizeRw", 0), container.get("SizeRootFs", 0)
    text = size_words(own, 3)
    return f"{text} (virtual {size_words(whole, 3)})" if whole > 0 else text


def _mounts(container: Json, *, trunc: bool) -> str:
    names = [m.get("Name") or m.get("Source", "") for m in container.get("Mounts") or []]
    return ",".join(shorten(n, 15) if trunc else n for n in names)


def table(*, trunc: bool, size: bool) -> Table:
    """The table, with the SIZE column when asked for."""
    columns = [
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
    ]
    if size:
        columns.append(("Size", "SIZE"))
    return Table(
        {
            "ID": lambda c: c["Id"][:12] if trunc else c["Id"],
            "Names": lambda c: _names(c, trunc=trunc),
            "Image": lambda c: _image(c, trunc=trunc),
            "Command": lambda c: _command(c, trunc=trunc),
            "CreatedAt": lambda c: local_time(c.get("Created", 0)),
            "RunningFor": lambda c: ago(c.get("Created", 0)),
            "Ports": lambda c: port_text(c.get("Ports") or []),
            "State": lambda c: c.get("State", ""),
            "Status": lambda c: c.get("Status", ""),
            "Size": _size,
            "Labels": lambda c: label_text(c.get("Labels")),
            "Label": label_of(lambda c: c.get("Labels")),
            "Mounts": lambda c: _mounts(c, trunc=trunc),
            "LocalVolumes": lambda c: str(sum(m.get("Driver") == "local" for m in c.get("Mounts") or [])),
            "Networks": lambda c: ",".join((c.get("NetworkSettings") or {}).get("Networks") or {}),
        },
        columns,
        {
            "CreatedAt": "CREATED AT",
            "State": "STATE",
            "Size": "SIZE",
            "Labels": "LABELS",
            "Mounts": "MOUNTS",
            "LocalVolumes": "LOCAL VOLUMES",
            "Networks": "NETWORKS",
        },
    )


def _make(name: str, aliases: tuple[str, ...]) -> Command:
    @command(
        name,
        "[OPTIONS]",
        "List containers",
        flags=[
            switch("a,all", "Show all containers (default shows just running)"),
            filter_flag(),
            format_flag(),
            value("n,last", "int", parse_int, "Show n last created containers (includes all states)", default=-1),
            switch("l,latest", "Show the latest created container (includes all states)"),
            no_trunc_flag(),
            quiet_flag("Only display container IDs"),
            switch("s,size", "Display total file sizes"),
        ],
        aliases=aliases,
    )
    def run(cli: Session, flags: Flags, args: Args) -> None:
        last = 1 if flags["latest"] else flags["last"]
        template = flags["format"]
        size = flags["size"] or ".Size" in template
        query = {
            "all": flags["all"],
            "limit": last if last > 0 else None,
            "size": size,
            "filters": encode_filters(flags["filter"]),
        }
        containers = cli.client.get("/containers/json", query) or []
        table(trunc=not flags["no-trunc"], size=flags["size"]).write(
            cli.out, containers, template, quiet=flags["quiet"]
        )

    return run


ls = _make("ps", ())
ls_in_group = _make("ls", ("ps", "list"))
