"""``enxame attach``."""

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.container.joined import ExitWatch, check_terminal, join_streams, open_attach
from enxame.cli.errors import CliError, Exit
from enxame.cli.flags import switch, text
from enxame.cli.session import Session


@command(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    flags=[
        text("detach-keys", "Override the key sequence for detaching a container"),
        switch("no-stdin", "Do not attach STDIN"),
        switch("sig-proxy", "Proxy all received signals to the process", default=True),
    ],
    count=(1, 1),
    completes="running",
)
def command_(cli: Session, flags: Flags, args: Args) -> None:
    """Joins this terminal with a container until it ends or is detached from."""
    container = cli.client.get(f"/containers/{quoted(args[0])}/json")
    state = container["State"]
    if not state.get("Running"):
        raise CliError("cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise CliError("cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise CliError("cannot attach to a restarting container, wait until it is running")
    tty = bool(container["Config"].get("Tty"))
    stdin = bool(container["Config"].get("OpenStdin")) and not flags["no-stdin"]
    check_terminal(tty=tty, stdin=stdin)
    watch = ExitWatch(cli.client, container["Id"], "not-running")
    connection = open_attach(
        cli.client, container["Id"], stdin=stdin, stdout=True, stderr=True, detach_keys=flags["detach-keys"]
    )
    detached = join_streams(
        cli,
        connection,
        container["Id"],
        tty=tty,
        stdin=stdin,
        proxy=flags["sig-proxy"],
        detach_keys=flags["detach-keys"],
    )
    if detached:
        watch.close()
        cli.warn("read escape sequence")
        return
    code = watch.code()
    if code:
        raise Exit(code)
