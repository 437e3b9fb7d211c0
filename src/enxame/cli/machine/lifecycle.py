"""Verbs that change machines: start, stop, restart, kill, rm, provision, regenerate-certs, upgrade."""

from collections.abc import Callable

from enxame.cli.command import Args, Command, Flags
from enxame.cli.errors import Exit
from enxame.cli.flags import switch
from enxame.cli.machine.group import chosen, each, machines
from enxame.cli.machine.verb import machine_command
from enxame.cli.session import Session

_ADDRESSES = "Started machines may have new IP addresses. You may need to re-run the `enxame machine env` command."


def _simple(name: str, summary: str, method: str, afterwards: str = "") -> Command:
    @machine_command(name, "[NAME...]", summary, count=(0, -1))
    def run(cli: Session, flags: Flags, args: Args) -> None:
        known = machines(cli)
        verb: Callable[[str], None] = getattr(known, method)
        each(cli, chosen(args, known.store.names()), verb)
        if afterwards:
            cli.warn(afterwards)

    return run


start = _simple("start", "Start a machine", "start", _ADDRESSES)
stop = _simple("stop", "Stop a machine", "stop")
restart = _simple("restart", "Restart a machine", "restart", _ADDRESSES.replace("Started", "Restarted"))
kill = _simple("kill", "Kill a machine", "kill")
provision = _simple("provision", "Re-provision existing machines", "provision")
upgrade = _simple("upgrade", "Upgrade a machine to the latest version", "upgrade")


@machine_command(
    "regenerate-certs",
    "[OPTIONS] [NAME...]",
    "Regenerate TLS Certificates for a machine",
    flags=[
        switch("f,force", "Force rebuild and do not prompt"),
        switch("client-certs", "Also regenerate client certificates"),
    ],
    count=(0, -1),
)
def regenerate_certs(cli: Session, flags: Flags, args: Args) -> None:
    """New certificates; daemons start anew with them."""
    known = machines(cli)
    names = chosen(args, known.store.names())
    if not flags["force"] and not _agreed(cli, "Regenerate TLS machine certs?  Warning: this is irreversible. (y/n): "):
        return
    each(cli, names, lambda name: known.regenerate_certs(name, client=flags["client-certs"]))


@machine_command(
    "rm",
    "[OPTIONS] NAME [NAME...]",
    "Remove a machine",
    flags=[
        switch(
            "f,force",
            "Remove local configuration even if machine cannot be removed, also implies an automatic yes (`-y`)",
        ),
        switch("y", "Assumes automatic yes to proceed with remove, without prompting further user confirmation"),
    ],
    count=(1, -1),
)
def rm(cli: Session, flags: Flags, args: Args) -> None:
    """Takes machines back and forgets them."""
    known = machines(cli)
    names = list(dict.fromkeys(args))
    cli.say(f"About to remove {', '.join(names)}")
    cli.say("WARNING: This action will delete both local reference and remote instance.")
    if not (flags["force"] or flags["y"]) and not _agreed(cli, "Are you sure? (y/n): "):
        raise Exit(0)

    def remove(name: str) -> None:
        known.remove(name, force=flags["force"])
        cli.say(f"Successfully removed {name}")

    each(cli, names, remove)


def _agreed(cli: Session, question: str) -> bool:
    import sys

    cli.out.write(question)
    cli.out.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
