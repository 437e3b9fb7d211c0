"""Five machines on one switch with a daemon each, three of them managers: what the cluster scenarios work on."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.lab import DEADLINE, POLL, service_spec
from enxame.testing import sample_image
from enxame.testing.daemons import DAEMONS, Daemon, wait_until
from enxame.testing.engine_client import ApiError, EngineClient
from enxame.testing.namespace import Lan, LanHost

MACHINES = 5
MANAGERS = 3
PORT = 2377


class Machines:
    """``daemons[0]`` founded the swarm; the first three are managers. ``joins``: seconds that each worker's took."""

    def __init__(self, daemons: Sequence[Daemon], hosts: Sequence[LanHost]) -> None:
        self.daemons = daemons
        self.hosts = hosts
        #: Which machine's daemon is asked.
        self.asked = 0
        self.joins: list[float] = []
        self.manager_joins: list[float] = []

    @property
    def api(self) -> EngineClient:
        """That of the daemon that is asked."""
        return self.daemons[self.asked].api

    def form(self) -> None:
        """Make one swarm of them."""
        address = f"{self.hosts[0].host_address}:{PORT}"
        self.api.post("/swarm/init", {"ListenAddr": f"0.0.0.0:{PORT}", "AdvertiseAddr": address})
        tokens = self.api.get("/swarm")["JoinTokens"]
        for number in (*range(MANAGERS, MACHINES), *range(1, MANAGERS)):
            role = "Manager" if number < MANAGERS else "Worker"
            host = self.hosts[number]
            began = time.perf_counter()
            self.daemons[number].api.post(
                "/swarm/join",
                {
                    "ListenAddr": f"0.0.0.0:{PORT}",
                    "AdvertiseAddr": f"{host.host_address}:{PORT}",
                    "RemoteAddrs": [address],
                    "JoinToken": tokens[role],
                },
            )
            wait_until(lambda host=host: self.state(host) == "ready", "the node is ready", interval=POLL)  # type: ignore[misc]
            (self.manager_joins if role == "Manager" else self.joins).append(time.perf_counter() - began)
        wait_until(lambda: len(self.reachable()) == MANAGERS, "all managers are reachable", interval=POLL)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The list of nodes, by host name."""
        return {
            node["Description"]["Hostname"]: node for node in self.api.get("/nodes") if "Hostname" in _described(node)
        }

    def state(self, host: LanHost) -> str:
        """A node's state; "" when it is not in the list."""
        node = self.nodes().get(host.hostname)
        return str(node["Status"]["State"]) if node is not None else ""

    def reachable(self) -> list[str]:
        """Managers that take part."""
        return [
            name
            for name, node in self.nodes().items()
            if node.get("ManagerStatus", {}).get("Reachability") == "reachable"
        ]

    def leader(self) -> int:
        """Which of the machines leads."""
        names = [name for name, node in self.nodes().items() if node.get("ManagerStatus", {}).get("Leader")]
        return next(number for number, host in enumerate(self.hosts) if host.hostname in names)

    def create_service(self, name: str, replicas: int) -> str:
        """As in the other scenarios."""
        return str(self.api.post("/services/create", service_spec(name, replicas))["ID"])

    def running_elsewhere(self, service: str, than: str) -> int:
        """Tasks that run and are meant to, on other nodes than one."""
        wanted = {"service": [service], "desired-state": ["running"]}
        tasks = self.api.get("/tasks", filters=wanted)
        return sum(task["Status"]["State"] == "running" and task.get("NodeID") != than for task in tasks)

    def wait_running(self, service: str, replicas: int) -> None:
        """Until so many tasks run: the daemon counts."""

        def running() -> bool:
            found = self.api.get("/services", status="true", filters={"id": [service]})
            return bool(found) and found[0]["ServiceStatus"]["RunningTasks"] == replicas

        wait_until(running, f"{replicas} replicas run", timeout=DEADLINE, interval=POLL)

    def remove_service(self, service: str) -> None:
        """And wait until no container of it is left."""
        self.api.delete(f"/services/{service}")
        for daemon in self.daemons:
            wait_until(
                lambda daemon=daemon: not daemon.api.get("/containers/json", limit="1"),  # type: ignore[misc]
                "no container is left",
                timeout=DEADLINE,
                interval=POLL,
            )


def _described(node: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = node.get("Description", {})
    return described


def accepts_a_write(socket: Path, name: str, patience: float) -> bool:
    """Whether a manager takes a new service now."""
    client = EngineClient(str(socket), timeout=patience)
    try:
        client.post("/services/create", service_spec(name, 0))
    except (ApiError, OSError):
        return False
    finally:
        client.close()
    return True


@contextmanager
def burners(count: int) -> Iterator[None]:
    """So many processes that only compute, at the daemons' own priority."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextmanager
def machine_room(which: str) -> Iterator[Machines]:
    """Five fresh machines in one swarm; everything is removed afterwards."""
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="enxm-", dir="/var/tmp", ignore_cleanup_errors=True))
        )
        archive = directory / "sample.tar"
        sample_image.build(archive)
        lan = stack.enter_context(Lan("bench"))
        daemons, hosts = [], []
        for _ in range(MACHINES):
            host = lan.attach()
            daemon = stack.enter_context(DAEMONS[which](directory / host.hostname, host))
            daemon.api.post("/images/load", archive.read_bytes())
            daemons.append(daemon)
            hosts.append(host)
        made = Machines(daemons, hosts)
        try:
            made.form()
            yield made
        finally:
            for host in hosts:
                host.heal()
            for daemon in reversed(daemons):
                daemon.leave_no_container()
