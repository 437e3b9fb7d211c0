"""``enxame start``."""

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.container.joined import ExitWatch, check_terminal, join_streams, open_attach
from enxame.cli.errors import CliError, DaemonError, Exit
from enxame.cli.flags import switch, text
from enxame.cli.session import Session


@command(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    flags=[
        switch("a,attach", "Attach STDOUT/STDERR and forward signals"),
        text("detach-keys", "Override the key sequence for detaching a container"),
        switch("i,interactive", "Attach container's STDIN"),
    ],
    count=(1, -1),
    completes="stopped",
)
def start(cli: Session, flags: Flags, args: Args) -> None:
    """Starts containers; with -a or -i one, joined with this terminal."""
    if flags["attach"] or flags["interactive"]:
        if len(args) > 1:
            raise CliError("you cannot start and attach multiple containers at once")
        _start_attached(cli, flags, args[0])
        return
    problems = []
    for name in args:
        try:
            cli.client.post(f"/containers/{quoted(name)}/start")
            cli.say(name)
        except DaemonError as problem:
            problems.append(problem)
    for found in problems:
        cli.warn(found.message)
    if problems:
        raise CliError(
            f"Error: failed to start containers: {', '.join(n for n in args)}"
            if len(problems) == len(args)
            else "Error: failed to start some containers"
        )


def _start_attached(cli: Session, flags: Flags, name: str) -> None:
    container = cli.client.get(f"/containers/{quoted(name)}/json")
    tty = bool(container["Config"].get("Tty"))
    stdin = flags["interactive"] and bool(container["Config"].get("OpenStdin"))
    check_terminal(tty=tty, stdin=stdin)
    connection = open_attach(
        cli.client, container["Id"], stdin=stdin, stdout=True, stderr=True, detach_keys=flags["detach-keys"]
    )
    removed = bool(container["HostConfig"].get("AutoRemove"))
    watch = ExitWatch(cli.client, container["Id"], "removed" if removed else "next-exit")
    try:
        cli.client.post(f"/containers/{container['Id']}/start")
    except CliError:
        watch.close()
        connection.close()
        raise
    if join_streams(cli, connection, container["Id"], tty=tty, stdin=stdin, detach_keys=flags["detach-keys"]):
        watch.close()
        return
    code = watch.code()
    if code:
        raise Exit(code)
