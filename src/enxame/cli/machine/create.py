"""``enxame machine create``."""

import os
import sys
from typing import Any

import click

from enxame.cli.command import Args, Flags
from enxame.cli.errors import CliError
from enxame.cli.flags import many, switch, text, value
from enxame.cli.machine.group import machines
from enxame.cli.machine.verb import machine_command
from enxame.cli.options.numbers import parse_int
from enxame.cli.session import Session
from enxame.machine.driver import DriverFlag
from enxame.machine.drivers import DEFAULT, driver_class, driver_names
from enxame.machine.errors import MachineError

_CLASSIC = (
    ("swarm-image", "Image of the classic Swarm"),
    ("swarm-discovery", "Discovery service of the classic Swarm"),
    ("swarm-strategy", "Scheduling strategy of the classic Swarm"),
    ("swarm-opt", "Option of the classic Swarm's manager"),
    ("swarm-join-opt", "Option of the classic Swarm's agent"),
    ("swarm-host", "Address of the classic Swarm's manager"),
    ("swarm-addr", "Address to advertise for the classic Swarm"),
)


def _from_environment(option: click.Option, variable: str) -> click.Option:
    option.envvar = variable
    return option


def _driver_flag(flag: DriverFlag) -> click.Option:
    summary = f"{flag.summary} ({flag.environment})" if flag.environment else flag.summary
    match flag.kind:
        case "switch":
            made = switch(flag.name, summary, default=bool(flag.default))
        case "int":
            made = value(flag.name, "int", parse_int, summary, default=flag.default)
        case "list":
            made = many(flag.name, "list", summary)
        case _:
            made = text(flag.name, summary, default=str(flag.default))
    return _from_environment(made, flag.environment) if flag.environment else made


def _all_driver_flags() -> list[click.Option]:
    """Of every driver that can be loaded: which one is meant stands on the same command line."""
    found = []
    for name in driver_names():
        try:
            found += [_driver_flag(flag) for flag in driver_class(name).flags]
        except MachineError as problem:
            sys.stderr.write(f"{problem}\n")
    return found


@machine_command(
    "create",
    "[OPTIONS] NAME",
    "Create a machine",
    flags=[
        _from_environment(
            text("d,driver", "Driver to create machine with (MACHINE_DRIVER)", default=DEFAULT), "MACHINE_DRIVER"
        ),
        _from_environment(
            text("engine-install-url", "Accepted for compatibility: this version is installed"),
            "MACHINE_DOCKER_INSTALL_URL",
        ),
        many("engine-opt", "list", "Option of the daemon's configuration, as KEY=VALUE"),
        many("engine-insecure-registry", "list", "Registry that is used without TLS"),
        _from_environment(
            many("engine-registry-mirror", "list", "Mirror of the default registry"), "ENGINE_REGISTRY_MIRROR"
        ),
        many("engine-label", "list", "Label of the engine"),
        text("engine-storage-driver", "Storage driver (overlay2)"),
        many("engine-env", "list", "Environment variable of the daemon"),
        many("tls-san", "list", "Further name or address in the daemon's certificate"),
        switch("swarm", "Refused: the classic Swarm is gone; use swarm init and join"),
        switch("swarm-master", "Refused: the classic Swarm is gone; use swarm init"),
        switch("swarm-experimental", "Accepted for compatibility", hidden=True),
        *(text(name, summary, hidden=True) for name, summary in _CLASSIC),
        *_all_driver_flags(),
    ],
    count=(1, 1),
    completes="",
)
def create(cli: Session, flags: Flags, args: Args) -> None:
    """Makes a machine and waits until its daemon answers."""
    from enxame.machine.record import EngineOptions

    if flags["swarm"] or flags["swarm-master"]:
        raise CliError(
            "the classic Swarm of --swarm is gone: create the machines, then "
            "`enxame machine ssh NAME enxame swarm init`, or make all at once with `enxame cluster create`"
        )
    if flags["engine-storage-driver"] not in {"", "overlay", "overlay2"}:
        raise CliError(f"storage driver {flags['engine-storage-driver']} is not supported: only overlay2 is")
    for label in flags["engine-label"]:
        if not label.partition("=")[0] or "=" not in label:
            raise CliError(f'invalid label "{label}": expected KEY=VALUE')
    options = EngineOptions(
        arbitrary_flags=list(flags["engine-opt"]),
        env=list(flags["engine-env"]),
        insecure_registry=list(flags["engine-insecure-registry"]),
        labels=list(flags["engine-label"]),
        registry_mirror=list(flags["engine-registry-mirror"]),
        storage_driver=flags["engine-storage-driver"],
        install_url=flags["engine-install-url"],
    )
    given: dict[str, Any] = dict(flags)
    machines(cli).create(args[0], flags["driver"], given, options, flags["tls-san"])
    program = os.path.basename(sys.argv[0]) or "enxame"
    cli.warn("Docker is up and running!")
    cli.warn(
        "To see how to connect your Docker Client to the Docker Engine running on this machine, run: "
        f"{program} machine env {args[0]}"
    )
