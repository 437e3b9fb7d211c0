"""Networks of one machine with IPv6: addresses inside, the way out, published ports, names."""

from __future__ import annotations

import os

import pytest

from enxame.engine.networks.local_networks import DefaultBridge
from enxame.errors import InvalidArgument, PermissionDenied
from enxame.model.container import EndpointIPAMConfig, EndpointSettings, PortBinding
from enxame.model.network import IPAM, IPAMConfig, NetworkCreateRequest, NetworkResource
from tests.engine.network_lab import HOST, OUTSIDE, Lab
from tests.engine.network_machine import Machine, publish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HOST6, OUTSIDE6 = "2001:db8::1", "2001:db8::9"


def six(lab: Lab) -> None:
    lab.command(lab.host, f"ip addr add {HOST6}/64 dev up0 nodad")
    lab.command(lab.outside, f"ip addr add {OUTSIDE6}/64 dev eth0 nodad")


async def make(machine: Machine, name: str, subnet: str = "", **more: object) -> str:
    ipam = IPAM(config=[IPAMConfig(subnet=subnet)]) if subnet else None
    with machine.lab.within_host():
        return await machine.manager.create(NetworkCreateRequest(name=name, enable_ipv6=True, ipam=ipam, **more))


async def test_containers_have_addresses_of_both_kinds_and_reach_each_other_and_the_world(machine: Machine) -> None:
    six(machine.lab)
    await make(machine, "both", "fd00:1::/64")
    resource = machine.manager.inspect("both")
    assert resource.enable_ipv6
    assert [config.gateway for config in resource.ipam.config] == ["172.18.0.1", "fd00:1::1"]
    asked = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv6_address="fd00:1::99"))
    _, one = await machine.connect(endpoints={"both": EndpointSettings()})
    two_id, two = await machine.connect(endpoints={"both": asked})
    endpoint = one.endpoints["both"]
    assert (endpoint.global_ipv6_address, endpoint.global_ipv6_prefix_len) == ("fd00:1::2", 64)
    assert endpoint.ipv6_gateway == "fd00:1::1"
    assert "fd00:1::2\t" in one.hosts
    shown = machine.manager.inspect("both").containers
    assert shown is not None
    assert shown[two_id].ipv6_address == "fd00:1::99/64"
    machine.serve(two.netns_path, 80, "two", six=True)
    assert await machine.ask(one.netns_path, "fd00:1::99", 80) == ("two", "fd00:1::2")
    machine.serve(machine.lab.outside, 7000, "outside", six=True)
    assert await machine.ask(one.netns_path, OUTSIDE6, 7000) == ("outside", HOST6)


async def test_published_ports_lead_natively_to_a_container_with_ipv6_and_keep_the_client(machine: Machine) -> None:
    six(machine.lab)
    await make(machine, "both", "fd00:1::/64")
    ports = {
        **publish("80/tcp", PortBinding(host_port="8080"), PortBinding(host_ip=HOST6, host_port="8081")),
        **publish("53/udp", PortBinding(host_port="5353")),
    }
    _, web = await machine.connect(endpoints={"both": EndpointSettings()}, port_bindings=ports)
    _, other = await machine.connect(endpoints={"both": EndpointSettings()})
    assert web.ports["80/tcp"] == [
        PortBinding(host_ip="0.0.0.0", host_port="8080"),
        PortBinding(host_ip="::", host_port="8080"),
        PortBinding(host_ip=HOST6, host_port="8081"),
    ]
    machine.serve(web.netns_path, 80, "web", six=True)
    machine.serve(web.netns_path, 80, "web4")
    machine.serve(web.netns_path, 53, "dns", "udp", six=True)
    lab = machine.lab
    for _ in range(2):
        assert await machine.ask(lab.outside, HOST6, 8080) == ("web", OUTSIDE6)
        assert await machine.ask(lab.outside, HOST6, 8081) == ("web", OUTSIDE6)
        assert await machine.ask(lab.outside, HOST6, 5353, "udp") == ("dns", OUTSIDE6)
        assert await machine.ask(lab.outside, HOST, 8080) == ("web4", OUTSIDE)
        assert (await machine.ask(lab.host, "::1", 8080))[0] == "web4", "carried over IPv4"
        assert (await machine.ask(lab.host, HOST6, 8080))[0] == "web"
        assert (await machine.ask(other.netns_path, HOST6, 8080))[0] == "web"
        assert (await machine.ask(web.netns_path, HOST6, 8080))[0] == "web", "from the container itself"
        await machine.stop()
        await machine.start()


async def test_ports_of_one_ipv6_address_lead_to_a_container_that_only_has_ipv4(machine: Machine) -> None:
    six(machine.lab)
    ports = {
        **publish("80/tcp", PortBinding(host_ip="::1", host_port="8080")),
        **publish("53/udp", PortBinding(host_port="5353"), PortBinding(host_ip=HOST6, host_port="5354")),
    }
    container, web = await machine.connect(port_bindings=ports)
    assert web.ports["80/tcp"] == [PortBinding(host_ip="::1", host_port="8080")]
    machine.serve(web.netns_path, 80, "web")
    machine.serve(web.netns_path, 53, "dns", "udp")
    lab = machine.lab
    for _ in range(2):
        assert (await machine.ask(lab.host, "::1", 8080))[0] == "web"
        for address, port in (("::1", 5353), (HOST6, 5353), (HOST6, 5354)):
            assert (await machine.ask(lab.host, address, port, "udp"))[0] == "dns"
        assert (await machine.ask(lab.outside, HOST6, 5353, "udp"))[0] == "dns"
        with pytest.raises(OSError, match="refused"):
            await machine.ask(lab.outside, HOST6, 8080)
        with pytest.raises(OSError, match="refused"):
            await machine.ask(lab.host, "127.0.0.1", 8080)
        await machine.stop()
        await machine.start()
    await machine.manager.release(container)
    with pytest.raises(OSError, match="refused"):
        await machine.ask(lab.host, "::1", 8080)


async def test_subnets_come_from_unique_local_addresses_and_do_not_overlap(machine: Machine) -> None:
    await make(machine, "first")
    await make(machine, "second")
    subnets = [machine.manager.inspect(name).ipam.config[1].subnet for name in ("first", "second")]
    assert all(subnet.startswith("fd") and subnet.endswith("/64") for subnet in subnets)
    assert len(set(subnets)) == 2
    with pytest.raises(PermissionDenied, match="Pool overlaps"):
        await make(machine, "third", subnets[0])


async def test_an_internal_network_has_no_way_out_over_ipv6_either(machine: Machine) -> None:
    six(machine.lab)
    await make(machine, "closed", "fd00:2::/64", internal=True)
    _, info = await machine.connect(endpoints={"closed": EndpointSettings()})
    machine.serve(machine.lab.outside, 7000, "outside", six=True)
    with pytest.raises(OSError, match="unreachable"):
        await machine.ask(info.netns_path, OUTSIDE6, 7000)


async def test_joining_gives_an_ipv6_address_that_parting_gives_back(machine: Machine) -> None:
    await make(machine, "both", "fd00:3::/64")
    container, _ = await machine.connect()
    for _ in range(2):
        wanted = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv6_address="fd00:3::7"))
        with machine.lab.within_host():
            info = await machine.manager.join(container, "both", wanted)
        assert info.endpoints["both"].global_ipv6_address == "fd00:3::7"
        await machine.manager.part(container, "both")


async def test_an_ipv6_address_needs_a_network_that_has_such(machine: Machine) -> None:
    wanted = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv6_address="fd00::7"))
    with pytest.raises(InvalidArgument, match="user configured subnets"):
        await machine.connect(endpoints={"bridge": wanted})


async def again(machine: Machine, bridge: DefaultBridge) -> NetworkResource:
    """The machine's daemon is started with other options; the default bridge as it is then."""
    await machine.stop()
    machine.default_bridge = bridge
    await machine.start()
    return machine.manager.inspect("bridge")


async def test_the_default_bridge_has_ipv6_when_the_daemon_is_told_so(machine: Machine) -> None:
    six(machine.lab)
    assert not machine.manager.inspect("bridge").enable_ipv6
    bridge = await again(machine, DefaultBridge(ipv6=True, fixed_cidr_v6="2001:db8:1::/64"))
    assert bridge.enable_ipv6
    assert [(one.subnet, one.gateway) for one in bridge.ipam.config][1:] == [("2001:db8:1::/64", "2001:db8:1::1")]
    _, one = await machine.connect()
    web_id, web = await machine.connect(port_bindings=publish("80/tcp", PortBinding(host_port="8080")))
    endpoint = web.endpoints["bridge"]
    assert (endpoint.global_ipv6_address, endpoint.ipv6_gateway) == ("2001:db8:1::3", "2001:db8:1::1")
    machine.serve(web.netns_path, 80, "web", six=True)
    assert await machine.ask(one.netns_path, "2001:db8:1::3", 80) == ("web", "2001:db8:1::2")
    assert await machine.ask(machine.lab.outside, HOST6, 8080) == ("web", OUTSIDE6)
    machine.serve(machine.lab.outside, 7000, "outside", six=True)
    assert await machine.ask(one.netns_path, OUTSIDE6, 7000) == ("outside", HOST6)
    # Containers that are on it keep what they have, whatever the next daemon is told.
    assert (await again(machine, DefaultBridge())).enable_ipv6
    assert web_id in (machine.manager.inspect("bridge").containers or {})
    assert await machine.ask(one.netns_path, "2001:db8:1::3", 80) == ("web", "2001:db8:1::2")


async def test_the_default_bridge_takes_a_subnet_of_its_own_and_keeps_it(machine: Machine) -> None:
    first = await again(machine, DefaultBridge(ipv6=True))
    subnet = first.ipam.config[1].subnet
    assert subnet.startswith("fd")
    await make(machine, "other")
    assert machine.manager.inspect("other").ipam.config[1].subnet != subnet
    assert (await again(machine, DefaultBridge(ipv6=True))).ipam.config[1].subnet == subnet
    assert not (await again(machine, DefaultBridge())).enable_ipv6


@pytest.mark.parametrize("wrong", ["2001:db8::1/64x", "10.0.0.0/8", "fd00:1::/64"])
async def test_a_subnet_that_the_default_bridge_cannot_have_is_told(machine: Machine, wrong: str) -> None:
    await make(machine, "other", "fd00:1::/64")
    await machine.stop()
    machine.default_bridge = DefaultBridge(ipv6=True, fixed_cidr_v6=wrong)
    with pytest.raises(InvalidArgument):
        await machine.start()
    await machine.stop()
    machine.default_bridge = DefaultBridge()
    await machine.start()
