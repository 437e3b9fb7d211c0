"""Containers join and part from networks while they run."""

from __future__ import annotations

import asyncio
import os

import pytest

from enxame.errors import EnxameError, InvalidArgument, NotFound, PermissionDenied
from enxame.model.container import EndpointIPAMConfig, EndpointSettings, PortBinding
from enxame.model.filters import Filters
from enxame.model.network import IPAM, IPAMConfig, NetworkCreateRequest
from tests.engine.mesh_lab import swarm_network
from tests.engine.name_questions import resolve
from tests.engine.network_lab import HOST, OUTSIDE
from tests.engine.network_machine import Machine, publish
from tests.engine.test_network_names import address, on

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


async def join(machine: Machine, container_id: str, network: str, **settings: object):  # type: ignore[no-untyped-def]
    with machine.lab.within_host():
        return await machine.manager.join(container_id, network, EndpointSettings(**settings))


async def test_running_container_joins_a_network_and_is_found_there(machine: Machine) -> None:
    _, peer = await on(machine, "app", name="peer")
    joining, info = await machine.connect(name="web")
    assert "127.0.0.11" not in info.resolv_conf
    info = await join(machine, joining, "app", aliases=["www"])
    assert info.resolv_conf.startswith("nameserver 127.0.0.11\n")
    assert list(info.endpoints) == ["bridge", "app"]
    assert await resolve(machine, peer, "www") == (0, [address(info, "app")])
    assert await resolve(machine, info, "peer") == (0, [address(peer, "app")])
    machine.serve(info.netns_path, 80, "web")
    assert (await machine.ask(peer.netns_path, address(info, "app"), 80))[0] == "web"
    assert "eth1" in machine.lab.command(info.netns_path, "ip -br addr")
    assert machine.manager.inspect("app").containers[joining].ipv4_address == f"{address(info, 'app')}/16"
    assert ("network", "connect", "app") in machine.events


async def test_container_parts_from_a_network_and_keeps_the_other(machine: Machine) -> None:
    _, peer = await on(machine, "app", name="peer")
    parting, info = await on(machine, "app", "other", name="web")
    gone = address(info, "app")
    left = await machine.manager.part(parting, "app")
    assert list(left.endpoints) == ["other"]
    assert await resolve(machine, peer, "web.app") != (0, [gone])
    inside = machine.lab.command(info.netns_path, "ip -br link")
    assert "eth0" not in inside
    assert "eth1" in inside
    assert "lookup 1000" not in machine.lab.command(info.netns_path, "ip rule")
    assert ("network", "disconnect", "app") in machine.events
    again = await join(machine, parting, "app")
    assert set(again.endpoints) == {"app", "other"}
    assert await resolve(machine, peer, "web") == (0, [address(again, "app")])


async def test_default_route_and_published_ports_follow_what_is_left(machine: Machine) -> None:
    machine.serve(machine.lab.outside, 7000, "outside")
    moving, info = await on(
        machine, "one", "two", name="web", port_bindings=publish("80/tcp", PortBinding(host_port="8080"))
    )
    machine.serve(info.netns_path, 80, "web")
    before = machine.lab.command(info.netns_path, "ip route show default")
    assert await machine.ask(machine.lab.outside, HOST, 8080) == ("web", OUTSIDE)
    await machine.manager.part(moving, "one")
    assert machine.lab.command(info.netns_path, "ip route show default") != before
    assert await machine.ask(machine.lab.outside, HOST, 8080) == ("web", OUTSIDE)
    assert await machine.ask(info.netns_path, OUTSIDE, 7000) == ("outside", HOST)
    left = await machine.manager.part(moving, "two")
    assert left.endpoints == {}
    assert left.ports == {}
    with pytest.raises(OSError, match="refused"):
        await machine.ask(machine.lab.outside, HOST, 8080)


async def test_higher_gateway_priority_takes_the_default_route(machine: Machine) -> None:
    machine.serve(machine.lab.outside, 7000, "outside")
    moving, info = await on(machine, "one", name="web")
    await machine.manager.create(NetworkCreateRequest(name="two"))
    info = await join(machine, moving, "two", gw_priority=5)
    assert info.endpoints["two"].gateway in machine.lab.command(info.netns_path, "ip route show default")
    assert await machine.ask(info.netns_path, OUTSIDE, 7000) == ("outside", HOST)
    # Whoever asks on the first network still gets answers from there.
    _, peer = await on(machine, "one", name="peer")
    machine.serve(info.netns_path, 80, "web")
    assert (await machine.ask(peer.netns_path, address(info, "one"), 80))[0] == "web"


async def test_container_of_an_internal_network_gets_a_way_out_by_joining(machine: Machine) -> None:
    machine.serve(machine.lab.outside, 7000, "outside")
    await machine.manager.create(NetworkCreateRequest(name="safe", internal=True))
    moving, info = await on(machine, "safe", name="web")
    with pytest.raises(OSError, match="unreachable"):
        await machine.ask(info.netns_path, OUTSIDE, 7000)
    await join(machine, moving, "bridge")
    assert await machine.ask(info.netns_path, OUTSIDE, 7000) == ("outside", HOST)


async def test_an_internal_network_publishes_no_ports_and_the_next_one_does(machine: Machine) -> None:
    await machine.manager.create(NetworkCreateRequest(name="safe", internal=True))
    ports = publish("80/tcp", PortBinding(host_port="8080"))
    moving, info = await on(machine, "safe", name="web", port_bindings=ports)
    machine.serve(info.netns_path, 80, "web")
    assert info.ports == {}
    with pytest.raises(OSError, match="refused"):
        await machine.ask(machine.lab.outside, HOST, 8080)
    joined = await join(machine, moving, "bridge")
    assert [binding.host_port for binding in joined.ports["80/tcp"]] == ["8080", "8080"]
    assert await machine.ask(machine.lab.outside, HOST, 8080) == ("web", OUTSIDE)
    left = await machine.manager.part(moving, "bridge")
    assert left.ports == {}
    # Somebody else may have the port now; who cannot have it does not join.
    other, _ = await machine.connect(name="other", port_bindings=ports)
    with pytest.raises(EnxameError, match="8080"):
        await join(machine, moving, "bridge")
    assert "bridge" not in machine.manager._sandboxes.find(moving).info.endpoints
    await machine.manager.release(other)
    assert "80/tcp" in (await join(machine, moving, "bridge")).ports


async def test_fixed_address_and_link_address_are_honoured(machine: Machine) -> None:
    ipam = IPAM(config=[IPAMConfig(subnet="10.9.0.0/24")])
    await machine.manager.create(NetworkCreateRequest(name="fixed", ipam=ipam))
    moving, _ = await machine.connect(name="web")
    info = await join(
        machine,
        moving,
        "fixed",
        ipam_config=EndpointIPAMConfig(ipv4_address="10.9.0.77"),
        mac_address="02:00:00:00:00:77",
    )
    assert address(info, "fixed") == "10.9.0.77"
    assert "02:00:00:00:00:77" in machine.lab.command(info.netns_path, "ip link show eth1")


async def test_errors_are_dockers_and_change_nothing(machine: Machine) -> None:
    moving, info = await on(machine, "app", name="web")
    await machine.manager.create(NetworkCreateRequest(name="empty"))
    with pytest.raises(PermissionDenied, match="endpoint with name web already exists in network app"):
        await join(machine, moving, "app")
    with pytest.raises(EnxameError, match=f"container {moving} is not connected to network empty"):
        await machine.manager.part(moving, "empty")
    with pytest.raises(NotFound, match="network nowhere not found"):
        await join(machine, moving, "nowhere")
    with pytest.raises(InvalidArgument, match="network-scoped alias is supported only"):
        await join(machine, moving, "bridge", aliases=["x"])
    with pytest.raises(InvalidArgument, match="does not belong to any of this network's subnets"):
        await join(machine, moving, "empty", ipam_config=EndpointIPAMConfig(ipv4_address="10.1.2.3"))
    alone, _ = await machine.connect(network_mode="none")
    with pytest.raises(PermissionDenied, match="private \\(none\\) mode"):
        await join(machine, alone, "app")
    assert machine.manager._sandboxes.find(moving).info == info
    assert machine.manager.inspect("empty").containers == {}


async def test_what_was_joined_is_there_after_a_restart(machine: Machine) -> None:
    moving, info = await on(machine, "one", name="web")
    await machine.manager.create(NetworkCreateRequest(name="two"))
    info = await join(machine, moving, "two")
    await machine.stop()
    await machine.start()
    assert set(machine.manager._sandboxes.find(moving).info.endpoints) == {"one", "two"}
    machine.serve(info.netns_path, 80, "web")
    _, peer = await on(machine, "two", name="peer")
    assert (await machine.ask(peer.netns_path, address(info, "two"), 80))[0] == "web"
    await machine.manager.part(moving, "two")
    assert "eth1" not in machine.lab.command(info.netns_path, "ip -br link")


async def test_swarm_address_of_a_container_on_its_way_out_is_waited_for(machine: Machine) -> None:
    await machine.manager.ensure_swarm_network(swarm_network("ingress", "10.0.0.0/24", ingress=True))
    ref = machine.manager.list(Filters({"scope": frozenset({"swarm"})}))[0].id
    fixed = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.0.0.7"))
    old, _ = await machine.connect(endpoints={ref: fixed}, waits_to_serve=True)
    begun = asyncio.create_task(machine.connect(endpoints={ref: fixed}, waits_to_serve=True))
    while not machine.manager._sandboxes._table.address_left._waiters:
        await asyncio.sleep(0)
    await machine.manager.release(old)
    _, info = await begun
    assert address(info, "ingress") == "10.0.0.7"


async def test_a_swarm_network_is_told_of_when_this_machine_takes_part_and_when_no_more(machine: Machine) -> None:
    network = swarm_network("app", "10.0.9.0/24")
    for _ in range(2):
        await asyncio.gather(*(machine.manager.ensure_swarm_network(network) for _ in range(2)))
        await machine.manager.remove_swarm_network(network.id)
        await machine.manager.remove_swarm_network(network.id)
    assert machine.events == [("network", "create", "app"), ("network", "destroy", "app")] * 2


async def test_hundred_rounds_of_joining_leak_nothing(machine: Machine) -> None:
    moving, info = await on(machine, "one", name="web")
    await machine.manager.create(NetworkCreateRequest(name="two"))
    before = await machine.kernel()
    inside = machine.lab.command(info.netns_path, "ip -br link"), machine.lab.command(info.netns_path, "ip rule")
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        await join(machine, moving, "two")
        await machine.manager.part(moving, "two")
    assert await machine.kernel() == before
    assert (
        machine.lab.command(info.netns_path, "ip -br link"),
        machine.lab.command(info.netns_path, "ip rule"),
    ) == inside
    assert len(os.listdir("/proc/self/fd")) == descriptors
