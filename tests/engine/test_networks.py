"""Networks of one machine with real namespaces, links, rules and connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pytest

from enxame.engine.networks import NetworkManager
from enxame.engine.networks.manager import IngressPortsTaken
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.errors import Conflict, EnxameError, NotFound, PermissionDenied
from enxame.model.container import EndpointIPAMConfig, EndpointSettings, PortBinding
from enxame.model.dispatch import NetworkEndpoint, NetworkService, NetworkTable
from enxame.model.filters import Filters
from enxame.model.network import IPAM, IPAMConfig, IPAMOptions, Network, NetworkCreateRequest, NetworkSpec
from enxame.model.service import PortConfig
from tests.engine.network_lab import HOST, OUTSIDE, Lab, Server, ask, ask_on, ask_udp, connect, links, names_in

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


BRIDGE_FIREWALL = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A parameter True makes the host a router before the daemon comes."""
    lab = Lab(router=getattr(request, "param", False))
    try:
        yield lab
    finally:
        lab.close()


class Machine:
    """A network manager in the lab's host namespace, which can be stopped, killed and started again."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.events: list[tuple[str, str, str]] = []
        self.servers: list[Server] = []
        self.manager: NetworkManager
        self._number = 0

    def _publish(
        self, type_: str, action: str, actor_id: str, attributes: dict[str, str], scope: str = "local"
    ) -> None:
        self.events.append((type_, action, attributes["name"]))

    async def start(self) -> None:
        self.manager = NetworkManager(self.directory / "data", self.directory / "exec", publish=self._publish)
        with self.lab.within_host():
            await self.manager.start()

    async def stop(self) -> None:
        await self.manager.stop()

    async def connect(self, **request: object) -> tuple[str, SandboxInfo]:
        self._number += 1
        container_id = f"{self._number:012x}{0:052x}"
        request.setdefault("name", f"c{self._number}")
        request.setdefault("hostname", container_id[:12])
        with self.lab.within_host():
            return container_id, await self.manager.connect(container_id, SandboxRequest(**request))

    def serve(self, namespace: int | str, port: int, name: str, protocol: str = "tcp", *, six: bool = False) -> Server:
        server = Server(self.lab, namespace, port, name, protocol=protocol, six=six)
        self.servers.append(server)
        return server

    async def ask(self, namespace: int | str, address: str, port: int, protocol: str = "tcp") -> tuple[str, str]:
        question = ask if protocol == "tcp" else ask_udp
        return await asyncio.to_thread(self.lab.run, namespace, lambda: question(address, port))

    async def full_pool(self) -> None:
        """Wait until the warm pool has been filled again."""
        refill = self.manager._dataplane._pool._refill
        if refill is not None:
            await refill

    def rules(self) -> str:
        return self.lab.command(self.lab.host, "nft list ruleset")

    async def kernel(self) -> tuple[set[str], set[str], str]:
        """Links, named namespaces that are in use, and rules."""
        namespaces = await self.namespaces()
        return links(self.lab, self.lab.host), namespaces, self.rules()

    async def namespaces(self) -> set[str]:
        await self.manager._sandboxes.settled()
        await self.full_pool()
        pool = {namespace.path.name for namespace in self.manager._dataplane._pool._ready}
        return names_in(self.directory / "exec" / "netns") - pool


@pytest.fixture
async def machine(lab: Lab, tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(lab, tmp_path)
    await machine.start()
    try:
        yield machine
    finally:
        for server in machine.servers:
            server.close()
        for record in list(machine.manager._sandboxes.records):
            await machine.manager.release(record.container_id)
        await machine.stop()
        assert names_in(tmp_path / "exec" / "netns") == set()


def publish(port: str, *places: PortBinding) -> dict[str, list[PortBinding]]:
    return {port: list(places)}


async def test_container_on_the_default_bridge_reaches_outside_and_hides_behind_the_host(machine: Machine) -> None:
    _, info = await machine.connect()
    endpoint = info.endpoints["bridge"]
    assert (endpoint.gateway, endpoint.ip_address, endpoint.ip_prefix_len) == ("172.17.0.1", "172.17.0.2", 16)
    assert endpoint.mac_address == "02:42:ac:11:00:02"
    machine.serve(machine.lab.outside, 7000, "outside")
    assert await machine.ask(info.netns_path, OUTSIDE, 7000) == ("outside", HOST)


@pytest.mark.parametrize("request_", [{"network_mode": "default"}, {"endpoints": {"default": EndpointSettings()}}])
async def test_default_is_the_default_bridge(machine: Machine, request_: dict[str, object]) -> None:
    _, info = await machine.connect(**request_)
    assert list(info.endpoints) == ["bridge"]


async def test_containers_of_one_network_reach_each_other_without_translation(machine: Machine) -> None:
    (_, one), (_, two) = await machine.connect(), await machine.connect()
    machine.serve(two.netns_path, 80, "two")
    assert await machine.ask(one.netns_path, "172.17.0.3", 80) == ("two", "172.17.0.2")


async def test_published_port_answers_from_everywhere(machine: Machine) -> None:
    _, web = await machine.connect(port_bindings=publish("3000/tcp", PortBinding(host_port="8080")))
    _, other = await machine.connect()
    assert web.ports == {"3000/tcp": [PortBinding(host_ip=every, host_port="8080") for every in ("0.0.0.0", "::")]}
    machine.serve(web.netns_path, 3000, "web")
    lab = machine.lab
    assert await machine.ask(lab.outside, HOST, 8080) == ("web", OUTSIDE), "the client's address is kept"
    assert (await machine.ask(lab.host, "127.0.0.1", 8080))[0] == "web"
    assert (await machine.ask(lab.host, "127.3.2.1", 8080))[0] == "web"
    assert (await machine.ask(lab.host, HOST, 8080))[0] == "web"
    assert (await machine.ask(lab.host, "172.17.0.1", 8080))[0] == "web"
    assert (await machine.ask(other.netns_path, "172.17.0.1", 8080))[0] == "web"
    assert (await machine.ask(other.netns_path, HOST, 8080))[0] == "web"
    assert (await machine.ask(web.netns_path, HOST, 8080))[0] == "web", "from the container itself"
    assert (await machine.ask(web.netns_path, "172.17.0.1", 8080))[0] == "web"


@pytest.mark.skipif(not BRIDGE_FIREWALL.exists(), reason="the kernel has no bridge netfilter")
@pytest.mark.parametrize("bridge_calls_firewall", ["0", "1"])
async def test_hairpin_works_whether_bridges_pass_packets_to_the_firewall_or_not(
    machine: Machine, bridge_calls_firewall: str
) -> None:
    machine.lab.run(machine.lab.host, lambda: BRIDGE_FIREWALL.write_text(bridge_calls_firewall))
    _, web = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    _, other = await machine.connect()
    machine.serve(web.netns_path, 80, "web")
    assert (await machine.ask(web.netns_path, HOST, 8080))[0] == "web"
    assert (await machine.ask(other.netns_path, HOST, 8080))[0] == "web"
    machine.serve(other.netns_path, 81, "other")
    assert await machine.ask(web.netns_path, "172.17.0.3", 81) == ("other", "172.17.0.2")


async def test_udp_port_is_published(machine: Machine) -> None:
    _, info = await machine.connect(port_bindings=publish("53/udp", PortBinding(host_port="5353")))
    machine.serve(info.netns_path, 53, "dns", "udp")
    assert await machine.ask(machine.lab.outside, HOST, 5353, "udp") == ("dns", OUTSIDE)
    assert (await machine.ask(machine.lab.host, "127.0.0.1", 5353, "udp"))[0] == "dns"


async def test_port_published_on_one_address_answers_there_alone(machine: Machine) -> None:
    _, info = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_ip="127.0.0.1", host_port="8080")))
    machine.serve(info.netns_path, 80, "web")
    assert (await machine.ask(machine.lab.host, "127.0.0.1", 8080))[0] == "web"
    with pytest.raises(ConnectionRefusedError):
        await machine.ask(machine.lab.outside, HOST, 8080)


@pytest.mark.parametrize("lab", [False, True], indirect=True, ids=["no router", "router"])
async def test_unpublished_port_cannot_be_reached_by_routing_through_the_host(machine: Machine) -> None:
    _, info = await machine.connect()
    machine.serve(info.netns_path, 80, "web")
    assert (await machine.ask(machine.lab.host, "172.17.0.2", 80))[0] == "web", "the host itself may"
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(machine.lab.run, machine.lab.outside, lambda: ask("172.17.0.2", 80, 0.5))


async def test_container_cannot_reach_services_on_the_hosts_loopback(machine: Machine) -> None:
    _, info = await machine.connect()
    machine.serve(machine.lab.host, 7100, "host")
    machine.lab.command(info.netns_path, "ip addr del 127.0.0.1/8 dev lo")
    machine.lab.command(info.netns_path, "ip route add 127.0.0.0/8 via 172.17.0.1 table local")
    machine.lab.run(info.netns_path, lambda: Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1"))
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(machine.lab.run, info.netns_path, lambda: ask("127.0.0.1", 7100, 0.5))


async def test_random_and_exposed_ports_are_free_ones_of_the_ephemeral_range(machine: Machine) -> None:
    _, info = await machine.connect(
        port_bindings=publish("80/tcp", PortBinding()), exposed_ports=["80/tcp", "81/tcp"], publish_all=True
    )
    numbers = {int(info.ports[key][0].host_port) for key in ("80/tcp", "81/tcp")}
    assert len(numbers) == 2
    assert all(32768 <= number <= 60999 for number in numbers)


async def test_range_gives_the_first_free_port(machine: Machine) -> None:
    taken = machine.serve(machine.lab.host, 8000, "host")
    _, info = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8000-8002")))
    assert info.ports["80/tcp"][0].host_port == "8001"
    assert taken.port == 8000


async def test_port_of_another_container_is_refused_in_dockers_words_and_nothing_is_left(machine: Machine) -> None:
    await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    before = await machine.kernel()
    with pytest.raises(EnxameError) as caught:
        await machine.connect(name="second", port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    message = caught.value.message
    assert message.startswith("driver failed programming external connectivity on endpoint second (")
    assert message.endswith("): Bind for 0.0.0.0:8080 failed: port is already allocated")
    assert caught.value.status == 500
    assert await machine.kernel() == before
    assert len(machine.manager.inspect("bridge").containers or {}) == 1


async def test_port_of_a_host_program_is_refused_and_ours_are_refused_to_host_programs(machine: Machine) -> None:
    program = machine.serve(machine.lab.host, 8080, "program")
    with pytest.raises(EnxameError, match=r"listen tcp4 0\.0\.0\.0:8080: bind: address already in use"):
        await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    program.close()
    await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    with pytest.raises(OSError, match="Address already in use"):
        machine.serve(machine.lab.host, 8080, "late")


async def test_released_port_and_address_are_free_again(machine: Machine) -> None:
    first, _ = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    await machine.manager.release(first)
    await machine.manager.release(first)
    _, info = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    assert info.ports["80/tcp"][0].host_port == "8080"
    with pytest.raises(ConnectionRefusedError):
        await machine.ask(machine.lab.outside, HOST, 8080)


async def test_address_that_was_just_released_can_be_asked_for_at_once(machine: Machine) -> None:
    ((first, _),) = await tasks(machine, 1)
    await machine.manager.release(first)
    network_id = f"{'ingress':0<25}"
    _, again = await machine.connect(endpoints={network_id: at("10.0.0.3")}, waits_to_serve=True)
    server = machine.serve(again.netns_path, 81, "again")
    assert (await machine.ask(machine.lab.host, "10.0.0.3", 81))[0] == server.name


async def test_cancelled_connections_leave_nothing(machine: Machine) -> None:
    before = await machine.kernel()
    for _ in range(3):
        pending = [
            asyncio.create_task(machine.connect(port_bindings=publish("80/tcp", PortBinding()))) for _ in range(40)
        ]
        await asyncio.sleep(0.01)
        for task in pending[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*pending, return_exceptions=True)
        made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)} <= {asyncio.CancelledError}
        assert len(machine.manager.inspect("bridge").containers or {}) == len(made)
        await asyncio.gather(*(machine.manager.release(container_id) for container_id, _ in made))
    assert await machine.kernel() == before


async def test_host_and_none_networks(machine: Machine) -> None:
    _, host = await machine.connect(network_mode="host")
    assert host.netns_path == ""
    assert list(host.endpoints) == ["host"]
    _, none = await machine.connect(network_mode="none")
    assert links(machine.lab, none.netns_path) == {"lo"}
    assert [line.split()[1] for line in machine.lab.command(none.netns_path, "ip -br link").splitlines()] == ["UNKNOWN"]


# User-defined networks


async def test_user_network_has_its_own_subnet_and_is_kept_apart(machine: Machine) -> None:
    network_id = await machine.manager.create(NetworkCreateRequest(name="back", labels={"tier": "back"}))
    inspected = machine.manager.inspect("back")
    assert inspected.id == network_id
    assert inspected.ipam.config == [IPAMConfig(subnet="172.18.0.0/16", gateway="172.18.0.1")]
    _, front = await machine.connect()
    _, back = await machine.connect(network_mode="back")
    machine.serve(back.netns_path, 80, "back")
    machine.serve(machine.lab.outside, 7000, "outside")
    assert await machine.ask(back.netns_path, OUTSIDE, 7000) == ("outside", HOST)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(machine.lab.run, front.netns_path, lambda: ask("172.18.0.2", 80, 0.5))


async def test_internal_network_has_no_way_out(machine: Machine) -> None:
    await machine.manager.create(NetworkCreateRequest(name="inner", internal=True))
    _, one = await machine.connect(network_mode="inner")
    _, two = await machine.connect(network_mode="inner")
    machine.serve(two.netns_path, 80, "two")
    assert (await machine.ask(one.netns_path, two.endpoints["inner"].ip_address, 80))[0] == "two"
    assert machine.lab.command(one.netns_path, "ip route show default") == ""
    machine.serve(machine.lab.outside, 7000, "outside")
    machine.lab.command(one.netns_path, "ip route add default via 172.18.0.1")
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(machine.lab.run, one.netns_path, lambda: ask(OUTSIDE, 7000, 0.5))


async def test_network_without_inter_container_traffic(machine: Machine) -> None:
    options = {"com.docker.network.bridge.enable_icc": "false", "com.docker.network.bridge.name": "quiet0"}
    await machine.manager.create(NetworkCreateRequest(name="quiet", options=options))
    assert "quiet0" in links(machine.lab, machine.lab.host)
    _, one = await machine.connect(network_mode="quiet")
    _, two = await machine.connect(network_mode="quiet")
    machine.serve(two.netns_path, 80, "two")
    machine.serve(machine.lab.outside, 7000, "outside")
    assert (await machine.ask(one.netns_path, OUTSIDE, 7000))[0] == "outside"
    address = two.endpoints["quiet"].ip_address
    with pytest.raises((TimeoutError, OSError), match=r"timed out|No route to host"):
        await asyncio.to_thread(machine.lab.run, one.netns_path, lambda: ask(address, 80, 0.5))


async def test_fixed_address_and_subnet_are_honoured(machine: Machine) -> None:
    ipam = IPAM(config=[IPAMConfig(subnet="10.77.0.0/24", gateway="10.77.0.254")])
    await machine.manager.create(NetworkCreateRequest(name="fixed", ipam=ipam))
    wanted = {"fixed": EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.77.0.9"))}
    _, info = await machine.connect(network_mode="fixed", endpoints=wanted)
    assert info.endpoints["fixed"].ip_address == "10.77.0.9"
    assert info.endpoints["fixed"].gateway == "10.77.0.254"
    with pytest.raises(PermissionDenied, match="Address already in use"):
        await machine.connect(network_mode="fixed", endpoints=wanted)
    with pytest.raises(PermissionDenied, match="Pool overlaps with other one on this address space"):
        await machine.manager.create(NetworkCreateRequest(name="clash", ipam=ipam))


async def test_network_errors_are_dockers(machine: Machine) -> None:
    manager = machine.manager
    network_id = await manager.create(NetworkCreateRequest(name="back"))
    with pytest.raises(Conflict, match=r"^network with name back already exists$"):
        await manager.create(NetworkCreateRequest(name="back"))
    with pytest.raises(PermissionDenied, match=r"^bridge is a pre-defined network and cannot be removed$"):
        await manager.remove("bridge")
    container_id, _ = await machine.connect(network_mode="back")
    with pytest.raises(
        PermissionDenied, match=f"error while removing network: network back id {network_id} has active"
    ):
        await manager.remove("back")
    await manager.release(container_id)
    await manager.remove(network_id[:12])
    with pytest.raises(NotFound, match=r"^network back not found$"):
        manager.inspect("back")
    assert not any(link.startswith("enx-") for link in links(machine.lab, machine.lab.host))
    with pytest.raises(NotFound, match="network nowhere not found"):
        await machine.connect(network_mode="nowhere")
    assert [event[1] for event in machine.events] == ["create", "connect", "disconnect", "destroy"]


async def test_list_and_prune(machine: Machine) -> None:
    await machine.manager.create(NetworkCreateRequest(name="a", labels={"keep": "no"}))
    await machine.manager.create(NetworkCreateRequest(name="b"))
    await machine.connect(network_mode="b")
    names = [network.name for network in machine.manager.list(Filters())]
    assert names == ["a", "b", "bridge", "host", "none"]
    custom = machine.manager.list(Filters.parse('{"type": ["custom"]}'))
    assert [network.name for network in custom] == ["a", "b"]
    report = await machine.manager.prune(Filters())
    assert report.networks_deleted == ["a"]


async def test_exhausted_subnet_is_a_clear_error_and_heals(machine: Machine) -> None:
    await machine.manager.create(
        NetworkCreateRequest(name="tiny", ipam=IPAM(config=[IPAMConfig(subnet="10.78.0.0/30")]))
    )
    first, _ = await machine.connect(network_mode="tiny")
    with pytest.raises(EnxameError, match="no available IPv4 addresses on this network's address pools: tiny"):
        await machine.connect(network_mode="tiny")
    await machine.manager.release(first)
    await machine.connect(network_mode="tiny")


async def test_subnets_that_the_host_routes_to_are_not_chosen(machine: Machine) -> None:
    machine.lab.command(machine.lab.host, f"ip route add 172.18.0.0/15 via {OUTSIDE}")
    await machine.manager.create(NetworkCreateRequest(name="back"))
    assert machine.manager.inspect("back").ipam.config[0].subnet == "172.20.0.0/16"


# Swarm networks and the routing mesh


def swarm_network(name: str, subnet: str, *, ingress: bool = False) -> Network:
    gateway = subnet.replace("0/24", "1")
    return Network(
        id=f"{name:0<25}",
        spec=NetworkSpec(name=name, ingress=ingress),
        ipam_options=IPAMOptions(configs=[IPAMConfig(subnet=subnet, gateway=gateway)]),
    )


def at(address: str) -> EndpointSettings:
    return EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address=address))


@dataclass
class Mesh:
    """A service with one published port, and the addresses of its tasks."""

    service: NetworkService
    endpoints: list[NetworkEndpoint]


def ingress(port: int, *addresses: str, target: int = 80, protocol: str = "tcp", service: str = "s1") -> Mesh:
    ports = [PortConfig(protocol=protocol, target_port=target, published_port=port, publish_mode="ingress")]
    return Mesh(
        NetworkService(id=f"{service}-{port}", name=service, ports=ports),
        [
            NetworkEndpoint(
                id=f"{port}-{address}",
                service_id=f"{service}-{port}",
                addresses=[address],
                serving=True,
                ports=ports,
            )
            for address in addresses
        ],
    )


async def tasks(machine: Machine, count: int) -> list[tuple[str, SandboxInfo]]:
    network = swarm_network("ingress", "10.0.0.0/24", ingress=True)
    with machine.lab.within_host():
        await machine.manager.ensure_swarm_network(network)
        await machine.manager.ensure_swarm_network(network)
    made = []
    for number in range(count):
        container_id, info = await machine.connect(
            endpoints={network.id: at(f"10.0.0.{number + 3}")}, waits_to_serve=True
        )
        machine.serve(info.netns_path, 80, f"task{number}")
        made.append((container_id, info))
    return made


async def set_ingress(machine: Machine, *published: Mesh) -> None:
    table = NetworkTable(
        network_id=f"{'ingress':0<25}",
        complete=True,
        services=[mesh.service for mesh in published],
        endpoints=[endpoint for mesh in published for endpoint in mesh.endpoints],
    )
    with machine.lab.within_host():
        await machine.manager.set_network_tables([table], complete=True)


async def test_service_port_balances_evenly_and_keeps_the_clients_address(machine: Machine) -> None:
    made = await tasks(machine, 3)
    await set_ingress(machine, ingress(8080, "10.0.0.3", "10.0.0.4", "10.0.0.5"))
    answers = [await machine.ask(machine.lab.outside, HOST, 8080) for _ in range(30)]
    assert Counter(name for name, _ in answers) == {"task0": 10, "task1": 10, "task2": 10}
    assert {client for _, client in answers} == {OUTSIDE}
    assert (await machine.ask(machine.lab.host, "127.0.0.1", 8080))[0].startswith("task")
    from_task = [await machine.ask(made[0][1].netns_path, HOST, 8080) for _ in range(6)]
    assert len({name for name, _ in from_task}) == 3, "a task reaches its service, itself included"
    _, other = await machine.connect()
    assert (await machine.ask(other.netns_path, "172.17.0.1", 8080))[0].startswith("task")
    assert (await machine.ask(other.netns_path, HOST, 8080))[1] == other.endpoints["bridge"].ip_address


async def test_task_reaches_outside_through_the_ingress_network(machine: Machine) -> None:
    ((_, info),) = await tasks(machine, 1)
    machine.serve(machine.lab.outside, 7000, "outside")
    assert await machine.ask(info.netns_path, OUTSIDE, 7000) == ("outside", HOST)


async def test_answers_of_a_task_on_two_networks_leave_by_the_way_the_question_came(machine: Machine) -> None:
    one, two = swarm_network("ingress", "10.0.0.0/24", ingress=True), swarm_network("app", "10.0.1.0/24")
    with machine.lab.within_host():
        await machine.manager.ensure_swarm_network(one)
        await machine.manager.ensure_swarm_network(two)
    strict = Path("/proc/sys/net/ipv4/conf/all/rp_filter")
    machine.lab.run(machine.lab.host, lambda: strict.write_text("1"))
    _, info = await machine.connect(endpoints={one.id: at("10.0.0.3"), two.id: at("10.0.1.3")}, waits_to_serve=True)
    assert machine.lab.command(info.netns_path, "ip route show default").startswith("default via 10.0.1.1 dev eth1")
    machine.lab.run(info.netns_path, lambda: strict.write_text("1"))
    machine.serve(info.netns_path, 80, "task")
    await set_ingress(machine, ingress(8080, "10.0.0.3"))
    assert await machine.ask(machine.lab.outside, HOST, 8080) == ("task", OUTSIDE)


def answers_on(connection: socket.socket) -> bool:
    try:
        ask_on(connection)
    except ConnectionResetError:
        return False
    return True


async def test_removed_backend_gets_no_new_connection_and_keeps_its_old_ones(machine: Machine) -> None:
    made = await tasks(machine, 2)
    await set_ingress(machine, ingress(8080, "10.0.0.3", "10.0.0.4"))
    connections = [machine.lab.run(machine.lab.outside, lambda: connect(HOST, 8080)) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        for connection in connections:
            stack.enter_context(connection)
        assert {ask_on(connection)[0] for connection in connections} == {"task0", "task1"}
        stopping = ingress(8080, "10.0.0.3", "10.0.0.4")
        stopping.endpoints[0] = msgspec.structs.replace(stopping.endpoints[0], serving=False)
        await set_ingress(machine, stopping)
        assert {(await machine.ask(machine.lab.outside, HOST, 8080))[0] for _ in range(10)} == {"task1"}
        assert {ask_on(connection)[0] for connection in connections} == {"task0", "task1"}
        await set_ingress(machine, ingress(8080, "10.0.0.4"))
        # The one that is gone is not waited for: its connection is reset.
        (reset,) = [connection for connection in connections if not answers_on(connection)]
        with pytest.raises(OSError, match=r"closed|Broken pipe|reset"):
            ask_on(reset)
    assert made


async def test_udp_client_moves_on_when_its_task_serves_no_more(machine: Machine) -> None:
    made = await tasks(machine, 2)
    for number, (_, info) in enumerate(made):
        machine.serve(info.netns_path, 53, f"udp{number}", "udp")
    await set_ingress(machine, ingress(5353, "10.0.0.3", target=53, protocol="udp"))

    def client() -> socket.socket:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(3)
        client.connect((HOST, 5353))
        return client

    with machine.lab.run(machine.lab.outside, client) as connection:
        assert ask_on(connection)[0] == "udp0"
        await set_ingress(machine, ingress(5353, "10.0.0.4", target=53, protocol="udp"))
        assert ask_on(connection)[0] == "udp1"


def ask_from(source_port: int, address: str, port: int) -> tuple[str, str]:
    with socket.socket() as client:
        client.settimeout(3)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("0.0.0.0", source_port))
        client.connect((address, port))
        return ask_on(client)


async def test_service_without_tasks_refuses_at_once(machine: Machine) -> None:
    await tasks(machine, 1)
    await set_ingress(machine, ingress(8080), ingress(5353, protocol="udp"))
    for namespace, address in ((machine.lab.outside, HOST), (machine.lab.host, "127.0.0.1")):
        with pytest.raises(ConnectionRefusedError):
            await machine.ask(namespace, address, 8080)
        with pytest.raises(ConnectionRefusedError):
            await machine.ask(namespace, address, 5353, "udp")
    for namespace, address in ((machine.lab.outside, HOST), (machine.lab.host, "127.0.0.1"), (machine.lab.host, HOST)):
        await set_ingress(machine, ingress(8080))
        again = partial(ask_from, 40_000, address, 8080)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(machine.lab.run, namespace, again)
        await set_ingress(machine, ingress(8080, "10.0.0.3"))
        # The kernel would remember the refusal for ten seconds.
        assert (await asyncio.to_thread(machine.lab.run, namespace, again))[0] == "task0"
    await set_ingress(machine, ingress(8080, "10.0.0.3"))
    assert (await machine.ask(machine.lab.outside, HOST, 8080))[0] == "task0"
    await set_ingress(machine)
    with pytest.raises(ConnectionRefusedError):
        await machine.ask(machine.lab.outside, HOST, 8080)
    assert "service-" not in machine.rules()


async def test_occupied_service_port_is_told_and_the_others_work_and_it_heals(machine: Machine) -> None:
    await tasks(machine, 1)
    program = machine.serve(machine.lab.host, 8080, "program")
    wanted = [ingress(8080, "10.0.0.3"), ingress(8081, "10.0.0.3", service="s2")]
    with pytest.raises(IngressPortsTaken) as caught:
        await set_ingress(machine, *wanted)
    (problem,) = caught.value.problems
    assert (problem.service_id, problem.port) == ("s1-8080", 8080)
    assert "address already in use" in problem.message
    assert (await machine.ask(machine.lab.outside, HOST, 8080))[0] == "program", "the program is not disturbed"
    assert (await machine.ask(machine.lab.outside, HOST, 8081))[0] == "task0"
    program.close()
    await set_ingress(machine, *wanted)
    assert (await machine.ask(machine.lab.outside, HOST, 8080))[0] == "task0"


async def test_service_port_and_container_port_exclude_each_other(machine: Machine) -> None:
    await tasks(machine, 1)
    await set_ingress(machine, ingress(8080, "10.0.0.3"))
    with pytest.raises(EnxameError, match=r"Bind for 0\.0\.0\.0:8080 failed: port is already allocated"):
        await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))


async def test_swarm_network_on_the_machines_own_subnet_is_refused_and_its_tasks_are_told_why(machine: Machine) -> None:
    network = swarm_network("ingress", "192.0.2.0/24", ingress=True)
    with machine.lab.within_host():
        with pytest.raises(
            EnxameError, match=r"192\.0\.2\.0/24 of network ingress overlaps with 192\.0\.2\.0/24, which this"
        ):
            await machine.manager.ensure_swarm_network(network)
        with pytest.raises(EnxameError, match=r"192\.0\.2\.0/24 of network ingress overlaps"):
            await machine.connect(endpoints={network.id: at("192.0.2.3")})
        with pytest.raises(EnxameError, match=r"172\.17\.0\.0/24 of network app overlaps with network bridge"):
            await machine.manager.ensure_swarm_network(swarm_network("app", "172.17.0.0/24"))
        machine.lab.command(machine.lab.host, f"ip route add 10.0.0.0/8 via {OUTSIDE}")
        await machine.manager.ensure_swarm_network(swarm_network("app", "10.0.0.0/24"))
    assert links(machine.lab, machine.lab.host) == {"lo", "up0", "enxame0", "enx-app0000000"}


async def test_swarm_network_goes_when_it_is_unused(machine: Machine) -> None:
    ((container_id, _),) = await tasks(machine, 1)
    network_id = f"{'ingress':0<25}"
    with pytest.raises(PermissionDenied):
        await machine.manager.remove_swarm_network(network_id)
    await machine.manager.release(container_id)
    await machine.manager.remove_swarm_network(network_id)
    await machine.manager.remove_swarm_network(network_id)
    await machine.manager._sandboxes.settled()
    assert links(machine.lab, machine.lab.host) == {"lo", "up0", "enxame0"}


@pytest.mark.parametrize("steps", range(1, 6))
async def test_removal_of_a_swarm_network_that_is_cancelled_can_be_done_again(machine: Machine, steps: int) -> None:
    network = swarm_network("ingress", "10.0.0.0/24", ingress=True)
    with machine.lab.within_host():
        await machine.manager.ensure_swarm_network(network)
        removal = asyncio.create_task(machine.manager.remove_swarm_network(network.id))
        for _ in range(steps):
            await asyncio.sleep(0)
        removal.cancel()
        await asyncio.wait({removal})
        await machine.manager.remove_swarm_network(network.id)
        assert machine.manager.known(network.id) is None
        assert links(machine.lab, machine.lab.host) == {"lo", "up0", "enxame0"}


# Restarts


async def test_traffic_goes_on_while_the_daemon_is_away_and_after_it_came_back(machine: Machine) -> None:
    made = await tasks(machine, 2)
    await machine.manager.create(NetworkCreateRequest(name="back"))
    _, web = await machine.connect(network_mode="back", port_bindings=publish("80/tcp", PortBinding(host_port="8090")))
    machine.serve(web.netns_path, 80, "web")
    await set_ingress(machine, ingress(8080, "10.0.0.3", "10.0.0.4"))
    stopping = threading.Event()
    failures: list[str] = []

    def load() -> int:
        answered = 0
        while not stopping.is_set():
            for port in (8080, 8090):
                try:
                    ask(HOST, port, 1)
                    answered += 1
                except OSError as error:
                    failures.append(f"{port}: {error}")
        return answered

    with machine.lab.run(machine.lab.outside, lambda: connect(HOST, 8090)) as connection:
        assert ask_on(connection)[0] == "web"
        client = asyncio.create_task(asyncio.to_thread(machine.lab.run, machine.lab.outside, load))
        for _ in range(3):
            await machine.stop()
            await machine.start()
            for container_id, info in made:
                await machine.manager.restore(container_id, info)
        stopping.set()
        assert await client > 20
        assert failures == []
        assert ask_on(connection)[0] == "web", "an established connection survives"
    with pytest.raises(OSError, match="Address already in use"):
        machine.serve(machine.lab.host, 8090, "thief")
    with pytest.raises(PermissionDenied, match="Address already in use"):
        await machine.connect(endpoints={f"{'ingress':0<25}": at("10.0.0.3")}, waits_to_serve=True)
    _, fresh = await machine.connect(network_mode="back")
    assert fresh.endpoints["back"].ip_address != web.endpoints["back"].ip_address
    assert [network.name for network in machine.manager.list(Filters())] == [
        "back",
        "bridge",
        "host",
        "ingress",
        "none",
    ]


async def test_leftovers_of_a_crash_are_removed_at_start(machine: Machine) -> None:
    container_id, info = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    clean = await machine.kernel()
    await machine.stop()
    lab = machine.lab
    lab.command(lab.host, "ip link add enxv-0123456789 type veth peer name enxv-9876543210")
    lab.command(lab.host, "ip link add enx-0123456789 type bridge")
    lab.command(lab.host, "ip link add enx001122334455 type bridge")
    lab.command(lab.host, "nft add element inet enxame published { tcp . 9999 : 172.17.0.9 . 80 }")
    (machine.directory / "exec" / "netns" / "abandoned").touch()
    await machine.start()
    assert await machine.kernel() == (clean[0] | {"enx001122334455"}, clean[1], clean[2])
    machine.serve(info.netns_path, 80, "web")
    assert (await machine.ask(lab.outside, HOST, 8080))[0] == "web"
    await machine.manager.forget_others({container_id})
    assert (await machine.ask(lab.outside, HOST, 8080))[0] == "web"
    await machine.manager.forget_others(set())
    with pytest.raises(ConnectionRefusedError):
        await machine.ask(lab.outside, HOST, 8080)
    assert await machine.namespaces() == set()


async def test_users_own_rules_survive_restarts(machine: Machine) -> None:
    _, web = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    machine.serve(web.netns_path, 80, "web")
    lab = machine.lab
    lab.command(
        lab.host,
        "nft add rule inet enxame-user forward meta l4proto tcp ct original proto-dst 8080 reject with tcp reset",
    )
    await machine.stop()
    await machine.start()
    with pytest.raises(ConnectionRefusedError):
        await machine.ask(lab.outside, HOST, 8080)


@pytest.mark.parametrize("lab", [False, True], indirect=True, ids=["no router", "router"])
async def test_machine_routes_for_others_only_if_it_did_before(
    machine: Machine, request: pytest.FixtureRequest
) -> None:
    lab = machine.lab
    beyond = lab._make()
    try:
        lab.command(lab.host, f"ip link add up1 type veth peer name eth0 netns /proc/{os.getpid()}/fd/{beyond}")
        lab.command(lab.host, "ip addr add 198.51.100.1/24 dev up1")
        lab.command(lab.host, "ip link set up1 up")
        for command in (
            "ip addr add 198.51.100.9/24 dev eth0",
            "ip link set eth0 up",
            "ip route add default via 198.51.100.1",
        ):
            lab.command(beyond, command)
        lab.command(lab.outside, f"ip route add 198.51.100.0/24 via {HOST}")
        machine.serve(beyond, 80, "beyond")
        passes = request.node.callspec.params["lab"]
        expected = contextlib.nullcontext() if passes else pytest.raises(TimeoutError)
        patience = 10 if passes else 0.5
        for _ in range(2):
            with expected:
                await asyncio.to_thread(lab.run, lab.outside, lambda: ask("198.51.100.9", 80, patience))
            await machine.stop()
            await machine.start()
    finally:
        os.close(beyond)


async def test_second_daemon_in_one_namespace_is_refused_before_it_touches_anything(machine: Machine) -> None:
    _, web = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    before = await machine.kernel()
    second = Machine(machine.lab, machine.directory / "second")
    with pytest.raises(EnxameError, match="another enxamed works in this network namespace"):
        await second.start()
    await second.stop()
    assert await machine.kernel() == before
    assert web.ports


async def test_networks_come_back_after_a_reboot(machine: Machine, tmp_path: Path) -> None:
    options = {"com.docker.network.bridge.name": "back0"}
    network_id = await machine.manager.create(NetworkCreateRequest(name="back", options=options))
    bridge_id = machine.manager.inspect("bridge").id
    await machine.connect(network_mode="back")
    fresh = Lab()
    try:
        again = Machine(fresh, tmp_path / "rebooted")
        shutil.copytree(tmp_path / "data", again.directory / "data")
        await again.start()
        assert links(fresh, fresh.host) >= {"enxame0", "back0"}
        assert again.manager.inspect("back").id == network_id
        assert again.manager.inspect("bridge").id == bridge_id
        assert again.manager.inspect("back").containers == {}
        await again.stop()
    finally:
        fresh.close()


async def test_udp_client_that_was_there_first_finds_a_port_published_later(machine: Machine) -> None:
    def client() -> socket.socket:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(3)
        client.connect((HOST, 5353))
        return client

    with machine.lab.run(machine.lab.outside, client) as connection:
        with pytest.raises(ConnectionRefusedError):
            ask_on(connection)
        container_id, info = await machine.connect(port_bindings=publish("53/udp", PortBinding(host_port="5353")))
        machine.serve(info.netns_path, 53, "dns", "udp")
        assert ask_on(connection)[0] == "dns"
        await machine.manager.release(container_id)
        with pytest.raises(ConnectionRefusedError):
            ask_on(connection)
        await tasks(machine, 1)
        task = next(iter(machine.manager._sandboxes.records))
        machine.serve(task.info.netns_path, 53, "task", "udp")
        await set_ingress(machine, ingress(5353, "10.0.0.3", target=53, protocol="udp"))
        assert ask_on(connection)[0] == "task"


# Leaks and speed


async def test_two_hundred_rounds_leak_nothing(machine: Machine) -> None:
    await tasks(machine, 0)
    network_id = f"{'ingress':0<25}"

    async def round_(number: int) -> None:
        container_id, _ = await machine.connect(
            endpoints={network_id: at(f"10.0.0.{number % 200 + 3}"), "bridge": EndpointSettings()},
            waits_to_serve=True,
            port_bindings=publish("80/tcp", PortBinding()),
        )
        await set_ingress(machine, ingress(8080, f"10.0.0.{number % 200 + 3}"))
        await machine.manager.release(container_id)
        await set_ingress(machine)

    def held() -> tuple[int, int, int]:
        mounts = Path("/proc/self/mountinfo").read_text().count(str(machine.directory))
        return len(os.listdir("/proc/self/fd")), threading.active_count(), mounts

    await round_(0)
    await machine.full_pool()
    before, kernel = held(), await machine.kernel()
    for number in range(200):
        await round_(number)
    await machine.full_pool()
    assert held() == before
    assert await machine.kernel() == kernel
    assert names_in(machine.directory / "exec" / "networks" / "sandboxes") == set()


async def test_fifty_containers_connect_and_release_quickly(machine: Machine) -> None:
    loop = asyncio.get_running_loop()
    binding = publish("80/tcp", PortBinding())
    begin = loop.time()
    made = await asyncio.gather(*(machine.connect(port_bindings=binding) for _ in range(50)))
    connected = loop.time() - begin
    begin = loop.time()
    await asyncio.gather(*(machine.manager.release(container_id) for container_id, _ in made))
    await machine.manager._sandboxes.settled()
    released = loop.time() - begin
    assert len({info.endpoints["bridge"].ip_address for _, info in made}) == 50
    assert connected < 1, connected
    assert released < 1, released
