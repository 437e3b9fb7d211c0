"""``enxame service logs``: lines of all tasks, each with the task it comes from."""

from typing import Any
from urllib.parse import unquote

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import switch, text
from enxame.cli.session import Session
from enxame.cli.tasks import Names

_NODE, _SERVICE, _TASK = "com.docker.swarm.node.id", "com.docker.swarm.service.id", "com.docker.swarm.task.id"


@command(
    "logs",
    "[OPTIONS] SERVICE|TASK",
    "Fetch the logs of a service or task",
    flags=[
        switch("no-resolve", "Do not map IDs to Names in output"),
        switch("no-trunc", "Do not truncate output"),
        switch("raw", "Do not neatly format logs"),
        switch("no-task-ids", "Do not include task IDs in output"),
        switch("f,follow", "Follow log output"),
        text(
            "since", 'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'
        ),
        switch("t,timestamps", "Show timestamps"),
        switch("details", "Show extra details provided to logs"),
        text("n,tail", "Number of lines to show from the end of the logs", default="all"),
    ],
    count=(1, 1),
    completes="service",
)
def logs(cli: Session, flags: Flags, args: Args) -> None:
    """Prints (and follows) logs."""
    from enxame.cli.multiplexed import copy_lines, copy_raw
    from enxame.cli.timestamps import query_timestamp

    kind, tty, width = _target(cli, args[0])
    if tty and not flags["raw"]:
        raise CliError("tty service logs only supported with --raw")
    try:
        since = query_timestamp(flags["since"])
    except ValueError as problem:
        raise CliError(str(problem)) from None
    query = {
        "stdout": True,
        "stderr": True,
        "follow": flags["follow"],
        "timestamps": flags["timestamps"],
        "details": flags["details"] or not flags["raw"],
        "since": since or None,
        "tail": flags["tail"],
    }
    with cli.client.stream("GET", f"/{kind}/{quoted(args[0])}/logs", query) as stream:
        if tty:
            copy_raw(stream, cli.out)
        elif flags["raw"]:
            copy_lines(stream, cli.out, cli.err)
        else:
            writer = _Neat(cli, flags, width)
            copy_lines(stream, cli.out, cli.err, writer.line)


def _target(cli: Session, reference: str) -> tuple[str, bool, int]:
    """("services" or "tasks", whether it has a terminal, digits of its slots)."""
    try:
        service = cli.client.get(f"/services/{quoted(reference)}", {"insertDefaults": "false"})
    except DaemonError as problem:
        if problem.status != 404:
            raise
    else:
        replicas = (service["Spec"]["Mode"].get("Replicated") or {}).get("Replicas")
        tty = bool((service["Spec"]["TaskTemplate"].get("ContainerSpec") or {}).get("TTY"))
        return "services", tty, len(str(replicas)) if replicas is not None else 1
    try:
        task = cli.client.get(f"/tasks/{quoted(reference)}")
    except DaemonError as problem:
        if problem.status != 404:
            raise
        raise CliError(f"no such task or service: {reference}") from None
    return "tasks", bool((task["Spec"].get("ContainerSpec") or {}).get("TTY")), len(str(task.get("Slot", 0)))


class _Neat:
    """Puts ``web.1.abc@host    | `` before lines."""

    def __init__(self, cli: Session, flags: Flags, width: int) -> None:
        self._cli = cli
        self._flags = flags
        self._width = width
        self._names = Names(cli.client, resolve=not flags["no-resolve"])
        self._cache: dict[tuple[str, str, str], str] = {}

    def line(self, raw: bytes) -> bytes:
        """One line of a stream, made neat. Raises CliError for lines without their context."""
        with_time = self._flags["timestamps"]
        parts = raw.split(b" ", 2 if with_time else 1)
        if len(parts) != (3 if with_time else 2):
            raise CliError(f"invalid context in log message: {raw.decode('utf-8', 'replace')}")
        stamp = parts[0] + b" " if with_time else b""
        details = _details(parts[-2].decode("utf-8", "replace"))
        try:
            key = (details.pop(_NODE), details.pop(_SERVICE), details.pop(_TASK))
        except KeyError as missing:
            raise CliError(f"missing {str(missing).split('.')[-2]} id in details: {details}") from None
        extra = b""
        if self._flags["details"]:
            extra = (",".join(sorted(f"{k}={v}" for k, v in details.items())) + " ").encode()
        return stamp + self._context(key).encode() + b"    | " + extra + parts[-1]

    def _context(self, key: tuple[str, str, str]) -> str:
        if key not in self._cache:
            node, service, task_id = key
            task: dict[str, Any] = self._cli.client.get(f"/tasks/{task_id}")
            slot = task.get("Slot", 0)
            name = f"{self._names.service(service)}.{slot}"
            if not self._flags["no-task-ids"]:
                name += f".{task['ID'] if self._flags['no-trunc'] else task['ID'][:12]}"
            self._cache[key] = f"{name}@{self._names.node(node)}{' ' * max(self._width - len(str(slot)), 0)}"
        return self._cache[key]


def _details(text_: str) -> dict[str, str]:
    return {unquote(k): unquote(v) for k, _, v in (pair.partition("=") for pair in text_.split(","))}
