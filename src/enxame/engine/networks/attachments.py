"""Containers outside services on attachable networks of the swarm: the manager is asked for their addresses."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from ipaddress import IPv4Address
from typing import Protocol

from msgspec.structs import replace

from enxame.engine.networks.endpoints import parse_mac
from enxame.engine.networks.registry import NetworkRegistry
from enxame.engine.networks.sandbox_records import SandboxRecord
from enxame.engine.sandbox import SandboxRequest
from enxame.errors import EnxameError, NotFound
from enxame.model.attachment import Attached, Attachment, AttachRequest, DetachRequest
from enxame.model.container import EndpointIPAMConfig, EndpointSettings
from enxame.model.network import Network
from enxame.network.bridge import mac_of

_log = logging.getLogger(__name__)
_NEVER = frozenset({"bridge", "default", "host", "none", ""})


class Attacher(Protocol):
    """The way to a manager: the node's agent."""

    async def attach(self, request: AttachRequest) -> Attached:
        """Put a container of this machine on an attachable network."""
        ...

    async def detach(self, request: DetachRequest) -> None:
        """Take it off again."""
        ...


class Attachments:
    """``ensure`` makes a network present on this machine; ``records`` are the containers that are connected."""

    def __init__(
        self,
        registry: NetworkRegistry,
        records: Callable[[], Collection[SandboxRecord]],
        ensure: Callable[[Network], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._records = records
        self._ensure = ensure
        #: Set while this machine is in a swarm.
        self.attacher: Attacher | None = None
        #: Those that are being made, by container and network: no connection shows them yet.
        self._making: set[tuple[str, str]] = set()

    async def attach_all(self, container_id: str, request: SandboxRequest) -> tuple[SandboxRequest, list[str]]:
        """The request with the addresses that the manager gave, and the ids of the networks that it gave them on.

        Raises:
            EnxameError: ``Could not attach to network …``; the container is on none then.
        """
        if request.waits_to_serve or request.network_mode.partition(":")[0] in ("container", "host", "none"):
            return request, []  # a task's come with the task
        asked = request.endpoints or {request.network_mode or "default": EndpointSettings()}
        endpoints: dict[str, EndpointSettings] = {}
        held: list[str] = []
        try:
            for ref, settings in asked.items():
                given = await self.attach(container_id, request.name, ref, settings)
                if given is None:
                    endpoints[ref] = settings
                    continue
                network_id, settled = given
                held.append(network_id)
                endpoints[network_id] = settled
        except BaseException:
            await self.detach(container_id, held)
            raise
        return (replace(request, endpoints=endpoints), held) if held else (request, [])

    async def attach(
        self, container_id: str, name: str, ref: str, settings: EndpointSettings
    ) -> tuple[str, EndpointSettings] | None:
        """The id of the network and the settings with an address; None when the network is this machine's own, or
        nobody knows it.

        Raises:
            EnxameError: ``Could not attach to network …``.
        """
        known = self._known(ref)
        if ref in _NEVER or (known is not None and known[1] != "swarm"):
            return None
        if self.attacher is None:
            if known is None:
                return None
            raise EnxameError(f"Could not attach to network {ref}: this node is not in a swarm any more")
        wanted = settings.ipam_config
        addresses = [wanted.ipv4_address, wanted.ipv6_address] if wanted is not None else []
        request = AttachRequest(
            # Not the id that is known here: the network of that name may have been removed, and made anew.
            network=ref,
            container_id=container_id,
            name=name,
            aliases=settings.aliases or [],
            addresses=[address.partition("/")[0] for address in addresses if address],
            link_address=_own_link_address(settings),
        )
        try:
            attached = await self.attacher.attach(request)
        except NotFound:
            raise NotFound(f"network {ref} not found") from None
        except EnxameError as error:
            raise type(error)(f"Could not attach to network {ref}: {error.message}") from error
        network_id = attached.network.id
        self._making.add((container_id, network_id))
        try:
            await self._ensure(attached.network)
        except BaseException:
            await self.detach(container_id, [network_id])
            raise
        given = _ipam(attached.addresses) if attached.addresses else wanted
        return network_id, replace(settings, network_id=network_id, ipam_config=given)

    def expects(self, network_id: str) -> bool:
        """Whether a container is being put on the network just now."""
        return any(place[1] == network_id for place in self._making)

    def settle(self, container_id: str) -> None:
        """The container is connected: its record shows what it has."""
        self._making = {entry for entry in self._making if entry[0] != container_id}

    async def detach(self, container_id: str, network_ids: Iterable[str]) -> None:
        """The container left these networks. A manager that does not hear it now learns it with the next session."""
        for network_id in network_ids:
            self._making.discard((container_id, network_id))
            if self.attacher is None:
                continue
            try:
                await self.attacher.detach(DetachRequest(container_id=container_id, network_id=network_id))
            except EnxameError as error:
                _log.warning("the manager was not told that a container left the network %s: %s", network_id, error)

    async def tell(self, record: SandboxRecord | None) -> None:
        """On the swarm's networks where this machine gives the addresses, the manager learns those of a container
        outside services. One that does not hear it now learns it with the next session.
        """
        for network_id in self.networks_of(record):
            if record is None or self.attacher is None or not self._gives(network_id):
                continue
            endpoint = next(item for item in record.info.endpoints.values() if item.network_id == network_id)
            addresses = [endpoint.ip_address, endpoint.global_ipv6_address]
            request = AttachRequest(
                network=network_id,
                container_id=record.container_id,
                name=record.name,
                aliases=endpoint.aliases or [],
                addresses=[address for address in addresses if address],
            )
            try:
                await self.attacher.attach(request)
            except EnxameError as error:
                _log.warning("the manager was not told the address of container %s: %s", record.name, error)
            if all(item.container_id != record.container_id for item in self._records()):
                await self.detach(record.container_id, [network_id])  # it left meanwhile, which was told before

    def networks_of(self, record: SandboxRecord | None) -> list[str]:
        """Ids of the swarm's networks that a container is on by itself."""
        if record is None or record.request.waits_to_serve:
            return []
        ids = [endpoint.network_id for endpoint in record.info.endpoints.values()]
        return [id_ for id_ in ids if (known := self._registry.by_id(id_)) and known.resource.scope == "swarm"]

    def differences(self, known: Sequence[Attachment]) -> tuple[list[Attachment], list[tuple[SandboxRecord, str]]]:
        """What the manager knows and is no more, and what is (with the network's id) and the manager does not know."""
        here = {
            (record.container_id, network_id): record
            for record in self._records()
            for network_id in self.networks_of(record)
        }
        there = {(item.container_id, item.network_id): item for item in known}
        gone = [item for place, item in there.items() if place not in here and place not in self._making]
        untold = {place for place, item in there.items() if not item.addresses and self._gives(item.network_id)}
        missing = [(record, place[1]) for place, record in here.items() if place not in there or place in untold]
        return gone, missing

    def _gives(self, network_id: str) -> bool:
        """Whether this machine gives the addresses of a network."""
        network = self._registry.by_id(network_id)
        return network is not None and not network.is_overlay

    def _known(self, ref: str) -> tuple[str, str] | None:
        """Id and scope of a network of this machine."""
        try:
            resource = self._registry.find(ref).resource
        except NotFound:
            return None
        return resource.id, resource.scope


def _ipam(addresses: Iterable[str]) -> EndpointIPAMConfig:
    plain = [address.partition("/")[0] for address in addresses]
    return EndpointIPAMConfig(
        ipv4_address=next((address for address in plain if ":" not in address), ""),
        ipv6_address=next((address for address in plain if ":" in address), ""),
    )


def _own_link_address(settings: EndpointSettings) -> str:
    """The link address that is asked for, unless it follows from the IPv4 address. Raises InvalidArgument."""
    if not settings.mac_address:
        return ""
    mac = parse_mac(settings.mac_address)
    wanted = settings.ipam_config.ipv4_address.partition("/")[0] if settings.ipam_config is not None else ""
    return "" if wanted and mac == mac_of(IPv4Address(wanted)) else mac.hex(":")
