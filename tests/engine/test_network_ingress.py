"""Published ports of services, and the local side of swarm networks, on one machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import Counter
from functools import partial
from pathlib import Path

import msgspec
import pytest

from enxame.engine.networks.manager import IngressPortsTaken
from enxame.errors import EnxameError, PermissionDenied
from enxame.model.container import PortBinding
from tests.engine.mesh_lab import at, ingress, set_ingress, swarm_network, tasks
from tests.engine.network_lab import HOST, OUTSIDE, ask_on, connect, links
from tests.engine.network_machine import Machine, publish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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


def udp_client() -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(3)
    client.connect((HOST, 5353))
    return client


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

    with machine.lab.run(machine.lab.outside, udp_client) as connection:
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


async def test_udp_client_that_was_there_first_finds_a_port_published_later(machine: Machine) -> None:
    with machine.lab.run(machine.lab.outside, udp_client) as connection:
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
