"""The table of tasks that ``service ps``, ``node ps`` and ``stack ps`` print."""

from collections.abc import Iterable
from typing import Any

from enxame.cli.client import Client, quoted
from enxame.cli.errors import DaemonError
from enxame.cli.humanise import ago, natural_key, shorten
from enxame.cli.session import Session
from enxame.cli.table import Table
from enxame.cli.timestamps import epoch

Json = dict[str, Any]
_MAX_ERROR = 30


class Names:
    """Names of nodes and services by id, asked for once each; ids stay where nothing is to be (or can be) resolved."""

    def __init__(self, client: Client, *, resolve: bool = True) -> None:
        self._client = client
        self._resolve = resolve
        self._known: dict[tuple[str, str], str] = {}

    def node(self, identifier: str) -> str:
        """A node's name: its own, else its host's."""
        return self._name("nodes", identifier)

    def service(self, identifier: str) -> str:
        """A service's name."""
        return self._name("services", identifier)

    def _name(self, kind: str, identifier: str) -> str:
        if not identifier or not self._resolve:
            return identifier
        key = (kind, identifier)
        if key not in self._known:
            self._known[key] = self._ask(kind, identifier) or identifier
        return self._known[key]

    def _ask(self, kind: str, identifier: str) -> str:
        try:
            found = self._client.get(f"/{kind}/{quoted(identifier)}")
        except DaemonError:
            return ""
        name = found["Spec"].get("Name", "")
        return str(name or found.get("Description", {}).get("Hostname", ""))


def task_place(task: Json) -> str:
    """What follows the service's name: the slot, or the node of a global service's task."""
    return str(task.get("Slot") or task.get("NodeID", ""))


def write_tasks(
    cli: Session,
    tasks: Iterable[Json],
    *,
    template: str = "",
    quiet: bool = False,
    trunc: bool = True,
    resolve: bool = True,
    by_node: bool = False,
) -> None:
    """Prints tasks, the newest of each slot first and its predecessors indented below it."""
    names = Names(cli.client, resolve=resolve)

    def title(task: Json) -> str:
        if not resolve:
            return f"{task.get('ServiceID', '')}.{task_place(task)}"
        return f"{names.service(task.get('ServiceID', ''))}.{task_place(task)}"

    ordered = _ordered(list(tasks), names, by_node=by_node)
    earlier: set[tuple[str, int, str]] = set()
    rows = []
    for task in ordered:
        place = (
            task.get("ServiceID", ""),
            task.get("Slot", 0) or 0,
            "" if task.get("Slot") else task.get("NodeID", ""),
        )
        indent = place in earlier and not quiet and template in {"", "table"}
        earlier.add(place)
        rows.append({**task, "_name": f" \\_ {title(task)}" if indent else title(task)})
    _table(names, trunc=trunc and not quiet).write(cli.out, rows, template, quiet=quiet)


def _ordered(tasks: list[Json], names: Names, *, by_node: bool) -> list[Json]:
    tasks.sort(key=lambda t: epoch(t.get("CreatedAt", "")), reverse=True)
    if by_node:
        tasks.sort(key=lambda t: (natural_key(names.service(t.get("ServiceID", ""))), t.get("Slot", 0) or 0))
        return tasks
    tasks.sort(
        key=lambda t: (
            natural_key(names.service(t.get("ServiceID", ""))),
            t.get("Slot", 0) or 0,
            t.get("NodeID", "") if not t.get("Slot") else "",
        )
    )
    return tasks


def _image(task: Json, *, trunc: bool) -> str:
    image = str((task.get("Spec", {}).get("ContainerSpec") or {}).get("Image", ""))
    if not trunc or "@" not in image:
        return image
    name, _, digest = image.partition("@")
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}@{digest}"


def _error(task: Json, *, trunc: bool) -> str:
    problem = str(task.get("Status", {}).get("Err", ""))
    if not problem:
        return ""
    if trunc:
        problem = shorten(problem, _MAX_ERROR)
    return f'"{problem}"'


def _ports(task: Json) -> str:
    found = (task.get("Status", {}).get("PortStatus") or {}).get("Ports") or []
    return ",".join(f"*:{p.get('PublishedPort', 0)}->{p.get('TargetPort', 0)}/{p.get('Protocol', '')}" for p in found)


def _state(task: Json) -> str:
    status = task.get("Status", {})
    return f"{status.get('State', '').capitalize()} {ago(epoch(status.get('Timestamp', ''))).lower()}".strip()


def _table(names: Names, *, trunc: bool) -> Table:
    return Table(
        {
            "ID": lambda t: t["ID"][:12] if trunc else t["ID"],
            "Name": lambda t: t["_name"],
            "Image": lambda t: _image(t, trunc=trunc),
            "Node": lambda t: names.node(t.get("NodeID", "")),
            "DesiredState": lambda t: t.get("DesiredState", "").capitalize(),
            "CurrentState": _state,
            "Error": lambda t: _error(t, trunc=trunc),
            "Ports": _ports,
        },
        (
            ("ID", "ID"),
            ("Name", "NAME"),
            ("Image", "IMAGE"),
            ("Node", "NODE"),
            ("DesiredState", "DESIRED STATE"),
            ("CurrentState", "CURRENT STATE"),
            ("Error", "ERROR"),
            ("Ports", "PORTS"),
        ),
    )
