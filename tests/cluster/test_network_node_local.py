"""Networks of the swarm that every machine makes for itself from its own configuration: tasks on the machines' own
wire, and on bridges of each machine.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_address, ip_network

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.namespace import LanHost, NetworkNamespace
from enxame.testing.sample_image import DEFAULT_TAG
from tests.cluster.test_network_mesh import change, containers, who
from tests.cluster.test_network_names import ONE_A_MACHINE, Asker, run

LAN = "10.98.0.0/24"


@pytest.fixture(scope="module")
def client(machines: Cluster) -> LanHost:
    """A machine on the same wire that is none of the swarm's."""
    return machines.lan.attach()


def ranges(cluster: Cluster) -> dict[Machine, str]:
    """What each machine may give of the wire's addresses."""
    return {machine: f"10.98.0.{32 * number}/27" for number, machine in enumerate(cluster.machines, 2)}


def configure(machine: Machine, name: str, config: dict[str, str], **options: str) -> None:
    body = {"Name": name, "ConfigOnly": True, "IPAM": {"Config": [config]}, "Options": options}
    machine.api.post("/networks/create", body)


@pytest.fixture
def tidy(cluster: Cluster) -> Iterator[None]:
    """Nothing of these networks, nor of who is on them, is left; the last task of a network takes it along."""
    yield
    for machine in cluster.machines:
        for container in machine.api.get("/containers/json", all="1", filters={"label": ["alone"]}):
            machine.api.delete(f"/containers/{container['Id']}", force="1")
    api = cluster.manager.api  # the test may have restarted the manager
    for service in api.get("/services"):
        api.delete(f"/services/{service['ID']}")
    wait_until(lambda: not any(networks(worker, "swarm") for worker in cluster.workers), "no network is left")
    for machine in cluster.machines:
        for network in machine.api.get("/networks", filters={"type": ["custom"]}):
            if network["Driver"] != "overlay":
                wait_until(lambda m=machine, n=network: removed(m, n["Id"]), f"{network['Name']} can be removed")
        assert "macvlan" not in machine.network.host.ip("-d", "link")


def networks(machine: Machine, scope: str) -> set[str]:
    """Those that the machine has beside the mesh's."""
    found = machine.api.get("/networks", filters={"scope": [scope], "type": ["custom"]})
    return {network["Name"] for network in found} - {"ingress"}


def removed(machine: Machine, network: str) -> bool:
    with suppress(ApiError):
        machine.api.delete(f"/networks/{network}")
        return True
    return False


def swarm_network(cluster: Cluster, name: str, driver: str, config: str) -> str:
    body = {"Name": name, "Driver": driver, "Scope": "swarm", "Attachable": True, "ConfigFrom": {"Network": config}}
    return str(cluster.manager.api.post("/networks/create", body)["Id"])


def places(cluster: Cluster, service: str, network: str) -> dict[str, str]:
    """Addresses of a service's tasks on a network, as their nodes gave them, by short id of the container."""
    found = {}
    for task in cluster.running(service):
        container = task["Status"]["ContainerStatus"]
        (address,) = container["Addresses"][network]
        found[container["ContainerID"][:12]] = address.partition("/")[0]
    return found


def named(asker: Asker, name: str, addresses: list[str]) -> None:
    wait_until(lambda: asker.resolve(name) == (0, sorted(addresses)), f"{name} leads to {addresses}")


@pytest.mark.usefixtures("tidy")
def test_tasks_of_several_machines_are_on_their_wire(cluster: Cluster, client: LanHost) -> None:
    own = ranges(cluster)
    for machine, range_ in own.items():
        config = {"Subnet": LAN, "IPRange": range_, "Gateway": "10.98.0.254"}
        configure(machine, "plan", config, parent="eth0")
    wire = swarm_network(cluster, "wire", "macvlan", "plan")
    template = {**ONE_A_MACHINE, "Networks": [{"Target": wire, "Aliases": ["front"]}]}
    endpoint = {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]}
    service = cluster.create_service("web", 3, EndpointSpec=endpoint, TaskTemplate=template)
    assert {"NetworkID": wire} in cluster.manager.api.get(f"/services/{service}")["Endpoint"]["VirtualIPs"]
    web, machines = places(cluster, "web", wire), containers(cluster, "web")
    for name, machine in machines.items():
        assert ip_address(web[name]) in ip_network(own[machine])
        shown = machine.api.get("/networks/wire")
        assert (shown["Scope"], shown["Driver"], shown["ConfigFrom"]) == ("swarm", "macvlan", {"Network": "plan"})
        assert shown["IPAM"]["Config"][0]["IPRange"] == own[machine]
        assert [place["IPv4Address"] for place in shown["Containers"].values()] == [f"{web[name]}/24"]
        wait_until(lambda m=machine: len(m.api.get("/networks/wire")["Peers"]) == 3, "all machines are on it")
    with ExitStack() as stack:
        askers = {name: stack.enter_context(Asker(machine, name)) for name, machine in machines.items()}
        # Each reaches each, and so does who is on the wire and knows nothing of the swarm; all see who asks.
        for name, address in web.items():
            for asker in (*askers.values(), client.host):
                wait_until(lambda a=asker, to=address, n=name: answers(a, to) == n, f"{name} answers")
        for asker in askers.values():
            for alias in ("web", "tasks.web", "front"):
                named(asker, alias, list(web.values()))
        for machine in cluster.machines:
            assert who(client.host, machine.network.host_address)[1] == client.host_address
        # A container of its own, on a worker, and the names that others have for it.
        worker = cluster.workers[0]
        single = run(worker, "single", "wire")
        address = worker.api.get(f"/containers/{single}/json")["NetworkSettings"]["Networks"]["wire"]["IPAddress"]
        assert ip_address(address) in ip_network(own[worker])
        for asker in (*askers.values(), stack.enter_context(Asker(worker, single))):
            named(asker, "single", [address])
            named(asker, "web", list(web.values()))
        # One that is elsewhere joins it, and leaves it again.
        other = cluster.workers[1]
        settings = {"Image": DEFAULT_TAG, "Labels": {"alone": ""}}
        second = str(other.api.post("/containers/create", settings, name="second")["Id"])
        other.api.post(f"/containers/{second}/start")
        other.api.post("/networks/wire/connect", {"Container": second})
        joined = other.api.get(f"/containers/{second}/json")["NetworkSettings"]["Networks"]["wire"]["IPAddress"]
        for asker in askers.values():
            named(asker, "second", [joined])
            wait_until(lambda a=asker: answers(a, joined) == second[:12], "the second answers")
        other.api.post("/networks/wire/disconnect", {"Container": second})
        for asker in askers.values():
            wait_until(lambda a=asker: a.resolve("second")[1] == [], "the second is named no more")
        # While it is used it is not removed, and what it is made from neither.
        with pytest.raises(ApiError, match=f"network {wire} is in use by service"):
            cluster.manager.api.delete("/networks/wire")
        with pytest.raises(ApiError, match='configuration network "plan" is in use'):
            worker.api.delete("/networks/plan")
        # Without the daemon, and with the next one, everything stays where it is.
        here = next(name for name, machine in machines.items() if machine is worker)
        with cluster.patience():
            worker.kill()
            assert answers(client.host, web[here]) == here
            worker.start()
            named(askers[here], "web", list(web.values()))
            wait_until(lambda: places(cluster, "web", wire) == web, "all run where they did")
        change(cluster, service, Mode={"Replicated": {"Replicas": 2}})
        wait_until(lambda: len(cluster.running("web")) == 2, "one is gone")
        left = places(cluster, "web", wire)
        for name in left:
            named(askers[name], "web", list(left.values()))
            named(askers[name], "single", [address])


def answers(asker: NetworkNamespace, address: str, port: int = 80) -> str:
    """Who does; empty while nobody does."""
    with suppress(OSError):
        return asker.http_get(address, port, timeout=3).strip()
    return ""


@pytest.mark.usefixtures("tidy")
def test_a_bridge_of_each_machine_is_made_where_its_configuration_is(cluster: Cluster, client: LanHost) -> None:
    there, missing = cluster.workers
    configure(there, "plan", {"Subnet": "10.77.5.0/24"}, **{"com.docker.network.bridge.name": "own0"})
    own = swarm_network(cluster, "own", "bridge", "plan")
    spec = {
        "Name": "web",
        "TaskTemplate": {
            "ContainerSpec": {"Image": DEFAULT_TAG},
            "Networks": [{"Target": own}],
            "Placement": {"Constraints": ["node.role==worker"]},
            "RestartPolicy": {"Delay": 100_000_000},
        },
        "Mode": {"Global": {}},
        "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8090, "PublishMode": "host"}]},
    }
    cluster.manager.api.post("/services/create", spec)
    reason = 'configuration network "plan" does not exist'

    def rejected() -> bool:
        return any(task["Status"].get("Err") == reason for task in cluster.tasks("web"))

    wait_until(rejected, "the task is rejected with the reason")
    wait_until(lambda: len(cluster.running("web")) == 1, "the other runs")
    assert networks(missing, "swarm") == set()
    configure(missing, "plan", {"Subnet": "10.77.6.0/24"})
    wait_until(lambda: len(cluster.running("web")) == 2, "both run")
    web, machines = places(cluster, "web", own), containers(cluster, "web")
    for name, machine in machines.items():
        subnet = "10.77.5.0/24" if machine is there else "10.77.6.0/24"
        assert ip_address(web[name]) in ip_network(subnet)
        assert machine.api.get("/networks/own")["IPAM"]["Config"][0]["Subnet"] == subnet
        published = machine.network.host_address
        wait_until(lambda a=published: answers(client.host, a, 8090), "the machine's port leads somewhere")
        assert answers(client.host, published, 8090) == name, "to its own task"
        with Asker(machine, name) as asker:
            named(asker, "web", [web[name]])
            named(asker, "tasks.web", [web[name]])
            assert answers(asker, web[name]) == name
    links = json.loads(there.network.host.ip("-j", "link", "show", "type", "bridge"))
    assert "own0" in {link["ifname"] for link in links}
    assert answers(client.host, cluster.manager.network.host_address, 8090) == ""
