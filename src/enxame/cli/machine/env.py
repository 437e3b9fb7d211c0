"""``enxame machine env`` and ``config``: how docker's clients reach a machine."""

import os
import sys

from enxame.cli.command import Args, Flags
from enxame.cli.errors import CliError
from enxame.cli.flags import switch, text
from enxame.cli.machine.group import machines, one
from enxame.cli.machine.verb import machine_command
from enxame.cli.session import Session
from enxame.machine.driver import State
from enxame.machine.errors import MachineError
from enxame.machine.hosts import Machine
from enxame.machine.shell_env import VARIABLES, detect_shell, lines_to_set, lines_to_unset, without_proxy

_CLASSIC = switch("swarm", "Refused: the classic Swarm is gone")


def _reachable(machine: Machine) -> str:
    """The machine's URL, after its daemon answered: stale certificates are told here, not by docker later."""
    if machine.driver.state() is not State.RUNNING:
        raise MachineError(
            f'Error checking TLS connection: Host "{machine.name}" is not running. '
            f"Please run: enxame machine start {machine.name}"
        )
    try:
        machine.client(10.0).get("/_ping")
    except OSError as problem:
        raise MachineError(
            "Error checking TLS connection: Error checking and/or regenerating the certs: There was an error "
            f'validating certificates for host "{machine.driver.url().removeprefix("tcp://")}": {problem}\n'
            f"You can attempt to regenerate them using 'enxame machine regenerate-certs {machine.name}'."
        ) from None
    return machine.driver.url()


@machine_command(
    "env",
    "[OPTIONS] [NAME]",
    "Display the commands to set up the environment for the Docker client",
    flags=[
        _CLASSIC,
        text(
            "shell",
            "Force environment to be configured for a specified shell: [fish, cmd, powershell, tcsh, emacs], "
            "default is auto-detect",
        ),
        switch("u,unset", "Unset variables instead of setting them"),
        switch("no-proxy", "Add machine IP to NO_PROXY environment variable"),
    ],
    count=(0, 1),
)
def env(cli: Session, flags: Flags, args: Args) -> None:
    """Lines for the shell's eval."""
    if flags["swarm"]:
        raise CliError("the classic Swarm of --swarm is gone: point at a manager")
    shell = flags["shell"] or detect_shell(os.environ)
    words = [os.path.basename(sys.argv[0]) or "enxame", *sys.argv[1:]]
    if flags["unset"]:
        if args:
            raise CliError("Error: Expected no machine name when the -u flag is present")
        names = list(VARIABLES)
        if flags["no-proxy"]:
            names.append(without_proxy(os.environ, "")[0])
        lines = lines_to_unset(shell, names, words)
    else:
        known = machines(cli)
        machine = known.load(one(args, known.store.names()))
        url = _reachable(machine)
        variables = dict(zip(VARIABLES, ("1", url, str(machine.directory), machine.name), strict=True))
        if flags["no-proxy"]:
            name, hosts = without_proxy(os.environ, machine.driver.ip())
            variables[name] = hosts
        lines = lines_to_set(shell, variables, words)
    for line in lines:
        cli.say(line)


@machine_command(
    "config",
    "[OPTIONS] [NAME]",
    "Print the connection config for machine",
    flags=[_CLASSIC],
    count=(0, 1),
)
def config(cli: Session, flags: Flags, args: Args) -> None:
    """The flags of docker that reach the machine."""
    if flags["swarm"]:
        raise CliError("the classic Swarm of --swarm is gone: point at a manager")
    known = machines(cli)
    machine = known.load(one(args, known.store.names()))
    url, home = _reachable(machine), machine.directory
    cli.say("--tlsverify")
    for flag, name in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")):
        cli.say(f'--{flag}="{home / name}"')
    cli.say(f"-H={url}")
