"""``enxame inspect``: an object of any kind, by name or id."""

from collections.abc import Callable, Iterator
from typing import Any

from enxame.cli.client import quoted
from enxame.cli.command import Args, Flags, command
from enxame.cli.errors import CliError, DaemonError
from enxame.cli.flags import switch, text
from enxame.cli.inspecting import inspect_objects
from enxame.cli.listflags import FORMAT_HELP
from enxame.cli.session import Session

_LOCAL = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
_SWARM = {"service": "/services/{}", "task": "/tasks/{}", "node": "/nodes/{}"}
_REST = {"plugin": "/plugins/{}/json"}
_FILES = {"secret": "/secrets/{}", "config": "/configs/{}"}
_KINDS = {**_LOCAL, **_SWARM, **_REST, **_FILES}


@command(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on objects",
    flags=[
        text("f,format", FORMAT_HELP),
        switch("s,size", "Display total file sizes if the type is container"),
        text("type", "Only inspect objects of the given type"),
    ],
    count=(1, -1),
    completes="any",
)
def inspect(cli: Session, flags: Flags, args: Args) -> None:
    """Prints objects."""
    kind = flags["type"]
    if flags.changed("type") and kind not in _KINDS:
        raise CliError(f'"{kind}" is not a valid value for --type')
    fetch = _fetch_kind(cli, kind, flags) if kind else _fetch_any(cli, flags)
    inspect_objects(cli, args, fetch, flags["format"])


def _call(cli: Session, kind: str, name: str, flags: Flags) -> Any:
    query: dict[str, Any] = {}
    if kind == "container":
        query = {"size": flags["size"]}
    elif kind == "service":
        query = {"insertDefaults": "true"}
    return cli.client.get(_KINDS[kind].format(quoted(name)), query)


def _fetch_kind(cli: Session, kind: str, flags: Flags) -> Callable[[str], Any]:
    def fetch(name: str) -> Any:
        return _call(cli, kind, name, flags)

    return fetch


def _fetch_any(cli: Session, flags: Flags) -> Callable[[str], Any]:
    manager: list[bool] = []

    def kinds() -> Iterator[str]:
        yield from _LOCAL
        if not manager:
            manager.append(bool((cli.client.get("/info").get("Swarm") or {}).get("ControlAvailable")))
        if manager[0]:
            yield from _SWARM
        yield from _REST
        if manager[0]:
            yield from _FILES

    def fetch(name: str) -> Any:
        for kind in kinds():
            try:
                return _call(cli, kind, name, flags)
            except DaemonError as problem:
                if (
                    problem.status not in {404, 501}
                    and "not found" not in problem.detail
                    and "page not found" not in problem.detail
                ):
                    raise
        raise CliError(f"Error: No such object: {name}")

    return fetch
