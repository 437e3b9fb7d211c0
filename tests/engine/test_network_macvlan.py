"""Containers on the wire of this machine's own link."""

from __future__ import annotations

import os

import pytest

from enxame.errors import EnxameError, InvalidArgument, Unimplemented
from enxame.model.container import EndpointIPAMConfig, EndpointSettings, PortBinding
from enxame.model.network import IPAM, IPAMConfig, NetworkCreateRequest
from enxame.network.macvlan import find_parent
from enxame.network.netlink import NetlinkSocket
from tests.engine.network_lab import OUTSIDE, Lab
from tests.engine.network_machine import Machine, publish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WIRE = "203.0.113.0/24"


def works(lab: Lab) -> bool:
    def probe() -> bool:
        socket = NetlinkSocket()
        try:
            find_parent(socket, "up0", "bridge")
        except EnxameError:
            return False
        finally:
            socket.close()
        return True

    return bool(lab.run(lab.host, probe))


async def make(machine: Machine, name: str, *further: IPAMConfig, **options: str) -> str:
    ipam = IPAM(config=[IPAMConfig(subnet=WIRE, gateway="203.0.113.1", ip_range="203.0.113.128/25"), *further])
    with machine.lab.within_host():
        return await machine.manager.create(
            NetworkCreateRequest(name=name, driver="macvlan", ipam=ipam, options=options)
        )


async def test_a_container_is_on_the_wire_with_its_own_address_and_has_names_and_ports_elsewhere(
    machine: Machine,
) -> None:
    if not works(machine.lab):
        pytest.skip("the kernel has no macvlan")
    machine.lab.command(machine.lab.outside, "ip addr add 203.0.113.9/24 dev eth0")
    await make(machine, "wire", parent="up0")
    container, info = await machine.connect(
        endpoints={"wire": EndpointSettings()}, port_bindings=publish("80/tcp", PortBinding(host_port="8080"))
    )
    endpoint = info.endpoints["wire"]
    assert (endpoint.ip_address, endpoint.gateway) == ("203.0.113.128", "203.0.113.1")
    assert not info.ports
    assert "127.0.0.11" in info.resolv_conf
    machine.serve(info.netns_path, 80, "web")
    assert await machine.ask(machine.lab.outside, "203.0.113.128", 80) == ("web", "203.0.113.9")
    _, other = await machine.connect(endpoints={"wire": EndpointSettings()})
    assert await machine.ask(other.netns_path, "203.0.113.128", 80) == ("web", "203.0.113.129")
    await machine.stop()
    await machine.start()
    assert (await machine.ask(machine.lab.outside, "203.0.113.128", 80))[0] == "web"
    with machine.lab.within_host():
        both = await machine.manager.join(container, "bridge", EndpointSettings())
        assert set(both.endpoints) == {"wire", "bridge"}
        left = await machine.manager.part(container, "wire")
    assert list(left.endpoints) == ["bridge"]
    machine.serve(machine.lab.outside, 7000, "outside")
    assert (await machine.ask(info.netns_path, OUTSIDE, 7000))[0] == "outside"
    assert "203.0.113.128" not in machine.lab.command(info.netns_path, "ip addr")


async def test_a_network_on_the_wire_may_have_several_subnets_and_somebody_else_leads_between_them(
    machine: Machine,
) -> None:
    if not works(machine.lab):
        pytest.skip("the kernel has no macvlan")
    for command in (
        *(f"ip addr add {address}/24 dev eth0" for address in ("203.0.113.1", "198.51.100.1")),
        "sysctl -qw net.ipv4.ip_forward=1",
    ):
        machine.lab.command(machine.lab.outside, command)
    await make(machine, "wire", IPAMConfig(subnet="198.51.100.0/24", gateway="198.51.100.1"), parent="up0")
    _, first = await machine.connect(endpoints={"wire": EndpointSettings()})
    chosen = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="198.51.100.7"))
    _, second = await machine.connect(endpoints={"wire": chosen})
    found = [(info.endpoints["wire"].ip_address, info.endpoints["wire"].gateway) for info in (first, second)]
    assert found == [("203.0.113.128", "203.0.113.1"), ("198.51.100.7", "198.51.100.1")]
    machine.serve(second.netns_path, 80, "second")
    assert await machine.ask(machine.lab.outside, "198.51.100.7", 80) == ("second", "198.51.100.1")
    assert await machine.ask(first.netns_path, "198.51.100.7", 80) == ("second", "203.0.113.128")
    assert "198.51.100.0/24" not in machine.lab.command(first.netns_path, "ip route")


async def test_a_network_on_the_wire_needs_a_link_of_this_machine(machine: Machine) -> None:
    with pytest.raises(InvalidArgument, match="needs a link of this machine: give it with -o parent=LINK"):
        await make(machine, "bare")
    with pytest.raises(EnxameError, match="invalid subinterface nope0: there is no such link"):
        await make(machine, "missing", parent="nope0")
    with pytest.raises(InvalidArgument, match="requested macvlan mode 'fast' is not valid"):
        await make(machine, "mode", parent="up0", macvlan_mode="fast")
    with machine.lab.within_host(), pytest.raises(Unimplemented, match="ipvlan networks are not supported"):
        await machine.manager.create(NetworkCreateRequest(name="ipvlan", driver="ipvlan"))
