"""IPv6 across machines: published ports, services' virtual addresses and names, and machines that have none."""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.engine_client import ApiError
from enxame.testing.namespace import LanHost, NetworkNamespace
from tests.clients.command import IMAGE, Command
from tests.cluster.test_network_mesh import PORT, Inside, change, containers, published, udp_servers
from tests.cluster.test_network_names import Asker
from tests.engine.name_questions import AAAA, PTR, A

SITE = "2001:db8:98::"
ONE_A_MACHINE = {"Placement": {"MaxReplicas": 1}}
ON_WORKERS = {"Placement": {"MaxReplicas": 1, "Constraints": ["node.role==worker"]}}
Seen = set[tuple[str, str]]


@pytest.fixture(scope="module")
def client(machines: Cluster) -> LanHost:
    """A machine beside the swarm's; all of them have IPv6 addresses on their switch."""
    made = machines.lan.attach()
    for host in machines.lan.hosts:
        host.host.ip("address", "add", f"{address_of(host)}/64", "dev", "eth0", "nodad")
    return made


@pytest.fixture
def networks(cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Makes networks of the swarm that are gone after the test; returns their ids."""
    made: list[str] = []

    def make(name: str, **fields: object) -> str:
        body = {"Name": name, "Driver": "overlay", "EnableIPv6": True, **fields}
        made.append(str(cluster.manager.api.post("/networks/create", body)["Id"]))
        return made[-1]

    yield make
    for service in cluster.manager.api.get("/services"):
        cluster.manager.api.delete(f"/services/{service['ID']}")
    for network in made:

        def removed(network: str = network) -> bool:
            with suppress(ApiError):
                cluster.manager.api.delete(f"/networks/{network}")
                return True
            return False

        wait_until(removed, "the network can be removed")


def address_of(host: LanHost) -> str:
    return f"{SITE}{host.host_address.rpartition('.')[2]}"


def link_local(host: LanHost, seen_from: LanHost) -> str:
    found = re.search(r"inet6 (fe80:\S+)/64", host.host.ip("-6", "address", "show", "dev", "eth0"))
    assert found is not None
    # By number: names of links are looked up where this program is.
    return f"{found[1]}%{seen_from.host.ip('-o', 'link', 'show', 'dev', 'eth0').partition(':')[0]}"


def who(namespace: NetworkNamespace, address: str, port: int = PORT, timeout: float = 5) -> tuple[str, str]:
    """Who answers, and which client address he sees."""
    answer = namespace.http_get(address, port, "/cgi-bin/whoami", timeout)
    name = re.search(r"Hostname: (\S+)", answer)
    source = re.search(r"RemoteAddr: \[?(?:::ffff:)?([\da-f.:]+?)\]?:\d+\s", answer)
    assert name is not None, answer
    assert source is not None, answer
    return name[1], source[1]


def asked(namespace: NetworkNamespace, address: str, port: int = PORT, times: int = 8) -> Seen:
    """Who answered so many connections, and what they saw; nobody when one was not answered."""
    with suppress(OSError):
        return {who(namespace, address, port, 2) for _ in range(times)}
    return set()


def answered_by(namespace: NetworkNamespace, address: str, expected: Seen, port: int = PORT) -> None:
    wait_until(lambda: asked(namespace, address, port) == expected, f"{address} leads to {expected}")


def names_at(namespace: NetworkNamespace, address: str, port: int = PORT) -> set[str]:
    return {name for name, _ in asked(namespace, address, port)}


def asked_datagrams(namespace: NetworkNamespace, address: str, port: int = PORT) -> Seen:
    seen: Seen = set()
    with suppress(OSError):
        for _ in range(8):
            with namespace.open_socket(socket.AF_INET6, socket.SOCK_DGRAM) as asker:
                asker.settimeout(2)
                asker.connect((address, port))
                asker.send(b"?")
                name, source = asker.recv(100).decode().split()
                seen.add((name, source))
        return seen
    return set()


def test_published_ports_answer_on_all_ipv6_addresses_and_tasks_see_the_client(
    cluster: Cluster, client: LanHost, networks: Callable[..., str]
) -> None:
    networks("back", EnableIPv6=False)
    networks("both")
    for name, target in (("plain", None), ("web", "back"), ("front", "both")):
        template = {**ON_WORKERS, **({"Networks": [{"Target": target}]} if target else {})}
        service = cluster.create_service(name, 2, EndpointSpec=published(), TaskTemplate=template)
        names = set(containers(cluster, name))
        for machine in cluster.machines:
            place = address_of(machine.network)
            answered_by(client.host, place, {(task, address_of(client)) for task in names})
            answered_by(machine.network.host, place, {(task, place) for task in names})
            for far in cluster.machines:
                if far is not machine:
                    answered_by(far.network.host, place, {(task, address_of(far.network)) for task in names})
            # What the kernel sends nowhere else is carried.
            assert names_at(machine.network.host, "::1") == names
            assert names_at(client.host, link_local(machine.network, client)) == names
        if name == "front":  # from within a task: its own machine's port, and with it itself
            place, machine = next(iter(containers(cluster, name).items()))
            with Inside(machine, place) as inside:
                assert names_at(inside, address_of(machine.network)) == names
        cluster.manager.api.delete(f"/services/{service}")
        wait_until(lambda: not any(machine.task_containers() for machine in cluster.machines), "it is gone")


def test_datagrams_over_ipv6_reach_tasks_on_several_networks_and_come_back(
    cluster: Cluster, client: LanHost, networks: Callable[..., str]
) -> None:
    networks("back", EnableIPv6=False)
    networks("both")
    for number, target in enumerate(("back", "both")):
        port = PORT + number
        endpoint = {"Ports": [{"TargetPort": 5300, "PublishedPort": port, "Protocol": "udp"}]}
        cluster.create_service(
            f"dns-{target}", 2, EndpointSpec=endpoint, TaskTemplate={**ON_WORKERS, "Networks": [{"Target": target}]}
        )
        places = containers(cluster, f"dns-{target}")
        with udp_servers(places, 5300, socket.AF_INET6):
            expected = {(name, address_of(client)) for name in places}
            for machine in cluster.machines:
                place = address_of(machine.network)
                wait_until(
                    lambda place=place, port=port, expected=expected: (
                        asked_datagrams(client.host, place, port) == expected
                    ),
                    f"{place} leads to all",
                )


def over_ipv6(addresses: list[str]) -> list[str]:
    return sorted(address.partition("/")[0] for address in addresses if ":" in address)


def virtual_addresses(cluster: Cluster, service: str) -> list[str]:
    vips = cluster.manager.api.get(f"/services/{service}")["Endpoint"]["VirtualIPs"]
    return [vip["Addr"].partition("/")[0] for vip in vips]


def task_addresses(cluster: Cluster, service: str, network: str) -> list[str]:
    found = [
        address
        for task in cluster.running(service)
        for attachment in task["NetworksAttachments"]
        if attachment["Network"]["ID"] == network
        for address in attachment["Addresses"]
    ]
    return over_ipv6(found)


def reverse(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer


def test_services_have_virtual_addresses_and_names_over_ipv6(
    cluster: Cluster, client: LanHost, networks: Callable[..., str], docker: Callable[[Machine], Command]
) -> None:
    command = docker(cluster.manager)
    app = networks("app", IPAM={"Config": [{"Subnet": "fd00:a99::/64"}]})
    command(
        "service",
        "create",
        "-d",
        "--name",
        "web",
        "--network",
        "app",
        "--replicas-max-per-node",
        "1",
        "--replicas",
        "3",
        "-p",
        f"{PORT}:80",
        IMAGE,
    )
    dnsrr = {"EndpointSpec": {"Mode": "dnsrr"}, "TaskTemplate": {"Networks": [{"Target": app}], **ONE_A_MACHINE}}
    cluster.create_service("db", 2, **dnsrr)
    wait_until(lambda: len(cluster.running("web")) == 3, "all run")
    places = containers(cluster, "web")
    mesh4, vip4, vip6 = virtual_addresses(cluster, "web")
    assert ":" not in mesh4 + vip4
    assert vip6.startswith("fd00:a99::")
    web, db = task_addresses(cluster, "web", app), task_addresses(cluster, "db", app)
    assert len(web) == 3
    with ExitStack() as stack:
        askers = {name: stack.enter_context(Asker(machine, name)) for name, machine in places.items()}
        for name, asker in askers.items():
            wait_until(lambda a=asker: a.resolve("tasks.web", AAAA) == (0, web), "all tasks are named")
            wait_until(lambda a=asker: a.resolve("db", AAAA) == (0, db), "all tasks are named")
            assert asker.resolve("web", AAAA) == asker.resolve("web.app", AAAA) == (0, [vip6])
            assert asker.resolve("web", A) == (0, [vip4])
            assert asker.resolve(reverse(vip6), PTR) == (0, ["web.app"])
            assert asker.resolve(reverse(web[0]), PTR)[1][0].startswith("web.")
            assert asker.resolve(reverse("fd00:a99::dead"), PTR)[0] == 3
            # Tasks see the asker; one that reaches itself sees itself.
            wait_until(lambda a=asker: names_at(a, vip6, 80) == set(places), "all answer")
            mine = asker_addresses(places[name], name)
            assert {source for _, source in asked(asker, vip6, 80)} <= {*mine, vip6}
        asker = next(iter(askers.values()))
        for address in db:
            assert len(names_at(asker, address, 80)) == 1
        service = cluster.manager.api.get("/services/web")["ID"]
        change(cluster, service, Labels={"enxame.network.affinity": "source"})
        wait_until(lambda: len(names_at(asker, vip6, 80)) == 1, "it stays with one task")
        change(cluster, service, Labels={})
        wait_until(lambda: names_at(asker, vip6, 80) == set(places), "it goes to all")
        # What is established stays while its task leaves; nothing new is sent there.
        change(cluster, service, Mode={"Replicated": {"Replicas": 1}})
        for name, other in askers.items():
            if name in containers(cluster, "web"):
                wait_until(lambda o=other: len(names_at(o, vip6, 80)) == 1, "one is left")
        change(cluster, service, Mode={"Replicated": {"Replicas": 0}})
        wait_until(lambda: not cluster.running("web"), "none is left")
    (lonely,) = list(containers(cluster, "db").items())[:1]
    with Asker(lonely[1], lonely[0]) as asker:
        wait_until(lambda: asker.resolve("tasks.web", AAAA) == (0, []), "nobody is named")
        with pytest.raises(ConnectionRefusedError):
            asker.http_get(vip6, 80)


def asker_addresses(machine: Machine, container: str) -> set[str]:
    shown = machine.api.get(f"/containers/{container}/json")["NetworkSettings"]["Networks"]
    return {network["GlobalIPv6Address"] for network in shown.values()}


def test_a_machine_without_ipv6_takes_part_over_ipv4_and_says_so(
    cluster: Cluster, client: LanHost, networks: Callable[..., str]
) -> None:
    app = networks("app")
    without, other = cluster.workers
    node = without.swarm()["NodeID"]
    without.stop()
    without.network.host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    try:
        without.start()
        wait_until(lambda: cluster.nodes()[node]["Description"].get("IPv4Only"), "the manager knows")
        cluster.create_service(
            "web", 2, EndpointSpec=published(), TaskTemplate={**ON_WORKERS, "Networks": [{"Target": app}]}
        )
        places = containers(cluster, "web")
        (with_ipv6,) = [name for name, machine in places.items() if machine is other]
        # All reach both over IPv4, and over IPv6 those who have it.
        for machine in cluster.machines:
            wait_until(lambda m=machine: names_at(client.host, m.network.host_address) == set(places), "both answer")
        for machine in (cluster.manager, other):
            answered_by(client.host, address_of(machine.network), {(with_ipv6, address_of(client))})
        with Asker(other, with_ipv6) as asker:
            assert len(asker.resolve("tasks.web", AAAA)[1]) == 1
            assert len(asker.resolve("tasks.web", A)[1]) == 2
            vip6 = asker.resolve("web", AAAA)[1][0]
            assert names_at(asker, vip6, 80) == {with_ipv6}
    finally:
        for service in cluster.manager.api.get("/services"):
            cluster.manager.api.delete(f"/services/{service['ID']}")
        wait_until(lambda: not any(machine.task_containers() for machine in cluster.machines), "it is gone")
        if without.runs():
            without.stop()
        without.network.host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=0")
        without.start()
        wait_until(lambda: "IPv4Only" not in cluster.nodes()[node]["Description"], "it has IPv6 again")


def test_a_mesh_without_ipv6_answers_over_it_all_the_same(
    cluster: Cluster, client: LanHost, docker: Callable[[Machine], Command]
) -> None:
    command = docker(cluster.manager)
    old = "ingress"
    for name, options in (("narrow", ()), ("ingress", ("--ipv6",))):
        command("network", "rm", old, stdin="y\n")
        command("network", "create", "-d", "overlay", "--ingress", *options, name)
        service = cluster.create_service("web", 2, EndpointSpec=published(), TaskTemplate=ON_WORKERS)
        names = set(containers(cluster, "web"))
        for machine in cluster.machines:
            place = address_of(machine.network)
            wait_until(lambda p=place, n=names: names_at(client.host, p) == n, f"{place} leads to all tasks")
            keeps = {source for _, source in asked(client.host, place)} == {address_of(client)}
            assert keeps == bool(options)
        cluster.manager.api.delete(f"/services/{service}")
        wait_until(lambda: not any(machine.task_containers() for machine in cluster.machines), "it is gone")
        old = name


def test_addresses_that_cannot_be_are_refused_with_the_reason(
    cluster: Cluster, networks: Callable[..., str], docker: Callable[[Machine], Command]
) -> None:
    command = docker(cluster.manager)
    networks("one", IPAM={"Config": [{"Subnet": "fd00:1::/64"}]})
    create = ("network", "create", "-d", "overlay", "--ipv6")
    assert "Pool overlaps with other one" in command.refused(*create, "--subnet", "fd00:1::/80", "two")
    worker = cluster.workers[0]
    node = worker.swarm()["NodeID"]
    worker.stop()  # what it reaches is looked at when it starts
    worker.start()
    wait_until(lambda: f"{SITE}/64" in cluster.nodes()[node]["Description"]["Subnets"], "the manager knows")
    of_machine = command.refused(*create, "--subnet", f"{SITE}/80", "two")
    assert "2001:db8:98::/64, which node" in of_machine
    body = {"Name": "two", "Driver": "overlay", "EnableIPv4": False, "EnableIPv6": True}
    with pytest.raises(ApiError, match="networks without IPv4 are not supported"):
        cluster.manager.api.post("/networks/create", body)
    # Room for a gateway, a service's virtual address and four tasks.
    networks("small", IPAM={"Config": [{"Subnet": "fd00:4::/125"}]})
    command("service", "create", "-d", "--name", "web", "--network", "small", "--replicas", "5", IMAGE)
    full = "could not find an available IP on network small"
    wait_until(lambda: any(full in task["Status"].get("Err", "") for task in cluster.tasks("web")), "one waits")
    command("service", "scale", "-d", "web=3")
    wait_until(lambda: len(cluster.running("web")) == 3, "three run")
