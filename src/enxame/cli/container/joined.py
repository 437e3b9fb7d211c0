"""Attaching to a container: the connection, the terminal's size, signals passed on, the exit code awaited."""

import signal
from typing import Any

from enxame.cli.client import Client, Hijacked, Stream, quoted
from enxame.cli.errors import CliError, DaemonError, Unreachable
from enxame.cli.pump import Pump, Wiring
from enxame.cli.session import Session
from enxame.cli.terminal import parse_keys, window_size


def check_terminal(*, tty: bool, stdin: bool) -> None:
    """A terminal inside wants one outside. Raises CliError."""
    import sys

    if tty and stdin and not sys.stdin.isatty():
        raise CliError("the input device is not a TTY")


def open_attach(
    client: Client,
    container: str,
    *,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    detach_keys: str = "",
    logs: bool = False,
) -> Hijacked:
    """The raw connection to a container's streams."""
    query = {
        "stream": True,
        "stdin": stdin,
        "stdout": stdout,
        "stderr": stderr,
        "logs": logs,
        "detachKeys": detach_keys or None,
    }
    return client.hijack(f"/containers/{quoted(container)}/attach", query)


def join_streams(
    cli: Session,
    connection: Hijacked,
    container: str,
    *,
    tty: bool,
    stdin: bool,
    stdout: bool = True,
    stderr: bool = True,
    proxy: bool = True,
    detach_keys: str = "",
    exec_id: str = "",
) -> bool:
    """Copies until the output ends; True when the user detached. Signals and the window's size go to the container."""
    side = Client(cli.endpoint)
    side.version = cli.client.version

    def resize() -> None:
        rows, columns = window_size(1)
        if not rows or not columns:
            return
        path = f"/exec/{exec_id}/resize" if exec_id else f"/containers/{quoted(container)}/resize"
        try:
            side.post(path, query={"h": rows, "w": columns})
        except (DaemonError, Unreachable):
            # Not started yet, or over: the size is sent again when it changes.
            return

    def pass_on(number: signal.Signals) -> None:
        try:
            side.post(f"/containers/{quoted(container)}/kill", query={"signal": number.name.removeprefix("SIG")})
        except (DaemonError, Unreachable):
            return

    wiring = Wiring(
        connection,
        tty=tty,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        detach_keys=parse_keys(detach_keys),
        on_resize=resize if tty else None,
        on_signal=pass_on if proxy and not tty and not exec_id else None,
    )
    try:
        return Pump(wiring).run()
    finally:
        side.close()


class ExitWatch:
    """Waits for a container's end; made before it starts, so that even the shortest life is seen."""

    def __init__(self, client: Client, container: str, condition: str) -> None:
        self._stream: Stream = client.stream("POST", f"/containers/{quoted(container)}/wait", {"condition": condition})

    def code(self) -> int:
        """The exit code. Raises CliError."""
        with self._stream as stream:
            answer: dict[str, Any] = next(stream.messages(), {})
        problem = (answer.get("Error") or {}).get("Message")
        if problem:
            raise CliError(f"Error waiting for container: {problem}", 125)
        return int(answer.get("StatusCode", 125))

    def close(self) -> None:
        """Gives up waiting."""
        self._stream.__exit__()
