"""SCTP by hand, for kernels without sockets of it: packets with one chunk, as RFC 9260 has them."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

PROTOCOL: Final = 132
INIT: Final = 1
INIT_ACK: Final = 2

_POLYNOMIAL: Final = 0x82F63B78
_header = struct.Struct("!HHI")
_init = struct.Struct("!IIHHI")


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901 - one step of a division
        table.append(value)
    return table


_TABLE: Final = _table()


def checksum(data: bytes) -> int:
    """CRC-32C."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


@dataclass(frozen=True)
class Packet:
    """Who sends from which port to which, and one INIT or INIT ACK chunk. ``tag``: the receiver's, 0 in an INIT."""

    source: str
    source_port: int
    port: int
    tag: int
    kind: int
    own_tag: int

    def encode(self) -> bytes:
        """Without the IP header."""
        cookie = struct.pack("!HH4s", 7, 8, b"cook") if self.kind == INIT_ACK else b""
        body = _init.pack(self.own_tag, 1 << 16, 1, 1, 1) + cookie
        chunk = struct.pack("!BBH", self.kind, 0, 4 + len(body)) + body
        header = _header.pack(self.source_port, self.port, self.tag)
        # The sum is the one field that goes least significant byte first.
        return header + struct.pack("<I", checksum(header + bytes(4) + chunk)) + chunk


def receive(raw: socket.socket, port: int, kind: int) -> Packet:
    """The next whole packet of a kind for a port, with a right checksum. Raises TimeoutError."""
    while True:
        data = raw.recv(2000)
        source, packet = socket.inet_ntoa(data[12:16]), data[(data[0] & 15) * 4 :]
        source_port, to, tag = _header.unpack_from(packet)
        if to != port or packet[12] != kind:
            continue
        (found,) = struct.unpack_from("<I", packet, 8)
        assert found == checksum(packet[:8] + bytes(4) + packet[12:])
        return Packet(source, source_port, to, tag, kind, *_init.unpack_from(packet, 16)[:1])
