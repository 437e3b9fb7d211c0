"""``enxame machine ssh``, ``scp`` and ``mount``: the user's terminal becomes that of another program."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from enxame.cli.command import Args, Flags
from enxame.cli.errors import CliError, Exit
from enxame.cli.flags import switch
from enxame.cli.machine.group import machines, one
from enxame.cli.machine.verb import machine_command
from enxame.cli.session import Session
from enxame.machine.hosts import Machines


def _become(argv: Sequence[str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(argv[0], list(argv))
    except FileNotFoundError:
        raise CliError(f"the program `{argv[0]}` is missing") from None


def _run(argv: Sequence[str]) -> None:
    try:
        code = subprocess.run(argv, check=False).returncode
    except FileNotFoundError:
        raise CliError(f"the program `{argv[0]}` is missing") from None
    if code:
        raise Exit(code)


@machine_command(
    "ssh",
    "[NAME] [COMMAND] [ARG...]",
    "Log into or run a command on a machine with SSH",
    count=(0, -1),
    interspersed=False,
)
def ssh(cli: Session, flags: Flags, args: Args) -> None:
    """A shell on the machine, or one command; its exit code is the command's."""
    known = machines(cli)
    name = args[0] if args else one((), known.store.names())
    words = args[2:] if args[1:2] == ("--",) else args[1:]
    _become(known.load(name).driver.shell(words, terminal=sys.stdin.isatty()))


def _place(known: Machines, text: str) -> tuple[str, str]:
    """Machine and path of ``[USER@]NAME:PATH``; a path alone is on this host."""
    before, separator, path = text.partition(":")
    if not separator or "/" in before:
        return "", text
    name = before.rpartition("@")[2]
    known.store.load(name)
    return name, path or "."


@machine_command(
    "scp",
    "[OPTIONS] [[USER@]MACHINE:][PATH] [[USER@]MACHINE:][PATH]",
    "Copy files between machines",
    flags=[
        switch("r,recursive", "Copy files recursively (required to copy directories)"),
        switch("d,delta", "Accepted for compatibility: whole files are sent"),
        switch("q,quiet", "Disables the progress meter as well as warning and diagnostic messages from ssh"),
    ],
    count=(2, 2),
)
def scp(cli: Session, flags: Flags, args: Args) -> None:
    """Between this host and a machine, or two machines by way of this host."""
    known = machines(cli)
    (from_, source), (to, target) = (_place(known, text) for text in args)
    options = [*(["-r"] if flags["recursive"] else []), *(["-q"] if flags["quiet"] else [])]
    if not from_ and not to:
        raise CliError("Error: at least one of the two places must be on a machine (MACHINE:PATH)")
    if not from_:
        _become(known.load(to).driver.copy_command([*options, source, f":{target}"]))
    if not to:
        _become(known.load(from_).driver.copy_command([*options, f":{source}", target]))
    with tempfile.TemporaryDirectory(prefix="enxame-scp-") as between:
        _run(known.load(from_).driver.copy_command([*options, f":{source}", between]))
        here = os.path.join(between, os.path.basename(source.rstrip("/")))
        _run(known.load(to).driver.copy_command([*options, here, f":{target}"]))


@machine_command(
    "mount",
    "[OPTIONS] MACHINE:[PATH] [MOUNTPOINT]",
    "Mount or unmount a directory from a machine with SSHFS",
    flags=[switch("u,unmount", "Unmount instead of mount")],
    count=(1, 2),
)
def mount(cli: Session, flags: Flags, args: Args) -> None:
    """With ``sshfs``."""
    known = machines(cli)
    name, path = _place(known, args[0] if ":" in args[0] else f"{args[0]}:")
    where = args[1] if len(args) > 1 else path
    if flags["unmount"]:
        _become(["fusermount", "-u", where])
    _become(known.load(name).driver.mount_command(path, where))
