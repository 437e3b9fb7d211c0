"""Name resolution inside containers: real sockets in real namespaces."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from enxame.engine.sandbox import SandboxInfo
from enxame.model.container import EndpointSettings
from enxame.model.filters import Filters
from enxame.model.network import NetworkCreateRequest
from enxame.testing.promises import allowed
from tests.engine.name_questions import AAAA, MX, PTR, A, ask_name, query, read, resolve
from tests.engine.network_lab import OUTSIDE, Lab
from tests.engine.network_machine import Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def address(info: SandboxInfo, network: str) -> str:
    return info.endpoints[network].ip_address


class OutsideResolver:
    """A resolver beyond the host: knows ``far.example`` and says what it was asked."""

    def __init__(self, lab: Lab, address: str = OUTSIDE) -> None:
        def open_() -> tuple[socket.socket, socket.socket]:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind((address, 53))
            tcp = socket.create_server((address, 53))
            return udp, tcp

        self.udp, self.tcp = lab.run(lab.outside, open_)
        self.udp.setblocking(False)
        self.tcp.setblocking(False)
        self.asked: list[bytes] = []
        self.tasks = [asyncio.create_task(self._serve_udp()), asyncio.create_task(self._serve_tcp())]

    def _reply(self, message: bytes) -> bytes:
        self.asked.append(message)
        known = b"\3far\7example\0" in message
        end = message.index(b"\0", 12) + 5
        head = message[:2] + bytes((0x81, 0x80 if known else 0x83)) + struct.pack("!HHHH", 1, int(known), 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 60, 4) + bytes((203, 0, 113, 7)) if known else b""
        return head + message[12:end] + record

    async def _serve_udp(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message, source = await loop.sock_recvfrom(self.udp, 4096)
            await loop.sock_sendto(self.udp, self._reply(message), source)

    async def _serve_tcp(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self.tcp)
            with connection:
                data = await loop.sock_recv(connection, 4096)
                reply = self._reply(data[2:])
                await loop.sock_sendall(connection, struct.pack("!H", len(reply)) + reply)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.udp.close()
        self.tcp.close()


@pytest.fixture
async def outside(lab: Lab) -> AsyncIterator[OutsideResolver]:
    resolver = OutsideResolver(lab)
    yield resolver
    await resolver.close()


async def on(machine: Machine, *networks: str, **request: object) -> tuple[str, SandboxInfo]:
    for network in networks:
        if network not in {resource.name for resource in machine.manager.list(Filters())}:
            await machine.manager.create(NetworkCreateRequest(name=network))
    request.setdefault("endpoints", {network: EndpointSettings() for network in networks})
    return await machine.connect(dns=[OUTSIDE], **request)


@pytest.mark.parametrize("tcp", [False, True])
async def test_container_is_found_by_its_names_on_a_shared_network(machine: Machine, tcp: bool) -> None:
    other_id, other = await on(
        machine, "app", name="web", hostname="front", endpoints={"app": EndpointSettings(aliases=["www"])}
    )
    _, info = await on(machine, "app", name="client")
    for name in ("web", "WEB", "www", "front", other_id[:12], "web.app"):
        assert await resolve(machine, info, name, tcp=tcp) == (0, [address(other, "app")]), name
    assert await resolve(machine, info, "web", AAAA, tcp=tcp) == (0, [])
    assert await resolve(machine, info, "web", MX, tcp=tcp) == (0, [])
    reverse = ".".join(reversed(address(other, "app").split("."))) + ".in-addr.arpa"
    assert await resolve(machine, info, reverse, PTR, tcp=tcp) == (0, ["web.app"])


async def test_names_are_not_known_beyond_their_network(machine: Machine, outside: OutsideResolver) -> None:
    await on(machine, "one", name="web")
    _, stranger = await on(machine, "two", name="client")
    assert await resolve(machine, stranger, "web") == (3, [])
    _, both = await on(machine, "two", "one", name="both")
    assert (await resolve(machine, both, "web"))[0] == 0


async def test_default_bridge_keeps_the_hosts_resolvers_and_knows_no_names(machine: Machine) -> None:
    _, info = await machine.connect(dns=["192.0.2.53"])
    assert info.resolv_conf.startswith("nameserver 192.0.2.53\n")
    with pytest.raises(OSError, match="refused"):
        await resolve(machine, info, "web")


async def test_resolver_file_names_the_embedded_resolver(machine: Machine) -> None:
    _, info = await on(machine, "app", dns_search=["corp.example"], dns_options=["timeout:1"])
    assert info.resolv_conf == "nameserver 127.0.0.11\nsearch corp.example\noptions timeout:1 ndots:0\n"


async def test_several_bearers_of_an_alias_all_answer(machine: Machine) -> None:
    alias = {"endpoints": {"app": EndpointSettings(aliases=["pool"])}}
    infos = [(await on(machine, "app", name=f"w{number}", **alias))[1] for number in range(3)]
    _, info = await on(machine, "app", name="client")
    assert await resolve(machine, info, "pool") == (0, sorted(address(item, "app") for item in infos))


async def test_answers_too_long_for_udp_say_so_and_tcp_has_all(machine: Machine) -> None:
    _, info = await on(machine, "app", name="client")
    names = machine.manager._names
    network = machine.manager._registry.find("app")
    for number in range(60):
        names._table.tell(network.resource.id, f"x{number}", ["many"], (bytes((10, 9, 8, number)), b""))
    reply = await asyncio.to_thread(machine.lab.run, info.netns_path, lambda: ask_name(query("many")))
    assert len(reply) <= 512
    assert reply[2] & 0x02
    assert len((await resolve(machine, info, "many", tcp=True))[1]) == 60
    extended = await asyncio.to_thread(machine.lab.run, info.netns_path, lambda: ask_name(query("many", edns=True)))
    assert not extended[2] & 0x02
    assert len(read(extended)[1]) == 60


async def test_links_are_known_to_their_container_alone(machine: Machine, outside: OutsideResolver) -> None:
    _, db = await on(machine, "app", name="postgres-1")
    _, linked = await on(machine, "app", name="api", endpoints={"app": EndpointSettings(links=["postgres-1:db"])})
    _, other = await on(machine, "app", name="other")
    assert await resolve(machine, linked, "db") == (0, [address(db, "app")])
    assert await resolve(machine, other, "db") == (3, [])


async def test_link_on_the_default_bridge_is_a_line_of_the_hosts_file(machine: Machine) -> None:
    other_id, other = await machine.connect(name="db1")
    _, info = await machine.connect(links=["/db1:/api/db"])
    for name in ("db", "db1", other_id[:12]):
        assert f"{address(other, 'bridge')}\t{name}\n" in info.hosts


@pytest.mark.parametrize("tcp", [False, True])
async def test_other_names_are_asked_for_outside(machine: Machine, outside: OutsideResolver, tcp: bool) -> None:
    _, info = await on(machine, "app")
    assert await resolve(machine, info, "far.example", tcp=tcp) == (0, ["203.0.113.7"])
    assert await resolve(machine, info, "nowhere.example", tcp=tcp) == (3, [])
    # EDNS reaches them as it was sent; the id does not.
    message = query("far.example", edns=True)
    await asyncio.to_thread(machine.lab.run, info.netns_path, lambda: ask_name(message))
    assert outside.asked[-1][2:] == message[2:]


async def test_resolver_that_is_silent_is_passed_over(machine: Machine, outside: OutsideResolver) -> None:
    await machine.manager.create(NetworkCreateRequest(name="app"))
    _, info = await machine.connect(endpoints={"app": EndpointSettings()}, dns=["192.0.2.1", OUTSIDE])
    assert await resolve(machine, info, "far.example") == (0, ["203.0.113.7"])


async def test_container_on_internal_networks_alone_asks_nobody_outside(
    machine: Machine, outside: OutsideResolver
) -> None:
    await machine.manager.create(NetworkCreateRequest(name="safe", internal=True))
    _, info = await on(machine, "safe", name="client")
    assert await resolve(machine, info, "far.example") == (2, [])
    assert outside.asked == []
    assert (await resolve(machine, info, "client"))[0] == 0


async def test_port_53_stays_free_for_the_containers_own_programs(machine: Machine) -> None:
    _, info = await on(machine, "app", name="dns")
    machine.serve(info.netns_path, 53, "own", protocol="udp")
    machine.serve(info.netns_path, 53, "own")
    assert (await machine.ask(info.netns_path, address(info, "app"), 53, "udp"))[0] == "own"
    assert await resolve(machine, info, "dns") == (0, [address(info, "app")])


async def test_names_of_a_released_container_are_forgotten_at_once(machine: Machine, outside: OutsideResolver) -> None:
    gone, other = await on(machine, "app", name="web")
    _, info = await on(machine, "app", name="client")
    await machine.manager.release(gone)
    assert await resolve(machine, info, "web") == (3, [])
    reverse = ".".join(reversed(address(other, "app").split("."))) + ".in-addr.arpa"
    assert await resolve(machine, info, reverse, PTR) == (3, [])


async def test_task_is_found_by_its_service_only_while_it_serves(machine: Machine) -> None:
    aliases = {"app": EndpointSettings(aliases=["web", "tasks.web"])}
    task_id, task = await on(machine, "app", name="web.1.x", endpoints=aliases, waits_to_serve=True)
    _, info = await on(machine, "app", name="client")
    assert await resolve(machine, info, "web.1.x") == (0, [address(task, "app")])
    assert await resolve(machine, info, "web") == (0, [])
    await machine.manager.set_serving(task_id, True)
    for name in ("web", "tasks.web"):
        assert await resolve(machine, info, name) == (0, [address(task, "app")])
    await machine.stop()
    await machine.start()
    assert await resolve(machine, info, "web") == (0, [address(task, "app")])
    await machine.manager.set_serving(task_id, False)
    assert await resolve(machine, info, "web") == (0, [])


async def test_a_daemon_with_thousands_of_open_files_serves_new_containers(machine: Machine) -> None:
    # libnftables aborts the whole process when it meets a descriptor above 1023.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        _, info = await on(machine, "app", name="late")
        assert await resolve(machine, info, "late") == (0, [address(info, "app")])
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_malformed_queries_do_no_harm(machine: Machine) -> None:
    _, info = await on(machine, "app", name="client")

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.11", 53))
            whole = query("client", edns=True)
            for end in range(len(whole)):
                client.send(whole[:end])
            client.send(b"\x12\x34\x81\x80" + whole[4:])
            client.send(whole[:12] + b"\xc0\x0c" + b"\0\1\0\1")
            client.send(os.urandom(4000))

    await asyncio.to_thread(machine.lab.run, info.netns_path, send)
    assert (await resolve(machine, info, "client"))[0] == 0


async def test_resolver_costs_a_start_less_than_two_milliseconds(machine: Machine) -> None:
    await machine.manager.create(NetworkCreateRequest(name="app"))
    loop = asyncio.get_running_loop()
    costs: dict[str, list[float]] = {"app": [], "bridge": []}
    for _ in range(8):
        for network, taken in costs.items():
            await machine.full_pool()
            begin = loop.time()
            await machine.connect(endpoints={network: EndpointSettings()}, dns=[OUTSIDE])
            taken.append(loop.time() - begin)
    assert min(costs["app"]) - min(costs["bridge"]) < allowed(0.002), costs
