"""What secrets and configs have in common: tables, create, inspect, remove."""

import base64
import sys
from collections.abc import Callable
from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Command, Flags, command
from enxame.cli.each import each
from enxame.cli.errors import CliError
from enxame.cli.flags import many, switch, text
from enxame.cli.humanise import ago, natural_key
from enxame.cli.inspecting import inspect_objects
from enxame.cli.listflags import FORMAT_HELP, filter_flag, format_flag, quiet_flag
from enxame.cli.options.fields import encode_filters, parse_label, to_map
from enxame.cli.session import Session
from enxame.cli.table import Table
from enxame.cli.timestamps import epoch, go_time

Json = dict[str, Any]


def label_text(labels: dict[str, str] | None) -> str:
    """``a=1,b=2``."""
    return ",".join(f"{k}={v}" for k, v in sorted((labels or {}).items()))


def label_of(read: Callable[[Json], dict[str, str] | None]) -> Callable[[Json], Callable[[str], str]]:
    """The template method ``.Label "name"``."""
    return lambda item: lambda name: (read(item) or {}).get(name, "")


def read_content(source: str, what: str) -> bytes:
    """A file's bytes, or stdin's for ``-``. Raises CliError."""
    try:
        if source == "-":
            return sys.stdin.buffer.read()
        with open(source, "rb") as file:
            return file.read()
    except OSError as problem:
        raise CliError(
            f'error reading {what} content from "{source}": open {source}: {(problem.strerror or "").lower()}'
        ) from None


def _fields(*, driver: bool) -> Table:
    fields = {
        "ID": lambda s: s["ID"],
        "Name": lambda s: s["Spec"].get("Name", ""),
        "CreatedAt": lambda s: ago(epoch(s["CreatedAt"])),
        "UpdatedAt": lambda s: ago(epoch(s["UpdatedAt"])),
        "Labels": lambda s: label_text(s["Spec"].get("Labels")),
        "Label": label_of(lambda s: s["Spec"].get("Labels")),
    }
    columns = [("ID", "ID"), ("Name", "NAME"), ("CreatedAt", "CREATED"), ("UpdatedAt", "UPDATED")]
    if driver:
        fields["Driver"] = lambda s: (s["Spec"].get("Driver") or {}).get("Name", "")
        columns.insert(2, ("Driver", "DRIVER"))
    return Table(fields, columns, {"Labels": "LABELS"})


def make_ls(noun: str, *, driver: bool) -> Command:
    """``secret ls``, ``config ls``."""
    table = _fields(driver=driver)

    @command("ls", "[OPTIONS]", f"List {noun}s", flags=[filter_flag(), format_flag(), quiet_flag()], aliases=("list",))
    def ls(cli: Session, flags: Flags, args: Args) -> None:
        items = cli.client.get(f"/{noun}s", {"filters": encode_filters(flags["filter"])}) or []
        items.sort(key=lambda s: natural_key(s["Spec"].get("Name", "")))
        table.write(cli.out, items, flags["format"], quiet=flags["quiet"])

    return ls


def make_rm(noun: str) -> Command:
    """``secret rm``, ``config rm``."""

    @command(
        "rm",
        f"{noun.upper()} [{noun.upper()}...]",
        f"Remove one or more {noun}s",
        count=(1, -1),
        aliases=("remove",),
        completes=noun,
    )
    def rm(cli: Session, flags: Flags, args: Args) -> None:
        each(cli, args, lambda name: cli.client.delete(f"/{noun}s/{quoted(name)}"))

    return rm


def make_inspect(noun: str) -> Command:
    """``secret inspect``, ``config inspect``."""

    @command(
        "inspect",
        f"[OPTIONS] {noun.upper()} [{noun.upper()}...]",
        f"Display detailed information on one or more {noun}s",
        flags=[text("f,format", FORMAT_HELP), switch("pretty", "Print the information in a human friendly format")],
        count=(1, -1),
        completes=noun,
    )
    def inspect(cli: Session, flags: Flags, args: Args) -> None:
        def fetch(name: str) -> Any:
            return cli.client.get(f"/{noun}s/{quoted(name)}")

        if flags["pretty"] and flags["format"]:
            raise CliError("--format is incompatible with human friendly format")
        if not flags["pretty"]:
            inspect_objects(cli, args, fetch, flags["format"])
            return
        for name in args:
            cli.out.write(_pretty(fetch(name), noun))

    return inspect


def make_create(noun: str, *, driver: bool) -> Command:
    """``secret create``, ``config create``."""
    flags = [
        many("l,label", "list", f"{noun.capitalize()} labels", parse_label),
        text("template-driver", "Template driver"),
    ]
    if driver:
        flags.append(text("d,driver", "Secret driver"))
    usage = "[OPTIONS] SECRET [file|-]" if driver else "[OPTIONS] CONFIG file|-"

    @command("create", usage, f"Create a {noun} from a file or STDIN", flags=flags, count=(1 if driver else 2, 2))
    def create(cli: Session, flags: Flags, args: Args) -> None:
        spec: Json = {"Name": args[0], "Labels": to_map(flags["label"])}
        if driver and flags["driver"]:
            if len(args) > 1:
                raise CliError("secret data must be empty when using external secrets")
            spec["Driver"] = {"Name": flags["driver"]}
        elif len(args) < 2:
            raise CliError("secret driver must be specified when not providing secret data")
        else:
            spec["Data"] = base64.b64encode(read_content(args[1], noun)).decode()
        if flags["template-driver"]:
            spec["Templating"] = {"Name": flags["template-driver"]}
        cli.say(cli.client.post(f"/{noun}s/create", spec)["ID"])

    return create


def _pretty(item: Json, noun: str) -> str:
    spec = item["Spec"]
    lines = [f"ID:              {item['ID']}", f"Name:              {spec.get('Name', '')}", "Labels:"]
    if noun == "config":
        lines[0] = f"ID:\t\t\t{item['ID']}"
        lines[1] = f"Name:\t\t\t{spec.get('Name', '')}"
    lines += [f" - {k}{f'={v}' if v else ''}" for k, v in sorted((spec.get("Labels") or {}).items())]
    if noun == "secret":
        lines.append(f"Driver:            {(spec.get('Driver') or {}).get('Name', '')}")
        lines += [
            f"Created at:        {go_time(item['CreatedAt'])}",
            f"Updated at:        {go_time(item['UpdatedAt'])}",
        ]
    else:
        lines += [
            f"Created at:            \t{go_time(item['CreatedAt'])}",
            f"Updated at:            \t{go_time(item['UpdatedAt'])}",
            "Data:",
        ]
        lines.append(base64.b64decode(spec.get("Data") or "").decode("utf-8", "replace"))
    return "\n".join(lines) + "\n"
