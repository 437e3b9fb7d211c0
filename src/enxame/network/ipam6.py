"""Addresses of IPv6 subnets. Pure bookkeeping; nothing here touches the kernel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Interface, IPv6Network

from enxame.errors import EnxameError, InvalidArgument, PermissionDenied

__all__ = ["AddressPool6", "free_subnet6", "parse_address6", "parse_subnet6"]

_LONGEST_PREFIX = 126
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


class AddressPool6:
    """The addresses of one subnet, given out in turn: one that is given back rests.

    Attributes:
        subnet: the network's.
        gateway: taken from the start; by default the first address.
    """

    def __init__(
        self,
        subnet: IPv6Network,
        *,
        ip_range: IPv6Network | None = None,
        gateway: IPv6Address | None = None,
        reserved: Iterable[IPv6Address] = (),
        name: str = "",
    ) -> None:
        if subnet.prefixlen > _LONGEST_PREFIX:
            raise InvalidArgument(f"invalid subnet {subnet}: it has no room for a gateway and a container")
        if ip_range is not None and not ip_range.subnet_of(subnet):
            raise InvalidArgument(f"invalid ip-range {ip_range}: it is not within the subnet {subnet}")
        self.subnet = subnet
        self._name = name
        given = ip_range or subnet
        # The subnet's first address means all its routers.
        self._first = max(int(given.network_address), int(subnet.network_address) + 1)
        self._last = int(given.broadcast_address)
        self._cursor = self._first
        self._used: set[int] = set()
        for address in reserved:
            self._check_inside(address)
            self._used.add(int(address))
        if gateway is None:
            gateway = IPv6Address(self._next_free())
        else:
            self._check_inside(gateway)
        self.gateway = gateway
        self._used.add(int(gateway))

    @property
    def gateway_interface(self) -> IPv6Interface:
        """The gateway's address with the network's prefix."""
        return self.interface(self.gateway)

    def interface(self, address: IPv6Address) -> IPv6Interface:
        """An address with the network's prefix."""
        return IPv6Interface((address, self.subnet.prefixlen))

    def take(self, wanted: IPv6Address | None = None) -> IPv6Address:
        """An address, now in use.

        Raises:
            PermissionDenied: ``wanted`` is in use.
            InvalidArgument: ``wanted`` is not of this subnet.
            EnxameError: all are in use.
        """
        if wanted is None:
            number = self._next_free()
            self._cursor = number + 1
        else:
            self._check_inside(wanted)
            number = int(wanted)
            if number in self._used:
                raise PermissionDenied("Address already in use")
        self._used.add(number)
        return IPv6Address(number)

    def give_back(self, address: IPv6Address) -> None:
        """Idempotent; the gateway cannot be given back."""
        if address != self.gateway:
            self._used.discard(int(address))

    def __contains__(self, address: IPv6Address) -> bool:
        return int(address) in self._used

    def _next_free(self) -> int:
        number = self._cursor if self._first <= self._cursor <= self._last else self._first
        # More tries than there are used addresses are never needed.
        for _ in range(len(self._used) + 1):
            if number not in self._used:
                return number
            number = number + 1 if number < self._last else self._first
        raise EnxameError(f"no available IPv6 addresses on this network's address pools: {self._name or self.subnet}")

    def _check_inside(self, address: IPv6Address) -> None:
        if address not in self.subnet or address == self.subnet.network_address:
            raise InvalidArgument(f"Invalid address {address}: It does not belong to any of this network's subnets")
