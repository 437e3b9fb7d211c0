"""``inspect``, ``top``, ``port``, ``diff`` of containers."""

from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.flags import switch, text
from enxame.cli.humanise import natural_key
from enxame.cli.inspecting import inspect_objects
from enxame.cli.listflags import FORMAT_HELP
from enxame.cli.options.numbers import parse_port_number
from enxame.cli.session import Session
from enxame.cli.tabwriter import align


@command(
    "inspect",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers",
    flags=[text("f,format", FORMAT_HELP), switch("s,size", "Display total file sizes")],
    count=(1, -1),
    completes="container",
)
def inspect(cli: Session, flags: Flags, args: Args) -> None:
    """Prints containers."""

    def fetch(name: str) -> Any:
        return cli.client.get(f"/containers/{quoted(name)}/json", {"size": flags["size"]})

    inspect_objects(cli, args, fetch, flags["format"])


@command(
    "top",
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    count=(1, -1),
    interspersed=False,
    completes="running",
)
def top(cli: Session, flags: Flags, args: Args) -> None:
    """Prints ps's table."""
    found = cli.client.get(f"/containers/{quoted(args[0])}/top", {"ps_args": " ".join(args[1:]) or None})
    rows = [found["Titles"], *(found.get("Processes") or [])]
    cli.out.write(align(["\t".join(row) for row in rows], min_width=20, padding=3))


@command(
    "port",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    count=(1, 2),
    completes="running",
)
def port(cli: Session, flags: Flags, args: Args) -> None:
    """Prints where a container's ports are on this host."""
    container = cli.client.get(f"/containers/{quoted(args[0])}/json")
    ports: dict[str, Any] = container["NetworkSettings"].get("Ports") or {}
    if len(args) > 1:
        number, separator, protocol = args[1].partition("/")
        try:
            parse_port_number(number)
        except ValueError:
            raise CliError(f"Error: invalid port ({number})") from None
        wanted = f"{number}/{protocol if separator else 'tcp'}"
        bindings = ports.get(wanted)
        if not bindings:
            raise CliError(f"no public port '{wanted}' published for {args[0]}")
        cli.out.writelines(f"{_address(b)}\n" for b in bindings)
        return
    lines = [f"{name} -> {_address(b)}" for name, bindings in ports.items() for b in bindings or []]
    cli.out.writelines(f"{line}\n" for line in sorted(lines, key=natural_key))


def _address(binding: dict[str, str]) -> str:
    ip = binding.get("HostIp", "")
    return f"{f'[{ip}]' if ':' in ip else ip}:{binding.get('HostPort', '')}"


@command(
    "diff",
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    count=(1, 1),
    completes="container",
)
def diff(cli: Session, flags: Flags, args: Args) -> None:
    """Prints what is Changed, Added, Deleted."""
    changes = cli.client.get(f"/containers/{quoted(args[0])}/changes") or []
    cli.out.writelines(f"{'CAD'[c['Kind']]} {c['Path']}\n" for c in changes)
