"""This machine's containers on networks of the swarm, compared with what the manager knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from enxame.engine.networks.attachments import Attachments
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.engine.networks.sandbox_records import SandboxRecord
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.errors import EnxameError, NotFound, PermissionDenied, Unavailable
from enxame.model.attachment import Attached, Attachment, AttachRequest, DetachRequest
from enxame.model.container import EndpointSettings
from enxame.model.network import IPAM, IPAMConfig, Network, NetworkResource, NetworkSpec


class Manager:
    """Gives addresses in turn, or refuses."""

    def __init__(self) -> None:
        self.refusal: EnxameError | None = None
        self.attached: list[AttachRequest] = []
        self.detached: list[tuple[str, str]] = []

    async def attach(self, request: AttachRequest) -> Attached:
        if self.refusal is not None:
            raise self.refusal
        self.attached.append(request)
        network = Network(id="net-ov", spec=NetworkSpec(name="ov"))
        return Attached(network=network, addresses=[f"10.0.1.{len(self.attached) + 1}/24", "fd00::5/64"])

    async def detach(self, request: DetachRequest) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.detached.append((request.container_id, request.network_id))


class World:
    def __init__(self, directory: Path) -> None:
        self.registry = NetworkRegistry(directory)
        self.records: list[SandboxRecord] = []
        self.manager = Manager()
        self.attachments = Attachments(self.registry, lambda: self.records, self._ensure)
        self.attachments.attacher = self.manager

    async def _ensure(self, network: Network) -> None:
        await self.define(network.id, network.spec.name, "swarm")

    async def define(self, id_: str, name: str, scope: str, driver: str = "") -> None:
        ipam = IPAM(config=[IPAMConfig(subnet="10.0.1.0/24")])
        driver = driver or ("overlay" if scope == "swarm" else "bridge")
        options = {"parent": "eth0"} if driver == "macvlan" else {}
        resource = NetworkResource(id=id_, name=name, scope=scope, driver=driver, ipam=ipam, options=options)
        await self.registry.add(ActiveNetwork.of(resource))

    def connected(self, container_id: str, network_id: str, *, task: bool = False) -> None:
        request = SandboxRequest(name=container_id, waits_to_serve=task)
        info = SandboxInfo(endpoints={"ov": EndpointSettings(network_id=network_id)})
        self.records.append(SandboxRecord(container_id=container_id, name=container_id, request=request, info=info))


@pytest.fixture
async def world(tmp_path: Path) -> World:
    (tmp_path / "networks").mkdir()
    world = World(tmp_path / "networks")
    await world.define("net-local", "mine", "local")
    return world


async def test_the_managers_addresses_become_the_containers(world: World) -> None:
    asked = SandboxRequest(name="box", endpoints={"mine": EndpointSettings(), "ov": EndpointSettings(aliases=["a"])})
    request, held = await world.attachments.attach_all("c1", asked)
    assert held == ["net-ov"]
    assert list(request.endpoints) == ["mine", "net-ov"]
    wanted = request.endpoints["net-ov"].ipam_config
    assert wanted is not None
    assert (wanted.ipv4_address, wanted.ipv6_address) == ("10.0.1.2", "fd00::5")
    assert [(item.network, item.name, item.aliases) for item in world.manager.attached] == [("ov", "box", ["a"])]


async def test_a_network_made_anew_under_a_removed_ones_name_is_meant_by_the_name(world: World) -> None:
    await world.define("net-old", "ov", "swarm")
    request, held = await world.attachments.attach_all("c1", SandboxRequest(network_mode="ov"))
    assert held == list(request.endpoints) == ["net-ov"]
    assert [item.network for item in world.manager.attached] == ["ov"]


async def test_tasks_and_networks_of_this_machine_ask_nobody(world: World) -> None:
    for asked in (
        SandboxRequest(endpoints={"ov": EndpointSettings()}, waits_to_serve=True),
        SandboxRequest(network_mode="mine"),
        SandboxRequest(network_mode="default"),
        SandboxRequest(network_mode="container:other"),
    ):
        assert await world.attachments.attach_all("c1", asked) == (asked, [])
    assert not world.manager.attached


async def test_refusals_name_the_network_and_give_back_what_was_had(world: World) -> None:
    asked = SandboxRequest(network_mode="closed")
    world.manager.refusal = PermissionDenied("rpc error: x")
    with pytest.raises(PermissionDenied, match="Could not attach to network closed: rpc error: x"):
        await world.attachments.attach_all("c1", asked)
    world.manager.refusal = NotFound("network closed not found")
    with pytest.raises(NotFound, match=r"^network closed not found$"):
        await world.attachments.attach_all("c1", asked)
    world.attachments.attacher = None
    assert await world.attachments.attach_all("c1", asked) == (asked, [])
    await world.define("net-ov", "ov", "swarm")
    with pytest.raises(EnxameError, match="not in a swarm"):
        await world.attachments.attach_all("c1", SandboxRequest(network_mode="ov"))


async def test_what_one_side_does_not_know_is_found(world: World) -> None:
    await world.define("net-ov", "ov", "swarm")
    world.connected("both", "net-ov")
    world.connected("here", "net-ov")
    world.connected("task", "net-ov", task=True)
    world.connected("local", "net-local")
    known = [Attachment(id=name, container_id=name, network_id="net-ov") for name in ("both", "there")]
    gone, missing = world.attachments.differences(known)
    assert [item.container_id for item in gone] == ["there"]
    assert [(record.container_id, network) for record, network in missing] == [("here", "net-ov")]


def of_wire(world: World) -> SandboxRecord:
    """A container on a network where this machine gives the addresses."""
    endpoint = EndpointSettings(
        network_id="net-wire", ip_address="10.0.1.9", global_ipv6_address="fd00::9", aliases=["a"]
    )
    info = SandboxInfo(endpoints={"wire": endpoint})
    record = SandboxRecord(container_id="c1", name="box", request=SandboxRequest(name="box"), info=info)
    world.records.append(record)
    return record


async def test_addresses_that_this_machine_gave_are_told_the_manager(world: World) -> None:
    await world.define("net-wire", "wire", "swarm", "macvlan")
    await world.define("net-ov", "ov", "swarm")
    world.connected("task", "net-wire", task=True)
    world.connected("other", "net-ov")
    for record in world.records:
        await world.attachments.tell(record)
    await world.attachments.tell(None)
    assert not world.manager.attached, "tasks tell theirs, and those of overlays are the manager's"
    await world.attachments.tell(of_wire(world))
    (told,) = world.manager.attached
    assert (told.network, told.container_id, told.name) == ("net-wire", "c1", "box")
    assert (told.addresses, told.aliases) == (["10.0.1.9", "fd00::9"], ["a"])
    assert not world.manager.detached


async def test_one_that_leaves_while_it_is_told_of_is_taken_back(world: World) -> None:
    await world.define("net-wire", "wire", "swarm", "macvlan")
    record = of_wire(world)
    world.records.clear()
    await world.attachments.tell(record)
    assert world.manager.detached == [("c1", "net-wire")]


async def test_what_was_not_told_is_told_with_the_next_session(world: World) -> None:
    await world.define("net-wire", "wire", "swarm", "macvlan")
    record = of_wire(world)
    world.manager.refusal = Unavailable("nobody")
    await world.attachments.tell(record)
    known = [Attachment(id="a", container_id="c1", network_id="net-wire")]
    assert world.attachments.differences(known) == ([], [(record, "net-wire")])
    known = [Attachment(id="a", container_id="c1", network_id="net-wire", addresses=["10.0.1.9"])]
    assert world.attachments.differences(known) == ([], [])


async def test_one_that_is_being_made_is_not_gone(world: World) -> None:
    await world.attachments.attach_all("c1", SandboxRequest(network_mode="ov"))
    known = [Attachment(id="a", container_id="c1", network_id="net-ov")]
    assert world.attachments.differences(known) == ([], [])
    assert world.attachments.expects("net-ov")
    world.attachments.settle("c1")
    assert not world.attachments.expects("net-ov")
    assert [item.id for item in world.attachments.differences(known)[0]] == ["a"]


async def test_a_manager_out_of_reach_does_not_keep_a_container_from_leaving(world: World) -> None:
    world.manager.refusal = Unavailable("nobody")
    await world.attachments.detach("c1", ["net-ov"])
    world.manager.refusal = None
    await world.attachments.detach("c1", ["net-ov"])
    assert world.manager.detached == [("c1", "net-ov")]
