"""A connection of the mesh as the program knows it: which packets, and what to write into them. Pure."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from enxame.network.rtnetlink import Address

#: Source and destination (of version 4: in the first four bytes), their ports, the version. In network order but the
#: last.
KEY: Final = struct.Struct("=16s16s2s2sI")
#: The address to write, the port, whose they are, and what they change in sums (see :func:`_difference`).
VALUE: Final = struct.Struct("=16s2sBxHxxI")
VALUE_ADDRESS: Final = 0
VALUE_PORT: Final = 16
VALUE_SIDE: Final = 18
VALUE_HEADER_DIFFERENCE: Final = 20
VALUE_DIFFERENCE: Final = 24

#: Sides of a packet.
DESTINATION: Final = 0
SOURCE: Final = 1

#: One hop less, in the sum over a header of version 4: it shares sixteen bits with the protocol.
_HOP: Final = 0x0001 if sys.byteorder == "little" else 0x0100


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port."""

    address: Address
    port: int


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection: ``client`` asked ``asked``, and ``backend`` answers."""

    client: Endpoint
    asked: Endpoint
    backend: Endpoint

    def entries(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """Keys and values: for what the client sends, for the answers."""
        return (
            (key(self.client, self.asked), _value(DESTINATION, self.asked, self.backend)),
            (key(self.backend, self.client), _value(SOURCE, self.backend, self.asked)),
        )


def key(source: Endpoint, destination: Endpoint) -> bytes:
    """Which packets."""
    return KEY.pack(
        source.address.packed,
        destination.address.packed,
        source.port.to_bytes(2, "big"),
        destination.port.to_bytes(2, "big"),
        source.address.version,
    )


def parse_key(data: bytes) -> tuple[Endpoint, Endpoint]:
    """Source and destination."""
    source, destination, source_port, destination_port, version = KEY.unpack(data)

    def endpoint(address: bytes, port: bytes) -> Endpoint:
        parsed = IPv4Address(address[:4]) if version == 4 else IPv6Address(address)
        return Endpoint(parsed, int.from_bytes(port, "big"))

    return endpoint(source, source_port), endpoint(destination, destination_port)


def _value(side: int, old: Endpoint, new: Endpoint) -> bytes:
    difference = _difference(old.address.packed, new.address.packed)
    with_hop = difference + (_HOP ^ 0xFFFF)
    while with_hop >> 16:
        with_hop = (with_hop & 0xFFFF) + (with_hop >> 16)
    return VALUE.pack(new.address.packed, new.port.to_bytes(2, "big"), side, with_hop, difference)


def _difference(old: bytes, new: bytes) -> int:
    """What the exchange adds to a sum in one's complement (RFC 1624), of words in the machine's byte order."""
    words = struct.Struct(f"={len(old) // 2}H")
    gone: tuple[int, ...] = words.unpack(old)
    come: tuple[int, ...] = words.unpack(new)
    return sum(come) + sum(word ^ 0xFFFF for word in gone)
