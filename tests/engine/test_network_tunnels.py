"""Tunnels between two machines, in the kernel."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path

import pytest

from enxame.errors import EnxameError
from enxame.network.attachments import Attachment
from enxame.network.bridge import Bridge, mac_of
from enxame.network.dataplane import DataPlane, KernelState
from enxame.network.encryption import Wanted
from enxame.network.vxlan import Remote, Tunnel, node_mac
from enxame.network.xfrm import Key
from enxame.testing.promises import allowed
from tests.engine.network_lab import HOST, OUTSIDE, Lab, links

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def bridge(local: str, *, vni: int = 4096, port: int = 4789) -> Bridge:
    """The same network on the machine with that address."""
    return Bridge(
        name="enx-app",
        gateway=IPv4Interface("10.0.0.1/16"),
        mtu=1450,
        mac=node_mac(local),
        tunnel=Tunnel("enxt-app", vni, port, IPv4Address(local)),
    )


def remote(text: str, machine: str) -> Remote:
    return Remote(mac_of(IPv4Address(text)), (ip_address(text),), IPv4Address(machine))


class TwoMachines:
    """A data plane on each end of the lab's cable, one container on each."""

    def __init__(self, lab: Lab, tmp_path: Path) -> None:
        self.lab = lab
        self.planes = {HOST: DataPlane(tmp_path / "a"), OUTSIDE: DataPlane(tmp_path / "b")}
        self.inside: dict[str, str] = {}

    async def start(self, machine: str, state: KernelState) -> None:
        plane = self.planes[machine]
        with self.lab.within(self.lab.host if machine == HOST else self.lab.outside):
            await plane.open()
            await plane.start(state)

    async def container(self, machine: str, address: str) -> None:
        plane = self.planes[machine]
        namespace = await plane.take_namespace()
        try:
            attachment = Attachment(
                link=f"enxv-{address.rpartition('.')[2]}",
                inner="eth0",
                bridge=bridge(machine),
                address=IPv4Interface(f"{address}/16"),
                gateway=IPv4Address("10.0.0.1"),
                default=True,
            )
            await plane.attach(namespace, [attachment])
            self.inside[address] = str(namespace.path)
        finally:
            namespace.close()

    def reaches(self, source: str, target: str, *, size: int = 56) -> bool:
        """A container that asked for an address in vain asks again a second later: three tries."""
        return any(self._pings(source, target, size) for _ in range(3))

    def is_deaf(self, source: str, target: str) -> bool:
        return not self._pings(source, target, 56)

    def _pings(self, source: str, target: str, size: int) -> bool:
        try:
            self.lab.command(self.inside[source], f"busybox ping -c 1 -W 1 -s {size} {target}")
        except AssertionError:
            return False
        return True


def received(lab: Lab) -> object:
    """How many packets came out of the tunnel at the other machine."""
    (link,) = json.loads(lab.command(lab.outside, "ip -j -s link show enxt-app"))
    return link["stats64"]["rx"]["packets"]


@pytest.fixture
async def machines(lab: Lab, tmp_path: Path) -> AsyncIterator[TwoMachines]:
    two = TwoMachines(lab, tmp_path)
    try:
        for machine in two.planes:
            (tmp_path / ("a" if machine == HOST else "b") / "netns").mkdir(parents=True)
            await two.start(machine, KernelState(bridges=[bridge(machine)]))
        yield two
        for machine, plane in two.planes.items():
            await plane.bridges.remove("enx-app")
            there = lab.host if machine == HOST else lab.outside
            assert not {name for name in links(lab, there) if name.startswith("enxt-")}
    finally:
        for plane in two.planes.values():
            await plane.stop()


async def test_containers_reach_each_other_across_machines_and_only_those_that_were_told(machines: TwoMachines) -> None:
    await machines.container(HOST, "10.0.0.2")
    await machines.container(OUTSIDE, "10.0.0.3")
    assert machines.is_deaf("10.0.0.2", "10.0.0.3")
    await machines.planes[HOST].tunnels.change("enxt-app", [], [remote("10.0.0.3", OUTSIDE)])
    await machines.planes[OUTSIDE].tunnels.change("enxt-app", [], [remote("10.0.0.2", HOST)])
    assert machines.reaches("10.0.0.2", "10.0.0.3")
    # Nothing larger than the cable carries is ever sent; what fits the network passes whole.
    assert machines.reaches("10.0.0.3", "10.0.0.2", size=1422)
    await machines.planes[HOST].tunnels.change("enxt-app", [remote("10.0.0.3", OUTSIDE)], [])
    assert machines.is_deaf("10.0.0.2", "10.0.0.3")


async def test_each_machine_is_the_gateway_of_its_own_containers(machines: TwoMachines) -> None:
    lab = machines.lab
    await machines.container(HOST, "10.0.0.2")
    await machines.container(OUTSIDE, "10.0.0.3")
    sent = received(lab)
    assert machines.reaches("10.0.0.2", "10.0.0.1")
    assert machines.reaches("10.0.0.3", "10.0.0.1")
    assert node_mac(HOST).hex(":") in lab.command(machines.inside["10.0.0.2"], "ip neigh")
    assert node_mac(OUTSIDE).hex(":") in lab.command(machines.inside["10.0.0.3"], "ip neigh")
    # Questions that nobody can answer here go nowhere.
    assert machines.is_deaf("10.0.0.2", "10.0.0.77")
    assert received(lab) == sent


async def test_a_new_daemon_leaves_right_entries_alone_and_removes_ghosts(
    machines: TwoMachines, tmp_path: Path
) -> None:
    await machines.container(HOST, "10.0.0.2")
    await machines.container(OUTSIDE, "10.0.0.3")
    plane = machines.planes[HOST]
    await machines.planes[OUTSIDE].tunnels.set_all("enxt-app", [remote("10.0.0.2", HOST)])
    wanted = [remote("10.0.0.3", OUTSIDE), *(remote(f"10.0.1.{number}", OUTSIDE) for number in range(50))]
    assert await plane.tunnels.set_all("enxt-app", [*wanted, remote("10.0.2.9", "192.0.2.7")]) == 2 * 52
    before = machines.lab.command(machines.lab.host, "ip link show enxt-app")
    await plane.stop()
    assert machines.reaches("10.0.0.2", "10.0.0.3")

    machines.planes[HOST] = plane = DataPlane(tmp_path / "a")
    inside = frozenset(Path(path).name for path in machines.inside.values())
    state = KernelState(bridges=[bridge(HOST)], namespaces=inside, links=frozenset({"enxv-2"}))
    await machines.start(HOST, state)
    assert machines.lab.command(machines.lab.host, "ip link show enxt-app") == before
    assert machines.reaches("10.0.0.2", "10.0.0.3")
    assert await plane.tunnels.set_all("enxt-app", wanted) == 3
    assert await plane.tunnels.set_all("enxt-app", wanted) == 0
    assert "192.0.2.7" not in machines.lab.command(machines.lab.host, "bridge fdb show")


async def test_a_tunnel_of_another_port_or_id_replaces_the_one_before(machines: TwoMachines) -> None:
    plane = machines.planes[HOST]
    await plane.bridges.ensure(bridge(HOST, vni=5000, port=7789))
    shown = machines.lab.command(machines.lab.host, "ip -d link show enxt-app")
    assert "vxlan id 5000" in shown
    assert "dstport 7789" in shown


async def test_an_id_that_another_program_uses_is_said_so(machines: TwoMachines) -> None:
    lab, plane = machines.lab, machines.planes[HOST]
    lab.command(lab.host, "ip link add other type vxlan id 6000 dstport 4789")
    taken = Bridge(
        name="enx-taken",
        gateway=IPv4Interface("10.9.0.1/24"),
        mac=node_mac(HOST),
        tunnel=Tunnel("enxt-taken", 6000, 4789, IPv4Address(HOST)),
    )
    with pytest.raises(EnxameError, match="VXLAN id 6000 on UDP port 4789 is used by another program"):
        await plane.bridges.ensure(taken)
    assert not {"enx-taken", "enxt-taken"} & links(lab, lab.host)


def wanted(local: str, other: str) -> Wanted:
    keys = tuple(Key(number, bytes([number]) * 32) for number in (1, 2, 3))
    return Wanted(ip_address(local), 4789, frozenset({4096}), frozenset({ip_address(other)}), keys)


NOTHING = Wanted(ip_address(HOST), 4789, frozenset(), frozenset(), ())


async def test_packets_of_an_encrypted_network_are_never_sent_or_taken_in_the_clear(machines: TwoMachines) -> None:
    await machines.container(HOST, "10.0.0.2")
    await machines.container(OUTSIDE, "10.0.0.3")
    here, there = machines.planes[HOST], machines.planes[OUTSIDE]
    await here.tunnels.change("enxt-app", [], [remote("10.0.0.3", OUTSIDE)])
    await there.tunnels.change("enxt-app", [], [remote("10.0.0.2", HOST)])
    assert machines.reaches("10.0.0.2", "10.0.0.3")
    assert not await here.encrypts()

    problem = await here.encryption_problem()
    for plane, local, other in ((here, HOST, OUTSIDE), (there, OUTSIDE, HOST)):
        if problem:
            with pytest.raises(EnxameError):
                await plane.encrypt(wanted(local, other))
        else:
            await plane.encrypt(wanted(local, other))
    assert await here.encrypts()
    before = received(machines.lab)
    if problem:
        assert "no ESP with AES-GCM" in problem
        assert machines.is_deaf("10.0.0.2", "10.0.0.3")
        assert received(machines.lab) == before
    else:
        assert machines.reaches("10.0.0.2", "10.0.0.3")

    # One side alone in the clear is not listened to.
    await here.encrypt(NOTHING)
    assert machines.is_deaf("10.0.0.2", "10.0.0.3")
    await there.encrypt(NOTHING)
    assert machines.reaches("10.0.0.2", "10.0.0.3")
    assert not await here.encrypts()
    assert machines.lab.command(machines.lab.host, "ip xfrm policy").count("reqid") == 0


async def test_ten_thousand_endpoints_take_less_than_a_second_and_one_change_less_than_twenty_milliseconds(
    machines: TwoMachines,
) -> None:
    plane = machines.planes[HOST]
    many = [remote(f"10.0.{number >> 8}.{number & 255}", OUTSIDE) for number in range(256, 10_256)]
    began = time.perf_counter()
    await plane.tunnels.set_all("enxt-app", many)
    took = time.perf_counter() - began
    began = time.perf_counter()
    await plane.tunnels.change("enxt-app", [many[77]], [remote("10.0.200.1", OUTSIDE)])
    one = time.perf_counter() - began
    began = time.perf_counter()
    assert await plane.tunnels.set_all("enxt-app", many) == 2 + 3
    again = time.perf_counter() - began
    print(f"10,000 endpoints {took * 1000:.0f} ms, one {one * 1000:.2f} ms, compared {again * 1000:.0f} ms")
    # The goals are 1 s and 20 ms; the machine may be busy with other tests.
    assert took < allowed(3)
    assert one < allowed(0.2)
