"""What stays and what goes of a machine's networks when the daemon stops, crashes, comes back, and over many rounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from enxame.errors import EnxameError, PermissionDenied
from enxame.model.container import EndpointSettings, PortBinding
from enxame.model.filters import Filters
from enxame.model.network import NetworkCreateRequest
from tests.engine.mesh_lab import at, ingress, set_ingress, tasks
from tests.engine.network_lab import HOST, Lab, ask, ask_on, connect, links, names_in
from tests.engine.network_machine import Machine, publish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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
    # Fewer are held where something that an earlier test left is collected meanwhile.
    assert all(now <= then for now, then in zip(held(), before, strict=True)), f"{before} became {held()}"
    assert await machine.kernel() == kernel
    assert names_in(machine.directory / "exec" / "networks" / "sandboxes") == set()


async def test_fifty_containers_connect_and_release_side_by_side(machine: Machine) -> None:
    binding = publish("80/tcp", PortBinding())
    made = await asyncio.gather(*(machine.connect(port_bindings=binding) for _ in range(50)))
    assert len({info.endpoints["bridge"].ip_address for _, info in made}) == 50
    assert len({info.ports["80/tcp"][0].host_port for _, info in made}) == 50
    await asyncio.gather(*(machine.manager.release(container_id) for container_id, _ in made))
    await machine.manager._sandboxes.settled()
    assert not list(machine.manager._sandboxes.records)
