"""Ids of the swarm's objects."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

__all__ = ["base36", "id_of", "new_id"]

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 25


def new_id() -> str:
    """25 random base36 characters (129 bits)."""
    return base36(secrets.randbelow(36**_ID_LENGTH), _ID_LENGTH)


def id_of(data: bytes) -> str:
    """The id that belongs to some data: as long, and as unlikely to be met twice, as a random one."""
    return base36(int.from_bytes(hashlib.sha256(data).digest(), "big") % 36**_ID_LENGTH, _ID_LENGTH)


def base36(number: int, length: int) -> str:
    """A non-negative number in base 36, at least ``length`` characters with leading zeros."""
    digits: list[str] = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)).rjust(length, "0")
