"""Machines that are cut off from their managers: packets go on, and afterwards every table is exact."""

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.managers import Managers, ask
from enxame.testing.namespace import LanHost
from enxame.testing.sample_image import DEFAULT_TAG
from tests.cluster.network_truth import given_twice, untruths
from tests.cluster.test_network_mesh import PORT, change, known_everywhere, published
from tests.cluster.test_network_names import Asker, addresses, reached_at_last, virtual_address
from tests.cluster.test_network_overlay import address_of, run_alone

ONE_A_MACHINE = {"Placement": {"MaxReplicas": 1}}


@pytest.fixture(scope="module")
def client(machines: Cluster) -> LanHost:
    """A machine beside the swarm's."""
    return machines.lan.attach()


@contextmanager
def pings(machine: Machine, container: str, address: str) -> Iterator[None]:
    """Twenty a second, from a container to an address; none may be lost while the block runs."""
    pid = str(machine.api.get(f"/containers/{container}/json")["State"]["Pid"])
    command = ["nsenter", "-t", pid, "-n", "busybox", "ping", "-i", "0.05", address]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        lines: list[str] = []
        reading = threading.Thread(target=lambda: lines.extend(program.stdout or ()))
        reading.start()
        try:
            wait_until(lambda: any("bytes from" in line for line in lines), "the first is answered")
            yield
            seen = len(lines)
            wait_until(lambda: len(lines) > seen + 5, "they are answered still")
        finally:
            program.terminate()
            reading.join(30)
    numbers = [int(line.partition(" seq=")[2].split()[0]) for line in lines if "bytes from" in line]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "no packet is lost"


def exact(cluster: Cluster, askers: Sequence[Asker], service: str, network: str) -> None:
    """Tunnels, names and virtual addresses say what is so, on all machines."""
    wait_until(lambda: not untruths(cluster.machines), "tunnels are exact")
    assert given_twice(cluster.machines) == []
    wanted, vip = addresses(cluster, service, network), virtual_address(cluster, service, network)
    running = {task["Status"]["ContainerStatus"]["ContainerID"][:12] for task in cluster.running(service)}
    for asker in askers:
        wait_until(lambda a=asker: a.resolve(f"tasks.{service}") == (0, wanted), "the names are exact")
        assert asker.resolve(service) == (0, [vip])
        reached_at_last(asker, vip, running)


def removed(cluster: Cluster, network: str) -> bool:
    with suppress(ApiError):
        cluster.manager.api.delete(f"/networks/{network}")
        return True
    return False


@contextmanager
def attachable(cluster: Cluster, name: str) -> Iterator[str]:
    """A network that is gone from all machines in the end, with all that is on it."""
    network = str(
        cluster.manager.api.post("/networks/create", {"Name": name, "Driver": "overlay", "Attachable": True})["Id"]
    )
    yield network
    for machine in cluster.machines:
        for container in machine.api.get("/containers/json", all="1", filters={"label": ["alone"]}):
            machine.api.delete(f"/containers/{container['Id']}", force="1")
    for service in cluster.manager.api.get("/services"):
        cluster.manager.api.delete(f"/services/{service['ID']}")
    wait_until(lambda: removed(cluster, network), "the network can be removed")


@pytest.mark.parametrize("whole", [False, True], ids=["from its manager", "from everybody"])
def test_a_worker_that_is_cut_off_goes_on_and_everything_is_exact_afterwards(
    cluster: Cluster, client: LanHost, whole: bool
) -> None:
    lost, stays = cluster.workers
    with attachable(cluster, "app") as app, ExitStack() as stack:
        on = {"Networks": [{"Target": app}], **ONE_A_MACHINE}
        web = cluster.create_service("web", 3, TaskTemplate=on, EndpointSpec=published())
        cluster.create_service("old", 3, TaskTemplate=on)
        alone = {machine: run_alone(machine, f"alone-{n}", "app") for n, machine in enumerate(cluster.machines)}
        beside = run_alone(lost, "beside", "app")
        askers = {machine: stack.enter_context(Asker(machine, alone[machine])) for machine in cluster.machines}
        exact(cluster, list(askers.values()), "web", app)
        known_everywhere(cluster, client, "web")
        mine = {container[:12] for container in lost.task_containers()}
        node = lost.swarm()["NodeID"]
        with (
            pings(lost, alone[lost], address_of(lost, beside, "app")),
            pings(stays, alone[stays], address_of(cluster.manager, alone[cluster.manager], "app")),
        ):
            if whole:
                lost.network.cut()
            else:
                lost.network.cut_from(cluster.manager.network)
                # Until somebody says that it is down the two workers know each other.
                with pings(lost, alone[lost], address_of(stays, alone[stays], "app")):
                    assert cluster.states()[node] == "ready"
            wait_until(lambda: cluster.states()[node] == "down", "it is down")
            # It knows what it knew: names, virtual addresses, its own tasks behind them and behind its port.
            assert askers[lost].resolve("tasks.web")[0] == 0
            assert len(askers[lost].resolve("tasks.web")[1]) == 3
            wait_until(lambda: answering(lost) in mine, "its own task answers at its own port")
            # The others go on without it.
            change(cluster, web, Mode={"Replicated": {"Replicas": 2}})
            cluster.manager.api.delete("/services/old")
            wait_until(lambda: len(cluster.running("web")) == 2, "two run")
            new = cluster.create_service("new", 2, TaskTemplate={"Networks": [{"Target": app}]})
            assert given_twice(cluster.machines) == []
            for machine in (cluster.manager, stays):
                wait_until(lambda m=machine: len(askers[m].resolve("tasks.web")[1]) == 2, "the others know two")
                wait_until(lambda m=machine: askers[m].resolve("old")[1] == [], "what was removed has no name")
            change(cluster, new, Mode={"Replicated": {"Replicas": 4}})
            wait_until(lambda: len(cluster.running("new")) == 4, "four run")
            assert given_twice(cluster.machines) == []
            lost.network.heal()
            wait_until(lambda: set(cluster.states().values()) == {"ready"}, "it is back")
        change(cluster, web, Mode={"Replicated": {"Replicas": 3}})
        wait_until(lambda: len(cluster.running("web")) == 3, "three run")
        wait_until(lambda: tasks_are_as_told(cluster, 7), "nothing else runs")
        exact(cluster, list(askers.values()), "web", app)
        exact(cluster, list(askers.values()), "new", app)
        assert {askers[machine].resolve("old")[1] == [] for machine in cluster.machines} == {True}
        known_everywhere(cluster, client, "web")
        for machine in cluster.machines:
            address = address_of(machine, alone[machine], "app")
            for asker in askers.values():
                assert asker.resolve(alone[machine][:12]) == (0, [address])


def answering(machine: Machine) -> str:
    """Which task answers at the machine's port, for the machine itself; empty when none does."""
    with suppress(OSError):
        return machine.network.host.http_get(machine.network.host_address, PORT, timeout=1).strip()
    return ""


def tasks_are_as_told(cluster: Cluster, count: int) -> bool:
    return sum(len(machine.task_containers()) for machine in cluster.machines) == count


def test_a_leader_that_is_cut_off_with_its_networks_comes_back_to_what_is_so(several: Managers) -> None:
    leader = several.leader()
    others = several.followers_of(leader)
    body = {"Name": "app", "Driver": "overlay", "Attachable": True}
    network = str(leader.api.post("/networks/create", body)["Id"])
    template = {"ContainerSpec": {"Image": DEFAULT_TAG}, "Networks": [{"Target": network}]}

    def create(name: str, replicas: int) -> None:
        spec = {"Name": name, "TaskTemplate": template, "Mode": {"Replicated": {"Replicas": replicas}}}
        ask(others[0], "POST", "/services/create", spec)

    def running(name: str) -> list[dict]:
        found = ask(others[0], "GET", "/tasks", filters={"service": [name], "desired-state": ["running"]})
        return [task for task in found if task["Status"]["State"] == "running"]

    create("web", 8)
    create("gone", 4)
    wait_until(lambda: len(running("web")) == 8 and len(running("gone")) == 4, "all of it runs")
    one, two = (run_alone(leader, name, "app") for name in ("one", "two"))
    far = run_alone(several.workers[0], "far", "app")
    try:
        wait_until(lambda: not untruths(several.machines), "tunnels are exact")
        with ExitStack() as stack:
            asker = stack.enter_context(Asker(leader, one))
            vip = asker.resolve("web")[1]
            with pings(leader, one, address_of(leader, two, "app")):
                leader.network.cut()
                wait_until(lambda: several.leader(asked=others[0]) is not leader, "another manager leads")
                node = leader.swarm()["NodeID"]
                wait_until(
                    lambda: ask(others[0], "GET", f"/nodes/{node}")["Status"]["State"] == "down", "the node is down"
                )
                ask(others[0], "DELETE", "/services/gone")
                create("new", 4)
                wait_until(lambda: len(running("web")) == 8 and len(running("new")) == 4, "all of it runs elsewhere")
                # What the former leader knows still stands there, and what runs there still has its addresses.
                assert asker.resolve("web") == (0, vip)
                assert given_twice(several.machines) == []
                leader.network.heal()
                wait_until(several.all_reachable, "all managers are back", timeout=60)
            wait_until(lambda: set(several.states().values()) == {"ready"}, "all nodes are ready")
            count = len(running("web")) + len(running("new"))
            wait_until(lambda: tasks_are_as_told(several, count), "nothing else runs")
            wait_until(lambda: not untruths(several.machines), "tunnels are exact")
            assert given_twice(several.machines) == []
            for machine, container in ((leader, one), (several.workers[0], far)):
                asker = stack.enter_context(Asker(machine, container))
                names = asker.resolve
                for service in ("web", "new"):
                    wanted = sorted(
                        attachment["Addresses"][0].partition("/")[0]
                        for task in running(service)
                        for attachment in task["NetworksAttachments"]
                    )
                    wait_until(lambda s=service, w=wanted, n=names: n(f"tasks.{s}") == (0, w), "names are exact")
                    (address,) = names(service)[1]
                    hosts = {task["Status"]["ContainerStatus"]["ContainerID"][:12] for task in running(service)}
                    reached_at_last(asker, address, hosts)
                assert names("gone")[1] == []
                assert names("two") == (0, [address_of(leader, two, "app")])
    finally:
        several.heal_links()
        wait_until(several.all_reachable, "all managers are back", timeout=60)
        for machine, container in ((leader, one), (leader, two), (several.workers[0], far)):
            machine.api.delete(f"/containers/{container}", force="1")
        for service in ask(others[0], "GET", "/services"):
            ask(others[0], "DELETE", f"/services/{service['ID']}")

        def is_removed() -> bool:
            with suppress(ApiError):
                ask(others[0], "DELETE", f"/networks/{network}")
                return True
            return False

        wait_until(is_removed, "the network can be removed")
