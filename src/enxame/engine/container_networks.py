"""Containers join and part from networks, running or not. What they are on is kept with their definition."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from enxame.engine.container import Container
from enxame.engine.endpoint_requests import check_endpoint
from enxame.engine.sandbox import SandboxInfo
from enxame.engine.surroundings import Surroundings
from enxame.errors import Conflict, EnxameError, InvalidArgument
from enxame.model.container import EndpointSettings

_NOT_HOST = "container cannot be disconnected from host network or connected to host network"
_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
_NOT_NONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


class ContainerNetworks:
    """The steps. The caller holds the container's lock."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def connect(self, container: Container, ref: str, settings: EndpointSettings) -> None:
        """Put a container on a network.

        Raises:
            NotFound: no such network.
            EnxameError: it cannot be on it, in Docker's words.
        """
        _check_mode(container)
        if container.definition.host.network_mode == "host":
            raise InvalidArgument(_SHARED)
        check_endpoint(settings)
        network = self._around.networks.known(ref)
        if network is not None and network.driver in ("host", "null"):
            raise InvalidArgument(_NOT_HOST if network.driver == "host" else _NOT_NONE)
        asked = self._asked(container)
        # A network of the swarm comes to this machine with its first container.
        name = network.name if network is not None else ref
        if settings.aliases and name == "bridge":
            raise InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
        if container.running or container.created is not None:
            before = set((container.condition.sandbox or SandboxInfo()).endpoints)
            info = await self._around.networks.join(container.id, ref, settings)
            self._became(container, info)
            name = next((item for item in info.endpoints if item not in before), name)
        self._define(container, {**asked, name: settings})

    async def disconnect(self, container: Container, ref: str) -> None:
        """Take a container off a network, which need not be known here.

        Raises:
            EnxameError: it is not on it.
        """
        _check_mode(container)
        if container.definition.host.network_mode == "host":
            raise InvalidArgument(_NOT_HOST)
        asked = self._asked(container)
        left = self._name(ref)
        if container.running or container.created is not None:
            network = self._around.networks.known(ref)
            if network is None:
                raise EnxameError(f"container {container.id} is not connected to network {left}")
            self._became(container, await self._around.networks.part(container.id, network.id))
        elif left not in asked:
            raise EnxameError(f"container {container.id} is not connected to the network {left}")
        self._define(container, {name: item for name, item in asked.items() if name != left})
        if not container.running and container.condition.sandbox is not None:
            self._around.change(container, sandbox=None)

    def _asked(self, container: Container) -> dict[str, EndpointSettings]:
        definition = container.definition
        if definition.parted:
            return {}
        asked = definition.networks or {definition.host.network_mode or "default": EndpointSettings()}
        return {self._name(ref): settings for ref, settings in asked.items()}

    def _name(self, ref: str) -> str:
        try:
            return self._around.networks.inspect("bridge" if ref == "default" else ref).name
        except EnxameError:
            return ref

    def _define(self, container: Container, networks: dict[str, EndpointSettings]) -> None:
        self._around.redefine(container, replace(container.definition, networks=networks, parted=not networks))

    def _became(self, container: Container, info: SandboxInfo) -> None:
        before = container.condition.sandbox or SandboxInfo()
        self._around.change(container, sandbox=info)
        directory = self._around.records.directory(container.id)
        _rewrite_hosts(directory / "hosts", before, info)
        if info.resolv_conf != before.resolv_conf:
            (directory / "resolv.conf").write_text(info.resolv_conf)


def _rewrite_hosts(path: Path, before: SandboxInfo, after: SandboxInfo) -> None:
    """In place, because the container holds on to the file; lines that it added itself stay."""
    old, new = before.hosts.splitlines(), after.hosts.splitlines()
    lines = [line for line in path.read_text().splitlines() if line not in old or line in new]
    lines += [line for line in new if line not in lines]
    path.write_text("".join(f"{line}\n" for line in lines))


def _check_mode(container: Container) -> None:
    mode = container.definition.host.network_mode
    if container.removing or container.condition.status == "dead":
        raise Conflict(
            f"container {container.id} is marked for removal and cannot be connected or disconnected to the network"
        )
    if mode.startswith("container:"):
        raise InvalidArgument(_SHARED)
    if mode == "none":
        raise InvalidArgument(_NOT_NONE)
