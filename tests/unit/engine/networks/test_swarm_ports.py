from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from enxame.engine.networks.swarm_ports import IngressPortsTaken, SwarmPorts
from enxame.engine.networks.table_files import TableFiles
from enxame.engine.networks.tables import NetworkTables
from enxame.model.dispatch import NetworkEndpoint, NetworkService, NetworkTable
from enxame.model.service import PortConfig
from enxame.network.held_ports import HeldPort, PortTaken
from enxame.network.ingress import Backend, PortKey, Published


class FakeOpenPorts:
    def __init__(self) -> None:
        self.services: dict[PortKey, Published] = {}
        self.gone: set[str] = set()
        self.changed = asyncio.Event()

    async def set_services(self, services: Mapping[PortKey, Published], *, gone: Iterable[IPv4Address]) -> None:
        self.services = dict(services)
        self.gone = {str(address) for address in gone}
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
    """This machine is ``here``."""

    def __init__(self, tables: NetworkTables | None = None) -> None:
        self.plane = FakeOpenPorts()
        self.held = FakeHeldPorts()
        self.tables = tables or NetworkTables()
        dataplane = SimpleNamespace(ports=self.plane)
        self.ports = SwarmPorts(self.held, dataplane, self.tables, lambda: "here")  # type: ignore[arg-type]

    async def tell(self, *services: NetworkService, **table: object) -> None:
        await self.tables.set([NetworkTable(network_id="ingress", services=list(services), **table)], complete=False)  # type: ignore[arg-type]

    @property
    def addresses(self) -> dict[int, list[str]]:
        return {port: [str(item.ip) for item in entry.backends] for (_, port), entry in self.plane.services.items()}


def port(number: int, target: int = 80, protocol: str = "tcp") -> PortConfig:
    return PortConfig(protocol=protocol, target_port=target, published_port=number, publish_mode="ingress")


def web(*ports: PortConfig, id_: str = "web", **labels: str) -> NetworkService:
    return NetworkService(
        id=id_, name=id_, ports=list(ports), labels={f"enxame.network.{key}": value for key, value in labels.items()}
    )


def task(
    address: str, *ports: PortConfig, service: str = "web", node: str = "here", serving: bool = True
) -> NetworkEndpoint:
    return NetworkEndpoint(
        id=address, node_id=node, service_id=service, addresses=[address], serving=serving, ports=list(ports)
    )


async def test_those_who_serve_answer_in_a_fixed_order_at_the_ports_they_were_made_with() -> None:
    world = World()
    one, two = port(8080), port(8081, 81)
    await world.tell(
        web(one, two),
        endpoints=[
            task("10.0.0.4", one),
            task("10.0.0.3/24", one, two, node="there"),
            task("10.0.0.5", one, serving=False),
            task("10.0.0.6", port(8080, 8000)),
        ],
    )
    assert world.plane.services == {
        ("tcp", 8080): Published((Backend(IPv4Address("10.0.0.3"), 80), Backend(IPv4Address("10.0.0.4"), 80))),
        ("tcp", 8081): Published((Backend(IPv4Address("10.0.0.3"), 81),)),
    }
    await world.tell(endpoints=[task("10.0.0.5", one)])
    await world.tell(endpoints=[task("10.0.0.4", one, serving=False)], removed_endpoints=["10.0.0.3/24"])
    assert world.addresses == {8080: ["10.0.0.5"], 8081: []}
    assert world.plane.gone == {"10.0.0.3"}


async def test_labels_keep_clients_with_a_task_and_connections_on_the_machine() -> None:
    world = World()
    await world.tell(
        web(port(8080), ingress="local", affinity="source"),
        endpoints=[task("10.0.0.3", port(8080)), task("10.0.0.4", port(8080), node="there")],
    )
    assert world.addresses == {8080: ["10.0.0.3"]}
    assert world.plane.services["tcp", 8080].sticky
    await world.tell(web(port(8080)))
    assert world.addresses == {8080: ["10.0.0.3", "10.0.0.4"]}


async def test_ports_that_left_are_given_back() -> None:
    world = World()
    await world.tell(web(port(30000)), web(port(30001), id_="other"))
    assert world.held.held == {30000, 30001}
    await world.tell(removed_services=["web"])
    assert world.held.held == {30001}
    await world.tables.set([], complete=True)
    assert world.held.held == set()
    assert world.plane.services == {}


async def test_other_networks_are_not_looked_at() -> None:
    world = World()
    endpoint = replace(task("10.0.1.3"), ports=[])
    await world.tables.set(
        [NetworkTable(network_id="app", services=[web(id_="web")], endpoints=[endpoint])], complete=False
    )
    assert not world.plane.changed.is_set()


async def test_occupied_port_is_named_others_work_and_it_is_taken_when_it_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("enxame.engine.networks.swarm_ports._RETRY_SECONDS", 0.01)
    world = World()
    world.held.taken = {30000}
    with pytest.raises(IngressPortsTaken, match=r"Bind for 0\.0\.0\.0:30000 failed") as caught:
        await world.tell(web(port(30000), port(30001)), endpoints=[task("10.0.0.3", port(30000), port(30001))])
    assert [(problem.service_id, problem.port) for problem in caught.value.problems] == [("web", 30000)]
    assert world.addresses == {30001: ["10.0.0.3"]}
    world.held.taken = set()
    async with asyncio.timeout(5):
        while 30000 not in world.addresses:
            world.plane.changed.clear()
            await world.plane.changed.wait()
    await world.ports.close()


async def test_restarted_daemon_begins_with_what_was_known(tmp_path: Path) -> None:
    before = World()
    before.tables = NetworkTables(TableFiles(tmp_path))
    await before.tell(web(port(30000)), endpoints=[task("10.0.0.3", port(30000))])
    world = World(NetworkTables(TableFiles(tmp_path)))
    world.held.taken = {30000}
    world.tables.load()
    assert world.ports.load() == {("tcp", 30000): Published((Backend(IPv4Address("10.0.0.3"), 80),))}
    assert world.held.held == {30000}
    await world.tables.set([], complete=True)
    assert world.plane.services == {}


async def test_tasks_answer_over_the_versions_of_ip_that_they_have() -> None:
    world = World()
    both = replace(task("10.0.0.5", port(8080)), addresses=["10.0.0.5", "fd00::5"])
    await world.tell(web(port(8080)), endpoints=[both, task("10.0.0.6", port(8080))], complete=True)
    assert world.addresses == {8080: ["10.0.0.5", "10.0.0.6", "fd00::5"]}
    await world.tell(removed_endpoints=[both.id])
    assert world.addresses == {8080: ["10.0.0.6"]}
    assert world.plane.gone == {"10.0.0.5", "fd00::5"}
