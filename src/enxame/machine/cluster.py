"""A swarm of local machines in one step: made, joined, waited for; undone when something fails."""

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from enxame.machine.driver import State
from enxame.machine.errors import MachineError
from enxame.machine.hosts import Machines, Say
from enxame.machine.local.driver import LocalDriver
from enxame.machine.local.network import LocalNetwork, Port
from enxame.machine.record import EngineOptions, check_name
from enxame.machine.store import write_file

T = TypeVar("T")

#: Seconds that one node's joining may take.
_JOIN_DEADLINE: Final = 60.0
_INTERVAL: Final = 0.05
#: Machines that are worked on at the same time.
_AT_ONCE: Final = 8


class PortMapping(msgspec.Struct, frozen=True, rename="pascal"):
    """``-p PORT:TARGET[/PROTOCOL]``: a port of this host that leads to one of every node."""

    port: int
    target: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.port}->{self.target}/{self.protocol}"


class Cluster(msgspec.Struct, frozen=True, rename="pascal"):
    """What is remembered: the names of its machines."""

    name: str
    managers: list[str]
    workers: list[str]
    ports: list[PortMapping] = []

    @property
    def machines(self) -> list[str]:
        """Managers first."""
        return [*self.managers, *self.workers]


def parse_port(text: str) -> PortMapping:
    """``8080:80``, ``8080``, ``53:53/udp``. Raises ValueError."""
    numbers, _, protocol = text.partition("/")
    host, separator, target = numbers.rpartition(":")
    host = host if separator else target
    if (protocol or "tcp") not in {"tcp", "udp"} or not (host.isdigit() and target.isdigit()):
        raise ValueError("expected HOST-PORT[:NODE-PORT][/tcp|udp]")
    if not (0 < int(host) < 65536 and 0 < int(target) < 65536):
        raise ValueError("ports are between 1 and 65535")
    return PortMapping(int(host), int(target), protocol or "tcp")


class Clusters:
    """All clusters of a store."""

    def __init__(self, machines: Machines, say: Say) -> None:
        self._machines = machines
        self._store = machines.store
        self._say = say
        self._directory = self._store.path / "clusters"

    # -- looking ------------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Sorted."""
        return sorted(file.stem for file in self._directory.glob("*.json"))

    def load(self, name: str) -> Cluster:
        """Raises MachineError when there is none of that name."""
        try:
            return msgspec.json.decode((self._directory / f"{name}.json").read_bytes(), type=Cluster)
        except FileNotFoundError:
            raise MachineError(f'no such cluster: "{name}"') from None
        except (msgspec.MsgspecError, ValueError) as problem:
            raise MachineError(f"{self._directory / name}.json: {problem}") from None

    def running(self, names: Sequence[str]) -> int:
        """How many of these machines run."""
        count = 0
        for name in names:
            with contextlib.suppress(MachineError):
                count += self._machines.load(name).driver.state() is State.RUNNING
        return count

    # -- making -------------------------------------------------------------------------------------------------------

    def create(
        self, name: str, managers: int, workers: int, ports: Sequence[PortMapping], *, rollback: bool, wait: float
    ) -> Cluster:
        """Makes machines and joins them; waits ``wait`` seconds until all are ready (0: does not)."""
        cluster = Cluster(
            name,
            [f"{name}-manager-{number}" for number in range(1, managers + 1)],
            [f"{name}-worker-{number}" for number in range(1, workers + 1)],
            list(ports),
        )
        self._check(cluster)
        with self._store.lock(f"cluster-{name}"):
            if name in self.names():
                raise MachineError(f'cluster "{name}" already exists')
            write_file(self._directory / f"{name}.json", msgspec.json.encode(cluster))
            try:
                self._make(cluster)
                self._join(cluster)
                if wait:
                    self._wait_ready(cluster, wait)
                if cluster.ports:
                    self._publish(cluster)
            except BaseException:
                if rollback:
                    self._say(f"Undoing what was made of cluster {name} (keep it with --no-rollback)...")
                    self._remove(cluster)
                raise
        return cluster

    def _check(self, cluster: Cluster) -> None:
        if not cluster.managers:
            raise MachineError("a cluster needs at least one manager")
        for name in cluster.machines:
            check_name(name)
            if self._store.exists(name):
                raise MachineError(f'Docker machine "{name}" already exists')
        for port in cluster.ports:
            kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
            with socket.socket(socket.AF_INET, kind) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    trial.bind(("0.0.0.0", port.port))
                except OSError as problem:
                    raise MachineError(f"port {port.port}/{port.protocol} of this host: {problem.strerror}") from None

    def _make(self, cluster: Cluster) -> None:
        flags = {flag.name: flag.default for flag in LocalDriver.flags}

        def make(name: str) -> None:
            self._machines.create(name, "local", flags, EngineOptions())
            self._say(f"Machine {name} is up")

        self._say(f"Making {_count(len(cluster.machines), 'machine')}...")
        _all(make, cluster.machines)

    def _join(self, cluster: Cluster) -> None:
        first = self._machines.load(cluster.managers[0])
        client, address = first.client(_JOIN_DEADLINE), first.driver.ip()
        client.call("POST", "/swarm/init", {"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": address, "Spec": {}})
        self._say(f"Swarm initialized on {first.name} ({address})")
        tokens = client.get("/swarm")["JoinTokens"]

        def join(name: str, token: str) -> None:
            machine = self._machines.load(name)
            body = {
                "ListenAddr": "0.0.0.0:2377",
                "AdvertiseAddr": machine.driver.ip(),
                "RemoteAddrs": [f"{address}:2377"],
                "JoinToken": token,
            }
            try:
                machine.client(_JOIN_DEADLINE).call("POST", "/swarm/join", body)
            except (MachineError, OSError) as problem:
                raise MachineError(f"{name} could not join: {problem}") from None
            self._say(f"{name} joined")

        for name in cluster.managers[1:]:
            join(name, tokens["Manager"])
        _all(lambda name: join(name, tokens["Worker"]), cluster.workers)

    def _wait_ready(self, cluster: Cluster, wait: float) -> None:
        client = self._machines.load(cluster.managers[0]).client()
        deadline = time.monotonic() + wait
        while True:
            nodes: list[Any] = client.get("/nodes")
            ready = {node["Description"]["Hostname"] for node in nodes if node["Status"]["State"] == "ready"}
            missing = sorted(set(cluster.machines) - ready)
            if not missing:
                return
            if time.monotonic() > deadline:
                raise MachineError(f"not ready after {wait:g} s: {', '.join(missing)}")
            time.sleep(_INTERVAL)  # the API has no wait for nodes

    def _publish(self, cluster: Cluster) -> None:
        addresses = [self._machines.load(name).driver.ip() for name in cluster.machines]
        with self._store.lock("network"):
            LocalNetwork(Path(self._store.path)).publish(
                cluster.name,
                [Port(cluster.name, port.port, port.target, port.protocol, addresses) for port in cluster.ports],
            )

    # -- living -------------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Starts all its machines, managers first."""
        cluster = self.load(name)
        _all(self._machines.start, cluster.managers)
        _all(self._machines.start, cluster.workers)

    def stop(self, name: str) -> None:
        """Stops all its machines, workers first: no manager sees them fail."""
        cluster = self.load(name)
        _all(self._machines.stop, cluster.workers)
        _all(self._machines.stop, cluster.managers)

    def remove(self, name: str) -> None:
        """Removes all its machines, and forgets it."""
        with self._store.lock(f"cluster-{name}"):
            self._remove(self.load(name))

    def _remove(self, cluster: Cluster) -> None:
        there = [name for name in cluster.machines if self._store.exists(name)]
        if cluster.ports and there:
            with self._store.lock("network"):
                LocalNetwork(self._store.path).publish(cluster.name, [])
        _all(lambda name: self._machines.remove(name, force=False), there)
        (self._directory / f"{cluster.name}.json").unlink(missing_ok=True)


def _all(verb: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """Does it to all at the same time, to the end; then raises the first problem."""
    if not names:
        return []
    with ThreadPoolExecutor(min(len(names), _AT_ONCE), "cluster") as pool:
        return [task.result() for task in [pool.submit(verb, name) for name in names]]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
