"""A swarm of real daemons on a switch of its own: one manager, and workers that join it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from enxame.testing.daemons import Enxamed, wait_until
from enxame.testing.engine_client import ApiError, EngineClient
from enxame.testing.namespace import Lan, LanHost
from enxame.testing.sample_image import DEFAULT_TAG

MANAGER_PORT = 2377
#: Longest wait for each step of healing, as slow as machines may be: what takes longer is rebuilt. Seconds.
HEALED_WITHIN = 10.0


class Machine(Enxamed):
    """A daemon on a machine of a :class:`Lan`."""

    network: LanHost

    def state(self) -> str:
        """What this node says of its membership: inactive, pending, active, error."""
        return str(self.swarm()["LocalNodeState"])

    def swarm(self) -> dict[str, Any]:
        """The ``Swarm`` block of its info."""
        answer: dict[str, Any] = self.api.get("/info")["Swarm"]
        return answer

    def task_containers(self) -> list[str]:
        """Ids of the containers of tasks that run here."""
        label = {"label": ["com.docker.swarm.task.id"]}
        return [container["Id"] for container in self.api.get("/containers/json", filters=label)]


def change_node(api: EngineClient, node_id: str, **spec: Any) -> bool:
    """Change fields of a node's spec; False when its state, and so its version, changed meanwhile."""
    node = api.get(f"/nodes/{node_id}")
    try:
        api.post(f"/nodes/{node_id}/update", {**node["Spec"], **spec}, version=str(node["Version"]["Index"]))
    except ApiError as error:
        if "out of sequence" not in error.message:
            raise
        return False
    return True


class Cluster:
    """``machines[0]`` is the manager. The daemons are started, without a swarm at first."""

    def __init__(self, directory: Path, image: bytes, machines: int = 3) -> None:
        self._image = image
        self._directory = directory
        self._stack = ExitStack()
        self.machines: list[Machine] = []
        self.lan = self._stack.enter_context(Lan("c"))
        try:
            self.machines = [self._machine() for _ in range(machines)]
            self._start()
        except BaseException:
            self._stack.close()
            raise

    def _machine(self) -> Machine:
        host = self.lan.attach()
        machine = Machine(self._directory / host.hostname, host)
        self._stack.callback(machine.close)
        return machine

    def _start_one(self, machine: Machine) -> None:
        machine.start()
        machine.api.post("/images/load", self._image)

    def _start(self) -> None:
        with ThreadPoolExecutor(len(self.machines)) as pool:
            list(pool.map(self._start_one, self.machines))

    def rebuild(self) -> None:
        """Every machine as new, on the same switch: for what cannot be healed."""
        for machine in self.machines:
            machine.network.heal()
            machine.close()
            machine.network.clear()
        for machine in self.machines:
            machine.directory.mkdir(parents=True)
        self._start()

    @property
    def manager(self) -> Machine:
        """The first machine."""
        return self.machines[0]

    @property
    def workers(self) -> Sequence[Machine]:
        """The others."""
        return self.machines[1:]

    @property
    def address(self) -> str:
        """Where the manager listens."""
        return f"{self.manager.network.host_address}:{MANAGER_PORT}"

    def heal(self) -> None:
        """Everything as at first: all links up, all daemons run, all workers in the swarm, ready and active, nobody
        else in the list, no services.
        """
        for machine in self.machines:
            machine.network.heal()
            if not machine.runs():
                machine.start()
        if self.manager.state() == "inactive":
            self.manager.api.post("/swarm/init", {"ListenAddr": f"0.0.0.0:{MANAGER_PORT}"})
        for service in self.manager.api.get("/services"):
            self.manager.api.delete(f"/services/{service['ID']}")
        for worker in self.workers:
            if worker.state() == "error":
                worker.api.post("/swarm/leave", force="1")
            if worker.state() == "inactive":
                self.join(worker)
        ours = {machine.swarm()["NodeID"] for machine in self.machines}
        for node in self.nodes().values():
            if node["ID"] not in ours:
                self.manager.api.delete(f"/nodes/{node['ID']}", force="1")
            elif node["Spec"]["Availability"] != "active" or node["Spec"]["Labels"]:
                self.update(node["ID"], Availability="active", Labels={})
        wait_until(lambda: set(self.states().values()) == {"ready"}, "all nodes are ready", timeout=HEALED_WITHIN)
        wait_until(self._idle, "no task is left", timeout=HEALED_WITHIN)

    def _idle(self) -> bool:
        return not any(machine.task_containers() for machine in self.machines)

    def token(self, role: str = "Worker") -> str:
        """The join token of a role."""
        return str(self.manager.api.get("/swarm")["JoinTokens"][role])

    def join(self, machine: Machine, **fields: Any) -> None:
        """Let a machine join as a worker. ``fields`` replace those of the request."""
        body = {"ListenAddr": f"0.0.0.0:{MANAGER_PORT}", "RemoteAddrs": [self.address], **fields}
        body.setdefault("JoinToken", self.token() if "JoinToken" not in fields else "")
        machine.api.post("/swarm/join", body)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The manager's nodes by id."""
        return {node["ID"]: node for node in self.manager.api.get("/nodes")}

    def node(self, machine: Machine) -> dict[str, Any]:
        """What the manager says of a machine in the swarm."""
        return self.nodes()[machine.swarm()["NodeID"]]

    def states(self) -> dict[str, str]:
        """States of all nodes by id."""
        return {node_id: node["Status"]["State"] for node_id, node in self.nodes().items()}

    def update(self, node_id: str, **spec: Any) -> None:
        """Change fields of a node's spec."""
        wait_until(lambda: change_node(self.manager.api, node_id, **spec), f"node {node_id} is changed")

    @contextmanager
    def patience(self, heartbeat: float = 6.0) -> Iterator[None]:
        """Nodes send heartbeats only so often (seconds; 5 would be the default, which is one) while the block runs, and
        are waited for three times as long: a daemon that a slow machine starts slowly is not given up.
        """
        self._set_heartbeat(round(heartbeat * 1e9))
        try:
            time.sleep(2)  # each node's next heartbeat, with whose answer it hears of it: nobody else is told
            yield
        finally:
            self._set_heartbeat(0)

    def _set_heartbeat(self, nanoseconds: int) -> None:
        current = self.manager.api.get("/swarm")
        spec = {**current["Spec"], "Dispatcher": {"HeartbeatPeriod": nanoseconds}}
        self.manager.api.post("/swarm/update", spec, version=str(current["Version"]["Index"]))

    def create_service(self, name: str, replicas: int, *command: str, **spec: Any) -> str:
        """A replicated service of the sample image; returns when all of it runs."""
        template = spec.pop("TaskTemplate", {})
        container = {"Image": DEFAULT_TAG, **({"Command": list(command)} if command else {})}
        body = {
            "Name": name,
            "TaskTemplate": {**template, "ContainerSpec": {**container, **template.get("ContainerSpec", {})}},
            "Mode": {"Replicated": {"Replicas": replicas}},
            **spec,
        }
        service_id = str(self.manager.api.post("/services/create", body)["ID"])
        wait_until(lambda: len(self.running(name)) == replicas, f"{replicas} tasks of {name} run")
        return service_id

    def tasks(self, service: str) -> list[dict[str, Any]]:
        """All tasks of a service."""
        tasks: list[dict[str, Any]] = self.manager.api.get("/tasks", filters={"service": [service]})
        return tasks

    def running(self, service: str) -> list[dict[str, Any]]:
        """Its tasks that run and are meant to, on nodes that are not down."""
        states = self.states()
        return [
            task
            for task in self.tasks(service)
            if task["Status"]["State"] == "running"
            and task["DesiredState"] == "running"
            and states.get(task["NodeID"]) != "down"
        ]

    def spread(self, service: str) -> Counter[str]:
        """How many of its tasks run on each node."""
        return Counter(task["NodeID"] for task in self.running(service))

    def close(self) -> None:
        """End and remove everything."""
        for machine in self.machines:
            machine.network.heal()
        try:
            self._empty()
            # Nothing runs any more: nobody has to take his leave of the others.
            for machine in self.machines:
                machine.kill()
        except (ApiError, OSError, TimeoutError):
            pass  # the daemons' own clean-up goes on
        finally:
            self._stack.close()

    def _empty(self) -> None:
        """Leave no service and no container."""
        running = [machine for machine in self.machines if machine.runs()]
        for manager in running:
            if manager.swarm()["ControlAvailable"]:
                for service in manager.api.get("/services"):
                    manager.api.delete(f"/services/{service['ID']}")
                break
        wait_until(lambda: not any(machine.task_containers() for machine in running), "no task is left", timeout=5)
        for machine in running:
            for container in machine.api.get("/containers/json", all="1"):
                machine.api.delete(f"/containers/{container['Id']}", force="1", v="1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
