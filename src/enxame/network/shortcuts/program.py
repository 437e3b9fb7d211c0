"""What runs where packets arrive, at tc's ingress: translate, find the way, send. Pure.

A TCP packet whose connection is in the map ``flows`` has its address and port replaced, gets the link addresses that
the kernel's routes and neighbours say, and leaves through their link at once, past the packet filter and connection
tracking. Everything else goes on as if the program were not there: what begins or ends a connection (so tracking knows
of it; the entry is deleted), what the routes do not lead on at once (no neighbour yet, too large), fragments, options,
frames for others.

Of packets to a port in ``ports`` that have no entry one in so many, by chance, is told to the daemon (``ring``), which
alone makes entries: connections with many packets are found soon, and short ones cost nothing.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from enxame.network.shortcuts import flow
from enxame.network.shortcuts.instructions import (
    BYTE,
    DOUBLE,
    HALF,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    WORD,
    Assembler,
    Reg,
)

#: One packet in so many is told, a power of two.
ONE_IN: Final = 128

# linux/bpf.h: helpers
_LOOKUP: Final = 1
_DELETE: Final = 3
_RANDOM: Final = 7
_STORE_BYTES: Final = 9
_REPLACE_L4_CHECKSUM: Final = 11
_REDIRECT: Final = 23
_PULL_DATA: Final = 39
_CHECKSUM_UPDATE: Final = 40
_FIB_LOOKUP: Final = 69
_RINGBUF_OUTPUT: Final = 130

_RECOMPUTE_CHECKSUM: Final = 1
_PSEUDO_HEADER: Final = 0x10
#: The verdict that leaves it to whoever comes next.
_NEXT: Final = -1

# struct __sk_buff
_LENGTH: Final = 0
_PACKET_TYPE: Final = 4
_PROTOCOL: Final = 16
_VLAN_PRESENT: Final = 20
_INTERFACE: Final = 40
_DATA: Final = 76
_DATA_END: Final = 80
_SEGMENT: Final = 176

# On the stack: the connection, struct bpf_fib_lookup, a number.
_KEY: Final = -flow.KEY.size
_KEY_SOURCE: Final = _KEY
_KEY_DESTINATION: Final = _KEY + 16
_KEY_SOURCE_PORT: Final = _KEY + 32
_KEY_DESTINATION_PORT: Final = _KEY + 34
_KEY_VERSION: Final = _KEY + 36
_FIB_SIZE: Final = 64
_FIB: Final = _KEY - _FIB_SIZE
_FIB_SOURCE_PORT: Final = _FIB + 2
_FIB_DESTINATION_PORT: Final = _FIB + 4
_FIB_LENGTH: Final = _FIB + 6
_FIB_INTERFACE: Final = _FIB + 8
_FIB_SERVICE: Final = _FIB + 12
_FIB_SOURCE: Final = _FIB + 16
_FIB_DESTINATION: Final = _FIB + 32
_FIB_OWN_LINK_ADDRESS: Final = _FIB + 52
_FIB_NEXT_LINK_ADDRESS: Final = _FIB + 58
_NUMBER: Final = _FIB - 8

_ETHERNET: Final = 14
_TCP_DATA_OFFSET: Final = 12
_TCP_FLAGS: Final = 13
_TCP_CHECKSUM: Final = 16
_TCP_HEADER: Final = 20
_FIN_SYN_RST: Final = 0x07


@dataclass(frozen=True, slots=True)
class Maps:
    """File descriptors of the program's maps, see the module."""

    flows: int
    ports: int
    ring: int


@dataclass(frozen=True, slots=True)
class _Header:
    """Where things are in a packet, from the frame's first byte on."""

    version: int
    family: int
    source: int
    destination: int
    words: int
    hops: int
    tcp: int


_HEADERS: Final = (
    _Header(4, socket.AF_INET, _ETHERNET + 12, _ETHERNET + 16, 1, _ETHERNET + 8, _ETHERNET + 20),
    _Header(6, socket.AF_INET6, _ETHERNET + 8, _ETHERNET + 24, 4, _ETHERNET + 7, _ETHERNET + 40),
)


def program(maps: Maps) -> bytes:
    """The instructions."""
    code = Assembler()
    code.compute(R6, "=", Reg(R1))
    code.load(WORD, R2, R6, _PACKET_TYPE)
    code.jump("pass", R2, "!=", 0)  # for another machine
    code.load(WORD, R2, R6, _VLAN_PRESENT)
    code.jump("pass", R2, "!=", 0)
    code.load(WORD, R2, R6, _PROTOCOL)
    code.jump("of version 4", R2, "==", socket.htons(0x0800))
    code.jump("of version 6", R2, "==", socket.htons(0x86DD))
    code.jump("pass")
    for header in _HEADERS:
        _known(code, header, maps)
    _unknown(code, maps)
    code.label("ends")
    _with_key(code, maps.flows)
    code.call(_DELETE)
    code.label("pass")
    code.compute(R0, "=", _NEXT)
    code.leave()
    return code.encode()


def _known(code: Assembler, header: _Header, maps: Maps) -> None:
    code.label(f"of version {header.version}")
    _find_headers(code, header)
    if header.version == 4:
        code.load(BYTE, R1, R7, _ETHERNET)
        code.jump("pass", R1, "!=", 0x45)  # options
        code.load(HALF, R1, R7, _ETHERNET + 6)
        code.jump("pass", R1, "&", socket.htons(0x3FFF))  # a fragment
        code.load(BYTE, R1, R7, _ETHERNET + 9)
    else:
        code.load(BYTE, R1, R7, _ETHERNET + 6)
    code.jump("pass", R1, "!=", socket.IPPROTO_TCP)
    _copy_address(code, header, _KEY_SOURCE, R7, header.source)
    _copy_address(code, header, _KEY_DESTINATION, R7, header.destination)
    code.load(HALF, R1, R7, header.tcp)
    code.store(HALF, R10, _KEY_SOURCE_PORT, Reg(R1))
    code.load(HALF, R1, R7, header.tcp + 2)
    code.store(HALF, R10, _KEY_DESTINATION_PORT, Reg(R1))
    code.store(WORD, R10, _KEY_VERSION, header.version)
    code.load(BYTE, R1, R7, header.tcp + _TCP_FLAGS)
    code.jump("ends", R1, "&", _FIN_SYN_RST)
    _with_key(code, maps.flows)
    code.call(_LOOKUP)
    code.jump("unknown", R0, "==", 0)
    code.compute(R9, "=", Reg(R0))
    code.load(BYTE, R1, R7, header.hops)
    code.jump("pass", R1, "<=", 1)
    _ask_for_the_way(code, header)
    code.load(BYTE, R1, R9, flow.VALUE_SIDE)
    code.jump(f"answer of version {header.version}", R1, "==", flow.SOURCE)
    _translate(code, header, header.destination, header.tcp + 2, _KEY_DESTINATION_PORT)
    code.label(f"answer of version {header.version}")
    _translate(code, header, header.source, header.tcp, _KEY_SOURCE_PORT)


def _find_headers(code: Assembler, header: _Header) -> None:
    """R7 is the frame, of which so much can be read that all headers are in it."""
    whole = header.tcp + _TCP_HEADER
    for last in (False, True):
        _load_data(code)
        code.compute(R1, "=", Reg(R7))
        code.compute(R1, "+", whole)
        if last:
            code.jump("pass", R1, ">", Reg(R8))
            break
        code.jump(f"headers of version {header.version}", R1, "<=", Reg(R8))
        code.compute(R1, "=", Reg(R6))
        code.compute(R2, "=", whole)
        code.call(_PULL_DATA)
    code.label(f"headers of version {header.version}")


def _load_data(code: Assembler) -> None:
    code.load(WORD, R7, R6, _DATA)
    code.load(WORD, R8, R6, _DATA_END)


def _copy_address(code: Assembler, header: _Header, to: int, base: int, offset: int) -> None:
    """To the stack, sixteen bytes."""
    for word in range(4):
        if word < header.words:
            code.load(WORD, R1, base, offset + 4 * word)
            code.store(WORD, R10, to + 4 * word, Reg(R1))
        else:
            code.store(WORD, R10, to + 4 * word, 0)


def _with_key(code: Assembler, map_fd: int) -> None:
    code.load_map(R1, map_fd)
    code.compute(R2, "=", Reg(R10))
    code.compute(R2, "+", _KEY)


def _ask_for_the_way(code: Assembler, header: _Header) -> None:
    """The kernel's routes and neighbours, as for a packet that it forwards: towards the destination once it is
    translated, but as from the source that the packet has now. With the length of what will be on the wire, so that
    the way's MTU is looked at.
    """
    for offset in range(0, _FIB_SIZE, 8):
        code.store(DOUBLE, R10, _FIB + offset, 0)
    code.store(BYTE, R10, _FIB, header.family)
    code.store(BYTE, R10, _FIB + 1, socket.IPPROTO_TCP)
    code.load(WORD, R1, R6, _INTERFACE)
    code.store(WORD, R10, _FIB_INTERFACE, Reg(R1))
    _copy_length(code, header)
    if header.version == 4:
        code.load(BYTE, R1, R7, _ETHERNET + 1)
        code.store(BYTE, R10, _FIB_SERVICE, Reg(R1))
    else:
        code.load(WORD, R1, R7, _ETHERNET)
        code.compute(R1, "^", socket.htonl(6 << 28))  # without the version
        code.store(WORD, R10, _FIB_SERVICE, Reg(R1))
    code.load(HALF, R1, R10, _KEY_SOURCE_PORT)
    code.store(HALF, R10, _FIB_SOURCE_PORT, Reg(R1))
    code.load(HALF, R1, R10, _KEY_DESTINATION_PORT)
    code.store(HALF, R10, _FIB_DESTINATION_PORT, Reg(R1))
    _copy_address(code, header, _FIB_SOURCE, R7, header.source)
    _copy_address(code, header, _FIB_DESTINATION, R7, header.destination)
    code.load(BYTE, R1, R9, flow.VALUE_SIDE)
    code.jump(f"way of version {header.version}", R1, "==", flow.SOURCE)
    _copy_address(code, header, _FIB_DESTINATION, R9, flow.VALUE_ADDRESS)
    code.load(HALF, R1, R9, flow.VALUE_PORT)
    code.store(HALF, R10, _FIB_DESTINATION_PORT, Reg(R1))
    code.label(f"way of version {header.version}")
    code.compute(R1, "=", Reg(R6))
    code.compute(R2, "=", Reg(R10))
    code.compute(R2, "+", _FIB)
    code.compute(R3, "=", _FIB_SIZE)
    code.compute(R4, "=", 0)
    code.call(_FIB_LOOKUP)
    code.jump("pass", R0, "!=", 0)


def _copy_length(code: Assembler, header: _Header) -> None:
    """Of the packet, or of each that it will be cut into."""
    code.load(WORD, R1, R6, _SEGMENT)
    code.jump(f"whole of version {header.version}", R1, "==", 0)
    code.load(BYTE, R2, R7, header.tcp + _TCP_DATA_OFFSET)
    code.compute(R2, "&", 0xF0)
    code.compute(R2, ">>", 2)
    code.compute(R1, "+", Reg(R2))
    code.compute(R1, "+", header.tcp - _ETHERNET)
    code.jump(f"length of version {header.version}")
    code.label(f"whole of version {header.version}")
    code.load(WORD, R1, R6, _LENGTH)
    code.compute(R1, "-", _ETHERNET)
    code.label(f"length of version {header.version}")
    code.store(HALF, R10, _FIB_LENGTH, Reg(R1))


def _translate(code: Assembler, header: _Header, address: int, port: int, old_port: int) -> None:
    """Replace an address and a port, and send. The kernel's helpers write: programs that do so themselves make the
    kernel copy every frame that somebody else has, too, whether they write to it or not.
    """
    checksum = header.tcp + _TCP_CHECKSUM
    _count_hop(code, header)
    code.compute(R1, "=", Reg(R6))
    code.compute(R2, "=", checksum)
    code.compute(R3, "=", 0)
    code.load(WORD, R4, R9, flow.VALUE_DIFFERENCE)
    code.compute(R5, "=", _PSEUDO_HEADER)
    code.call(_REPLACE_L4_CHECKSUM)
    code.compute(R1, "=", Reg(R6))
    code.compute(R2, "=", checksum)
    code.load(HALF, R3, R10, old_port)
    code.load(HALF, R4, R9, flow.VALUE_PORT)
    code.compute(R5, "=", 2)
    code.call(_REPLACE_L4_CHECKSUM)
    if header.version == 6:
        # A sum over the whole packet, as some cards tell it: the helper above takes it for granted that the address is
        # in a header with a checksum of its own.
        code.compute(R1, "=", Reg(R6))
        code.load(WORD, R2, R9, flow.VALUE_DIFFERENCE)
        code.call(_CHECKSUM_UPDATE)
    _write(code, address, (R9, flow.VALUE_ADDRESS), 4 * header.words)
    _write(code, port, (R9, flow.VALUE_PORT), 2)
    # Both link addresses as they are in a frame: the own one behind the other.
    for half in range(0, 6, 2):
        code.load(HALF, R1, R10, _FIB_OWN_LINK_ADDRESS + half)
        code.store(HALF, R10, _FIB_NEXT_LINK_ADDRESS + 6 + half, Reg(R1))
    _write(code, 0, (R10, _FIB_NEXT_LINK_ADDRESS), 12)
    code.load(WORD, R1, R10, _FIB_INTERFACE)
    code.compute(R2, "=", 0)
    code.call(_REDIRECT)
    code.leave()


def _count_hop(code: Assembler, header: _Header) -> None:
    """One hop less; of version 4 with the header's checksum, which is for the new address, too."""
    code.load(BYTE, R1, R7, header.hops)
    code.compute(R1, "-", 1)
    code.store(BYTE, R10, _NUMBER, Reg(R1))
    if header.version == 6:
        _write(code, header.hops, (R10, _NUMBER), 1, _RECOMPUTE_CHECKSUM)
        return
    code.store(BYTE, R10, _NUMBER + 1, socket.IPPROTO_TCP)
    code.load(HALF, R1, R7, header.hops + 2)
    code.compute(R1, "^", 0xFFFF)
    code.load(HALF, R2, R9, flow.VALUE_HEADER_DIFFERENCE)
    code.compute(R1, "+", Reg(R2))
    code.compute(R2, "=", Reg(R1))
    code.compute(R2, ">>", 16)
    code.compute(R1, "&", 0xFFFF)
    code.compute(R1, "+", Reg(R2))
    code.compute(R1, "^", 0xFFFF)
    code.store(HALF, R10, _NUMBER + 2, Reg(R1))
    _write(code, header.hops, (R10, _NUMBER), 4)


def _write(code: Assembler, to: int, source: tuple[int, int], size: int, flags: int = 0) -> None:
    """Bytes of the packet, from a register's address and so many bytes further."""
    base, offset = source
    code.compute(R1, "=", Reg(R6))
    code.compute(R2, "=", to)
    code.compute(R3, "=", Reg(base))
    code.compute(R3, "+", offset)
    code.compute(R4, "=", size)
    code.compute(R5, "=", flags)
    code.call(_STORE_BYTES)


def _unknown(code: Assembler, maps: Maps) -> None:
    code.label("unknown")
    code.load(HALF, R1, R10, _KEY_DESTINATION_PORT)
    code.store(HALF, R10, _NUMBER, Reg(R1))
    code.load_map(R1, maps.ports)
    code.compute(R2, "=", Reg(R10))
    code.compute(R2, "+", _NUMBER)
    code.call(_LOOKUP)
    code.jump("pass", R0, "==", 0)
    code.call(_RANDOM)
    code.jump("pass", R0, "&", ONE_IN - 1)
    code.load_map(R1, maps.ring)
    code.compute(R2, "=", Reg(R10))
    code.compute(R2, "+", _KEY)
    code.compute(R3, "=", flow.KEY.size)
    code.compute(R4, "=", 0)
    code.call(_RINGBUF_OUTPUT)
    code.jump("pass")
