"""What a client may ask of a container's place on a network, whichever network that is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from enxame.engine.networks.endpoints import parse_mac
from enxame.errors import InvalidArgument
from enxame.model.container import EndpointIPAMConfig, EndpointSettings

__all__ = ["check_endpoint", "check_endpoints"]


def check_endpoints(endpoints: Mapping[str, EndpointSettings], warnings: list[str]) -> None:
    """Those of a new container, before anything of it is made. Raises InvalidArgument, in Docker's words."""
    for settings in endpoints.values():
        check_endpoint(settings)
        if settings.ipam_config is not None and settings.ipam_config.link_local_ips:
            warnings.append("Link-local addresses are not set: containers have those that follow from their links")


def check_endpoint(settings: EndpointSettings) -> None:
    """Raises InvalidArgument for what is no address, in Docker's words."""
    wanted = settings.ipam_config or EndpointIPAMConfig()
    _check(wanted.ipv4_address, "IPv4", IPv4Address)
    _check(wanted.ipv6_address, "IPv6", IPv6Address)
    for text in wanted.link_local_ips:
        _check(text, "link-local IP", ip_address)
    if settings.mac_address:
        parse_mac(settings.mac_address)


def _check(text: str, kind: str, parse: Callable[[str], object]) -> None:
    if not text:
        return
    try:
        parse(text.partition("/")[0])  # those of tasks come with the lengths of their prefixes
    except ValueError:
        raise InvalidArgument(f"invalid {kind} address: {text}") from None
