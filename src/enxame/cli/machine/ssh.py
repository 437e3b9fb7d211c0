"""``enxame machine ssh``, ``scp`` and ``mount``: the user's terminal becomes that of another program."""

import os
import sys
from collections.abc import Sequence

from enxame.cli.command import Args, Flags
from enxame.cli.errors import CliError
from enxame.cli.machine.group import machines
from enxame.cli.machine.verb import machine_command
from enxame.cli.session import Session


def _become(argv: Sequence[str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(argv[0], list(argv))
    except FileNotFoundError:
        raise CliError(f"the program `{argv[0]}` is missing") from None


@machine_command(
    "ssh",
    "NAME [COMMAND] [ARG...]",
    "Log into or run a command on a machine with SSH",
    count=(0, -1),
    interspersed=False,
)
def ssh(cli: Session, flags: Flags, args: Args) -> None:  # noqa: ARG001
    """A shell on the machine, or one command; its exit code is the command's."""
    known = machines(cli)
    name = args[0] if args else "default"
    words = args[1:]
    if words[:1] == ("--",):
        words = words[1:]
    _become(known.load(name).driver.shell(words, terminal=sys.stdin.isatty()))
