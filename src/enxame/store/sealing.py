"""How records are encrypted at rest: AES-256-GCM, a record at a time, bound to its kind and id.

A sealed record is ``C1 01``, the key's number (4 bytes), a random nonce (12 bytes), and the encrypted data with its
tag. C1 begins no msgpack, so that a record from before encryption is told from a sealed one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from enxame.store.backend import Corrupt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Keyring", "is_sealed"]

KEY_BYTES: Final = 32
_MARK: Final = b"\xc1\x01"
_NUMBER_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = len(_MARK) + _NUMBER_BYTES
#: What sealing adds to a record: bytes.
OVERHEAD: Final = _HEAD_BYTES + _NONCE_BYTES + 16


def is_sealed(data: bytes) -> bool:
    """Whether a record's bytes are encrypted."""
    return data.startswith(_MARK)


class Keyring:
    """Data keys by number. ``current`` seals; all open."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        self._keys: dict[int, bytes] = {}
        self._ciphers: dict[int, AESGCM] = {}
        for number, key in keys.items():
            self._add(number, key)
        self._use(current)

    @classmethod
    def generate(cls) -> Keyring:
        """A ring with one fresh key."""
        return cls({1: secrets.token_bytes(KEY_BYTES)}, 1)

    @property
    def current(self) -> int:
        """The number of the key that seals."""
        return self._current

    @property
    def keys(self) -> Mapping[int, bytes]:
        """All keys by number."""
        return self._keys

    def renew(self) -> None:
        """Seal with a fresh key from now on; the others still open."""
        number = max(self._keys) + 1
        self._add(number, secrets.token_bytes(KEY_BYTES))
        self._use(number)

    def drop_old(self) -> None:
        """Forget all keys but the current one."""
        for number in [number for number in self._keys if number != self._current]:
            del self._keys[number], self._ciphers[number]

    def seal(self, kind: str, object_id: str, data: bytes) -> bytes:
        """Encrypt a record's bytes with the current key."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._head + nonce + self._cipher.encrypt(nonce, data, _bound_to(kind, object_id))

    def open(self, kind: str, object_id: str, data: bytes) -> bytes:
        """Decrypt a record's bytes.

        Raises:
            Corrupt: they are not sealed, not for this record, not whole, or with a key that is not here.
        """
        from cryptography.exceptions import InvalidTag

        if not is_sealed(data):
            raise Corrupt(f"the swarm's state holds {kind} {object_id} unencrypted: somebody else wrote it")
        number = int.from_bytes(data[len(_MARK) : _HEAD_BYTES])
        cipher = self._ciphers.get(number)
        if cipher is None:
            raise Corrupt(f"the swarm's state holds {kind} {object_id} encrypted with a key that is not known here")
        nonce = data[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, data[_HEAD_BYTES + _NONCE_BYTES :], _bound_to(kind, object_id))
        except (InvalidTag, ValueError):
            raise Corrupt(f"the swarm's state is damaged: {kind} {object_id} cannot be decrypted") from None

    def is_current(self, data: bytes) -> bool:
        """Whether a record's bytes are sealed with the current key."""
        return data.startswith(self._head)

    def _add(self, number: int, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._keys[number] = key
        self._ciphers[number] = AESGCM(key)

    def _use(self, number: int) -> None:
        self._current = number
        self._cipher = self._ciphers[number]
        self._head = _MARK + number.to_bytes(_NUMBER_BYTES)


def _bound_to(kind: str, object_id: str) -> bytes:
    return f"{kind}\0{object_id}".encode()
