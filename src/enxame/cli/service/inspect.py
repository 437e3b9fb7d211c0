"""``enxame service inspect``, as JSON, through a template, or pretty."""

from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import switch, text
from enxame.cli.inspecting import inspect_objects
from enxame.cli.listflags import FORMAT_HELP
from enxame.cli.session import Session


@command(
    "inspect",
    "[OPTIONS] SERVICE [SERVICE...]",
    "Display detailed information on one or more services",
    flags=[text("f,format", FORMAT_HELP), switch("pretty", "Print the information in a human friendly format")],
    count=(1, -1),
    completes="service",
)
def inspect(cli: Session, flags: Flags, args: Args) -> None:
    """Prints services."""
    if flags["pretty"] and flags["format"]:
        raise CliError("--format is incompatible with human friendly format")

    def fetch(reference: str) -> Any:
        try:
            return cli.client.get(f"/services/{quoted(reference)}", {"insertDefaults": "true"})
        except DaemonError as problem:
            if problem.status == 404:
                raise CliError(f"Error: no such service: {reference}") from None
            raise

    if not flags["pretty"] and flags["format"] != "pretty":
        inspect_objects(cli, args, fetch, flags["format"])
        return
    from enxame.cli.service.pretty import pretty_service

    for reference in args:
        cli.out.write(pretty_service(fetch(reference), lambda i: _network_name(cli, i)) + "\n")


def _network_name(cli: Session, identifier: str) -> str:
    try:
        return str(cli.client.get(f"/networks/{quoted(identifier)}", {"scope": "swarm"})["Name"])
    except DaemonError:
        return identifier
