"""Rounds of everything that makes, changes and removes something on a network, with faults in between, after which all
machines must hold what they held before.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from random import Random
from typing import Any, Final

from enxame.testing.cluster import MANAGER_PORT, Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError, EngineClient
from enxame.testing.network_holdings import Held, differences, held
from enxame.testing.sample_image import DEFAULT_TAG

#: Pools so small that subnets and addresses which are not given back are missed soon.
SMALL_POOLS: Final = {"DefaultAddrPool": ["10.200.0.0/22"], "SubnetSize": 26}
PORT: Final = 8085
_LABEL: Final = "churn"
#: Thirteen addresses for all rounds.
_TIGHT: Final = {
    "Name": "tight",
    "Driver": "overlay",
    "Attachable": True,
    "IPAM": {"Config": [{"Subnet": "10.211.0.0/28"}]},
}
#: On it a container of each machine stays all the time, so that what is told of others comes and goes there.
_KEPT: Final = {
    "Name": "kept",
    "Driver": "overlay",
    "Attachable": True,
    "EnableIPv6": True,
    "IPAM": {"Config": [{"Subnet": "10.210.0.0/24"}]},
}


class Leaked(AssertionError):
    """What a machine holds is not what it held before; tells the differences."""


class Churn:
    """Rounds on a cluster whose machines are all in the swarm. A round's number and ``seed`` decide what it does."""

    def __init__(self, cluster: Cluster, seed: int = 1) -> None:
        self._cluster = cluster
        self._seed = seed
        self._kept: dict[Machine, str] = {}
        self._before: dict[Machine, Held] = {}
        #: How often each fault was, for who wants to tell.
        self.faults: dict[str, int] = {}

    def prepare(self) -> None:
        """Make what stays, and one round of each kind that fills pools; then note what is held."""
        for spec in (_KEPT, _TIGHT):
            self._api.post("/networks/create", spec)
        for number, machine in enumerate(self._cluster.machines):
            settings = {"IPAMConfig": {"IPv4Address": f"10.210.0.{200 + number}"}}
            self._kept[machine] = _run(machine.api, f"kept-{number}", "kept", settings)
        self.round(0)
        self._before = self._at_rest()

    def round(self, number: int) -> None:
        """Make things, change them, break something, remove all of it."""
        chance = Random(f"{self._seed}/{number}")
        network = self._network(number, chance)
        services = self._services(number, network, chance)
        with self._containers(number, chance):
            if chance.random() < 0.7:
                for name, replicas in services.items():
                    wait_until(lambda n=name, r=replicas: len(self._cluster.running(n)) >= r, f"{name} runs")  # type: ignore[misc]
                self._ask(chance)
            self._change(chance.choice(sorted(services)), network, chance)
            fault = self._fault(number, chance)
            if chance.random() < 0.5:
                fault()
                fault = _nothing
        for name in services:
            self._cluster.manager.api.delete(f"/services/{name}")
        fault()  # while they end
        for machine in self._cluster.machines:
            for container in machine.api.get("/containers/json", all="1", filters={"label": [f"{_LABEL}={number}"]}):
                machine.api.delete(f"/containers/{container['Id']}", force="1")
        wait_until(lambda: self._removed(network), f"network {number} can be removed", timeout=60)

    def expect_nothing_leaked(self, *, timeout: float = 6) -> None:
        """Wait until all machines hold what they held; Leaked tells what is different."""
        found: dict[str, dict[str, list[str]]] = {}

        def same() -> bool:
            found.clear()
            for machine, before in self._before.items():
                different = differences(before, self._held(machine))
                if different:
                    found[machine.network.hostname] = different
            return not found

        try:
            wait_until(same, "all is given back", timeout=timeout, interval=0.5)
        except TimeoutError:
            lines = [
                f"{hostname}: {kind}: {line}"
                for hostname, kinds in found.items()
                for kind, changed in kinds.items()
                for line in changed
            ]
            raise Leaked("\n".join(lines)) from None

    def clear(self) -> None:
        """Remove what was made to stay."""
        for machine, container in self._kept.items():
            machine.api.delete(f"/containers/{container}", force="1")
        for name in ("kept", "tight"):
            wait_until(lambda n=name: self._removed(n), f"network {name} can be removed")  # type: ignore[misc]

    # What there is

    @property
    def _api(self) -> EngineClient:
        return self._cluster.manager.api  # another one after each restart

    def _held(self, machine: Machine) -> Held:
        kept = held(machine, [self._kept[machine]])
        kept["tracked connections"] = frozenset(self._tracked(machine))
        tasks, services = self._api.get("/tasks"), self._api.get("/services")
        kept["swarm"] = frozenset([*(task["ID"] for task in tasks), *(service["ID"] for service in services)])
        kept["networks"] = frozenset(network["Id"] for network in machine.api.get("/networks"))
        return kept

    def _tracked(self, machine: Machine) -> Iterator[str]:
        """Connections to containers that are gone."""
        for line in machine.network.host.run("conntrack", "-L", "-o", "extended").splitlines():
            for address in re.findall(r"(?:src|dst)=(10\.2[01]\d\.\d+\.\d+)", line):
                if address not in {f"10.210.0.{number}" for number in (1, 200, 201, 202)}:
                    yield f"{address} of {re.sub(' +', ' ', line)}"

    def _at_rest(self) -> dict[Machine, Held]:
        """What all hold, once it does not change any more."""
        before: dict[Machine, Held] = {}
        for _ in range(60):
            now = {machine: self._held(machine) for machine in self._cluster.machines}
            if before and not any(differences(before[machine], now[machine]) for machine in now):
                return now
            before = now
            time.sleep(1)
        raise AssertionError("the machines do not come to rest")

    def _removed(self, network: str) -> bool:
        try:
            self._api.delete(f"/networks/{network}")
        except ApiError as error:
            return error.status == 404
        return True

    # Steps of a round

    def _network(self, number: int, chance: Random) -> str:
        spec: dict[str, Any] = {"Name": f"round-{number}", "Driver": "overlay", "Attachable": True, "Options": {}}
        if chance.random() < 0.5:
            spec["EnableIPv6"] = True
        if chance.random() < 0.5:  # what the last one had
            spec["IPAM"] = {"Config": [{"Subnet": "10.212.0.0/24"}]}
        if chance.random() < 0.5:
            spec["Options"]["com.docker.network.driver.overlay.vxlanid_list"] = "5000"
        if chance.random() < 0.2:
            spec["Internal"] = True
        return str(self._api.post("/networks/create", spec)["Id"])

    def _services(self, number: int, network: str, chance: Random) -> dict[str, int]:
        """Names, and how many tasks each has."""
        ports = [{"TargetPort": 80, "PublishedPort": PORT, "Protocol": "tcp"}]
        if chance.random() < 0.3:
            ports.append({"TargetPort": 53, "PublishedPort": PORT, "Protocol": "udp"})
        made = {f"web-{number}": chance.randint(1, 4), f"names-{number}": chance.randint(1, 3)}
        web, names = made
        labels = chance.choice([{}, {"enxame.network.affinity": "source"}, {"enxame.network.ingress": "local"}])
        self._create(web, made[web], [network, "kept", "tight"], {"Ports": ports}, labels)
        self._create(names, made[names], [network, "kept"], {"Mode": "dnsrr"}, {})
        return made

    def _create(
        self, name: str, tasks: int, networks: list[str], endpoint: dict[str, Any], labels: dict[str, str]
    ) -> None:
        on = [{"Target": network, "Aliases": ["alias"]} for network in networks]
        container = {"Image": DEFAULT_TAG, "StopGracePeriod": 2_000_000_000}
        spec = {
            "Name": name,
            "Labels": labels,
            "TaskTemplate": {"ContainerSpec": container, "Networks": on},
            "Mode": {"Replicated": {"Replicas": tasks}},
            "UpdateConfig": {"Parallelism": 2, "Monitor": 100_000_000},
            "EndpointSpec": endpoint,
        }
        self._api.post("/services/create", spec)

    @contextmanager
    def _containers(self, number: int, chance: Random) -> Iterator[None]:
        """Containers of their own come and go on two machines, while the block runs and possibly beyond."""
        machines = [(machine, chance.randrange(4)) for machine in chance.sample(self._cluster.machines, 2)]
        with ThreadPoolExecutor(len(machines)) as pool:
            going: list[Future[None]] = [pool.submit(_come_and_go, machine, number, ends) for machine, ends in machines]
            yield
        for each in going:
            each.result()

    def _ask(self, chance: Random) -> None:
        """A few connections from everywhere to everywhere: what tracks them must go with the tasks."""
        for machine in self._cluster.machines:
            for _ in range(2):
                asked = chance.choice(self._cluster.machines).network.host_address
                with suppress(OSError):  # a machine without a task of its own may refuse, another may not know yet
                    machine.network.host.http_get(asked, PORT, timeout=1)

    def _change(self, service: str, network: str, chance: Random) -> None:
        current = self._api.get(f"/services/{service}")
        spec = current["Spec"]
        what = chance.choice(["scale", "nothing runs", "anew", "one network less", "another port", "nothing"])
        if what == "scale":
            spec["Mode"]["Replicated"]["Replicas"] = chance.randint(1, 5)
        elif what == "nothing runs":
            spec["Mode"]["Replicated"]["Replicas"] = 0
        elif what == "anew":
            spec["TaskTemplate"]["ForceUpdate"] = 1
        elif what == "one network less":
            spec["TaskTemplate"]["Networks"] = [
                on for on in spec["TaskTemplate"]["Networks"] if on["Target"] != network
            ]
        elif what == "another port":
            for port in spec["EndpointSpec"].get("Ports", ()):
                port["PublishedPort"] = PORT + 1
        with suppress(ApiError):  # "update out of sequence": it changed meanwhile
            self._api.post(f"/services/{service}/update", spec, version=str(current["Version"]["Index"]))
        time.sleep(chance.random())

    # Faults

    def _fault(self, number: int, chance: Random) -> Callable[[], None]:
        """What breaks in this round."""
        machine = chance.choice(self._cluster.machines)
        worker = chance.choice(self._cluster.workers)
        faults: dict[int, tuple[str, Callable[[], None]]] = {
            3: ("daemon killed", lambda: self._kill(machine)),
            7: ("node drained", lambda: self._drain(worker)),
            13: ("cable pulled for a moment", lambda: self._cut(worker, 1)),
            17: ("node lost", lambda: self._lose(worker)),
        }
        name, fault = faults.get(number % 20, ("", _nothing))
        if name:
            self.faults[name] = self.faults.get(name, 0) + 1
        return fault

    def _kill(self, machine: Machine) -> None:
        machine.kill()
        machine.start()
        self._all_ready()

    def _drain(self, worker: Machine) -> None:
        node = worker.swarm()["NodeID"]
        self._cluster.update(node, Availability="drain")
        wait_until(lambda: not worker.task_containers(), "the machine is drained")
        self._cluster.update(node, Availability="active")

    def _cut(self, worker: Machine, seconds: float) -> None:
        worker.network.cut()
        time.sleep(seconds)
        worker.network.heal()
        self._all_ready()

    def _lose(self, worker: Machine) -> None:
        node = worker.swarm()["NodeID"]
        worker.network.cut()
        wait_until(lambda: self._cluster.states()[node] == "down", "it is down")
        worker.network.heal()
        self._all_ready()

    def _all_ready(self) -> None:
        wait_until(lambda: set(self._cluster.states().values()) == {"ready"}, "all nodes are ready")


def small_swarm(cluster: Cluster) -> None:
    """Found a swarm with few subnets and addresses on machines that are in none, and let all join."""
    cluster.manager.api.post("/swarm/init", {"ListenAddr": f"0.0.0.0:{MANAGER_PORT}", **SMALL_POOLS})
    cluster.heal()


def _nothing() -> None:
    pass


def _run(api: EngineClient, name: str, network: str, settings: dict[str, Any], **labels: str) -> str:
    body = {
        "Image": DEFAULT_TAG,
        "Labels": labels,
        "HostConfig": {"NetworkMode": network},
        "NetworkingConfig": {"EndpointsConfig": {network: settings}},
    }
    container = str(api.post("/containers/create", body, name=name)["Id"])
    api.post(f"/containers/{container}/start")
    return container


def _come_and_go(machine: Machine, number: int, ends: int) -> None:
    """A container on the round's network joins the others and parts; ``ends``: how far it gets by itself."""
    # Its daemon may be killed at any moment, and the addresses be used up.
    with suppress(ApiError, OSError), EngineClient(str(machine.socket)) as api:
        name = f"alone-{number}-{machine.network.hostname}"
        container = _run(api, name, f"round-{number}", {"Aliases": ["one"]}, **{_LABEL: str(number)})
        for network in ("kept", "tight"):
            api.post(f"/networks/{network}/connect", {"Container": container})
        if ends > 0:
            api.post("/networks/kept/disconnect", {"Container": container})
        if ends > 1:
            api.post(f"/containers/{container}/stop", t="0")
        if ends > 2:
            api.delete(f"/containers/{container}", force="1")
