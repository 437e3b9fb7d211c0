"""``stop``, ``restart``, ``kill``, ``rm``, ``pause``, ``unpause``, ``rename``, ``wait``: a call for each container."""

from collections.abc import Mapping
from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.each import each
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import switch, text, value
from enxame.cli.options.numbers import parse_int
from enxame.cli.session import Session

_SIGNAL = text("s,signal", "Signal to send to the container")


def _post(cli: Session, name: str, verb: str, query: Mapping[str, Any] | None = None) -> Any:
    return cli.client.post(f"/containers/{quoted(name)}/{verb}", query=query)


def _stop_query(flags: Flags) -> dict[str, Any]:
    return {"signal": flags["signal"] or None, "t": flags["time"] if flags.changed("time", "timeout") else None}


def _stop_flags(what: str) -> list[Any]:
    return [_SIGNAL, value("t,time,timeout", "int", parse_int, f"Seconds to wait before killing the container{what}")]


@command(
    "stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
    flags=_stop_flags(""),
    count=(1, -1),
    completes="running",
)
def stop(cli: Session, flags: Flags, args: Args) -> None:
    """Ends containers: a signal, then a kill."""
    each(cli, args, lambda name: _post(cli, name, "stop", _stop_query(flags)))


@command(
    "restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    flags=_stop_flags(""),
    count=(1, -1),
    completes="container",
)
def restart(cli: Session, flags: Flags, args: Args) -> None:
    """Stops and starts containers."""
    each(cli, args, lambda name: _post(cli, name, "restart", _stop_query(flags)))


@command(
    "kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    flags=[_SIGNAL],
    count=(1, -1),
    completes="running",
)
def kill(cli: Session, flags: Flags, args: Args) -> None:
    """Sends a signal."""
    each(cli, args, lambda name: _post(cli, name, "kill", {"signal": flags["signal"] or None}))


@command(
    "pause",
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    count=(1, -1),
    completes="running",
)
def pause(cli: Session, flags: Flags, args: Args) -> None:
    """Freezes containers."""
    each(cli, args, lambda name: _post(cli, name, "pause"))


@command(
    "unpause",
    "CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    count=(1, -1),
    completes="running",
)
def unpause(cli: Session, flags: Flags, args: Args) -> None:
    """Thaws containers."""
    each(cli, args, lambda name: _post(cli, name, "unpause"))


@command("rename", "CONTAINER NEW_NAME", "Rename a container", count=(2, 2), completes="container")
def rename(cli: Session, flags: Flags, args: Args) -> None:
    """Gives a container another name."""
    old, new = (name.strip() for name in args)
    if not old or not new:
        raise CliError("Error: Neither old nor new names may be empty")
    _post(cli, old, "rename", {"name": new})


@command(
    "rm",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    flags=[
        switch("f,force", "Force the removal of a running container (uses SIGKILL)"),
        switch("l,link", "Remove the specified link"),
        switch("v,volumes", "Remove anonymous volumes associated with the container"),
    ],
    count=(1, -1),
    aliases=("remove",),
    completes="container",
)
def rm(cli: Session, flags: Flags, args: Args) -> None:
    """Removes containers."""
    query = {"force": flags["force"], "link": flags["link"], "v": flags["volumes"]}

    def remove(name: str) -> None:
        if not name.strip("/"):
            raise CliError("Container name cannot be empty")
        cli.client.delete(f"/containers/{quoted(name.strip('/'))}", query)

    each(cli, args, remove)


@command(
    "wait",
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    count=(1, -1),
    completes="running",
)
def wait(cli: Session, flags: Flags, args: Args) -> None:
    """Prints exit codes."""
    problems = []
    for name in args:
        try:
            answer = _post(cli, name, "wait")
        except DaemonError as problem:
            problems.append(problem.message)
            continue
        if (answer.get("Error") or {}).get("Message"):
            problems.append(answer["Error"]["Message"])
        else:
            cli.say(str(answer["StatusCode"]))
            cli.out.flush()
    if problems:
        raise CliError("\n".join(problems))
