"""``enxame cluster``: a swarm of machines on this host in one command."""

import os
from typing import TYPE_CHECKING

from enxame.cli.command import Args, Flags, Group
from enxame.cli.errors import CliError
from enxame.cli.flags import many, switch, value
from enxame.cli.machine.group import each, machines
from enxame.cli.machine.verb import machine_command
from enxame.cli.options.numbers import SECOND, parse_duration, parse_int
from enxame.cli.session import Session
from enxame.cli.table import Table

if TYPE_CHECKING:
    from enxame.machine.cluster import Clusters, PortMapping

group = Group(
    "cluster",
    "Manage swarms of machines on this host",
    {
        "create": "cluster:create",
        "ls": "cluster:ls",
        "rm": "cluster:rm",
        "start": "cluster:start",
        "stop": "cluster:stop",
    },
    {"list": "ls", "remove": "rm"},
)


def _clusters(cli: Session) -> "Clusters":
    from enxame.machine.cluster import Clusters
    from enxame.machine.hosts import Machines

    known = machines(cli)
    # A cluster says itself how far it is: several machines' lines at once would only confuse.
    silent = Machines(known.store, known.auth, lambda _: None)
    return Clusters(silent, known.say)


def _port(text: str) -> "PortMapping":
    from enxame.machine.cluster import parse_port

    return parse_port(text)


@machine_command(
    "create",
    "[OPTIONS] NAME",
    "Create machines on this host and make them one swarm",
    flags=[
        value("managers", "int", parse_int, "Number of managers", default=1),
        value("workers", "int", parse_int, "Number of workers", default=0),
        many("p,publish", "port", "Let a port of this host lead to one of every node (HOST-PORT:NODE-PORT)", _port),
        switch("no-rollback", "Keep what was made when something fails"),
        switch("wait", "Wait until all nodes are ready", default=True),
        value("timeout", "duration", parse_duration, "How long to wait (default 1m)", default=None),
        switch("context", "Make a context of the cluster's name, and switch to it", default=True),
    ],
    count=(1, 1),
    completes="",
)
def create(cli: Session, flags: Flags, args: Args) -> None:
    """Makes machines, joins them, waits until all are ready; undoes all of it when something fails."""
    from enxame.cli.context_store import ContextStore, check_name

    timeout = flags["timeout"] / SECOND if flags["timeout"] is not None else 60.0
    name = args[0]
    # Docker's contexts have names of two characters and more.
    with_context = flags["context"] and len(name) > 1
    if with_context:
        check_name(name)
        if ContextStore().exists(name):
            raise CliError(f'context "{name}" already exists: remove it, or use --context=false')
    known = _clusters(cli)
    cluster = known.create(
        name,
        flags["managers"],
        flags["workers"],
        flags["publish"],
        rollback=not flags["no-rollback"],
        wait=timeout if flags["wait"] else 0.0,
    )
    cli.say(f"Cluster {name} is ready: {len(cluster.managers)} manager(s), {len(cluster.workers)} worker(s).\n")
    for port in cluster.ports:
        cli.say(f"Port {port.port} of this host leads to port {port.target}/{port.protocol} of its nodes.")
    first = cluster.managers[0]
    if with_context:
        _make_context(cli, name, first)
    else:
        cli.say(f"To point your shell at it, run:\n\n    eval $(enxame machine env {first})\n")
    cli.say(f"A shell on a machine: enxame machine ssh {first}\nTo remove all of it: enxame cluster rm {name}")


def _make_context(cli: Session, name: str, manager: str) -> None:
    """A context that leads to the cluster's first manager; it is the current one from now on."""
    from enxame.cli.context_store import DEFAULT, HOST_VARIABLES, TLS_NAMES, Context, ContextStore

    store, machine = ContextStore(), machines(cli).load(manager)
    tls = {file: machine.directory / file for file in TLS_NAMES}
    store.save(Context(name, machine.driver.url(), f"Cluster of local machines, by way of {manager}", tls=tls))
    store.use(name)
    cli.say(f'Current context is now "{name}": `enxame node ls` shows it. So does the stock command:\n')
    cli.say(f"    docker --context {name} node ls\n")
    if store.current() == DEFAULT:
        variable = next(variable for variable in HOST_VARIABLES if os.environ.get(variable))
        cli.warn(f"Warning: {variable} environment variable overrides the active context.")


def _forget_context(name: str) -> None:
    """Removes what was made with the cluster; a context of that name which leads elsewhere stays."""
    from enxame.cli.context_store import ContextStore

    store = ContextStore()
    if store.exists(name) and store.load(name).description.startswith("Cluster of local machines"):
        store.remove(name)


_TABLE = Table(
    {
        "Name": lambda row: row[0].name,
        "Managers": lambda row: f"{row[1]}/{len(row[0].managers)}",
        "Workers": lambda row: f"{row[2]}/{len(row[0].workers)}",
        "Ports": lambda row: ", ".join(str(port) for port in row[0].ports),
    },
    [("Name", "NAME"), ("Managers", "MANAGERS"), ("Workers", "WORKERS"), ("Ports", "PORTS")],
    quiet="Name",
)


@machine_command(
    "ls",
    "[OPTIONS]",
    "List clusters",
    flags=[switch("q,quiet", "Only display names")],
    completes="",
)
def ls(cli: Session, flags: Flags, args: Args) -> None:
    """All clusters, with how many of their machines run."""
    known = _clusters(cli)
    found = [known.load(name) for name in known.names()]
    rows = [(cluster, known.running(cluster.managers), known.running(cluster.workers)) for cluster in found]
    _TABLE.write(cli.out, rows, quiet=flags["quiet"])


@machine_command("rm", "CLUSTER [CLUSTER...]", "Remove clusters and their machines", count=(1, -1), completes="cluster")
def rm(cli: Session, flags: Flags, args: Args) -> None:
    """Removes every machine of a cluster."""
    known = _clusters(cli)

    def remove(name: str) -> None:
        known.remove(name)
        _forget_context(name)
        cli.say(name)

    each(cli, args, remove)


@machine_command("start", "CLUSTER [CLUSTER...]", "Start the machines of clusters", count=(1, -1), completes="cluster")
def start(cli: Session, flags: Flags, args: Args) -> None:
    """Starts stopped machines."""
    known = _clusters(cli)
    each(cli, args, known.start)


@machine_command("stop", "CLUSTER [CLUSTER...]", "Stop the machines of clusters", count=(1, -1), completes="cluster")
def stop(cli: Session, flags: Flags, args: Args) -> None:
    """Stops all machines of a cluster."""
    known = _clusters(cli)
    each(cli, args, known.stop)
