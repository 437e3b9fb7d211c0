"""Published ports on every machine of a swarm: who answers, whom the task sees, and what changes do to clients."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from enxame.testing.cluster import Cluster, Machine
from enxame.testing.daemons import wait_until
from enxame.testing.namespace import LanHost, NetworkNamespace, enter_network_namespace
from enxame.testing.promises import allowed
from tests.clients.command import IMAGE, Command
from tests.cluster import sctp_packets
from tests.cluster.sctp_packets import Packet

PORT = 8080
LOAD = Path(__file__).with_name("network_load.py")

#: Runs only once it listens, and serves on for a moment when it is told to stop.
DRAINING = 'hostname > /www/index.html; trap "sleep 0.3; exit 0" TERM; httpd -f -p 80 -h /www & wait'
HEALTH = {
    "Test": ["CMD", "wget", "-qO", "/dev/null", "http://127.0.0.1/"],
    "Interval": 100_000_000,
    "Timeout": 5_000_000_000,
    "Retries": 20,
}


@pytest.fixture(scope="module")
def client(machines: Cluster) -> LanHost:
    """A machine beside the swarm's."""
    return machines.lan.attach()


def published(*, target: int = 80, protocol: str = "tcp") -> dict:
    return {"Ports": [{"TargetPort": target, "PublishedPort": PORT, "Protocol": protocol}]}


def who(namespace: NetworkNamespace, address: str, timeout: float = 5) -> tuple[str, str]:
    """Who answers, and which client address he sees."""
    answer = namespace.http_get(address, PORT, "/cgi-bin/whoami", timeout)
    name = re.search(r"Hostname: (\S+)", answer)
    source = re.search(r"RemoteAddr: \[?(?:::ffff:)?([\d.]+)\]?:", answer)
    assert name is not None, answer
    assert source is not None, answer
    return name[1], source[1]


def containers(cluster: Cluster, service: str) -> dict[str, Machine]:
    """Short container ids of a service's tasks, and where they run."""
    machines = {machine.swarm()["NodeID"]: machine for machine in cluster.machines}
    return {
        task["Status"]["ContainerStatus"]["ContainerID"][:12]: machines[task["NodeID"]]
        for task in cluster.running(service)
    }


def known_everywhere(cluster: Cluster, client: LanHost, service: str) -> set[str]:
    """The names of a service's tasks, once all machines send connections to all of them."""
    names = set(containers(cluster, service))

    def known(machine: Machine) -> bool:
        try:
            return {who(client.host, machine.network.host_address, 1)[0] for _ in range(2 * len(names))} == names
        except OSError:
            return False

    for machine in cluster.machines:
        wait_until(lambda m=machine: known(m), f"{machine.network.hostname} knows all tasks")
    return names


def pid(machine: Machine, container: str) -> int:
    return int(machine.api.get(f"/containers/{container}/json")["State"]["Pid"])


class Inside(NetworkNamespace):
    """A container's network namespace, to ask from."""

    def __init__(self, machine: Machine, container: str) -> None:
        path = f"/proc/{pid(machine, container)}/ns/net"
        self._inside = ThreadPoolExecutor(1, initializer=enter_network_namespace, initargs=(path,))

    def close(self) -> None:
        """The namespace stays."""
        self._inside.shutdown()


@contextmanager
def udp_servers(places: dict[str, Machine], port: int, family: int = socket.AF_INET) -> Iterator[None]:
    """In each container somebody who answers datagrams with the container's name and the sender's address. Of IPv6's
    family it answers both versions.
    """
    opened: list[socket.socket] = []

    def serve(container: str, path: str) -> None:
        enter_network_namespace(path)
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind(("", port))
        opened.append(server)
        with suppress(OSError):
            while True:
                _, sender = server.recvfrom(100)
                if sender is None:  # shut down
                    return
                server.sendto(f"{container} {sender[0].removeprefix('::ffff:')}".encode(), sender)

    threads = [
        threading.Thread(target=serve, args=(container, f"/proc/{pid(machine, container)}/ns/net"), daemon=True)
        for container, machine in places.items()
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(opened) == len(places), "all listen")
    try:
        yield
    finally:
        for server in opened:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()


def ask_udp(namespace: NetworkNamespace, address: str) -> tuple[str, str]:
    with namespace.open_socket(kind=socket.SOCK_DGRAM) as asker:
        asker.settimeout(3)
        asker.connect((address, PORT))
        asker.send(b"?")
        name, source = asker.recv(100).decode().split()
        return name, source


@contextmanager
def load(client: LanHost, cluster: Cluster) -> Iterator[dict]:
    """Requests to all machines in turn, while the block runs; then what came of them is in the dictionary."""
    places = [f"{machine.network.host_address}:{PORT}" for machine in cluster.machines]
    command = client.host.argv(sys.executable, str(LOAD), "8", *places)
    outcome: dict = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "requests flow\n"
            yield outcome
            output, _ = program.communicate(timeout=60)
        finally:
            program.kill()
    outcome.update(json.loads(output))


def change(cluster: Cluster, service: str, **fields: object) -> None:
    current = cluster.manager.api.get(f"/services/{service}")
    version = str(current["Version"]["Index"])
    cluster.manager.api.post(f"/services/{service}/update", {**current["Spec"], **fields}, version=version)


def test_every_machine_answers_for_every_task_and_the_task_sees_the_client(cluster: Cluster, client: LanHost) -> None:
    cluster.manager.api.post("/networks/create", {"Name": "back", "Driver": "overlay"})
    one_a_machine = {"Placement": {"MaxReplicas": 1, "Constraints": ["node.role==worker"]}}
    cluster.create_service(
        "web", 2, EndpointSpec=published(), TaskTemplate={**one_a_machine, "Networks": [{"Target": "back"}]}
    )
    names = known_everywhere(cluster, client, "web")
    assert len(names) == 2
    for machine in cluster.machines:
        address = machine.network.host_address
        for namespace, seen in ((client.host, client.host_address), (machine.network.host, address)):
            answers = [who(namespace, address) for _ in range(4)]
            assert {name for name, _ in answers} == names
            assert {source for _, source in answers} == {seen}
        assert {who(machine.network.host, "127.0.0.1")[0] for _ in range(4)} == names
        other = machine.network.host_address
        for far in cluster.machines:
            if far is not machine:
                assert who(far.network.host, other)[1] == far.network.host_address
    # From within a task: its own machine's port, and with it itself.
    place, machine = next(iter(containers(cluster, "web").items()))
    with Inside(machine, place) as inside:
        assert {inside.http_get(machine.network.host_address, PORT).strip() for _ in range(6)} == names


def test_one_client_port_at_three_machines_is_three_connections(cluster: Cluster, client: LanHost) -> None:
    cluster.create_service("web", 1, EndpointSpec=published())
    known_everywhere(cluster, client, "web")

    def connect(machine: Machine) -> socket.socket:
        made = client.host.open_socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(5)
        made.bind(("", 41_000))
        made.connect((machine.network.host_address, PORT))
        return made

    with ExitStack() as stack:
        connections = [stack.enter_context(connect(machine)) for machine in cluster.machines]
        for connection in connections:
            connection.sendall(b"GET /cgi-bin/whoami HTTP/1.0\r\n\r\n")
            answer = connection.makefile("rb").read().decode()
            assert client.host_address in answer


@contextmanager
def tcp_echo(container: str, machine: Machine, port: int) -> Iterator[None]:
    """In a container somebody who sends back what he gets, on any number of connections."""
    opened: list[socket.socket] = []
    listening = threading.Event()

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def listen() -> None:
        enter_network_namespace(f"/proc/{pid(machine, container)}/ns/net")
        opened.append(socket.create_server(("", port)))
        listening.set()
        with suppress(OSError):
            while True:
                connection, _ = opened[0].accept()
                opened.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    assert listening.wait(allowed(5))
    try:
        yield
    finally:
        for one in opened:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def ping(connection: socket.socket, word: bytes, times: int) -> None:
    for _ in range(times):
        connection.sendall(word)
        assert connection.recv(100) == word


def forwarded(machine: Machine) -> int:
    """Packets that the machine's filter let through."""
    shown = machine.network.host.run("nft", "list", "chain", "inet", "probe", "forward")
    found = re.search(r"packets (\d+)", shown)
    assert found is not None
    return int(found[1])


def test_busy_connections_of_one_client_port_at_all_machines_stay_apart_and_outlive_killed_daemons(
    cluster: Cluster, client: LanHost
) -> None:
    cluster.create_service("echo", 1, EndpointSpec=published(target=5301))
    ((container, place),) = containers(cluster, "echo").items()
    probe = "add table inet probe; add chain inet probe forward { type filter hook forward priority 10; }; "
    probe += "add rule inet probe forward counter"

    def takes_a_shortcut(machine: Machine, connection: socket.socket, word: bytes) -> bool:
        before = forwarded(machine)
        ping(connection, word, 300)
        return forwarded(machine) - before < 100

    with ExitStack() as stack:
        stack.enter_context(tcp_echo(container, place, 5301))
        connections: dict[bytes, tuple[Machine, socket.socket]] = {}
        for number, machine in enumerate(cluster.machines):
            machine.network.host.run("nft", probe)
            made = connect_from(client, 41_500, machine)
            connections[b"%d" % number * 50] = machine, stack.enter_context(made)

        def all_take_shortcuts() -> None:
            for word, (machine, connection) in connections.items():
                wait_until(
                    lambda m=machine, c=connection, w=word: takes_a_shortcut(m, c, w),
                    f"{machine.network.hostname} lets a busy connection pass",
                    timeout=30,
                )

        all_take_shortcuts()
        for word, (_, connection) in connections.items():
            ping(connection, word, 500)
        killed = next(machine for machine in cluster.workers if machine is not place)
        killed.kill()
        before = forwarded(killed)
        for word, (_, connection) in connections.items():
            ping(connection, word, 300)
        assert forwarded(killed) - before >= 600, "without a daemon everything passes the filter"
        killed.start()
        wait_until(lambda: set(cluster.states().values()) == {"ready"}, "it is back")
        all_take_shortcuts()
        for machine in cluster.machines:
            machine.network.host.run("nft", "delete table inet probe")


def connect_from(client: LanHost, port: int, machine: Machine) -> socket.socket:
    """To the published port, from a port of one's own choice."""

    def answered() -> bool:
        nonlocal made
        made = client.host.open_socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(5)
        made.bind(("", port))
        try:
            made.connect((machine.network.host_address, PORT))
        except OSError:
            made.close()
            return False
        return True

    made = socket.socket()
    made.close()
    wait_until(answered, f"{machine.network.hostname} answers")
    return made


def test_datagrams_reach_tasks_on_several_networks_and_come_back(cluster: Cluster, client: LanHost) -> None:
    cluster.manager.api.post("/networks/create", {"Name": "side", "Driver": "overlay"})
    cluster.create_service(
        "dns",
        2,
        EndpointSpec=published(target=5300, protocol="udp"),
        TaskTemplate={"Networks": [{"Target": "side"}], "Placement": {"MaxReplicas": 1}},
    )
    places = containers(cluster, "dns")
    with udp_servers(places, 5300):
        for machine in cluster.machines:
            address = machine.network.host_address

            def asked(address: str = address) -> set[tuple[str, str]]:
                with suppress(OSError):
                    return {ask_udp(client.host, address) for _ in range(6)}
                return set()

            expected = {(name, client.host_address) for name in places}
            wait_until(lambda: asked() == expected, "all answer the client")  # noqa: B023 - called in this turn
            assert ask_udp(machine.network.host, machine.network.host_address)[0] in places


def test_sctp_reaches_tasks_from_every_machine_and_comes_back(cluster: Cluster, client: LanHost) -> None:
    """With packets made by hand: the kernels that tests run on have no sockets of it."""
    target = 3868
    cluster.create_service("diameter", 1, EndpointSpec=published(target=target, protocol="sctp"))
    ((container, place),) = containers(cluster, "diameter").items()
    with ExitStack() as stack:
        inside = stack.enter_context(Inside(place, container))
        raw = (socket.AF_INET, socket.SOCK_RAW, sctp_packets.PROTOCOL)
        asker = stack.enter_context(client.host.open_socket(*raw))
        server = stack.enter_context(inside.open_socket(*raw))
        asker.settimeout(3)
        server.settimeout(3)

        def associated(address: str, port: int) -> bool:
            """One turn of the handshake; the task sees the client's address, the client the machine's."""
            init = Packet("", port, PORT, 0, sctp_packets.INIT, own_tag=7)
            asker.sendto(init.encode(), (address, 0))
            try:
                asked = sctp_packets.receive(server, target, sctp_packets.INIT)
                assert asked.source == client.host_address
                answer = Packet("", target, asked.source_port, asked.own_tag, sctp_packets.INIT_ACK, own_tag=9)
                server.sendto(answer.encode(), (asked.source, 0))
                answered = sctp_packets.receive(asker, port, sctp_packets.INIT_ACK)
            except TimeoutError:
                return False
            return (answered.source, answered.source_port, answered.own_tag) == (address, PORT, 9)

        for number, machine in enumerate(cluster.machines):
            address = machine.network.host_address
            wait_until(lambda a=address, p=5000 + number: associated(a, p), f"{address} leads to the task")


def test_labels_keep_connections_on_the_machine_and_clients_with_a_task(cluster: Cluster, client: LanHost) -> None:
    service = cluster.create_service(
        "web",
        2,
        EndpointSpec=published(),
        Labels={"enxame.network.ingress": "local"},
        TaskTemplate={"Placement": {"MaxReplicas": 1, "Constraints": ["node.role==worker"]}},
    )
    for name, machine in containers(cluster, "web").items():
        wait_until(lambda m=machine: answers(client, m), "it answers")
        assert {who(client.host, machine.network.host_address) for _ in range(4)} == {(name, client.host_address)}
    with pytest.raises(ConnectionRefusedError):
        who(client.host, cluster.manager.network.host_address)
    change(cluster, service, Labels={"enxame.network.affinity": "source"})
    for machine in cluster.machines:
        wait_until(lambda m=machine: answers(client, m), "it answers")
    wait_until(
        lambda: len({who(client.host, cluster.manager.network.host_address)[0] for _ in range(5)}) == 1,
        "the client stays with one task",
    )
    # Whichever machine it asks.
    wait_until(
        lambda: len({who(client.host, machine.network.host_address)[0] for machine in cluster.machines}) == 1,
        "all machines send it to the same task",
    )


def answers(client: LanHost, machine: Machine) -> bool:
    with suppress(OSError):
        who(client.host, machine.network.host_address, 1)
        return True
    return False


def test_a_port_without_tasks_refuses_and_answers_the_same_client_again_at_once(
    cluster: Cluster, client: LanHost
) -> None:
    service = cluster.create_service("web", 1, EndpointSpec=published())
    address = cluster.workers[0].network.host_address

    def ask() -> bool:
        with client.host.open_socket() as asker:
            asker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            asker.settimeout(3)
            asker.bind(("", 42_000))
            try:
                asker.connect((address, PORT))
            except ConnectionRefusedError:
                return False
            # Leaves no TIME_WAIT behind: the port can be used again at once.
            asker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return True

    wait_until(ask, "it answers")
    change(cluster, service, Mode={"Replicated": {"Replicas": 0}})
    wait_until(lambda: not ask(), "it refuses")
    change(cluster, service, Mode={"Replicated": {"Replicas": 1}})
    began = time.monotonic()
    wait_until(ask, "it answers again", timeout=8)
    assert time.monotonic() - began < allowed(8)


def test_changes_of_a_draining_service_lose_no_request(cluster: Cluster, client: LanHost) -> None:
    service = cluster.create_service(
        "web",
        3,
        EndpointSpec=published(),
        TaskTemplate={"ContainerSpec": {"Command": ["sh", "-c", DRAINING], "Healthcheck": HEALTH}},
        UpdateConfig={"Parallelism": 1, "Monitor": 200_000_000, "Order": "stop-first"},
    )
    before = known_everywhere(cluster, client, "web")
    with load(client, cluster) as outcome:
        current = cluster.manager.api.get(f"/services/{service}")["Spec"]["TaskTemplate"]
        current["ContainerSpec"]["Env"] = ["NEW=1"]
        change(cluster, service, TaskTemplate=current)
        wait_until(lambda: not set(containers(cluster, "web")) & before and complete(cluster, service), "it is updated")
        change(cluster, service, Mode={"Replicated": {"Replicas": 6}})
        wait_until(lambda: len(containers(cluster, "web")) == 6, "it has grown")
        change(cluster, service, Mode={"Replicated": {"Replicas": 2}})
        wait_until(lambda: len(containers(cluster, "web")) == 2, "it has shrunk")
        worker = cluster.workers[0]
        cluster.update(worker.swarm()["NodeID"], Availability="drain")
        wait_until(lambda: not worker.task_containers(), "the machine is drained")
    assert outcome["failed"] == {}
    assert len(outcome["answered"]) > 6
    assert sum(outcome["answered"].values()) > 500


def complete(cluster: Cluster, service: str) -> bool:
    status = cluster.manager.api.get(f"/services/{service}").get("UpdateStatus", {})
    return bool(status.get("State") == "completed")


def test_traffic_flows_while_daemons_are_killed_and_come_back(cluster: Cluster, client: LanHost) -> None:
    with cluster.patience():
        cluster.create_service("web", 3, EndpointSpec=published(), TaskTemplate={"Placement": {"MaxReplicas": 1}})
        before = known_everywhere(cluster, client, "web")
        with load(client, cluster) as outcome:
            for machine in (cluster.workers[0], cluster.manager):
                machine.kill()
                machine.start()
            wait_until(lambda: set(cluster.states().values()) == {"ready"}, "all are back")
            wait_until(lambda: len(cluster.running("web")) == 3, "all run")
        assert set(containers(cluster, "web")) == before, "no daemon was given up"
        assert outcome["failed"] == {}


def test_a_lost_machines_tasks_leave_the_mesh_when_it_is_marked_down(cluster: Cluster, client: LanHost) -> None:
    cluster.create_service("web", 3, EndpointSpec=published(), TaskTemplate={"Placement": {"MaxReplicas": 1}})
    lost, stays = cluster.workers
    address = stays.network.host_address
    known_everywhere(cluster, client, "web")
    lost.network.cut()
    node = cluster.node(lost)["ID"] if lost.runs() else ""
    wait_until(lambda: cluster.states()[node] == "down", "it is marked down")
    wait_until(lambda: not failures(client, address, 6), "nobody is sent there", timeout=1)
    lost.network.heal()
    wait_until(lambda: cluster.states()[node] == "ready", "it is back")
    wait_until(lambda: answers(client, lost), "its ports answer again")


def failures(client: LanHost, address: str, times: int) -> Counter[str]:
    failed: Counter[str] = Counter()
    for _ in range(times):
        try:
            who(client.host, address, 0.3)
        except OSError as error:
            failed[repr(error)] += 1
    return failed


def test_the_meshs_network_can_be_replaced_once_no_service_needs_it(
    cluster: Cluster, client: LanHost, docker: Callable[[Machine], Command], tmp_path: Path
) -> None:
    stock = docker(cluster.manager)
    enxame = Command(str(Path(sys.executable).with_name("enxame")), cluster.manager, tmp_path)
    ends_slowly = DRAINING.replace("0.3", "1")
    old = "ingress"
    # The first has its predecessor's name, while that is still on its way out.
    for command, name, subnet in ((stock, "ingress", "10.11.0.0/16"), (enxame, "mesh", "10.0.0.0/24")):
        service = cluster.create_service(
            "web", 2, EndpointSpec=published(), TaskTemplate={"ContainerSpec": {"Command": ["sh", "-c", ends_slowly]}}
        )
        in_use = f"ingress network cannot be removed because service {service} depends on it"
        assert in_use in command.refused("network", "rm", old, stdin="y\n")
        command("service", "rm", "web")
        assert "Are you sure you want to continue? [y/N]" in command("network", "rm", old, stdin="n\n")
        assert command("network", "rm", old, stdin="y\n").endswith(old)
        none = "service needs ingress network, but no ingress network is present"
        assert none in command.refused("service", "create", "-d", "-p", f"{PORT}:80", IMAGE)
        made = command("network", "create", "-d", "overlay", "--ingress", "--subnet", subnet, name)
        assert (
            command("network", "inspect", name, "-f", "{{.Id}} {{(index .IPAM.Config 0).Subnet}}") == f"{made} {subnet}"
        )
        second = command.refused("network", "create", "-d", "overlay", "--ingress", "second")
        assert f"AlreadyExists desc = ingress network ({made}) is already present" in second
        wait_until(lambda: not any(machine.task_containers() for machine in cluster.machines), "the old tasks are gone")
        command("service", "create", "-d", "--name", "new", "--replicas", "2", "-p", f"{PORT}:80", IMAGE)
        wait_until(lambda: len(cluster.running("new")) == 2, "both run")
        assert len(known_everywhere(cluster, client, "new")) == 2

        def meshes() -> list[str]:
            return [n["Id"] for m in cluster.machines for n in m.api.get("/networks") if n["Ingress"]]

        wait_until(lambda made=made: meshes() == [made] * len(cluster.machines), "the old one is gone everywhere")
        command("service", "rm", "new")
        old = name


def test_nothing_is_left_on_a_machine_that_leaves(cluster: Cluster) -> None:
    worker = cluster.workers[1]
    cluster.create_service("web", 3, EndpointSpec=published(), TaskTemplate={"Placement": {"MaxReplicas": 1}})
    namespace = worker.network.host
    wait_until(lambda: "service-tcp-8080" in namespace.run("nft", "list", "ruleset"), "it answers there")
    worker.api.post("/swarm/leave", force="1")
    rules = namespace.run("nft", "list", "ruleset")
    for trace in ("8080", "10.0.0.", "enx-"):
        assert trace not in rules.replace('iifname "enx-*"', "")
    assert not re.search(r"enx[vt]?-", namespace.run("ip", "-br", "link"))
    assert "lookup" not in re.sub(r"lookup (local|main|default)", "", namespace.run("ip", "rule"))
    tables = worker.exec_root / "networks" / "tables"
    wait_until(lambda: not list(tables.glob("*")), "what was known of the networks is gone, too")
