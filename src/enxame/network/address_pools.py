"""The addresses of one network, of one version of IP: those of all its subnets. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Generic, TypeAlias

from enxame.errors import InvalidArgument
from enxame.network.address_pool import A, I, N, Pool

__all__ = ["AddressPools", "Addresses4", "Addresses6"]


class AddressPools(Generic[N, A, I]):
    """``pools``: one for each subnet, at least one. Addresses come from the first that has a free one."""

    def __init__(self, pools: Sequence[Pool[N, A, I]]) -> None:
        self._pools: tuple[Pool[N, A, I], ...] = tuple(pools)

    @property
    def subnets(self) -> list[N]:
        """In the order in which they were given."""
        return [pool.subnet for pool in self._pools]

    @property
    def gateways(self) -> list[I]:
        """One for each subnet, with its prefix."""
        return [pool.gateway_interface for pool in self._pools]

    def take(self, wanted: A | None = None) -> A:
        """An address, now in use.

        Raises:
            PermissionDenied: ``wanted`` is in use.
            InvalidArgument: ``wanted`` is of none of the subnets.
            EnxameError: all are in use.
        """
        if wanted is not None:
            return self._of(wanted).take(wanted)
        for pool in self._pools[:-1]:
            if not pool.is_full:
                return pool.take()
        return self._pools[-1].take()

    def give_back(self, address: A) -> None:
        """Idempotent; gateways cannot be given back."""
        for pool in self._pools:
            if address in pool.subnet:
                pool.give_back(address)

    def __contains__(self, address: A) -> bool:
        return any(address in pool for pool in self._pools)

    def is_gateway(self, address: A) -> bool:
        """Whether it is the gateway of one of the subnets."""
        return any(address == pool.gateway for pool in self._pools)

    def gateway_of(self, address: A) -> A:
        """The gateway of an address's subnet. Raises InvalidArgument when it is of none."""
        return self._of(address).gateway

    def interface(self, address: A) -> I:
        """An address with its subnet's prefix. Raises InvalidArgument when it is of none."""
        return self._of(address).interface(address)

    def _of(self, address: A) -> Pool[N, A, I]:
        for pool in self._pools:
            if address in pool.subnet:
                return pool
        raise InvalidArgument(f"Invalid address {address}: It does not belong to any of this network's subnets")


Addresses4: TypeAlias = AddressPools[IPv4Network, IPv4Address, IPv4Interface]
Addresses6: TypeAlias = AddressPools[IPv6Network, IPv6Address, IPv6Interface]
