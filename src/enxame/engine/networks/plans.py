"""A container's connection in the making: addresses, links and ports, reserved before anything is programmed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from typing import Final

import msgspec

from enxame.engine.networks import definitions
from enxame.engine.networks.endpoints import parse_mac, resource, take_address, take_address6, way_out
from enxame.engine.networks.port_requests import PortRequest, parse_port, parse_requests
from enxame.engine.networks.registry import ActiveNetwork, NetworkRegistry
from enxame.engine.networks.sandbox_records import InterfaceRecord, PublishedRecord, SandboxRecord
from enxame.engine.sandbox import SandboxRequest
from enxame.errors import EnxameError, InvalidArgument, PermissionDenied
from enxame.model.container import EndpointSettings, PortBinding
from enxame.network.attachments import Attachment
from enxame.network.bridge import Bridge, mac_of
from enxame.network.held_ports import HeldPort, HeldPorts, PortTaken
from enxame.network.link_names import LINK_PREFIX
from enxame.network.ports import PublishedPort

_LINK_ID_LENGTH: Final = 10
_SHORT_ID_LENGTH: Final = 12
_ANY: Final = "0.0.0.0"
_ANY6: Final = "::"


@dataclass(slots=True)
class Plan:
    """What a connection holds; it is given back when the connection fails."""

    networks: list[ActiveNetwork] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    endpoints: dict[str, EndpointSettings] = field(default_factory=dict)
    held: list[HeldPort] = field(default_factory=list)
    published: list[PublishedRecord] = field(default_factory=list)
    bound: dict[str, list[PortBinding]] = field(default_factory=dict)

    def interfaces(self) -> dict[str, InterfaceRecord]:
        """To keep, by network id."""
        pairs = zip(self.networks, self.attachments, strict=True)
        return {network.resource.id: InterfaceRecord(link=item.link, inner=item.inner) for network, item in pairs}


class Planner:
    """Makes plans. ``missing``: why a swarm network could not be made here, by its id."""

    def __init__(self, registry: NetworkRegistry, held_ports: HeldPorts, missing: Mapping[str, str]) -> None:
        self._registry = registry
        self._held_ports = held_ports
        self._missing = missing

    def network(self, ref: str) -> ActiveNetwork:
        """Raises NotFound, or EnxameError saying why a swarm network is not here."""
        if ref in self._missing and self._registry.by_id(ref) is None:
            raise EnxameError(self._missing[ref])
        # "default" is what clients call the default bridge.
        return self._registry.find("bridge" if ref == "default" else ref)

    def wanted(self, request: SandboxRequest) -> list[tuple[ActiveNetwork, EndpointSettings]]:
        """The networks that a container asks for."""
        wanted = request.endpoints or {request.network_mode or "default": EndpointSettings()}
        return [(self.network(ref), settings) for ref, settings in wanted.items()]

    def endpoints(self, plan: Plan, container_id: str, request: SandboxRequest) -> None:
        """Plan all endpoints of a new connection."""
        found = self.wanted(request)
        exits = way_out(found), way_out(found, 6)
        for number, (network, settings) in enumerate(found):
            self.endpoint(plan, container_id, request, network, settings, number=number, exits=exits)

    def endpoint(
        self,
        plan: Plan,
        container_id: str,
        request: SandboxRequest,
        network: ActiveNetwork,
        settings: EndpointSettings,
        *,
        number: int,
        exits: tuple[ActiveNetwork | None, ActiveNetwork | None],
    ) -> None:
        """Plan one endpoint, ``eth<number>`` inside. ``exits``: the networks of the default routes, IPv4 and IPv6."""
        if network.resource.config_only:
            raise PermissionDenied(f"cannot create endpoint on configuration-only network {network.resource.name}")
        if network.pool is None or network.bridge is None:
            raise InvalidArgument(f"a container cannot be on {network.resource.name} and on other networks")
        if container_id in network.endpoints:
            raise InvalidArgument(f"the network {network.resource.name} is named twice")
        if settings.aliases and network.resource.name == "bridge":
            raise InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
        address = take_address(network, settings)
        endpoint_id = secrets.token_hex(32)
        try:
            mac = parse_mac(settings.mac_address) if settings.mac_address else mac_of(address)
            address6 = take_address6(network, settings)
        except EnxameError:
            network.pool.give_back(address)
            raise
        pool6 = network.pool6
        place = network.pool.interface(address)
        place6 = pool6.interface(address6) if pool6 is not None and address6 is not None else None
        gateway = gateway6 = None
        if not network.resource.internal:
            gateway = network.pool.gateway_of(address)
            gateway6 = pool6.gateway_of(address6) if pool6 is not None and address6 is not None else None
        plan.networks.append(network)
        plan.attachments.append(
            Attachment(
                link=f"{LINK_PREFIX}{endpoint_id[:_LINK_ID_LENGTH]}",
                inner=f"eth{number}",
                bridge=network.bridge,
                address=place,
                mac=mac,
                gateway=gateway,
                default=network is exits[0],
                address6=place6,
                gateway6=gateway6,
                default6=network is exits[1],
                on_link=network.on_link(address, address6),
            )
        )
        endpoint = msgspec.structs.replace(
            settings,
            network_id=network.resource.id,
            endpoint_id=endpoint_id,
            gateway=str(gateway) if gateway is not None else "",
            ip_address=str(address),
            ip_prefix_len=place.network.prefixlen,
            mac_address=mac.hex(":"),
            ipv6_gateway=str(gateway6) if gateway6 is not None else "",
            global_ipv6_address=str(address6) if address6 is not None else "",
            global_ipv6_prefix_len=place6.network.prefixlen if place6 is not None else 0,
            dns_names=dns_names(container_id, request, settings) if network.has_names else None,
        )
        plan.endpoints[network.resource.name] = endpoint
        network.endpoints[container_id] = resource(request.name, endpoint)

    def ports(self, plan: Plan, request: SandboxRequest) -> None:
        """Plan the published ports of a new connection."""
        target = port_target(plan.attachments)
        if target is None:
            return
        number = plan.attachments.index(target)
        default_ip = definitions.host_binding(plan.networks[number].resource)
        wanted = parse_requests(
            request.port_bindings,
            request.exposed_ports,
            publish_all=request.publish_all,
            default_ip=ip_address(default_ip) if default_ip not in ("", _ANY) else None,
        )
        for key in request.exposed_ports:
            port, protocol = parse_port(key)
            plan.bound.setdefault(f"{port}/{protocol}", [])
        for port_request in wanted:
            try:
                held = self._hold(port_request, (str(target.address.ip), port_request.container_port))
            except PortTaken as error:
                endpoint = list(plan.endpoints.values())[number]
                raise EnxameError(
                    "driver failed programming external connectivity on endpoint "
                    f"{request.name} ({endpoint.endpoint_id}): {error.message}"
                ) from error
            plan.held.append(held)
            plan.published += _led_to(held, target, port_request.container_port)
            places = [str(held.host_ip or _ANY)]
            if held.host_ip is None and held.over_ipv6:
                places.append(_ANY6)
            plan.bound.setdefault(port_request.key, []).extend(
                PortBinding(host_ip=place, host_port=str(held.port)) for place in places
            )

    def _hold(self, wanted: PortRequest, target: tuple[str, int]) -> HeldPort:
        for port in range(wanted.first, wanted.last + 1):
            try:
                return self._held_ports.hold(wanted.protocol, wanted.host_ip, port, target=target)
            except PortTaken:
                if port == wanted.last:
                    raise
        raise AssertionError("a range has at least one port")

    def give_back(self, plan: Plan, container_id: str) -> None:
        """Undo a plan."""
        self.give_ports_back(plan)
        for network in plan.networks:
            network.leave(container_id)

    def give_ports_back(self, plan: Plan) -> None:
        """Others may have the ports of the host that it holds."""
        for held in plan.held:
            self._held_ports.give_back(held)


def port_target(attachments: Sequence[Attachment]) -> Attachment | None:
    """Where published ports lead: to the link with the default route, if that is on a bridge. None for a container
    that is on the wire alone, or on internal networks.
    """
    bridged = [item for item in attachments if not item.bridge.parent and not item.bridge.internal]
    return next((item for item in bridged if item.default), bridged[0] if bridged else None)


def _led_to(held: HeldPort, target: Attachment, port: int) -> list[PublishedRecord]:
    """Where a held port leads to; over IPv6 natively, where the container has an address of it."""
    led = [PublishedRecord.of(PublishedPort(held.protocol, held.host_ip, held.port, target.address.ip, port))]
    if target.address6 is not None and held.over_ipv6:
        host_ip = held.host_ip or IPv6Address(0)
        if not host_ip.is_loopback:
            native = PublishedPort(held.protocol, host_ip, held.port, target.address6.ip, port)
            led.append(PublishedRecord.of(native, companion=True))
    return led


def dns_names(container_id: str, request: SandboxRequest, settings: EndpointSettings) -> list[str]:
    """What a container is called on a network, the first being its proper name."""
    names = [request.name, *(settings.aliases or ()), container_id[:_SHORT_ID_LENGTH], request.hostname]
    return list(dict.fromkeys(name for name in names if name))


def attachments_of(
    record: SandboxRecord, registry: NetworkRegistry
) -> list[tuple[ActiveNetwork, EndpointSettings, Attachment]]:
    """The links of a connected container, as they were planned; those with the default routes are marked."""
    found: list[tuple[ActiveNetwork, EndpointSettings, InterfaceRecord]] = []
    for endpoint in record.info.endpoints.values():
        network, interface = registry.by_id(endpoint.network_id), record.interfaces.get(endpoint.network_id)
        if network is not None and network.bridge is not None and interface is not None:
            found.append((network, endpoint, interface))
    places = [(network, endpoint) for network, endpoint, _ in found]
    exit_, exit6 = way_out(places), way_out(places, 6)
    return [
        (
            network,
            endpoint,
            _attachment(network, network.bridge, endpoint, interface, (network is exit_, network is exit6)),
        )
        for network, endpoint, interface in found
        if network.bridge is not None
    ]


def _attachment(
    network: ActiveNetwork,
    bridge: Bridge,
    endpoint: EndpointSettings,
    interface: InterfaceRecord,
    default: tuple[bool, bool],
) -> Attachment:
    address = IPv4Interface(f"{endpoint.ip_address}/{endpoint.ip_prefix_len}")
    address6 = None
    if endpoint.global_ipv6_address:
        address6 = IPv6Interface(f"{endpoint.global_ipv6_address}/{endpoint.global_ipv6_prefix_len}")
    return Attachment(
        link=interface.link,
        inner=interface.inner,
        bridge=bridge,
        address=address,
        gateway=IPv4Address(endpoint.gateway) if endpoint.gateway else None,
        default=default[0],
        address6=address6,
        gateway6=IPv6Address(endpoint.ipv6_gateway) if endpoint.ipv6_gateway else None,
        default6=default[1],
        on_link=network.on_link(address.ip, address6.ip if address6 is not None else None),
    )


def free_number(interfaces: Mapping[str, InterfaceRecord]) -> int:
    """The least number that no interface inside has."""
    taken = {interface.inner for interface in interfaces.values()}
    return next(number for number in range(len(taken) + 1) if f"eth{number}" not in taken)


def led_to(published: Sequence[PublishedRecord], target: Attachment) -> list[PublishedRecord]:
    """The same ports of this machine, leading to other addresses of the container."""
    led = []
    for port in published:
        if ":" not in port.target_ip:
            led.append(msgspec.structs.replace(port, target_ip=str(target.address.ip)))
        elif target.address6 is not None:
            led.append(msgspec.structs.replace(port, target_ip=str(target.address6.ip)))
    return led
