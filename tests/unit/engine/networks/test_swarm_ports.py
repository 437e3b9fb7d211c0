from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from enxame.engine.networks.swarm_ports import IngressPortsTaken, SwarmPorts
from enxame.model.dispatch import IngressBackend, IngressPort
from enxame.model.service import PortConfig
from enxame.network.held_ports import HeldPort, PortTaken
from enxame.network.ingress import Backend, PortKey


class FakeDataPlane:
    def __init__(self) -> None:
        self.services: dict[PortKey, tuple[Backend, ...]] = {}
        self.changed = asyncio.Event()

    async def set_services(self, services: Mapping[PortKey, tuple[Backend, ...]]) -> None:
        self.services = dict(services)
        self.changed.set()


class FakeHeldPorts:
    def __init__(self) -> None:
        self.taken: set[int] = set()
        self.held: set[int] = set()

    def hold(self, protocol: str, host_ip: IPv4Address | None, port: int, *, insist: bool = False) -> HeldPort:
        if port in self.taken and not insist:
            raise PortTaken(f"Bind for 0.0.0.0:{port} failed: port is already allocated")
        self.held.add(port)
        return HeldPort(protocol, host_ip, port, port)

    def give_back(self, held: HeldPort) -> None:
        self.held.discard(held.port)


class World:
    def __init__(self, directory: Path) -> None:
        self.plane = FakeDataPlane()
        self.held = FakeHeldPorts()
        self.ports = SwarmPorts(directory / "ingress.json", self.held, self.plane)  # type: ignore[arg-type]


def port(number: int, *addresses: str, protocol: str = "tcp") -> IngressPort:
    return IngressPort(
        service_id=f"s{number}",
        port=PortConfig(protocol=protocol, target_port=80, published_port=number),
        backends=[IngressBackend(ip=address, port=80) for address in addresses],
    )


def backends(*addresses: str) -> tuple[Backend, ...]:
    return tuple(Backend(IPv4Address(address), 80) for address in addresses)


async def test_order_and_repetition_of_backends_do_not_matter(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.ports.set([port(30000, "10.0.0.4", "10.0.0.3/24", "10.0.0.4")])
    assert world.plane.services == {("tcp", 30000): backends("10.0.0.3", "10.0.0.4")}


async def test_ports_that_left_the_list_are_given_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.ports.set([port(30000), port(30001)])
    assert world.held.held == {30000, 30001}
    await world.ports.set([port(30001)])
    assert world.held.held == {30001}


async def test_occupied_port_is_named_others_work_and_it_is_taken_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enxame.engine.networks.swarm_ports._RETRY_SECONDS", 0.01)
    world = World(tmp_path)
    world.held.taken = {30000}
    with pytest.raises(IngressPortsTaken, match=r"Bind for 0\.0\.0\.0:30000 failed") as caught:
        await world.ports.set([port(30000, "10.0.0.3"), port(30001, "10.0.0.3")])
    assert [(problem.service_id, problem.port) for problem in caught.value.problems] == [("s30000", 30000)]
    assert world.plane.services == {("tcp", 30001): backends("10.0.0.3")}
    world.held.taken = set()
    async with asyncio.timeout(5):
        while ("tcp", 30000) not in world.plane.services:
            world.plane.changed.clear()
            await world.plane.changed.wait()
    await world.ports.close()


async def test_restarted_daemon_begins_with_what_was_programmed(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.ports.set([port(30000, "10.0.0.3"), port(30001)])
    again = World(tmp_path)
    again.held.taken = {30000}
    assert again.ports.load() == {("tcp", 30000): backends("10.0.0.3"), ("tcp", 30001): ()}
    assert again.held.held == {30000, 30001}
    await again.ports.set([])
    assert again.plane.services == {}
    assert World(tmp_path).ports.load() == {}


async def test_torn_file_is_reported_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ingress.json").write_text('{"Ports": [{"Back')
    assert World(tmp_path).ports.load() == {}
    assert "cannot be used" in caplog.text
