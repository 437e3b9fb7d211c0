"""Networks of the swarm that this machine makes for itself, from its own configurations."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from enxame.engine.networks.local_networks import UNCHANGED, LocalNetworks
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.engine.networks.swarm_networks import SwarmNetworks
from enxame.engine.networks.tables import NetworkTables
from enxame.errors import EnxameError, NotFound, PermissionDenied
from enxame.model.cluster import Driver
from enxame.model.network import (
    IPAM,
    ConfigFrom,
    EndpointResource,
    IPAMConfig,
    IPAMOptions,
    Network,
    NetworkCreateRequest,
    NetworkSpec,
)
from enxame.network.bridge import Bridge
from enxame.network.ipam import DEFAULT_POOLS

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Kernel:
    """Has what it is told to have."""

    def __init__(self) -> None:
        self.bridges: dict[str, Bridge] = {}
        self.refusal = ""

    async def routes(self, *, without: object) -> list[object]:
        return []

    async def ensure(self, bridge: Bridge) -> None:
        if self.refusal:
            raise EnxameError(self.refusal)
        self.bridges[bridge.name] = bridge

    async def remove(self, name: str) -> None:
        del self.bridges[name]


class World:
    def __init__(self, directory: Path) -> None:
        self.kernel = Kernel()
        self.missing: dict[str, str] = {}
        self.registry = NetworkRegistry(directory)
        dataplane = cast("Any", SimpleNamespace(bridges=self.kernel, routes=self.kernel.routes))
        names = cast("Any", SimpleNamespace(drop=lambda _: None))
        self.local = LocalNetworks(
            self.registry, dataplane, names, default_bridge=UNCHANGED, pools=DEFAULT_POOLS, wall=lambda: NOW
        )

        async def nothing() -> None: ...

        quiet = cast("Any", SimpleNamespace(apply=nothing))
        self.swarm = SwarmNetworks(
            self.local,
            self.registry,
            dataplane,
            overlays=quiet,
            encryption=quiet,
            swarm_ports=quiet,
            tables=NetworkTables(),
            expected=lambda _: False,
            one_left=nothing,
            missing=self.missing,
        )

    async def plan(self, name: str, subnet: str, **options: str) -> None:
        ipam = IPAM(config=[IPAMConfig(subnet=subnet)])
        await self.local.create(NetworkCreateRequest(name=name, config_only=True, ipam=ipam, options=options))

    def made(self, id_: str) -> ActiveNetwork:
        found = self.registry.by_id(id_)
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def network(driver: str, plan: str = "", **spec: Any) -> Network:
    config_from = ConfigFrom(network=plan) if plan else None
    fields = {"name": "own", "scope": "swarm", "driver_configuration": Driver(name=driver), **spec}
    return Network(id="1" * 25, created_at=NOW, spec=NetworkSpec(config_from=config_from, **fields))


async def test_addresses_link_and_labels_are_this_machines(world: World) -> None:
    await world.plan("plan", "10.9.0.0/24", parent="eth0")
    await world.swarm.ensure(network("macvlan", "plan", attachable=True))
    made = world.made("1" * 25)
    shown = made.resource
    assert (shown.name, shown.scope, shown.driver, shown.attachable) == ("own", "swarm", "macvlan", True)
    assert (shown.config_from, shown.options) == (ConfigFrom(network="plan"), {"parent": "eth0"})
    assert shown.ipam.config == [IPAMConfig(subnet="10.9.0.0/24", gateway="10.9.0.1")]
    assert (made.is_overlay, made.has_table) == (False, True)
    assert made.bridge is not None
    assert made.bridge.parent == "eth0"
    assert list(world.kernel.bridges) == [made.bridge.name]


async def test_without_a_configuration_a_bridge_has_what_the_swarm_says_or_a_free_subnet(world: World) -> None:
    await world.swarm.ensure(network("bridge"))
    made = world.made("1" * 25)
    assert made.subnets4[0].is_private
    assert (made.is_overlay, made.has_table) == (False, False)
    await world.swarm.remove("1" * 25)
    ipam = IPAMOptions(configs=[IPAMConfig(subnet="10.44.0.0/24")])
    await world.swarm.ensure(network("bridge", ipam_options=ipam, labels={"a": "b"}, internal=True))
    shown = world.made("1" * 25).resource
    assert [item.subnet for item in shown.ipam.config] == ["10.44.0.0/24"]
    assert (shown.labels, shown.internal) == ({"a": "b"}, True)


async def test_a_configuration_that_is_made_later_is_found_when_a_task_comes(world: World) -> None:
    for _ in range(2):
        with pytest.raises(NotFound, match=r'^configuration network "plan" does not exist$'):
            await world.swarm.ensure(network("bridge", "plan"))
        assert world.missing == {"1" * 25: 'configuration network "plan" does not exist'}
        assert world.swarm.refused(["1" * 25, "unknown"]) == [network("bridge", "plan")]
    await world.plan("plan", "10.9.0.0/24")
    await world.swarm.ensure(network("bridge", "plan"))
    assert (world.missing, world.swarm.refused(["1" * 25])) == ({}, [])
    assert [str(item) for item in world.made("1" * 25).subnets4] == ["10.9.0.0/24"]


async def test_what_the_kernel_refuses_is_the_reason(world: World) -> None:
    await world.plan("plan", "10.9.0.0/24", parent="eth0")
    world.kernel.refusal = "invalid subinterface eth0"
    with pytest.raises(EnxameError):
        await world.swarm.ensure(network("macvlan", "plan"))
    assert world.missing == {"1" * 25: "invalid subinterface eth0"}
    await world.swarm.remove("1" * 25)
    assert world.missing == {}
    assert world.swarm.refused(["1" * 25]) == [], "nobody wants it any more"


async def test_a_configuration_is_found_beside_a_network_of_its_name(world: World) -> None:
    await world.plan("own", "10.9.0.0/24")
    await world.swarm.ensure(network("bridge", "own"))
    with pytest.raises(PermissionDenied, match="Pool overlaps with other one on this address space"):
        await world.swarm.ensure(replace(network("bridge", "own"), id="2" * 25))


async def test_a_configuration_stays_while_it_is_used_and_the_network_while_somebody_is_on_it(world: World) -> None:
    await world.plan("plan", "10.9.0.0/24")
    await world.swarm.ensure(network("bridge", "plan"))
    in_use = 'error while removing network: configuration network "plan" is in use'
    with pytest.raises(PermissionDenied, match=in_use):
        await world.local.remove("plan")
    world.made("1" * 25).endpoints["c1"] = EndpointResource()
    await world.swarm.ensure(network("bridge", "plan"))
    assert list(world.made("1" * 25).endpoints) == ["c1"], "told again it is the same"
    with pytest.raises(PermissionDenied, match="has active endpoints"):
        await world.swarm.remove("1" * 25)
    world.made("1" * 25).endpoints.clear()
    await world.swarm.remove("1" * 25)
    await world.local.remove("plan")
    assert list(world.registry) == []
    assert world.kernel.bridges == {}


async def test_it_is_the_same_after_a_restart(world: World, tmp_path: Path) -> None:
    await world.plan("plan", "10.9.0.0/24", parent="eth0")
    await world.swarm.ensure(network("macvlan", "plan"))
    again = NetworkRegistry(tmp_path)
    again.load()
    before, after = world.made("1" * 25), again.by_id("1" * 25)
    assert after is not None
    assert (after.resource, after.bridge, after.has_table) == (before.resource, before.bridge, True)
