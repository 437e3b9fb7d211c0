"""Addresses of one subnet: handed out in turn, so that a freed one rests as long as it can."""

from __future__ import annotations

import ipaddress
from typing import Final

#: Subnets larger than this many addresses are used only so far in.
_LARGEST: Final = 1 << 24


class AddressPool:
    """A subnet's addresses. Network and broadcast address, the gateway and reserved ones are never given."""

    def __init__(self, subnet: str, ip_range: str = "", reserved: tuple[str, ...] = ()) -> None:
        self.network = ipaddress.ip_network(subnet, strict=False)
        pool = ipaddress.ip_network(ip_range, strict=False) if ip_range else self.network
        first, last = int(pool.network_address), int(pool.broadcast_address)
        base, end = int(self.network.network_address), int(self.network.broadcast_address)
        bits = self.network.max_prefixlen - self.network.prefixlen
        if bits > 1:
            first, last = max(first, base + 1), min(last, end - 1)
        self._first = first
        self._last = min(last, first + _LARGEST)
        self._next = first
        self._suffix = f"/{self.network.prefixlen}"
        self._used: set[int] = {int(ipaddress.ip_address(address.partition("/")[0])) for address in reserved if address}
        self._left = self._last - self._first + 1 - sum(map(self._is_given, self._used))

    @property
    def first(self) -> str:
        """The subnet's first usable address that is not reserved, without its length: by custom the gateway."""
        number = int(self.network.network_address) + 1
        while number in self._used:
            number += 1
        return self._text(number)

    def take(self) -> str | None:
        """A free address (CIDR); None when there is none."""
        if not self._left:
            return None
        used, last = self._used, self._last
        for start, stop in ((self._next, last), (self._first, self._next - 1)):
            for number in range(start, stop + 1):
                if number not in used:
                    used.add(number)
                    self._left -= 1
                    self._next = number + 1 if number < last else self._first
                    return self._text(number) + self._suffix
        return None

    def claim(self, address: str) -> bool:
        """Mark an address (CIDR or plain) as used; False when it is already, or is no address of this subnet."""
        try:
            parsed = ipaddress.ip_address(address.partition("/")[0])
        except ValueError:
            return False
        number = int(parsed)
        if parsed not in self.network or number in self._used:
            return False
        self._used.add(number)
        self._left -= self._is_given(number)
        # After a restart all addresses in use are claimed: those given back before it rest, too.
        if self._is_given(number) and number >= self._next:
            self._next = number + 1 if number < self._last else self._first
        return True

    def release(self, address: str) -> None:
        """Give an address back. Idempotent; nothing happens when it is of another subnet."""
        parsed = ipaddress.ip_address(address.partition("/")[0])
        if parsed in self.network and int(parsed) in self._used:
            self._used.remove(int(parsed))
            self._left += self._is_given(int(parsed))

    def taken(self) -> list[int]:
        """All that is in use, as numbers."""
        return sorted(self._used)

    def _is_given(self, number: int) -> bool:
        """Whether it is one of those that are given unasked."""
        return self._first <= number <= self._last

    def _text(self, number: int) -> str:
        if self.network.version == 4:
            return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return str(ipaddress.IPv6Address(number))
