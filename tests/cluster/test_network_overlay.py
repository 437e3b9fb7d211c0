"""Containers on several machines on one network: packets."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.network_churn import Churn
from enxame.testing.promises import allowed
from enxame.testing.sample_image import DEFAULT_TAG
from tests.clients.command import Command


@pytest.fixture
def overlay(cluster: Cluster) -> Iterator[str]:
    """The id of a network of the test's own."""
    made = cluster.manager.api.post("/networks/create", {"Name": "ov", "Driver": "overlay", "Attachable": True})
    yield str(made["Id"])
    for machine in cluster.machines:
        for container in machine.api.get("/containers/json", all="1", filters={"label": ["alone"]}):
            machine.api.delete(f"/containers/{container['Id']}", force="1")
    for service in cluster.manager.api.get("/services"):
        cluster.manager.api.delete(f"/services/{service['ID']}")
    wait_until(lambda: not any(machine.task_containers() for machine in cluster.machines), "no task is left")
    wait_until(lambda: removed(cluster, str(made["Id"])), "the network can be removed")
    wait_until(lambda: not any(ours(machine, str(made["Id"])) for machine in cluster.machines), "it is gone everywhere")


def removed(cluster: Cluster, network: str) -> bool:
    with suppress(ApiError):
        cluster.manager.api.delete(f"/networks/{network}")
        return True
    return False


def ours(machine: Machine, network: str) -> set[str]:
    """The links of a network on a machine."""
    links = json.loads(machine.network.host.run("ip", "-j", "link"))
    return {link["ifname"] for link in links if network[:10] in link["ifname"]}


def pid(machine: Machine, container: str) -> int:
    return int(machine.api.get(f"/containers/{container}/json")["State"]["Pid"])


def busybox(machine: Machine, container: str, *argv: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    """A command inside a container's network."""
    command = ["nsenter", "-t", str(pid(machine, container)), "-n", "--", "busybox", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def reaches(machine: Machine, container: str, address: str, *, size: int = 56) -> bool:
    return busybox(machine, container, "ping", "-c", "1", "-W", "1", "-s", str(size), address).returncode == 0


class Places:
    """Where a service's tasks are: machine, container and address of each, by machine."""

    def __init__(self, cluster: Cluster, service: str, network: str) -> None:
        by_node = {machine.swarm()["NodeID"]: machine for machine in cluster.machines}
        self.all = [
            (by_node[task["NodeID"]], task["Status"]["ContainerStatus"]["ContainerID"], addresses(task, network))
            for task in cluster.running(service)
        ]

    def pairs(self) -> Iterator[tuple[Machine, str, str]]:
        """Every container with the address of every other."""
        for machine, container, _ in self.all:
            for _, other, found in self.all:
                if other != container:
                    for address in found:
                        yield machine, container, address


def addresses(task: dict, network: str) -> list[str]:
    return [
        address.partition("/")[0]
        for attachment in task["NetworksAttachments"]
        if attachment["Network"]["ID"] == network
        for address in attachment["Addresses"]
    ]


def on(network: str) -> dict:
    return {"Networks": [{"Target": network}]}


def test_containers_of_all_machines_reach_each_other(cluster: Cluster, overlay: str) -> None:
    cluster.create_service("web", 6, TaskTemplate=on(overlay))
    places = Places(cluster, "web", overlay)
    assert len(list(places.pairs())) == 30
    for machine, container, address in places.pairs():
        wait_until(lambda m=machine, c=container, a=address: reaches(m, c, a), f"{address} answers", timeout=3)
    machine, container, _ = places.all[0]
    other = next(place for place in places.all if place[0] is not machine)
    # What fits the network crosses whole; TCP too.
    assert reaches(machine, container, other[2][0], size=1422)
    fetched = busybox(machine, container, "wget", "-q", "-O", "-", f"http://{other[2][0]}/cgi-bin/whoami")
    assert f"{places.all[0][2][0]}]:" in fetched.stdout
    # A machine has the network's links only while it has something on it.
    cluster.manager.api.delete("/services/web")
    wait_until(lambda: not any(ours(machine, overlay) for machine in cluster.machines), "the links are gone")


def test_machines_without_a_task_do_not_have_the_network(cluster: Cluster, overlay: str) -> None:
    node = cluster.workers[0].swarm()["NodeID"]
    placement = {"Placement": {"Constraints": [f"node.id=={node}"]}}
    cluster.create_service("web", 1, TaskTemplate={**on(overlay), **placement})
    assert ours(cluster.workers[0], overlay)
    assert not ours(cluster.manager, overlay)
    assert not ours(cluster.workers[1], overlay)


def test_a_network_with_ipv6_carries_both_and_large_subnets_have_room(cluster: Cluster) -> None:
    body = {
        "Name": "six",
        "Driver": "overlay",
        "EnableIPv6": True,
        "IPAM": {"Config": [{"Subnet": "10.40.0.0/14", "IPRange": "10.42.7.0/24", "Gateway": "10.43.255.254"}]},
        "Options": {"com.docker.network.driver.mtu": "1400"},
    }
    network = cluster.manager.api.post("/networks/create", body)["Id"]
    cluster.create_service("web", 3, TaskTemplate=on(network))
    places = Places(cluster, "web", network)
    assert all(four.startswith("10.42.7.") and six.startswith("fd") for _, _, (four, six) in places.all)
    for machine, container, address in places.pairs():
        wait_until(lambda m=machine, c=container, a=address: reaches(m, c, a), f"{address} answers", timeout=3)
    machine, container, _ = places.all[0]
    other = next(found for there, _, found in places.all if there is not machine)
    assert reaches(machine, container, other[0], size=1372)
    shown = busybox(machine, container, "ip", "link", "show").stdout
    assert "mtu 1400" in shown
    inspected = machine.api.get(f"/networks/{network}", verbose="1")
    assert len(inspected["Peers"]) == 3
    assert {task["EndpointIP"] for task in inspected["Services"]["web"]["Tasks"]} == {
        found[0] for _, _, found in places.all
    }
    (endpoint,) = inspected["Containers"].values()
    assert endpoint["IPv6Address"] == f"{places.all[0][2][1]}/64"
    cluster.manager.api.delete("/services/web")
    wait_until(lambda: removed(cluster, network), "the network can be removed")


def test_an_internal_network_leads_to_its_members_and_nowhere_else(cluster: Cluster) -> None:
    body = {"Name": "inner", "Driver": "overlay", "Internal": True}
    network = cluster.manager.api.post("/networks/create", body)["Id"]
    cluster.create_service("web", 3, TaskTemplate=on(network))
    places = Places(cluster, "web", network)
    for machine, container, address in places.pairs():
        wait_until(lambda m=machine, c=container, a=address: reaches(m, c, a), f"{address} answers", timeout=3)
    machine, container, _ = places.all[0]
    elsewhere = next(other for other in cluster.machines if other is not machine)
    assert not reaches(machine, container, elsewhere.network.host_address)
    cluster.manager.api.delete("/services/web")
    wait_until(lambda: removed(cluster, network), "the network can be removed")


def run_alone(machine: Machine, name: str, network: str, **endpoint: object) -> str:
    """``docker run -d --network``: the container's id."""
    body = {
        "Image": DEFAULT_TAG,
        "Labels": {"alone": ""},
        "HostConfig": {"NetworkMode": network},
        "NetworkingConfig": {"EndpointsConfig": {network: endpoint}},
    }
    made = str(machine.api.post("/containers/create", body, name=name)["Id"])
    machine.api.post(f"/containers/{made}/start")
    return made


def address_of(machine: Machine, container: str, network: str = "ov") -> str:
    shown = machine.api.get(f"/containers/{container}/json")["NetworkSettings"]["Networks"]
    return str(shown[network]["IPAddress"])


def test_containers_of_their_own_are_on_attachable_networks(cluster: Cluster, overlay: str) -> None:
    cluster.create_service("web", 3, TaskTemplate=on(overlay))
    tasks = {address for _, _, found in Places(cluster, "web", overlay).all for address in found}
    one, two = cluster.manager, cluster.workers[0]
    first, second = run_alone(one, "first", "ov"), run_alone(two, "second", "ov")
    places = {first: (one, address_of(one, first)), second: (two, address_of(two, second))}
    assert len({address for _, address in places.values()} | tasks) == 5
    for container, (machine, _) in places.items():
        for address in tasks | {address for _, address in places.values()}:
            wait_until(lambda m=machine, c=container, a=address: reaches(m, c, a), f"{address} answers", timeout=3)
    with pytest.raises(ApiError, match=f"network {overlay} is in use by (task|service)"):
        one.api.delete(f"/networks/{overlay}")

    # An address of its own wish; one that somebody has is refused.
    third = run_alone(two, "third", "ov", IPAMConfig={"IPv4Address": "10.0.1.77"} if "10.0.1" in str(tasks) else None)
    mine = address_of(two, third)
    with pytest.raises(ApiError, match=r"Could not attach to network ov: requested address .* is not available"):
        run_alone(one, "fourth", "ov", IPAMConfig={"IPv4Address": mine})

    # A restarted daemon knows its container, a stopped container frees its address.
    two.kill()
    two.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all are ready")
    wait_until(lambda: reaches(one, first, places[second][1]), "it still answers")
    # So does one that was stopped in order, and nobody forgets its container meanwhile.
    two.stop()
    assert all(reaches(one, first, places[second][1]) for _ in range(5))
    two.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all are ready")
    assert reaches(one, first, places[second][1])
    two.api.post(f"/containers/{third}/stop", t="0")
    wait_until(lambda: run_alone_again(one, "fourth", mine), "its address is free")
    assert reaches(one, "fourth", places[second][1])

    # Joining and parting while they run.
    plain = run_alone(cluster.workers[1], "plain", "bridge")
    cluster.workers[1].api.post("/networks/ov/connect", {"Container": plain})
    address = address_of(cluster.workers[1], plain)
    wait_until(lambda: reaches(one, first, address), f"{address} answers", timeout=3)
    cluster.workers[1].api.post("/networks/ov/disconnect", {"Container": plain})
    wait_until(lambda: not reaches(one, first, address), "it is off")


def run_alone_again(machine: Machine, name: str, address: str) -> bool:
    """The container exists and wants an address that was taken."""
    with suppress(ApiError):
        machine.api.post(f"/containers/{name}/start")
    return (
        bool(machine.api.get(f"/containers/{name}/json")["State"]["Running"]) and address_of(machine, name) == address
    )


def test_who_may_not_attach_is_told_why(cluster: Cluster) -> None:
    cluster.manager.api.post("/networks/create", {"Name": "closed", "Driver": "overlay"})
    try:
        for machine in cluster.machines:
            with pytest.raises(
                ApiError, match="Could not attach to network closed: rpc error: code = PermissionDenied"
            ):
                run_alone(machine, "uninvited", "closed")
            with pytest.raises(ApiError, match="network absent not found"):
                run_alone(machine, "lost", "absent")
            for name in ("uninvited", "lost"):
                machine.api.delete(f"/containers/{name}", force="1")
    finally:
        cluster.manager.api.delete("/networks/closed")


def kernel_encrypts(machine: Machine) -> bool:
    """Asked by iproute2."""
    state = ["src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x999"]
    key = ["aead", "rfc4106(gcm(aes))", "0x" + "01" * 20, "128"]
    try:
        machine.network.host.ip("xfrm", "state", "add", *state, "mode", "transport", *key)
    except RuntimeError:
        return False
    machine.network.host.ip("xfrm", "state", "delete", *state)
    return True


def test_a_network_that_cannot_be_encrypted_is_not_made(cluster: Cluster) -> None:
    body = {"Name": "secret", "Driver": "overlay", "Options": {"encrypted": ""}}
    if not kernel_encrypts(cluster.manager):
        with pytest.raises(ApiError, match="network secret cannot be encrypted: this machine's kernel has no ESP"):
            cluster.manager.api.post("/networks/create", body)
        assert "secret" not in json.dumps(cluster.manager.api.get("/networks"))
        return
    network = cluster.manager.api.post("/networks/create", body)["Id"]
    cluster.create_service("web", 3, TaskTemplate=on(network))
    for machine, container, address in Places(cluster, "web", network).pairs():
        wait_until(lambda m=machine, c=container, a=address: reaches(m, c, a), f"{address} answers", timeout=3)
    cluster.manager.api.delete("/services/web")
    wait_until(lambda: removed(cluster, network), "the network can be removed")


@contextmanager
def steady_traffic(machine: Machine, container: str, address: str) -> Iterator[list[str]]:
    """Ask *address* over HTTP again and again from a container; what failed."""
    failed: list[str] = []
    asked = 0
    stop = threading.Event()
    inside, url = str(pid(machine, container)), f"http://{address}/"

    def ask() -> None:
        nonlocal asked
        while not stop.is_set():
            command = ["nsenter", "-t", inside, "-n", "timeout", "5", "busybox", "wget", "-O", "-", url]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            asked += 1
            if done.returncode:
                failed.append(f"request {asked}: {done.stderr.strip()}")
            stop.wait(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failed
    finally:
        stop.set()
        thread.join(30)
        assert asked > 10


def test_traffic_never_stops_while_daemons_are_killed_and_come_back(cluster: Cluster, overlay: str) -> None:
    with cluster.patience():
        cluster.create_service("web", 3, TaskTemplate=on(overlay))
        places = Places(cluster, "web", overlay)
        (here, client, _) = places.all[0]
        (there, _, (address, *_)) = next(place for place in places.all if place[0] is not here)
        wait_until(lambda: reaches(here, client, address), "it answers")
        with steady_traffic(here, client, address) as failed:
            for machine in dict.fromkeys((there, here, cluster.manager)):
                machine.kill()
                time.sleep(0.3)  # the traffic goes on without it
                machine.start()
                wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all are ready")
                wait_until(lambda: len(cluster.running("web")) == 3, "all run")
        assert {task["DesiredState"] for task in cluster.tasks("web")} == {"running"}, "no daemon was given up"
        assert failed == []


def test_a_lost_machines_endpoints_leave_everywhere_when_it_is_down(cluster: Cluster, overlay: str) -> None:
    cluster.create_service("web", 3, TaskTemplate=on(overlay))
    places = Places(cluster, "web", overlay)
    lost = cluster.workers[1]
    (_, _, (address, *_)) = next(place for place in places.all if place[0] is lost)
    node = lost.swarm()["NodeID"]
    alone = address_of(lost, run_alone(lost, "alone", "ov"))

    def known(machine: Machine) -> bool:
        link = f"enxt-{overlay[:10]}"
        shown = machine.network.host.run("bridge", "fdb", "show", "dev", link)
        return lost.network.host_address in shown

    wait_until(lambda: known(cluster.manager) and known(cluster.workers[0]), "all know where it is")
    lost.network.cut()
    wait_until(lambda: cluster.states()[node] == "down", "it is down")
    down = time.monotonic()
    wait_until(lambda: not known(cluster.manager) and not known(cluster.workers[0]), "its endpoints have left")
    assert time.monotonic() - down < allowed(1)
    wait_until(lambda: len(cluster.running("web")) == 3, "others took over")
    lost.network.heal()
    wait_until(lambda: cluster.states()[node] == "ready", "it is back")
    wait_until(lambda: address not in json.dumps(cluster.running("web")), "its old task has ended")
    (machine, container, _) = next(place for place in Places(cluster, "web", overlay).all if place[0] is not lost)
    wait_until(lambda: reaches(machine, container, alone), "its container of its own kept its address")
    for machine, container, found in Places(cluster, "web", overlay).pairs():
        wait_until(lambda m=machine, c=container, a=found: reaches(m, c, a), f"{found} answers", timeout=3)


def test_rounds_of_coming_and_going_leave_nothing_behind(cluster: Cluster) -> None:
    """A few rounds, in one of which a daemon is killed and in one a machine drained; ``bench/network_churn.py`` does
    five hundred.
    """
    churn = Churn(cluster)
    churn.prepare()
    try:
        for number in range(1, 8):
            churn.round(number)
        churn.expect_nothing_leaked()
    finally:
        churn.clear()
    assert sorted(churn.faults) == ["daemon killed", "node drained"]


def test_tasks_wait_for_addresses_and_say_so_until_some_are_freed(
    cluster: Cluster, docker: Callable[[Machine], Command]
) -> None:
    stock = docker(cluster.manager)
    # Six addresses: the gateway's, the service's, four tasks'.
    network = stock("network", "create", "-d", "overlay", "--attachable", "--subnet", "10.99.0.0/29", "tiny")
    stock("service", "create", "-d", "--name", "full", "--replicas", "5", "--network", "tiny", DEFAULT_TAG)

    def errors(service: str) -> list[str]:
        return stock("service", "ps", "--no-trunc", "--format", "{{.CurrentState}}|{{.Error}}", service).splitlines()

    wait_until(lambda: len(cluster.running("full")) == 4, "there are addresses for four")
    tenant = cluster.workers[0]
    with pytest.raises(ApiError, match=rf"could not find an available IP on network tiny \({network}\)"):
        run_alone(tenant, "tenant", "tiny")
    stock("service", "create", "-d", "--name", "late", "--network", "tiny", DEFAULT_TAG)
    (waiting,) = [line for line in errors("full") if not line.startswith("Running")]
    assert re.fullmatch(rf'New .*\|"could not find an available IP on network tiny \({network}\)"', waiting)
    wait_until(lambda: "VIP" in "".join(errors("late")), "it says why it waits")
    (waiting,) = errors("late")
    assert re.fullmatch(r'New .*\|"could not find an available IP while allocating VIP"', waiting)
    stock("service", "scale", "-d", "full=2")
    wait_until(lambda: len(cluster.running("late")) == 1, "it has got addresses")
    assert re.fullmatch(r"Running .*\|", errors("late")[0])
    stock("service", "rm", "full", "late")
    wait_until(lambda: starts(tenant, "tenant"), "the container has got an address")
    tenant.api.delete("/containers/tenant", force="1")
    wait_until(lambda: removed(cluster, network), "the network can be removed")


def starts(machine: Machine, name: str) -> bool:
    with suppress(ApiError):
        machine.api.post(f"/containers/{name}/start")
        return True
    return False
