"""How long it takes until rules and links are there: a thousand services of ten tasks, and a container's start."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from enxame.engine.networks import NetworkManager
from enxame.engine.sandbox import SandboxRequest
from enxame.model.container import EndpointIPAMConfig, EndpointSettings
from enxame.model.dispatch import NetworkEndpoint, NetworkService, NetworkTable
from enxame.model.network import IPAMConfig, IPAMOptions, Network, NetworkSpec
from enxame.model.service import PortConfig
from tests.engine.network_lab import Lab

_SERVICES: Final = 1000
_TASKS: Final = 10
_CLIENTS: Final = 10
_ROUNDS: Final = 15


def _network(name: str, number: int, *, ingress: bool = False) -> Network:
    return Network(
        id=f"{name:0<25}",
        spec=NetworkSpec(name=name, ingress=ingress),
        ipam_options=IPAMOptions(configs=[IPAMConfig(subnet=f"10.{number}.0.0/16", gateway=f"10.{number}.0.1")]),
    )


def _table(network: Network, number: int) -> NetworkTable:
    """A thousand services of ten tasks that serve; on the ingress network each has a port."""
    services, endpoints = [], []
    for service in range(_SERVICES):
        ports = []
        if network.spec.ingress:
            ports = [PortConfig(protocol="tcp", target_port=80, published_port=20_000 + service)]
        address = f"10.{number}.{10 + service // 200}.{service % 200}"
        services.append(NetworkService(id=f"s{service}", name=f"s{service}", vip=address, ports=ports))
        for task in range(_TASKS):
            index = service * _TASKS + task
            endpoints.append(
                NetworkEndpoint(
                    id=f"t{index}",
                    service_id=f"s{service}",
                    addresses=[f"10.{number}.{100 + index // 200}.{index % 200}"],
                    names=[f"s{service}.{task + 1}"],
                    serving=True,
                    ports=ports,
                )
            )
    return NetworkTable(network_id=network.id, complete=True, services=services, endpoints=endpoints)


def _at(address: str) -> EndpointSettings:
    return EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address=address))


async def measure_rules() -> dict[str, float]:
    """Milliseconds."""
    lab = Lab()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        manager = NetworkManager(Path(directory) / "data", Path(directory) / "exec", publish=lambda *_, **__: None)
        with lab.within_host():
            await manager.start()
        try:
            return await _measure(lab, manager)
        finally:
            await manager.stop()
            lab.close()


async def _measure(lab: Lab, manager: NetworkManager) -> dict[str, float]:
    found: dict[str, float] = {}
    app, side, ingress = _network("app", 20), _network("side", 21), _network("ingress", 22, ingress=True)
    with lab.within_host():
        for network in (app, side, ingress):
            await manager.ensure_swarm_network(network)

    async def start(key: str, **endpoints: EndpointSettings) -> float:
        began = time.perf_counter()
        request = SandboxRequest(name=key, endpoints=endpoints, network_mode="bridge", waits_to_serve=True)
        await manager.connect(f"{key:0<64}", request)
        return (time.perf_counter() - began) * 1e3

    async def starts(**endpoints: EndpointSettings) -> float:
        taken = []
        for number in range(_ROUNDS):
            taken.append(await start(f"c{number}", **endpoints))
            await manager.release(f"c{number}".ljust(64, "0"))
            await manager._sandboxes.settled()  # noqa: SLF001 - nobody else need wait for that
        return statistics.median(taken)

    none = await starts(none=EndpointSettings())
    two = {app.id: _at("10.20.0.9"), side.id: _at("10.21.0.9")}
    found["start: two overlay networks more than none"] = await starts(**two) - none
    for number in range(_CLIENTS):
        await start(f"client{number}", **{app.id: _at(f"10.20.0.{20 + number}")})
    for what, network, number in (("virtual addresses, 10 clients", app, 20), ("published ports", ingress, 22)):
        table = _table(network, number)
        began = time.perf_counter()
        await manager.set_network_tables([table], complete=False)
        found[f"{what}: 1,000 services of 10 tasks"] = (time.perf_counter() - began) * 1e3
        changes = []
        for task in range(_ROUNDS):
            began = time.perf_counter()
            gone = NetworkTable(network_id=network.id, removed_endpoints=[f"t{task * 100}"])
            await manager.set_network_tables([gone], complete=False)
            changes.append((time.perf_counter() - began) * 1e3)
        found[f"{what}: one task less"] = statistics.median(changes)
    found["start: two overlay networks, 1,000 services on one, more than none"] = await starts(**two) - none
    for number in range(_CLIENTS):
        await manager.release(f"client{number}".ljust(64, "0"))
    return {key: round(value, 2) for key, value in found.items()}
