"""Networks with several subnets of one version of IP: who gets which address, and who reaches whom from where."""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.namespace import LanHost, run
from tests.clients.command import IMAGE, Command
from tests.cluster.test_network_ipv6 import address_of, names_at, virtual_addresses, who
from tests.cluster.test_network_mesh import PORT, containers
from tests.cluster.test_network_names import Asker
from tests.engine.name_questions import AAAA, PTR, A

#: The first one of each version has room for one service of three tasks.
WIDE = ("192.168.1.0/29", "192.170.0.0/24", "fd00:91::/125", "fd00:92::/64")
GATEWAYS = ("192.168.1.6", "192.170.0.100", "fd00:91::1", "fd00:92::100")
ROUTER, PRINTER = "192.168.1.5", "192.170.0.1"
NOT_HERE = 3

Docker = Callable[[Machine], Command]


@pytest.fixture(scope="module")
def client(machines: Cluster) -> LanHost:
    """A machine beside the swarm's; all of them have IPv6 addresses on their switch."""
    made = machines.lan.attach()
    for host in machines.lan.hosts:
        host.host.ip("address", "add", f"{address_of(host)}/64", "dev", "eth0", "nodad")
    return made


def made(cluster: Cluster, name: str, configs: list[dict[str, Any]], **fields: object) -> str:
    """Without the stock client, which sends subnets in any order."""
    body = {"Name": name, "Driver": "overlay", "IPAM": {"Config": configs}, **fields}
    return str(cluster.manager.api.post("/networks/create", body)["Id"])


def create(*subnets: str) -> list[str]:
    return ["network", "create", "-d", "overlay", *(f"--subnet={subnet}" for subnet in subnets)]


@pytest.fixture
def wide(cluster: Cluster, docker: Docker) -> Iterator[str]:
    """The id of an attachable network of that name."""
    command = docker(cluster.manager)
    configs = [{"Subnet": subnet, "Gateway": gateway} for subnet, gateway in zip(WIDE, GATEWAYS, strict=True)]
    for config, name, address in zip(configs, ("my-router", "my-printer"), (ROUTER, PRINTER), strict=False):
        config["AuxiliaryAddresses"] = {name: address}
    network = made(cluster, "wide", configs, EnableIPv6=True, Attachable=True)
    yield network
    for service in cluster.manager.api.get("/services"):
        cluster.manager.api.delete(f"/services/{service['ID']}")
    for machine in cluster.machines:
        for container in machine.api.get("/containers/json", all="1", filters={"label": ["alone"]}):
            machine.api.delete(f"/containers/{container['Id']}", force="1")
    removed(command, "wide")


def removed(command: Command, network: str) -> None:
    wait_until(lambda: command.result("network", "rm", network, stdin="y\n").code == 0, "the network can be removed")


def one_a_machine(command: Command, name: str, *options: str) -> None:
    spread = ("--replicas", "3", "--replicas-max-per-node", "1")
    command("service", "create", "-d", "--name", name, *spread, *options, IMAGE)


def tasks_addresses(cluster: Cluster, service: str, network: str) -> list[str]:
    wait_until(lambda: len(cluster.running(service)) == 3, f"three tasks of {service} run")
    return [
        address
        for task in cluster.running(service)
        for attachment in task["NetworksAttachments"]
        if attachment["Network"]["ID"] == network
        for address in attachment["Addresses"]
    ]


def inside(addresses: list[str]) -> set[str]:
    """The subnets that addresses are of."""
    found = (ipaddress.ip_address(address.partition("/")[0]) for address in addresses)
    return {subnet for address in found for subnet in WIDE if address in ipaddress.ip_network(subnet)}


def plain(addresses: list[str], version: int) -> list[str]:
    return sorted(address.partition("/")[0] for address in addresses if (":" in address) == (version == 6))


def own(machine: Machine, container: str, network: str = "wide") -> set[str]:
    """A container's addresses on a network."""
    shown = machine.api.get(f"/containers/{container}/json")["NetworkSettings"]["Networks"][network]
    return {shown["IPAddress"], shown["GlobalIPv6Address"]}


def way(asker: Asker, address: str) -> str:
    """How a packet to an address leaves a container."""
    return asker._inside.submit(run, "ip", "route", "get", address).result(30)


def seen_by(client: LanHost, address: str, machine: Machine, container: str) -> str:
    """The address of a container that somebody outside sees who is asked at one of his own."""
    with client.host.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        server.bind((address, 0))
        server.listen()
        server.settimeout(30)
        with Asker(machine, container) as asker, asker.connect(address, server.getsockname()[1], 30):
            accepted, (seen, *_) = server.accept()
            accepted.close()
            return str(seen)


def answered_directly(asker: Asker, mine: set[str], address: str, names: set[str]) -> None:
    """All of ``names`` answer, and see the asker himself: nobody stands in between."""
    wait_until(lambda: names_at(asker, address, 80) == names, f"all answer at {address}")
    assert who(asker, address, 80)[1] in mine | {address}


def test_containers_of_different_subnets_are_on_one_network(
    cluster: Cluster, client: LanHost, docker: Docker, wide: str
) -> None:
    command = docker(cluster.manager)
    one_a_machine(command, "web", "--network", "wide")
    web = tasks_addresses(cluster, "web", wide)
    one_a_machine(command, "db", "--network", "wide")
    db = tasks_addresses(cluster, "db", wide)
    # From the first subnet with a free one, virtual addresses alike; what is reserved is nobody's.
    assert inside(web) == {WIDE[0], WIDE[2]}
    assert inside(db) == {WIDE[1], WIDE[3]}
    assert inside(virtual_addresses(cluster, "web")) == {WIDE[0], WIDE[2]}
    assert inside(virtual_addresses(cluster, "db")) == {WIDE[1], WIDE[2]}
    assert not {*plain([*web, *db], 4)} & {ROUTER, PRINTER, *GATEWAYS}

    shown = cluster.manager.api.get(f"/networks/{wide}", verbose="1")
    assert [(config["Subnet"], config["Gateway"]) for config in shown["IPAM"]["Config"]] == list(
        zip(WIDE, GATEWAYS, strict=True)
    )
    assert sorted(shown["Services"]) == ["db", "web"]
    for name, addresses in (("web", web), ("db", db)):
        service = shown["Services"][name]
        assert [service["VIP"], service["VIPv6"]] == virtual_addresses(cluster, name)
        assert sorted(task["EndpointIP"] for task in service["Tasks"]) == plain(addresses, 4)
        assert sorted(task["EndpointIPv6"] for task in service["Tasks"]) == plain(addresses, 6)
    for machine in cluster.machines:
        on_bridge = machine.network.host.ip("-br", "address", "show", "dev", f"enx-{wide[:10]}")
        assert all(f" {gateway}/" in on_bridge for gateway in GATEWAYS)

    _talk(cluster, {"web": web, "db": db})
    _containers_of_their_own(cluster, docker, {"web": web, "db": db})
    for name in ("web", "db"):
        place, machine = next(iter(containers(cluster, name).items()))
        places = {host: (host.host_address, address_of(host)) for host in (client, machine.network)}
        for there, here in zip(places[client], places[machine.network], strict=True):
            assert seen_by(client, there, machine, place) == here, "whatever subnet it comes from"

    # The next daemon finds all as it was; where it came too late for that tasks have other addresses.
    worker = cluster.workers[0]
    worker.kill()
    worker.start()
    wait_until(lambda: set(cluster.states().values()) == {"ready"}, "it is back")
    _talk(cluster, {name: tasks_addresses(cluster, name, wide) for name in ("web", "db")})


def _talk(cluster: Cluster, services: dict[str, list[str]]) -> None:
    """Every task of one service reaches the other, of other subnets, on every machine: by address and by name."""
    for asking, asked in (("web", "db"), ("db", "web")):
        places = set(containers(cluster, asked))
        vip4, vip6 = virtual_addresses(cluster, asked)
        for name, machine in containers(cluster, asking).items():
            with Asker(machine, name) as asker:
                mine = own(machine, name)
                for kind, version, vip in ((A, 4, vip4), (AAAA, 6, vip6)):
                    there = plain(services[asked], version)
                    wait_until(
                        lambda a=asker, k=kind, t=there, s=asked: a.resolve(f"tasks.{s}", k) == (0, t), "all are named"
                    )
                    assert asker.resolve(asked, kind) == (0, [vip])
                    for address in there:
                        assert " via " not in way(asker, address)
                        found = wait_until(lambda a=asker, at=address: names_at(a, at, 80), f"{address} answers")
                        assert len(found) == 1
                        assert who(asker, address, 80)[1] in mine
                    answered_directly(asker, mine, vip, places)
                    for address, answer in ((vip, f"{asked}.wide"), (there[0], rf"{asked}\.\d\..*\.wide")):
                        code, (pointer,) = asker.resolve(ipaddress.ip_address(address).reverse_pointer, PTR)
                        assert code == 0
                        assert re.fullmatch(answer, pointer)
                for nobody in ("192.168.1.7", "192.170.0.200", "fd00:91::7", "fd00:92::dead"):
                    assert asker.resolve(ipaddress.ip_address(nobody).reverse_pointer, PTR) == (NOT_HERE, [])


def _containers_of_their_own(cluster: Cluster, docker: Docker, services: dict[str, list[str]]) -> None:
    """With an address asked for, without, and on a second network, through which it does not lead out."""
    manager, worker, other = (docker(machine) for machine in cluster.machines)
    alone = ("run", "-d", "--label", "alone")
    chosen = ("--ip", "192.170.0.77", "--ip6", "fd00:92::77")
    manager(*alone, "--name", "chosen", "--network", "wide", *chosen, IMAGE)
    worker(*alone, "--name", "any", "--network", "wide", IMAGE)
    other(*alone, "--name", "both", IMAGE)
    other("network", "connect", "--ip", "192.170.0.222", "wide", "both")
    for wanted, why in (("192.170.0.77", "is not available"), ("192.168.1.6", "is not available")):
        assert why in manager.refused(*alone, "--network", "wide", "--ip", wanted, IMAGE)
    first, *rest = cluster.machines
    assert own(first, "chosen") == {"192.170.0.77", "fd00:92::77"}
    assert inside(list(own(rest[0], "any"))) <= {*WIDE[1:]}
    with ExitStack() as stack:
        askers = {
            name: stack.enter_context(Asker(machine, name))
            for name, machine in zip(("chosen", "any", "both"), cluster.machines, strict=True)
        }
        mine = {
            name: own(machine, name) for name, machine in zip(("chosen", "any", "both"), cluster.machines, strict=True)
        }
        for name, asker in askers.items():
            for service, addresses in services.items():
                for vip in virtual_addresses(cluster, service):
                    answered_directly(asker, mine[name], vip, set(containers(cluster, service)))
                for address in plain(addresses, 4) + plain(addresses, 6):
                    assert who(asker, address, 80)[1] in mine[name]
            for asked in askers.keys() - {name}:
                for address in mine[asked]:
                    wait_until(lambda a=asker, at=address: names_at(a, at, 80), f"{address} answers")
                    assert who(asker, address, 80)[1] in mine[name]
        # Tasks reach them, too, and get answers from where they asked.
        for name, machine in containers(cluster, "web").items():
            with Asker(machine, name) as task:
                for asked in askers:
                    wait_until(lambda a=task, n=asked: plain(a.resolve(n, A)[1], 4), f"{asked} is named")
                    for address in mine[asked]:
                        assert who(task, address, 80)[1] in own(machine, name)
    for stock, name in ((manager, "chosen"), (worker, "any"), (other, "both")):
        stock("rm", "-f", name)


def test_the_meshs_network_may_have_several_subnets(cluster: Cluster, client: LanHost, docker: Docker) -> None:
    command = docker(cluster.manager)
    command("network", "rm", "ingress", stdin="y\n")
    # The first one has room for the service's address and one task's.
    small = {"Subnet": "10.93.0.0/29", "IPRange": "10.93.0.2/31", "Gateway": "10.93.0.6"}
    try:
        small6 = {"Subnet": "fd00:93::/125", "IPRange": "fd00:93::2/127"}
        configs = [small, {"Subnet": "10.94.0.0/24"}, small6, {"Subnet": "fd00:94::/64"}]
        network = made(cluster, "ingress", configs, Ingress=True, EnableIPv6=True)
        one_a_machine(command, "web", "-p", f"{PORT}:80")
        found = tasks_addresses(cluster, "web", network)
        subnets = {str(ipaddress.ip_interface(address).network) for address in found}
        assert subnets == {config["Subnet"] for config in configs}
        names = set(containers(cluster, "web"))
        for machine in cluster.machines:
            for place, mine in (
                (machine.network.host_address, client.host_address),
                (address_of(machine.network), address_of(client)),
            ):
                wait_until(lambda p=place: names_at(client.host, p) == names, f"{place} leads to all tasks")
                assert {who(client.host, place)[1] for _ in range(6)} == {mine}
            assert names_at(machine.network.host, "127.0.0.1") == names
        command("service", "rm", "web")
        wait_until(lambda: not any(machine.task_containers() for machine in cluster.machines), "it is gone")
    finally:
        with suppress(AssertionError):
            command("service", "rm", "web")
        removed(command, "ingress")
        command("network", "create", "-d", "overlay", "--ingress", "--ipv6", "ingress")


def test_subnets_that_cannot_be_are_refused_with_dockers_words(cluster: Cluster, docker: Docker, wide: str) -> None:
    command = docker(cluster.manager)
    overlaps = "Pool overlaps with other one on this address space"
    two = create("10.95.0.0/24", "10.96.0.0/24")
    for argv, why in (
        (create("10.95.0.0/24", "192.170.0.128/25"), overlaps),
        ([*create("10.95.0.0/24", "fd00:92::/80"), "--ipv6"], overlaps),
        (create("10.95.0.0/24", "10.95.0.0/25"), "multiple overlapping subnet configuration is not supported"),
        ([*two, "--gateway=10.97.0.1"], "no matching subnet for gateway 10.97.0.1"),
        ([*two, "--ip-range=10.97.0.0/25"], "no matching subnet for range 10.97.0.0/25"),
        ([*two, "--aux-address=a=10.97.0.1"], "no matching subnet for aux-address 10.97.0.1"),
        ([*two, "--gateway=10.95.0.1", "--gateway=10.95.0.2"], "cannot configure multiple gateways"),
        ([*two, *(f"--gateway=10.9{n}.0.1" for n in (5, 6, 7))], "every ip-range or gateway must have a corresponding"),
        (["network", "create", *two[4:]], "bridge driver doesn't support multiple subnets"),
    ):
        assert why in command.refused(*argv, "bad")
    assert command("network", "ls", "-qf", "name=bad") == ""
