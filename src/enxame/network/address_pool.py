"""The addresses of one subnet, of either version of IP. Pure bookkeeping; nothing here touches the kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import ClassVar, Generic, TypeVar

from enxame.errors import EnxameError, InvalidArgument, PermissionDenied

__all__ = ["A", "AddressPool", "AddressPool6", "I", "N", "Pool"]

N = TypeVar("N", IPv4Network, IPv6Network)
A = TypeVar("A", IPv4Address, IPv6Address)
I = TypeVar("I", IPv4Interface, IPv6Interface)  # noqa: E741 - as the module that it is of


class Pool(ABC, Generic[N, A, I]):
    """Addresses are given out in turn, so that one given back rests before it is used again.

    Attributes:
        subnet: the network's.
        gateway: taken from the start; by default the first address.
    """

    _version: ClassVar[int]
    _longest_prefix: ClassVar[int]

    def __init__(
        self,
        subnet: N,
        *,
        ip_range: N | None = None,
        gateway: A | None = None,
        reserved: Iterable[A] = (),
        name: str = "",
    ) -> None:
        if subnet.prefixlen > self._longest_prefix:
            raise InvalidArgument(f"invalid subnet {subnet}: it has no room for a gateway and a container")
        if ip_range is not None and not (ip_range.network_address in subnet and ip_range.broadcast_address in subnet):
            raise InvalidArgument(f"invalid ip-range {ip_range}: it is not within the subnet {subnet}")
        self.subnet: N = subnet
        self._name = name
        self._inside = range(int(subnet.network_address) + 1, self._end(subnet))
        given = ip_range if ip_range is not None else subnet
        self._first = max(int(given.network_address), self._inside.start)
        self._last = min(int(given.broadcast_address), self._inside.stop - 1)
        self._used: set[int] = set()
        self._used_in_range = 0
        self._cursor = self._first
        for address in reserved:
            self._check_inside(address)
            self._mark(int(address))
        if gateway is None:
            gateway = self._address(self._next_free())
        else:
            self._check_inside(gateway)
        self.gateway: A = gateway
        self._mark(int(gateway))

    @abstractmethod
    def interface(self, address: A) -> I:
        """An address with the network's prefix."""

    @abstractmethod
    def _address(self, number: int) -> A: ...

    @abstractmethod
    def _end(self, subnet: N) -> int:
        """The number after the last that is given out; the first of a subnet never is."""

    @property
    def gateway_interface(self) -> I:
        """The gateway's address with the network's prefix."""
        return self.interface(self.gateway)

    @property
    def is_full(self) -> bool:
        """Whether none is left of those that are given out unasked."""
        return self._used_in_range >= self._last - self._first + 1

    def take(self, wanted: A | None = None) -> A:
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
        return self._address(number)

    def give_back(self, address: A) -> None:
        """Idempotent; the gateway cannot be given back."""
        number = int(address)
        if number in self._used and address != self.gateway:
            self._used.discard(number)
            self._used_in_range -= self._first <= number <= self._last

    def __contains__(self, address: A) -> bool:
        return int(address) in self._used

    def _next_free(self) -> int:
        if self.is_full:
            raise EnxameError(
                f"no available IPv{self._version} addresses on this network's address pools: "
                f"{self._name or self.subnet}"
            )
        number = self._cursor if self._first <= self._cursor <= self._last else self._first
        while number in self._used:
            number = number + 1 if number < self._last else self._first
        return number

    def _mark(self, number: int) -> None:
        if number not in self._used:
            self._used.add(number)
            self._used_in_range += self._first <= number <= self._last

    def _check_inside(self, address: A) -> None:
        if int(address) not in self._inside:
            raise InvalidArgument(f"Invalid address {address}: It does not belong to any of this network's subnets")


class AddressPool(Pool[IPv4Network, IPv4Address, IPv4Interface]):
    """Of IPv4: the network's own and the broadcast address are never given out."""

    _version = 4
    _longest_prefix = 30

    def interface(self, address: IPv4Address) -> IPv4Interface:
        """An address with the network's prefix."""
        return IPv4Interface((address, self.subnet.prefixlen))

    def _address(self, number: int) -> IPv4Address:
        return IPv4Address(number)

    def _end(self, subnet: IPv4Network) -> int:
        return int(subnet.broadcast_address)


class AddressPool6(Pool[IPv6Network, IPv6Address, IPv6Interface]):
    """Of IPv6: the first address means all the subnet's routers."""

    _version = 6
    _longest_prefix = 126

    def interface(self, address: IPv6Address) -> IPv6Interface:
        """An address with the network's prefix."""
        return IPv6Interface((address, self.subnet.prefixlen))

    def _address(self, number: int) -> IPv6Address:
        return IPv6Address(number)

    def _end(self, subnet: IPv6Network) -> int:
        return int(subnet.broadcast_address) + 1
