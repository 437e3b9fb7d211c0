"""Join tokens and unlock keys.

A join token is ``SWMTKN-1-<digest>-<secret>``: the digest lets a joining node recognise the swarm's root certificate
before it trusts anybody, the secret proves that it may ask for a certificate. Each role has its own secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import ssl
from dataclasses import dataclass
from typing import Final

from enxame.errors import InvalidArgument
from enxame.security.ids import base36

__all__ = [
    "JoinToken",
    "new_join_token",
    "new_unlock_key",
    "parse_join_token",
    "parse_unlock_key",
    "root_digest",
    "same_token",
]

_TOKEN: Final = re.compile(r"SWMTKN-1-([0-9a-z]{50})-([0-9a-z]{25})")
_DIGEST_LENGTH: Final = 50
_SECRET_LENGTH: Final = 25
_UNLOCK_PREFIX: Final = "SWMKEY-1-"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """``digest`` is the SHA-256 of the root certificate (DER), both parts base36."""

    digest: str
    secret: str

    def __str__(self) -> str:
        return f"SWMTKN-1-{self.digest}-{self.secret}"


def root_digest(ca_cert: str) -> str:
    """The digest part for a root certificate (PEM)."""
    der = ssl.PEM_cert_to_DER_cert(ca_cert)
    return base36(int.from_bytes(hashlib.sha256(der).digest()), _DIGEST_LENGTH)


def new_join_token(ca_cert: str) -> str:
    """A token with a fresh secret (128 bits) for the swarm with this root certificate (PEM)."""
    return str(JoinToken(root_digest(ca_cert), base36(secrets.randbits(128), _SECRET_LENGTH)))


def parse_join_token(text: str) -> JoinToken:
    """The token's parts. Raises InvalidArgument (``invalid join token``)."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise InvalidArgument("invalid join token")
    return JoinToken(match[1], match[2])


def same_token(given: str, expected: str) -> bool:
    """Compare in constant time. Nothing equals an empty token."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def new_unlock_key() -> str:
    """A fresh key (256 bits) as users keep it: ``SWMKEY-1-<base64>``."""
    return _UNLOCK_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def parse_unlock_key(text: str) -> bytes:
    """The key's 32 bytes. Raises InvalidArgument (``invalid key string``)."""
    encoded = text.removeprefix(_UNLOCK_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(_UNLOCK_PREFIX) or len(key) != 32:
        raise InvalidArgument("invalid key string")
    return key
