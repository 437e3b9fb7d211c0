"""Link addresses that containers outside services ask for: tables lead to them, so each must be one place's alone."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Final

from enxame.errors import Conflict, InvalidArgument
from enxame.model.attachment import Attachment
from enxame.model.network import Network
from enxame.store.interface import View

__all__ = ["check_link_address"]

#: What the link addresses of containers begin with that did not ask for one; four bytes of IPv4 address follow.
_CONTAINERS: Final = b"\x02\x42"
#: What those of the machines' own bridges begin with.
_MACHINES: Final = b"\x06\x65"


def check_link_address(view: View, network: Network, wanted: Attachment) -> None:
    """Whether the attachment may have the link address that it asks for, if it does.

    Raises:
        InvalidArgument: it is none, or one that belongs to somebody by rule.
        Conflict: another container has it.
    """
    text = wanted.link_address
    if not text:
        return
    try:
        link = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        link = b""
    if len(link) != 6 or link[0] & 1 or not any(link):
        raise InvalidArgument(f"{text} is not a valid mac address")
    if link.startswith(_MACHINES):
        raise InvalidArgument(f"mac address {text} is reserved: those that begin with 06:65 are the machines' own")
    if link.startswith(_CONTAINERS):
        address = IPv4Address(link[2:])
        if str(address) not in wanted.wanted and any(address in subnet for subnet in _subnets(network)):
            raise InvalidArgument(
                f"mac address {text} is reserved: on network {network.spec.name} it belongs to {address}"
            )
    for other in view.find(Attachment, "network_id", network.id):
        if other.link_address == text and other.id != wanted.id:
            raise Conflict(
                f"mac address {text} is already in use by container {other.name} on network {network.spec.name}"
            )


def _subnets(network: Network) -> list[IPv4Network | IPv6Network]:
    options = network.ipam_options or network.spec.ipam_options
    return [ip_network(config.subnet, strict=False) for config in options.configs if config.subnet] if options else []
