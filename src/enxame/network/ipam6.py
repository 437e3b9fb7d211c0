"""IPv6 subnets of networks: as users write them, and which are free. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network

from enxame.errors import EnxameError, InvalidArgument

__all__ = ["free_subnet6", "parse_address6", "parse_subnet6"]

_ULA = 0xFD << 120


def parse_subnet6(text: str) -> IPv6Network:
    """An IPv6 subnet as users write it; host bits are ignored. Raises InvalidArgument when it is none."""
    try:
        if "/" not in text:
            raise ValueError("no prefix length")
        return IPv6Network(text, strict=False)
    except ValueError as error:
        raise InvalidArgument(f"invalid subnet {text}: invalid CIDR block notation") from error


def parse_address6(text: str, what: str = "IP address") -> IPv6Address:
    """An IPv6 address as users write it. Raises InvalidArgument when it is none."""
    try:
        return IPv6Address(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid {what}: {text}") from error


def free_subnet6(machine: str, taken: Iterable[IPv6Network]) -> IPv6Network:
    """A subnet of unique local addresses (RFC 4193) that overlaps none of ``taken``; always the same for a ``machine``
    with the same networks.

    Raises:
        EnxameError: there is none.
    """
    occupied = list(taken)
    site = int.from_bytes(hashlib.sha256(machine.encode()).digest()[:5], "big") << 80
    for number in range(1 << 16):
        subnet = IPv6Network((_ULA | site | number << 64, 64))
        if not any(subnet.overlaps(other) for other in occupied):
            return subnet
    raise EnxameError(
        "could not find an available, non-overlapping IPv6 address pool among the defaults to assign to the network"
    )
