"""IPv4 subnets of networks: as users write them, and which are free. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Final

from enxame.errors import EnxameError, InvalidArgument


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
