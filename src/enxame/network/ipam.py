"""Addresses of networks: which subnet, which address. Pure bookkeeping; nothing here touches the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from typing import Final

from enxame.errors import EnxameError, InvalidArgument, PermissionDenied


@dataclass(frozen=True, slots=True)
class SubnetPool:
    """A range to cut subnets of ``size`` bits prefix from."""

    base: IPv4Network
    size: int


#: Docker's own defaults, tried in this order.
DEFAULT_POOLS: Final = (
    *(SubnetPool(IPv4Network(f"172.{second}.0.0/16"), 16) for second in range(17, 32)),
    SubnetPool(IPv4Network("192.168.0.0/16"), 20),
)


def free_subnet(pools: Sequence[SubnetPool], taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first subnet of the pools that overlaps none of ``taken``.

    Raises:
        EnxameError: there is none.
    """
    occupied = list(taken)
    for candidate in _candidates(pools):
        if not any(candidate.overlaps(other) for other in occupied):
            return candidate
    raise EnxameError(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )


def _candidates(pools: Sequence[SubnetPool]) -> Iterator[IPv4Network]:
    for pool in pools:
        yield from pool.base.subnets(new_prefix=pool.size)


def parse_subnet(text: str) -> IPv4Network:
    """An IPv4 subnet as users write it; host bits are ignored.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        if "/" not in text:
            raise AddressValueError("no prefix length")
        return IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise InvalidArgument(f"invalid subnet {text}: invalid CIDR block notation") from error


def parse_address(text: str, what: str = "IP address") -> IPv4Address:
    """An IPv4 address as users write it.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid {what}: {text}") from error


class AddressPool:
    """The addresses of one subnet. Addresses are given out in turn, so that one given back rests before it is
    used again.

    Attributes:
        subnet: the network's.
        gateway: taken from the start; by default the first address.
    """

    def __init__(
        self,
        subnet: IPv4Network,
        *,
        ip_range: IPv4Network | None = None,
        gateway: IPv4Address | None = None,
        reserved: Iterable[IPv4Address] = (),
        name: str = "",
    ) -> None:
        if subnet.prefixlen > 30:
            raise InvalidArgument(f"invalid subnet {subnet}: it has no room for a gateway and a container")
        if ip_range is not None and not ip_range.subnet_of(subnet):
            raise InvalidArgument(f"invalid ip-range {ip_range}: it is not within the subnet {subnet}")
        self.subnet = subnet
        self._name = name
        given = ip_range or subnet
        # The network's own and the broadcast address are never given out.
        self._first = max(int(given.network_address), int(subnet.network_address) + 1)
        self._last = min(int(given.broadcast_address), int(subnet.broadcast_address) - 1)
        self._used: set[int] = set()
        self._used_in_range = 0
        self._cursor = self._first
        for address in reserved:
            self._check_inside(address)
            self._mark(int(address))
        if gateway is None:
            gateway = IPv4Address(self._next_free())
        else:
            self._check_inside(gateway)
        self.gateway = gateway
        self._mark(int(gateway))

    @property
    def gateway_interface(self) -> IPv4Interface:
        """The gateway's address with the network's prefix."""
        return IPv4Interface((self.gateway, self.subnet.prefixlen))

    def interface(self, address: IPv4Address) -> IPv4Interface:
        """An address with the network's prefix."""
        return IPv4Interface((address, self.subnet.prefixlen))

    def take(self, wanted: IPv4Address | None = None) -> IPv4Address:
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
        self._mark(number)
        return IPv4Address(number)

    def give_back(self, address: IPv4Address) -> None:
        """Idempotent; the gateway cannot be given back."""
        number = int(address)
        if number in self._used and address != self.gateway:
            self._used.discard(number)
            self._used_in_range -= self._first <= number <= self._last

    def __contains__(self, address: IPv4Address) -> bool:
        return int(address) in self._used

    def _next_free(self) -> int:
        size = self._last - self._first + 1
        if self._used_in_range >= size:
            raise EnxameError(
                f"no available IPv4 addresses on this network's address pools: {self._name or self.subnet}"
            )
        number = self._cursor if self._first <= self._cursor <= self._last else self._first
        while number in self._used:
            number = number + 1 if number < self._last else self._first
        return number

    def _mark(self, number: int) -> None:
        if number not in self._used:
            self._used.add(number)
            self._used_in_range += self._first <= number <= self._last

    def _check_inside(self, address: IPv4Address) -> None:
        network, broadcast = self.subnet.network_address, self.subnet.broadcast_address
        if address not in self.subnet or address in (network, broadcast):
            raise InvalidArgument(f"Invalid address {address}: It does not belong to any of this network's subnets")
