"""Subnets and VXLAN ids for the swarm's networks, out of the default address pools."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import chain
from typing import Final, TypeAlias

Subnet: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_POOL: Final = "10.0.0.0/8"
DEFAULT_SUBNET_SIZE: Final = 24
FIRST_VXLAN_ID: Final = 4096
LAST_VXLAN_ID: Final = (1 << 24) - 1


class SubnetPool:
    """Which subnets and VXLAN ids are taken, by network id. They are given in turn, so that freed ones rest: nodes may
    still be taking the network down that had them.
    """

    def __init__(self) -> None:
        self._asked: tuple[str, ...] = (DEFAULT_POOL,)
        self._pools: list[Subnet] = [ipaddress.ip_network(DEFAULT_POOL)]
        self._size = DEFAULT_SUBNET_SIZE
        self._subnets: dict[str, list[Subnet]] = {}
        self._vxlan: dict[str, int] = {}
        self._vxlan_used: set[int] = set()
        self._next_vxlan = FIRST_VXLAN_ID
        self._last_taken: Subnet | None = None
        self._next_ipv6 = 0

    def configure(self, pools: Iterable[str], size: int) -> None:
        """Use these pools (none: the default) cut into subnets of this prefix length for networks to come."""
        self._size = size or DEFAULT_SUBNET_SIZE
        asked = tuple(pools) or (DEFAULT_POOL,)
        if asked != self._asked:
            self._asked = asked
            self._pools = [ipaddress.ip_network(pool, strict=False) for pool in asked]

    def take(self, network_id: str, avoid: Iterable[str] = ()) -> str | None:
        """A free subnet for a network that overlaps none of those to ``avoid``; None when the pools are used up."""
        taken = {subnet: None for subnets in self._subnets.values() for subnet in subnets}
        taken |= {ipaddress.ip_network(subnet, strict=False): None for subnet in avoid}
        # From the one after the last that was given, then from the beginning.
        for candidate in chain(self._candidates(after=self._last_taken), self._candidates()):
            if candidate not in taken and not any(_overlap(candidate, other) for other in taken):
                self._subnets.setdefault(network_id, []).append(candidate)
                self._last_taken = candidate
                return str(candidate)
        return None

    def take_ipv6(self, network_id: str, swarm_id: str) -> str:
        """A free subnet of the swarm's own unique local addresses (RFC 4193)."""
        base = int.from_bytes(b"\xfd" + sha256(swarm_id.encode()).digest()[:5] + bytes(10))
        taken = {subnet for subnets in self._subnets.values() for subnet in subnets}
        for number in chain(range(self._next_ipv6, 1 << 16), range(self._next_ipv6)):
            candidate = ipaddress.IPv6Network((base + (number << 64), 64))
            if not any(_overlap(candidate, other) for other in taken):
                self._subnets.setdefault(network_id, []).append(candidate)
                self._next_ipv6 = number + 1
                return str(candidate)
        raise ValueError("could not find an available, non-overlapping IPv6 address pool among the defaults")

    def claim(self, network_id: str, subnet: str) -> str | None:
        """Note a subnet that a network asks for or has. Returns the id of a network that it overlaps with, if any."""
        wanted = ipaddress.ip_network(subnet, strict=False)
        for other_id, subnets in self._subnets.items():
            if other_id != network_id and any(_overlap(wanted, other) for other in subnets):
                return other_id
        mine = self._subnets.setdefault(network_id, [])
        if wanted not in mine:
            mine.append(wanted)
        return None

    def take_vxlan_id(self, network_id: str) -> int | None:
        """A free VXLAN id for a network; None when all are used."""
        for number in chain(range(self._next_vxlan, LAST_VXLAN_ID + 1), range(FIRST_VXLAN_ID, self._next_vxlan)):
            if number not in self._vxlan_used:
                self.claim_vxlan_id(network_id, number)
                return number
        return None

    def claim_vxlan_id(self, network_id: str, number: int) -> bool:
        """Note the VXLAN id that a network has, or asks for; False when another has it."""
        if number in self._vxlan_used and self._vxlan.get(network_id) != number:
            return False
        self._vxlan[network_id] = number
        self._vxlan_used.add(number)
        if number >= self._next_vxlan:
            self._next_vxlan = number + 1
        return True

    def release(self, network_id: str) -> None:
        """Give all that a network had back."""
        self._subnets.pop(network_id, None)
        number = self._vxlan.pop(network_id, None)
        if number is not None:
            self._vxlan_used.discard(number)

    def _candidates(self, after: Subnet | None = None) -> Iterator[Subnet]:
        begun = after is None
        for pool in self._pools:
            size = max(self._size, pool.prefixlen)
            step = 1 << (pool.max_prefixlen - size)
            first, end = int(pool.network_address), int(pool.broadcast_address) + 1
            if not begun and after is not None and _overlap(pool, after):
                begun = True
                first += ((int(after.broadcast_address) - first) // step + 1) * step
            if begun:
                for number in range(first, end, step):
                    yield ipaddress.ip_network((number, size))


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)
