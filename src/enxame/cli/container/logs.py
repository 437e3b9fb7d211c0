"""``enxame logs``."""

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError
from enxame.cli.flags import switch, text
from enxame.cli.session import Session


@command(
    "logs",
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    flags=[
        switch("details", "Show extra details provided to logs"),
        switch("f,follow", "Follow log output"),
        text(
            "since", 'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'
        ),
        text("n,tail", "Number of lines to show from the end of the logs", default="all"),
        switch("t,timestamps", "Show timestamps"),
        text(
            "until",
            'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
        ),
    ],
    count=(1, 1),
    completes="container",
)
def logs(cli: Session, flags: Flags, args: Args) -> None:
    """Prints (and follows) a container's output."""
    from enxame.cli.multiplexed import copy_frames, copy_raw
    from enxame.cli.timestamps import query_timestamp

    container = cli.client.get(f"/containers/{quoted(args[0])}/json")
    try:
        since, until = query_timestamp(flags["since"]), query_timestamp(flags["until"])
    except ValueError as problem:
        raise CliError(str(problem)) from None
    query = {
        "stdout": True,
        "stderr": True,
        "follow": flags["follow"],
        "timestamps": flags["timestamps"],
        "details": flags["details"],
        "since": since or None,
        "until": until or None,
        "tail": flags["tail"],
    }
    with cli.client.stream("GET", f"/containers/{container['Id']}/logs", query) as stream:
        if container["Config"].get("Tty"):
            copy_raw(stream, cli.out)
        else:
            copy_frames(stream, cli.out, cli.err)
