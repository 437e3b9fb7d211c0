"""Messages to nf_tables, as pure functions: for what is told to many namespaces, often, or cannot be said in words.

Texts for libnftables (:mod:`enxame.network.nftables`) are read more easily; these are far cheaper. The messages of one
:func:`transaction` are applied wholly or not at all.

Within a rule, registers are 32 bits wide: ``R0`` is the first; values wider than four bytes take several.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from enxame.network.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    Request,
    attribute,
    nested,
    text,
)

INET: Final = 1
IPV4: Final = 2
NETDEV: Final = 5
BRIDGE: Final = 7
IPV6: Final = 10

_SUBSYSTEM: Final = 10
_BATCH_BEGIN: Final = 0x10
_BATCH_END: Final = 0x11
_NEW_TABLE: Final = 0
_DELETE_TABLE: Final = 2
_NEW_CHAIN: Final = 3
_DELETE_CHAIN: Final = 5
_NEW_RULE: Final = 6
_GET_RULE: Final = 7
_DELETE_RULE: Final = 8
_NEW_SET: Final = 9
_NEW_ELEMENTS: Final = 12
_DELETE_ELEMENTS: Final = 14

_SET_IS_MAP: Final = 0x8
_VERDICTS: Final = 0xFFFFFF00
_GOTO: Final = -4
_JUMP: Final = -3

PREROUTING: Final = 0
INPUT: Final = 1
FORWARD: Final = 2
OUTPUT: Final = 3
POSTROUTING: Final = 4
#: Of the family NETDEV.
EGRESS: Final = 1

R0: Final = 8
LINK: Final = 0
NETWORK: Final = 1
TRANSPORT: Final = 2

META_MARK: Final = 3
#: The version of IP: one byte, IPV4 or IPV6.
META_FAMILY: Final = 15
META_INTERFACE_IN: Final = 6
META_INTERFACE_OUT: Final = 7
META_PROTOCOL: Final = 16
CT_MARK: Final = 3
CT_ZONE: Final = 17

_header = struct.Struct("=IHHII")


@dataclass(frozen=True, slots=True)
class Message:
    """One change; ``type`` of nf_tables, ``payload`` begins with the family."""

    type: int
    flags: int
    payload: bytes


def _message(type_: int, family: int, *attributes: bytes, flags: int = 0) -> Message:
    return Message(type_, flags, bytes((family, 0, 0, 0)) + b"".join(attributes))


def transaction(messages: Sequence[Message]) -> bytes:
    """What is sent: a batch. The kernel answers the last part of it, or tells what it refuses."""
    parts = [_header.pack(20, _BATCH_BEGIN, NLM_F_REQUEST, 0, 0), struct.pack(">BBH", 0, 0, _SUBSYSTEM)]
    for number, message in enumerate(messages, 1):
        payload = message.payload
        flags = NLM_F_REQUEST | message.flags | (NLM_F_ACK if number == len(messages) else 0)
        kind = _SUBSYSTEM << 8 | message.type
        parts.append(_header.pack(16 + len(payload), kind, flags, number, 0))
        parts.append(payload)
    parts += (_header.pack(20, _BATCH_END, NLM_F_REQUEST, len(messages) + 1, 0), struct.pack(">BBH", 0, 0, _SUBSYSTEM))
    return b"".join(parts)


# Tables, chains, sets


def list_rules(family: int, table: str, chain: str) -> Request:
    """For a dump of a chain's rules; of one that does not exist there are none."""
    payload = bytes((family, 0, 0, 0)) + text(1, table) + text(2, chain)
    return Request(_SUBSYSTEM << 8 | _GET_RULE, 0, payload, f"list the rules of {chain}", frozenset({errno.ENOENT}))


def add_table(family: int, table: str) -> Message:
    """Nothing happens when it exists."""
    return _message(_NEW_TABLE, family, text(1, table), flags=NLM_F_CREATE)


def delete_table(family: int, table: str) -> Message:
    """With all that is in it."""
    return _message(_DELETE_TABLE, family, text(1, table))


def add_chain(family: int, table: str, chain: str) -> Message:
    """One that others lead to."""
    return _message(_NEW_CHAIN, family, text(1, table), text(3, chain), flags=NLM_F_CREATE)


def add_base_chain(  # noqa: PLR0917 - what a hook needs
    family: int, table: str, chain: str, kind: str, hook: int, priority: int, device: str = ""
) -> Message:
    """One that the kernel leads packets to; ``kind`` is ``filter``, ``nat`` or ``route``."""
    place = [_be32(1, hook), _be32(2, priority)]
    if device:
        place.append(text(3, device))
    return _message(
        _NEW_CHAIN,
        family,
        text(1, table),
        text(3, chain),
        nested(4, *place),
        text(7, kind),
        flags=NLM_F_CREATE,
    )


def delete_chain(family: int, table: str, chain: str) -> Message:
    """With its rules; nobody may lead to it."""
    return _message(_DELETE_CHAIN, family, text(1, table), text(3, chain))


def add_rule(family: int, table: str, chain: str, *expressions: bytes) -> Message:
    """A rule at the end of a chain."""
    return _message(
        _NEW_RULE,
        family,
        text(1, table),
        text(2, chain),
        nested(4, *(nested(1, expression) for expression in expressions)),
        flags=NLM_F_CREATE | NLM_F_APPEND,
    )


def add_set(family: int, table: str, name: str, number: int, *, key: int) -> Message:
    """A set of keys of ``key`` bytes; ``number`` is any that no other set of the transaction has."""
    return _set(family, table, name, number, 0, _be32(5, key))


def add_map(family: int, table: str, name: str, number: int, *, key: int, value: int = 0) -> Message:
    """A map of keys to values of so many bytes; without ``value`` to verdicts."""
    data = _be32(6, 0) + _be32(7, value) if value else _be32(6, _VERDICTS)
    return _set(family, table, name, number, _SET_IS_MAP, _be32(5, key) + data)


def _set(  # noqa: PLR0917 - one message
    family: int, table: str, name: str, number: int, flags: int, sizes: bytes
) -> Message:
    body = text(1, table) + text(2, name) + _be32(3, flags) + _be32(4, 0) + sizes + _be32(10, number)
    return _message(_NEW_SET, family, body, flags=NLM_F_CREATE)


#: An attribute's length has 16 bits.
_MOST_BYTES: Final = 60_000


def add_elements(family: int, table: str, name: str, elements: Iterable[bytes]) -> list[Message]:
    """Elements made by :func:`key`, :func:`pair` or :func:`goes_to`; those that exist already may only be the same."""
    return _elements(_NEW_ELEMENTS, family, table, name, elements, NLM_F_CREATE)


def delete_elements(family: int, table: str, name: str, elements: Iterable[bytes]) -> list[Message]:
    """Elements made by :func:`key`; they must exist."""
    return _elements(_DELETE_ELEMENTS, family, table, name, elements, 0)


def _elements(  # noqa: PLR0917 - one message
    type_: int, family: int, table: str, name: str, elements: Iterable[bytes], flags: int
) -> list[Message]:
    messages: list[Message] = []
    batch: list[bytes] = []
    size = 0

    def close() -> None:
        if batch:
            messages.append(_message(type_, family, text(1, table), text(2, name), nested(3, *batch), flags=flags))

    for element in elements:
        if size + len(element) > _MOST_BYTES:
            close()
            batch, size = [], 0
        batch.append(element)
        size += len(element)
    close()
    return messages


def key(value: bytes) -> bytes:
    """An element of a set."""
    return nested(1, nested(1, attribute(1, value)))


def pair(value: bytes, data: bytes) -> bytes:
    """An element of a map."""
    return nested(1, nested(1, attribute(1, value)), nested(2, attribute(1, data)))


def goes_to(value: bytes, chain: str) -> bytes:
    """An element of a map of verdicts."""
    return nested(1, nested(1, attribute(1, value)), nested(2, _verdict(_GOTO, chain)))


# Expressions of rules


def load_payload(base: int, offset: int, length: int, register: int = R0) -> bytes:
    """Bytes of a header."""
    return _expression("payload", _be32(1, register), _be32(2, base), _be32(3, offset), _be32(4, length))


def store_payload(base: int, offset: int, length: int, register: int = R0, *, checksum: int = 0) -> bytes:
    """Write into a header. ``checksum``: where the header has its own, which is kept right; 0: it has none."""
    kept = _be32(6, 1) + _be32(7, checksum) if checksum else b""
    return _expression("payload", _be32(5, register), _be32(2, base), _be32(3, offset), _be32(4, length), kept)


def load_meta(what: int, register: int = R0) -> bytes:
    """What the kernel knows of the packet."""
    return _expression("meta", _be32(1, register), _be32(2, what))


def store_meta(what: int, register: int = R0) -> bytes:
    """Set the packet's mark."""
    return _expression("meta", _be32(2, what), _be32(3, register))


def load_ct(what: int, register: int = R0) -> bytes:
    """Of the packet's tracked connection."""
    return _expression("ct", _be32(1, register), _be32(2, what))


def store_ct(what: int, register: int = R0, *, original: bool = False) -> bytes:
    """Set a property of the tracked connection, or of one direction of it."""
    direction = attribute(3, b"\0") if original else b""
    return _expression("ct", _be32(2, what), direction, _be32(4, register))


def compare(data: bytes, register: int = R0, *, equal: bool = True) -> bytes:
    """The rule goes on when a register has ``data``, or has not."""
    return _expression("cmp", _be32(1, register), _be32(2, 0 if equal else 1), nested(3, attribute(1, data)))


def immediate(data: bytes, register: int = R0) -> bytes:
    """Put a constant into a register."""
    return _expression("immediate", _be32(1, register), nested(2, attribute(1, data)))


def look_up(name: str, register: int = R0, *, into: int | None = None) -> bytes:
    """The rule goes on when a set has the register's value; ``into``: the register (0: the verdict) for what a map
    leads to.
    """
    target = _be32(3, into) if into is not None else b""
    return _expression("lookup", text(1, name), _be32(2, register), target)


def random_number(below: int, register: int = R0) -> bytes:
    """One of 0 … ``below`` - 1."""
    return _expression("numgen", _be32(1, register), _be32(2, below), _be32(3, 1))


def hashed(below: int, length: int, register: int = R0, *, into: int = R0) -> bytes:
    """A number below ``below`` that ``length`` bytes from a register on always lead to."""
    return _expression(
        "hash", _be32(1, register), _be32(2, into), _be32(3, length), _be32(4, below), _be32(5, 0x656E78), _be32(7, 0)
    )


def translate_destination(register: int = R0, *, family: int = IPV4) -> bytes:
    """Send the connection to the address in a register."""
    return _expression("nat", _be32(1, 1), _be32(2, 10 if family == IPV6 else 2), _be32(3, register))


def reset() -> bytes:
    """Refuse a TCP connection."""
    return _expression("reject", _be32(1, 1))


def unreachable(family: int = IPV4) -> bytes:
    """Answer that nobody listens at the port (of a family: IPV4 or IPV6)."""
    return _expression("reject", _be32(1, 0), attribute(2, b"\4" if family == IPV6 else b"\3"))


def _expression(name: str, *attributes: bytes) -> bytes:
    return text(1, name) + nested(2, *attributes)


def _verdict(code: int, chain: str) -> bytes:
    return nested(2, attribute(1, struct.pack(">i", code)), text(2, chain))


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">i" if value < 0 else ">I", value))
