"""Containers on networks of one machine with real namespaces, links, rules and connections."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from enxame.errors import Conflict, EnxameError, NotFound, PermissionDenied
from enxame.model.container import EndpointIPAMConfig, EndpointSettings, PortBinding
from enxame.model.filters import Filters
from enxame.model.network import IPAM, IPAMConfig, NetworkCreateRequest
from tests.engine.mesh_lab import at, tasks
from tests.engine.network_lab import HOST, OUTSIDE, ask, links
from tests.engine.network_machine import Machine, publish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

BRIDGE_FIREWALL = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


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
