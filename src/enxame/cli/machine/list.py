"""``enxame machine ls``."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from enxame.cli.command import Args, Flags
from enxame.cli.errors import CliError
from enxame.cli.flags import many, switch, text, value
from enxame.cli.machine.active import is_active
from enxame.cli.machine.group import machines, parallel
from enxame.cli.machine.verb import machine_command
from enxame.cli.options.numbers import parse_int
from enxame.cli.session import Session
from enxame.cli.table import Table
from enxame.machine.driver import State
from enxame.machine.errors import MachineError
from enxame.machine.hosts import Machines

_FILTERS: Final = ("driver", "label", "name", "state", "swarm")
#: ``-t 0``: docker-machine waits for ever; nobody wants that of a list.
_LONGEST: Final = 600.0


@dataclass
class Listed:
    """One line."""

    name: str
    driver: str = ""
    state: State = State.ERROR
    url: str = ""
    swarm: str = ""
    docker: str = "Unknown"
    error: str = ""
    seconds: float = 0.0
    options: Any = None
    labels: list[str] = field(default_factory=list)


_TABLE = Table(
    {
        "Name": lambda m: m.name,
        "Active": lambda m: "*" if is_active(m.url) else "-",
        "ActiveHost": lambda m: is_active(m.url),
        "ActiveSwarm": lambda _: False,
        "DriverName": lambda m: m.driver,
        "State": lambda m: str(m.state),
        "URL": lambda m: m.url,
        "Swarm": lambda m: m.swarm,
        "SwarmOptions": lambda _: None,
        "EngineOptions": lambda m: m.options,
        "DockerVersion": lambda m: m.docker,
        "ResponseTime": lambda m: f"{m.seconds * 1000:.0f}ms",
        "Error": lambda m: m.error,
    },
    [
        ("Name", "NAME"),
        ("Active", "ACTIVE"),
        ("DriverName", "DRIVER"),
        ("State", "STATE"),
        ("URL", "URL"),
        ("Swarm", "SWARM"),
        ("DockerVersion", "DOCKER"),
        ("Error", "ERRORS"),
    ],
    {"ResponseTime": "RESPONSE", "ActiveHost": "ACTIVE_HOST", "ActiveSwarm": "ACTIVE_SWARM"},
    quiet="Name",
)


def look(known: Machines, name: str, timeout: float) -> Listed:
    """Asks a machine for all that is shown; a problem becomes part of the line."""
    began = time.monotonic()
    found = Listed(name)
    try:
        machine = known.load(name)
        engine = machine.record.host_options.engine_options
        found.driver, found.options, found.labels = machine.record.driver_name, engine, engine.labels
        found.state = machine.driver.state()
        found.url = machine.driver.url()
        if found.state is State.RUNNING:
            client = machine.client(timeout)
            found.docker = f"v{client.get('/version')['Version']}"
            swarm = client.get("/info").get("Swarm") or {}
            if swarm.get("LocalNodeState", "inactive") != "inactive":
                role = "manager" if swarm.get("ControlAvailable") else "worker"
                found.swarm = role if swarm["LocalNodeState"] == "active" else f"{swarm['LocalNodeState']} ({role})"
    except TimeoutError:
        found.state, found.error = State.TIMEOUT, f"no answer within {timeout:g} s"
    except (MachineError, OSError, KeyError) as problem:
        found.error = f"Unable to query docker version: {problem}" if found.url else str(problem)
    found.seconds = time.monotonic() - began
    return found


def _filter(text_: str) -> tuple[str, str]:
    key, separator, wanted = text_.partition("=")
    if not separator:
        raise ValueError("filters should be of the form KEY=VALUE")
    if key not in _FILTERS:
        raise ValueError(f"unsupported filter key '{key}'")
    return key, wanted


def _matches(machine: Listed, filters: dict[str, list[str]]) -> bool:
    import re

    checks: dict[str, Callable[[str], bool]] = {
        "driver": lambda wanted: machine.driver.lower() == wanted.lower(),
        "state": lambda wanted: machine.state.lower() == wanted.lower(),
        "swarm": lambda wanted: machine.swarm == wanted,
        "name": lambda wanted: re.search(wanted, machine.name) is not None,
        "label": lambda wanted: wanted in machine.labels,
    }
    try:
        return all(any(checks[key](wanted) for wanted in values) for key, values in filters.items())
    except re.error as problem:
        raise CliError(f"invalid filter: {problem}") from None


@machine_command(
    "ls",
    "[OPTIONS]",
    "List machines",
    flags=[
        switch("q,quiet", "Enable quiet mode"),
        many("filter", "filter", "Filter output based on conditions provided", _filter),
        value("t,timeout", "int", parse_int, "Timeout in seconds", default=10),
        text("f,format", "Pretty-print machines using a Go template"),
    ],
    completes="",
)
def ls(cli: Session, flags: Flags, args: Args) -> None:
    """All machines, asked at the same time."""
    known = machines(cli)
    filters: dict[str, list[str]] = {}
    for key, wanted in flags["filter"]:
        filters.setdefault(key, []).append(wanted)
    names = known.store.names()
    if flags["quiet"] and not filters and not flags["format"]:
        for name in names:
            cli.say(name)
        return
    timeout = float(flags["timeout"]) or _LONGEST
    found = [one for one in parallel(lambda name: look(known, name, timeout), names) if _matches(one, filters)]
    _TABLE.write(cli.out, found, flags["format"], quiet=flags["quiet"])
