"""Verbs that look at machines: active, inspect, ip, status, url, version."""

import json
from typing import Any

import msgspec

from enxame.cli.command import Args, Flags
from enxame.cli.errors import CliError
from enxame.cli.flags import text, value
from enxame.cli.machine.active import is_active
from enxame.cli.machine.group import chosen, machines, one, parallel
from enxame.cli.machine.verb import machine_command
from enxame.cli.options.numbers import parse_int
from enxame.cli.session import Session
from enxame.machine.driver import State
from enxame.machine.errors import MachineError
from enxame.machine.hosts import Machine


@machine_command(
    "active",
    "[OPTIONS]",
    "Print which machine is active",
    flags=[value("t,timeout", "int", parse_int, "Timeout in seconds, default to 10s", default=10)],
    completes="",
)
def active(cli: Session, flags: Flags, args: Args) -> None:
    """The machine that the environment points at."""
    known = machines(cli)

    def url_of(name: str) -> str:
        try:
            return known.load(name).driver.url()
        except MachineError:
            return ""

    names = known.store.names()
    for name, found in zip(names, parallel(url_of, names), strict=True):
        if is_active(found):
            cli.say(name)
            return
    raise CliError("No active host found")


@machine_command(
    "inspect",
    "[OPTIONS] [NAME]",
    "Inspect information about a machine",
    flags=[text("f,format", "Format the output using the given go template")],
    count=(0, 1),
)
def inspect(cli: Session, flags: Flags, args: Args) -> None:
    """All that is remembered of a machine."""
    known = machines(cli)
    record: Any = msgspec.to_builtins(known.load(one(args, known.store.names())).record)
    if not flags["format"]:
        cli.say(json.dumps(record, indent=4, ensure_ascii=False))
        return
    from enxame.cli.gotemplate import Template
    from enxame.cli.typed import typed

    template = flags["format"].replace("{{prettyjson .}}", "{{json .}}")
    cli.say(Template(template).render(typed(record)))


def _told(cli: Session, names: Args, tell: Any) -> None:
    """One line for every machine that is named; complaints for those that cannot tell."""
    known = machines(cli)

    def ask(name: str) -> str | MachineError:
        try:
            return str(tell(known.load(name)))
        except MachineError as problem:
            return problem

    for answer in parallel(ask, chosen(names, known.store.names())):
        if isinstance(answer, MachineError):
            cli.complain(answer.message)
        else:
            cli.say(answer)


@machine_command("ip", "[NAME...]", "Get the IP address of a machine", count=(0, -1))
def ip(cli: Session, flags: Flags, args: Args) -> None:
    """A running machine's address."""

    def address(machine: Machine) -> str:
        if machine.driver.state() is not State.RUNNING:
            raise MachineError("Host is not running")
        return machine.driver.ip()

    _told(cli, args, address)


@machine_command("status", "[NAME]", "Get the status of a machine", count=(0, -1))
def status(cli: Session, flags: Flags, args: Args) -> None:
    """A machine's state."""
    _told(cli, args, lambda machine: machine.driver.state())


@machine_command("url", "[NAME]", "Get the URL of a machine", count=(0, -1))
def url(cli: Session, flags: Flags, args: Args) -> None:
    """Where a machine's daemon listens."""

    def address(machine: Machine) -> str:
        found = machine.driver.url()
        if not found:
            raise MachineError("Host is not running")
        return found

    _told(cli, args, address)


@machine_command("version", "[NAME...]", "Show the Docker Machine version or a machine docker version", count=(0, -1))
def version(cli: Session, flags: Flags, args: Args) -> None:
    """This command's version, or those of machines' daemons."""
    if not args:
        from enxame import __version__

        cli.say(f"enxame machine version {__version__}")
        return

    def running(machine: Machine) -> str:
        try:
            return str(machine.client().get("/version")["Version"])
        except OSError as problem:
            raise MachineError(f"{machine.name}: {problem}") from None

    _told(cli, args, running)
