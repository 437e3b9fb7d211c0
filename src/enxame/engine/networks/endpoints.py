"""What a container gets on one network: its address, its way out, and how that is shown."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from enxame.engine.networks.registry import ActiveNetwork
from enxame.errors import InvalidArgument
from enxame.model.container import EndpointSettings
from enxame.model.network import EndpointResource
from enxame.network.ipam import parse_address
from enxame.network.ipam6 import parse_address6


def way_out(places: Sequence[tuple[ActiveNetwork, EndpointSettings]], version: int = 4) -> ActiveNetwork | None:
    """The network of the default route of a version of IP: of those that are not internal and have it the one with the
    highest priority, among equals the first; the ingress network only when it is the only one.
    """
    open_ = [
        (network, settings)
        for network, settings in places
        if not network.resource.internal and (version == 4 or network.pool6 is not None)
    ]
    best = max(open_, key=lambda place: (not place[0].resource.ingress, place[1].gw_priority), default=None)
    return best[0] if best is not None else None


def take_address(network: ActiveNetwork, settings: EndpointSettings) -> IPv4Address:
    """The address asked for, or any; it is in use from now on.

    Raises:
        EnxameError: it is not to be had.
    """
    pool = network.pool
    assert pool is not None
    text = settings.ipam_config.ipv4_address.partition("/")[0] if settings.ipam_config is not None else ""
    if text:
        if network.resource.name == "bridge":
            raise InvalidArgument("user specified IP address is supported on user defined networks only")
        return pool.take(parse_address(text))
    if network.is_overlay:
        raise InvalidArgument(f"Could not attach to network {network.resource.name}: the manager gave no address")
    return pool.take()


def take_address6(network: ActiveNetwork, settings: EndpointSettings) -> IPv6Address | None:
    """The same of IPv6; None where the network has none.

    Raises:
        EnxameError: it is not to be had.
    """
    text = settings.ipam_config.ipv6_address.partition("/")[0] if settings.ipam_config is not None else ""
    if network.pool6 is None:
        if text and not network.is_overlay:  # there it is the manager's, and not for this machine
            raise InvalidArgument(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
            )
        return None
    if network.is_overlay and not text:
        return None
    return network.pool6.take(parse_address6(text) if text else None)


def parse_mac(text: str) -> bytes:
    """A link address as users write it. Raises InvalidArgument when it is none."""
    try:
        mac = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        mac = b""
    if len(mac) != 6 or mac[0] & 1:
        raise InvalidArgument(f"{text} is not a valid mac address")
    return mac


def resource(name: str, endpoint: EndpointSettings) -> EndpointResource:
    """An endpoint as ``network inspect`` shows it."""
    return EndpointResource(
        name=name,
        endpoint_id=endpoint.endpoint_id,
        mac_address=endpoint.mac_address,
        ipv4_address=f"{endpoint.ip_address}/{endpoint.ip_prefix_len}" if endpoint.ip_address else "",
        ipv6_address=f"{endpoint.global_ipv6_address}/{endpoint.global_ipv6_prefix_len}"
        if endpoint.global_ipv6_address
        else "",
    )


def bare_endpoint(network: ActiveNetwork) -> EndpointSettings:
    """An endpoint without addresses: on ``host`` and ``none``."""
    return EndpointSettings(network_id=network.resource.id, endpoint_id=secrets.token_hex(32))
