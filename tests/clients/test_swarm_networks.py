"""Networks of a swarm of two machines through the stock docker command: flags, tables, refusals in Swarm's words."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from tests.clients.command import IMAGE, Command, columns, docker_programs

On = Callable[[Machine], Command]


@pytest.fixture(scope="module")
def machines(sample_archive: bytes, short_directory: Callable[[], Path]) -> Iterator[Cluster]:
    """A manager and a worker."""
    with Cluster(short_directory(), sample_archive, machines=2) as made:
        yield made


@pytest.fixture
def cluster(machines: Cluster) -> Iterator[Cluster]:
    machines.heal()
    yield machines
    for machine in machines.machines:
        for container in machine.api.get("/containers/json", all="1"):
            if "com.docker.swarm.task.id" not in container["Labels"]:
                machine.api.delete(f"/containers/{container['Id']}", force="1")
    machines.heal()
    wait_until(lambda: not _left(machines), "the networks can be removed")


def _left(cluster: Cluster) -> list[str]:
    cluster.manager.api.post("/networks/prune")
    networks = cluster.manager.api.get("/networks", filters={"scope": ["swarm"]})
    return [network["Name"] for network in networks if not network["Ingress"]]


@pytest.fixture(params=docker_programs())
def on(request: pytest.FixtureRequest, tmp_path: Path) -> On:
    """A stock docker command for a machine: ``on(machine)("node", "ls")``."""
    return lambda machine: Command(request.param, machine, tmp_path)


def inspected(docker: Command, name: str, *flags: str) -> dict:
    (network,) = json.loads(docker("network", "inspect", *flags, name))
    return network


def running(cluster: Cluster, service: str, count: int) -> list[dict]:
    return wait_until(
        lambda: len(found := cluster.running(service)) == count and found, f"{count} tasks of {service} run"
    )


def answers(machine: Machine, port: int) -> bool:
    try:
        return bool(machine.network.host.http_get(machine.network.host_address, port, timeout=2))
    except OSError:
        return False


#: Commands that are refused, and why.
REFUSED = [
    ("network create -d overlay net", "network with name net already exists"),
    ("network create -d overlay --subnet nonsense bad", "invalid subnet nonsense: invalid CIDR block notation"),
    ("network create -d overlay --subnet 10.71.3.0/24 bad", "Pool overlaps with other one on this address space"),
    ("network create -d overlay --subnet 10.98.0.0/16 bad", "overlaps with 10.98.0.0/24, which node"),
    (
        "network create -d overlay --subnet 10.72.0.0/24 --gateway 10.9.0.1 bad",
        "no matching subnet for gateway 10.9.0.1",
    ),
    ("network create -d overlay --scope local bad", "cannot downgrade network scope for overlay networks"),
    ("network create -d overlay --scope planet bad", "invalid network scope: planet"),
    ("network create -d overlay --ingress bad", r"AlreadyExists desc = ingress network \(\w+\) is already present"),
    ("network create --ingress bad", "Ingress network can only be global scope network"),
    ("network create -d overlay --opt com.docker.network.driver.mtu=many bad", "invalid value for the network option"),
    ("network create -d overlay host", "host is a pre-defined network and cannot be created"),
    ("network create -d overlay a:b", "name must be valid as a DNS name component"),
    ("network rm nosuch", "nosuch"),
    ("run --network net IMAGE", "Could not attach to network net: rpc error: code = PermissionDenied desc = network"),
    ("run --network ingress IMAGE", "network ingress not manually attachable"),
    ("service create -d --network nosuch IMAGE", "network nosuch not found|No such network: nosuch"),
    ("service create -d --network ingress IMAGE", 'Service cannot be explicitly attached to the ingress network "ing'),
    ("service create -d --network net --endpoint-mode dnsrr -p 8090:80 IMAGE", "can't be used with dnsrr mode"),
    ("service create -d -p 8090:80 -p 8090:81 IMAGE", "duplicate published ports provided"),
]


def test_networks_are_made_shown_and_removed_with_all_their_options(cluster: Cluster, on: On) -> None:
    docker = on(cluster.manager)
    made = docker("network", "create", "-d", "overlay", "--scope", "swarm", "net")
    assert re.fullmatch("[0-9a-z]{25}", made)
    options = (
        *("--attachable", "--internal", "--label", "tier=back", "--opt", "com.docker.network.driver.mtu=1400"),
        *("--subnet", "10.71.0.0/16", "--ip-range", "10.71.7.0/24", "--gateway", "10.71.0.9"),
        *("--aux-address", "router=10.71.0.10", "--opt", "com.docker.network.driver.overlay.vxlanid_list=5000"),
    )
    docker("network", "create", "-d", "overlay", *options, "full")
    full = inspected(docker, "full")
    assert full["IPAM"]["Config"] == [
        {
            "Subnet": "10.71.0.0/16",
            "IPRange": "10.71.7.0/24",
            "Gateway": "10.71.0.9",
            "AuxiliaryAddresses": {"router": "10.71.0.10"},
        }
    ]
    assert full["Options"] == {
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.driver.overlay.vxlanid_list": "5000",
    }
    assert (full["Scope"], full["Driver"], full["Labels"]) == ("swarm", "overlay", {"tier": "back"})
    assert (full["Attachable"], full["Internal"], full["Ingress"]) == (True, True, False)
    docker("network", "create", "-d", "overlay", "--ipv6", "six")
    wait_until(lambda: "fd" in json.dumps(inspected(docker, "six")["IPAM"]["Config"] or ""), "it has an IPv6 subnet")

    # As in Docker's manual; the stock client sends the subnets in any order.
    several = ("--subnet=192.168.1.0/24", "--subnet=192.170.0.0/24", "--ip-range=192.168.1.0/25")
    several += ("--gateway=192.168.1.100", "--gateway=192.170.0.100", "--aux-address=my-router=192.168.1.5")
    docker("network", "create", "-d", "overlay", *several, "--aux-address=my-nas=192.170.0.6", "several")
    assert sorted(inspected(docker, "several")["IPAM"]["Config"], key=lambda config: config["Subnet"]) == [
        {
            "Subnet": "192.168.1.0/24",
            "IPRange": "192.168.1.0/25",
            "Gateway": "192.168.1.100",
            "AuxiliaryAddresses": {"my-router": "192.168.1.5"},
        },
        {
            "Subnet": "192.170.0.0/24",
            "Gateway": "192.170.0.100",
            "AuxiliaryAddresses": {"my-nas": "192.170.0.6"},
        },
    ]
    docker("network", "rm", "several")

    rows = {row["NAME"]: row for row in columns(docker("network", "ls"))}
    assert (rows["net"]["NETWORK ID"], rows["net"]["DRIVER"], rows["net"]["SCOPE"]) == (made[:12], "overlay", "swarm")
    for condition, names in (
        ("driver=overlay", {"net", "full", "six", "ingress"}),
        ("scope=swarm", {"net", "full", "six", "ingress"}),
        ("label=tier=back", {"full"}),
        (f"id={made[:6]}", {"net"}),
        ("name=ful", {"full"}),
    ):
        assert set(docker("network", "ls", "--format", "{{.Name}}", "-f", condition).split()) == names, condition
    # A worker cannot make any, nor does it see those that it has no part in.
    worker = on(cluster.workers[0])
    assert "Cannot create a multi-host network from a worker node" in worker.refused(
        "network", "create", "-d", "overlay", "mine"
    )
    assert worker("network", "ls", "-f", "name=full", "-q") == ""

    for line, reason in REFUSED:
        said = docker.refused(*(IMAGE if word == "IMAGE" else word for word in line.split()))
        assert re.search(reason, said), f"{line}: {said}"

    # A configuration is the machine's own.
    docker("network", "create", "-d", "overlay", "--config-only", "shape")
    assert docker("network", "inspect", "-f", "{{.Scope}} {{.ConfigOnly}}", "shape") == "local true"
    docker("network", "rm", "shape")
    assert docker("network", "rm", "net", "full") == "net\nfull"
    assert docker("network", "prune", "-f").split() == ["Deleted", "Networks:", "six"]


def test_what_cannot_be_encrypted_is_refused_with_the_reason(cluster: Cluster, on: On) -> None:
    docker = on(cluster.manager)
    result = docker.result("network", "create", "-d", "overlay", "--opt", "encrypted", "secret")
    if result.code:
        assert "network secret cannot be encrypted: this machine's kernel has no ESP" in result.err
        assert docker("network", "ls", "-q", "-f", "name=secret") == ""


def test_containers_join_attachable_networks_from_any_machine(cluster: Cluster, on: On) -> None:
    docker, there = on(cluster.manager), on(cluster.workers[0])
    docker("network", "create", "-d", "overlay", "--attachable", "--subnet", "10.73.0.0/24", "tools")
    link = "02:00:00:11:22:33"
    options = ("--ip", "10.73.0.77", "--mac-address", link, "--network-alias", "store")
    docker("run", "-d", "--name", "db", "--network", "tools", *options, IMAGE)
    shown = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", "db"))["tools"]
    assert (shown["IPAddress"], shown["MacAddress"], shown["IPPrefixLen"]) == ("10.73.0.77", link, 24)
    assert link in docker("exec", "db", "ip", "link", "show", "eth0")

    # From the other machine: by address, and by each of its names.
    there("run", "-d", "--name", "app", "--network", "tools", "-p", "8099:80", IMAGE)
    wait_until(lambda: there.result("exec", "app", "ping", "-c1", "-W1", "10.73.0.77").code == 0, "it answers")
    for name in ("db", "store", "db.tools"):
        assert "10.73.0.77" in there("exec", "app", "nslookup", name)
    asking = ("exec", "db", "wget", "-qO-", f"http://{_address(there, 'app')}/cgi-bin/whoami")
    answer = wait_until(lambda: docker.result(*asking).out, "it serves")
    assert "RemoteAddr: 10.73.0.77" in answer or "RemoteAddr: [::ffff:10.73.0.77]" in answer
    wait_until(lambda: answers(cluster.workers[0], 8099), "its port answers")
    taken = there.refused("run", "--name", "late", "--network", "tools", "--ip", "10.73.0.77", IMAGE)
    assert "Could not attach to network tools: requested address 10.73.0.77 on network tools is not available" in taken
    twin = there.refused("run", "--name", "twin", "--network", "tools", "--mac-address", link, IMAGE)
    assert f"mac address {link} is already in use by container db on network tools" in twin

    # Each machine shows its own containers; a worker sees the network once it has a part in it.
    assert {item["Name"] for item in inspected(docker, "tools")["Containers"].values()} == {"db"}
    assert {item["Name"] for item in inspected(there, "tools")["Containers"].values()} == {"app"}
    assert there("network", "ls", "-q", "-f", "name=tools")
    in_use = docker.refused("network", "rm", "tools")
    assert re.search(r"network \w{25} is in use by (task|attachment) \w+|network \w{25} is in use", in_use), in_use

    # Joining and parting while it runs.
    there("run", "-d", "--name", "late2", IMAGE)
    there("network", "connect", "--alias", "l", "tools", "late2")
    assert "already exists in network tools" in there.refused("network", "connect", "tools", "late2")
    wait_until(lambda: "10.73.0." in docker.result("exec", "db", "nslookup", "l").out.rpartition("l")[2], "it is named")
    there("network", "disconnect", "tools", "late2")
    # On a network that this machine has no part in yet; and of a container that never ran.
    docker("network", "create", "-d", "overlay", "--attachable", "later")
    docker("create", "--name", "new", "--network", "later", IMAGE)
    assert re.search(
        "container [0-9a-f]{64} is not connected to network later",
        docker.refused("network", "disconnect", "later", "db"),
    )
    docker("network", "disconnect", "later", "new")
    assert "is not connected to the network later" in docker.refused("network", "disconnect", "later", "new")
    wait_until(lambda: docker.result("exec", "db", "nslookup", "l").code != 0, "it is named no more")
    assert "is not connected to" in there.refused("network", "disconnect", "tools", "late2")
    # A stopped container has its address, and its link address, again.
    docker("restart", "-t", "0", "db")
    assert link in docker("exec", "db", "ip", "link", "show", "eth0")
    wait_until(lambda: there.result("exec", "app", "ping", "-c1", "-W1", "10.73.0.77").code == 0, "it answers again")


def _address(docker: Command, container: str) -> str:
    return docker("inspect", "-f", "{{.NetworkSettings.Networks.tools.IPAddress}}", container)


def test_a_network_made_anew_under_a_removed_ones_name_is_the_one_that_is_joined(cluster: Cluster, on: On) -> None:
    docker, there = on(cluster.manager), on(cluster.workers[0])
    docker("network", "create", "-d", "overlay", "--attachable", "tools")
    # Its task takes its time to end, on the worker.
    slow = ("sh", "-c", 'trap "sleep 5; exit 0" TERM; sleep 1000 & wait')
    place = ("--network", "tools", "--constraint", "node.role==worker")
    docker("service", "create", "-d", "--name", "slow", *place, IMAGE, *slow)
    running(cluster, "slow", 1)
    docker("service", "rm", "slow")
    wait_until(lambda: docker.result("network", "rm", "tools").code == 0, "it can be removed")
    made = docker("network", "create", "-d", "overlay", "--attachable", "tools")
    there("run", "-d", "--name", "app", "--network", "tools", IMAGE)
    joined = "{{.NetworkSettings.Networks.tools.NetworkID}}"
    assert there("inspect", "-f", joined, "app") == inspected(there, "tools")["Id"] == made
    assert there("network", "ls", "-q", "-f", "name=tools") == made[:12]
    there("network", "disconnect", "tools", "app")
    there("network", "connect", "tools", "app")
    assert there("inspect", "-f", joined, "app") == made


def test_services_use_networks_and_ports_as_in_swarm(cluster: Cluster, on: On) -> None:
    docker = on(cluster.manager)
    for name in ("front", "back"):
        docker("network", "create", "-d", "overlay", name)
    docker("service", "create", "-d", "--name", "web", "--network", "name=front,alias=www", "-p", "8080:80", IMAGE)
    docker("service", "create", "-d", "--name", "db", "--network", "back", "--endpoint-mode", "dnsrr", IMAGE)
    (task,) = running(cluster, "web", 1)
    running(cluster, "db", 1)
    service = json.loads(docker("service", "inspect", "web"))[0]
    assert service["Spec"]["EndpointSpec"]["Mode"] == "vip"
    assert {vip["NetworkID"] for vip in service["Endpoint"]["VirtualIPs"]} == {
        inspected(docker, name)["Id"] for name in ("front", "ingress")
    }
    assert json.loads(docker("service", "inspect", "db"))[0]["Endpoint"] == {"Spec": {"Mode": "dnsrr"}}

    # Who is there: on a machine that has a task.
    place = next(m for m in cluster.machines if m.swarm()["NodeID"] == task["NodeID"])
    front = inspected(on(place), "front", "-v")
    assert [peer["IP"] for peer in front["Peers"]] == [place.network.host_address]
    (shown,) = front["Services"]["web"]["Tasks"]
    assert shown["EndpointIP"] == next(
        a["Addresses"][0].partition("/")[0]
        for a in task["NetworksAttachments"]
        if a["Network"]["Spec"]["Name"] == "front"
    )
    assert front["Services"]["web"]["VIP"] in {v["Addr"].partition("/")[0] for v in service["Endpoint"]["VirtualIPs"]}

    def refused(words: str, *argv: str) -> None:
        said = docker.refused("service", *argv)
        assert words in said, said

    taken = "rpc error: code = InvalidArgument desc = port '8080' is already in use by service 'web'"
    refused(taken, "create", "-d", "-p", "8080:81", IMAGE)
    refused("can't be used with dnsrr mode", "update", "-d", "--publish-add", "8081:81", "db")
    assert "is in use by" in docker.refused("network", "rm", "front")
    # The same number over another protocol is another port; host mode another place.
    moves = ("--network-add", "back", "--network-rm", "front")
    docker("service", "update", "-d", "--publish-add", "8080:53/udp", *moves, "web")
    networks = docker("service", "inspect", "-f", "{{len .Spec.TaskTemplate.Networks}}", "web")
    assert networks == "1"
    ports = docker("service", "ls", "-f", "name=web", "--format", "{{.Ports}}")
    assert set(ports.split(", ")) == {"*:8080->53/udp", "*:8080->80/tcp"}
    direct = ("--publish", "mode=host,target=80,published=8082", "--mode", "global")
    docker("service", "create", "-d", "--name", "direct", *direct, IMAGE)
    running(cluster, "direct", 2)
    for machine in cluster.machines:
        wait_until(lambda m=machine: answers(m, 8082), "its port answers")
    docker("service", "create", "-d", "--name", "second", *direct, IMAGE)
    reason = "host-mode port already in use on"
    wait_until(lambda: reason in docker("service", "ps", "--no-trunc", "second"), "it says why it waits")
    docker("service", "rm", "web", "db", "direct", "second")
    wait_until(lambda: docker.result("network", "rm", "front").code == 0, "nobody is on the network")


def test_services_resolve_names_as_they_are_told(cluster: Cluster, on: On) -> None:
    docker = on(cluster.manager)
    docker("network", "create", "-d", "overlay", "net")
    options = (
        *("--dns", "192.0.2.53", "--dns-search", "a.example", "--dns-search", "b.example"),
        *("--dns-option", "ndots:3", "--constraint", "node.role==manager"),
    )
    docker("service", "create", "-d", "--name", "inside", "--network", "net", *options, IMAGE)
    docker("service", "create", "-d", "--name", "plain", *options, IMAGE)
    for name, server in (("inside", "127.0.0.11"), ("plain", "192.0.2.53")):
        (task,) = running(cluster, name, 1)
        container = task["Status"]["ContainerStatus"]["ContainerID"]
        assert set(docker("exec", container, "cat", "/etc/resolv.conf").splitlines()) == {
            f"nameserver {server}",
            "search a.example b.example",
            "options ndots:3",
        }
    docker("service", "update", "-d", "--dns-rm", "192.0.2.53", "--dns-search-rm", "b.example", "inside")
    told = docker("service", "inspect", "-f", "{{json .Spec.TaskTemplate.ContainerSpec.DNSConfig}}", "inside")
    assert json.loads(told) == {"Search": ["a.example"], "Options": ["ndots:3"]}
    assert "nonsense" in docker.refused("service", "create", "-d", "--dns", "nonsense", IMAGE)


def test_the_meshs_network_is_replaced_by_a_user_of_the_stock_command(cluster: Cluster, on: On) -> None:
    docker = on(cluster.manager)
    docker("service", "create", "-d", "--name", "web", "-p", "8080:80", IMAGE)
    running(cluster, "web", 1)
    assert "cannot be removed because service" in docker.refused("network", "rm", "ingress", stdin="y\n")
    docker("service", "rm", "web")
    docker("network", "rm", "ingress", stdin="y\n")
    made = docker(
        *("network", "create", "-d", "overlay", "--ingress", "--subnet", "10.74.0.0/24"),
        *("--opt", "com.docker.network.driver.mtu=1300", "mesh"),
    )
    shown = inspected(docker, "mesh")
    assert (shown["Id"], shown["Ingress"]) == (made, True)
    docker("service", "create", "-d", "--name", "web", "-p", "8080:80", IMAGE)
    running(cluster, "web", 1)
    for machine in cluster.machines:
        wait_until(lambda m=machine: answers(m, 8080), "its port answers")
    docker("service", "rm", "web")
    wait_until(lambda: docker.result("network", "rm", "mesh", stdin="y\n").code == 0, "it can be removed")
    docker("network", "create", "-d", "overlay", "--ingress", "ingress")
