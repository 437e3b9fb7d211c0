"""DNS messages: the one question of a query, and answers to it. Pure, and quick for what containers ask all day.

Only what is answered from our own names is built here; everything else is passed on as it came.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

A: Final = 1
PTR: Final = 12
AAAA: Final = 28
OPT: Final = 41

NOERROR: Final = 0
SERVFAIL: Final = 2
NXDOMAIN: Final = 3

_INTERNET: Final = 1
_HEADER_SIZE: Final = 12
_PLAIN_UDP_SIZE: Final = 512
_LARGEST_UDP_SIZE: Final = 4096
_KNOWN_QUESTIONS: Final = 4096
#: Names live here: any change is seen by the next question.
_TIME_TO_LIVE: Final = 0
_OUR_OPT: Final = struct.pack("!BHHIH", 0, OPT, _LARGEST_UDP_SIZE, 0, 0)
#: A pointer to the question's name, type, class, time to live, length of the data.
_record_head = struct.Struct("!HHHIH")
_SAME_NAME: Final = 0xC00C


@dataclass(frozen=True, slots=True)
class Question:
    """``name`` in lower case without the last dot; ``raw`` as it was sent. ``size``: how long an answer over UDP may
    be; ``extended``: the query has an EDNS record.
    """

    name: str
    type: int
    raw: bytes
    size: int
    extended: bool


def parse_query(message: bytes) -> Question | None:
    """The question of a query of the ordinary kind; None for every other message."""
    if len(message) < _HEADER_SIZE + 5 or message[2] & 0xF8 or message[4:10] != b"\0\1\0\0\0\0":
        return None
    return _parse_body(message[10:])


@lru_cache(_KNOWN_QUESTIONS)
def _parse_body(body: bytes) -> Question | None:
    """``body`` begins with the number of additional records."""
    labels: list[bytes] = []
    position = 2
    try:
        while length := body[position]:
            if length > 63:
                return None
            labels.append(body[position + 1 : position + 1 + length])
            position += length + 1
        kind, family = struct.unpack_from("!HH", body, position + 1)
        name = b".".join(labels).decode("ascii").lower()
        end = position + 5
        size, extended = _PLAIN_UDP_SIZE, False
        if body[:2] != b"\0\0":
            # Of additional records a query has but one: OPT, whose name is the root.
            _, option, offered = struct.unpack_from("!BHH", body, end)
            if option == OPT:
                size, extended = min(max(offered, _PLAIN_UDP_SIZE), _LARGEST_UDP_SIZE), True
    except (IndexError, struct.error, UnicodeDecodeError):
        return None
    return Question(name, kind, body[2:end], size, extended) if family == _INTERNET else None


def answer(
    query: bytes, question: Question, records: Sequence[bytes] = (), *, code: int = NOERROR, size: int = 0
) -> bytes:
    """An answer of ``records`` (their data, of the type that was asked for). ``size`` 0: what UDP allows; what does
    not fit is left out and the answer says so.
    """
    room = (size or question.size) - _HEADER_SIZE - len(question.raw) - (len(_OUR_OPT) if question.extended else 0)
    parts: list[bytes] = []
    truncated = 0
    for data in records:
        room -= 12 + len(data)
        if room < 0:
            truncated = 0x02
            break
        parts.append(_record_head.pack(_SAME_NAME, question.type, _INTERNET, _TIME_TO_LIVE, len(data)))
        parts.append(data)
    return b"".join(
        (
            query[:2],
            bytes((0x80 | truncated | query[2] & 0x01, 0x80 | code)),
            struct.pack("!HHHH", 1, len(parts) // 2, 0, int(question.extended)),
            question.raw,
            *parts,
            _OUR_OPT if question.extended else b"",
        )
    )


def failure(query: bytes, question: Question | None, code: int = SERVFAIL) -> bytes:
    """An answer that only says ``code``; also to messages that we do not understand."""
    if question is not None:
        return answer(query, question, code=code)
    return query[:2] + bytes((0x80 | query[2] & 0x79, 0x80 | code)) + b"\0" * 8


def code_of(message: bytes) -> int:
    """What an answer says."""
    return message[3] & 0x0F


def domain_name(name: str) -> bytes:
    """A name as record data."""
    labels = [part.encode()[:63] for part in name.split(".") if part]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def reverse_address(name: str) -> IPv4Address | IPv6Address | None:
    """The address that a name of the reverse trees stands for."""
    if name.endswith(".in-addr.arpa"):
        parts = name[: -len(".in-addr.arpa")].split(".")
        try:
            return IPv4Address(".".join(reversed(parts))) if len(parts) == 4 else None
        except ValueError:
            return None
    if name.endswith(".ip6.arpa"):
        digits = "".join(reversed(name[: -len(".ip6.arpa")].split(".")))
        try:
            return IPv6Address(int(digits, 16)) if len(digits) == 32 else None
        except ValueError:
            return None
    return None
