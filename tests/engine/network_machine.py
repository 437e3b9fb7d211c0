"""A machine of the lab with a network manager, whose containers are namespaces that the tests' servers run in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from enxame.engine.networks import NetworkManager
from enxame.engine.networks.local_networks import DefaultBridge
from enxame.engine.sandbox import SandboxInfo, SandboxRequest
from enxame.model.container import PortBinding
from tests.engine.network_lab import Lab, Server, ask, ask_udp, links, names_in


class Machine:
    """A network manager in the lab's host namespace, which can be stopped, killed and started again."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.events: list[tuple[str, str, str]] = []
        self.servers: list[Server] = []
        self.manager: NetworkManager
        self.default_bridge = DefaultBridge()
        self._number = 0

    def _publish(
        self, type_: str, action: str, actor_id: str, attributes: dict[str, str], scope: str = "local"
    ) -> None:
        self.events.append((type_, action, attributes.get("name", "")))

    async def start(self) -> None:
        self.manager = NetworkManager(
            self.directory / "data",
            self.directory / "exec",
            publish=self._publish,
            default_bridge=self.default_bridge,
        )
        with self.lab.within_host():
            await self.manager.start()

    async def stop(self) -> None:
        await self.manager.stop()

    async def connect(self, **request: object) -> tuple[str, SandboxInfo]:
        self._number += 1
        container_id = f"{self._number:012x}{0:052x}"
        request.setdefault("name", f"c{self._number}")
        request.setdefault("hostname", container_id[:12])
        with self.lab.within_host():
            return container_id, await self.manager.connect(container_id, SandboxRequest(**request))

    def serve(self, namespace: int | str, port: int, name: str, protocol: str = "tcp", *, six: bool = False) -> Server:
        server = Server(self.lab, namespace, port, name, protocol=protocol, six=six)
        self.servers.append(server)
        return server

    async def ask(self, namespace: int | str, address: str, port: int, protocol: str = "tcp") -> tuple[str, str]:
        question = ask if protocol == "tcp" else ask_udp
        return await asyncio.to_thread(self.lab.run, namespace, lambda: question(address, port))

    async def full_pool(self) -> None:
        """Wait until the warm pool has been filled again."""
        refill = self.manager._dataplane._pool._refill
        if refill is not None:
            await refill

    def rules(self) -> str:
        return self.lab.command(self.lab.host, "nft list ruleset")

    async def kernel(self) -> tuple[set[str], set[str], str]:
        """Links, named namespaces that are in use, and rules."""
        namespaces = await self.namespaces()
        return links(self.lab, self.lab.host), namespaces, self.rules()

    async def namespaces(self) -> set[str]:
        await self.manager._sandboxes.settled()
        await self.full_pool()
        pool = {namespace.path.name for namespace in self.manager._dataplane._pool._ready}
        return names_in(self.directory / "exec" / "netns") - pool


@contextlib.asynccontextmanager
async def running(machine: Machine) -> AsyncIterator[Machine]:
    """Started; in the end nothing is left of it."""
    await machine.start()
    try:
        yield machine
    finally:
        for server in machine.servers:
            server.close()
        for record in list(machine.manager._sandboxes.records):
            await machine.manager.release(record.container_id)
        await machine.stop()
        assert names_in(machine.directory / "exec" / "netns") == set()


def publish(port: str, *places: PortBinding) -> dict[str, list[PortBinding]]:
    return {port: list(places)}
