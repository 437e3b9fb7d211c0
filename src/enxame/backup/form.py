"""The form of a backup: one file that can be checked without anything else. Pure.

    magic      8 bytes
    head       length (4), crc32 (4), JSON in the clear: format, cluster id, revision, counts, when, how it is encrypted
    frames     length (4), crc32 (4), bytes: each a group of items, msgpack; encrypted ones are AES-256-GCM
    end        length 0, then sha256 of everything before

Encryption: a key of 32 bytes out of a passphrase (scrypt) or a key file. Each frame's nonce is its number; the head and
the number are authenticated with it, so frames can be neither swapped nor taken from another backup.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final, NamedTuple

import msgspec

from enxame.errors import InvalidArgument

__all__ = [
    "FILE",
    "FORMAT",
    "ITEMS_SCHEMA",
    "Backup",
    "Damaged",
    "Encryption",
    "Head",
    "Item",
    "encode",
    "key_of",
    "new_encryption",
    "read",
]

FORMAT: Final = 1
#: Of the items' bytes: raised when an older program could not read them.
ITEMS_SCHEMA: Final = 1
#: The kind of items that are files of the node that made the backup; all others are objects of the swarm.
FILE: Final = "file"
_MAGIC: Final = b"enxbak\r\n"
_FRAME: Final = struct.Struct(">II")
_DIGEST_BYTES: Final = 32
_GROUP_BYTES: Final = 1 << 20
#: A frame is never larger: a damaged length is not believed.
_MAX_FRAME: Final = 64 << 20
_MAX_HEAD: Final = 1 << 16
_NONCE: Final = struct.Struct(">IQ")
#: Interactive use on a small machine: some 0.1 s, 64 MB.
_SCRYPT_COST: Final = 1 << 16


class Damaged(InvalidArgument):
    """A backup that is not what was written. Nothing of it is used."""


class Item(NamedTuple):
    """An object of the swarm, or a :data:`FILE`: ``id`` is then its name and ``revision`` 0."""

    kind: str
    id: str
    revision: int
    data: bytes


class Encryption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``kind``: passphrase|keyfile. The salt is for the key's derivation; ``check`` tells a wrong key from damage."""

    kind: str
    salt: bytes
    check: bytes
    cost: int = _SCRYPT_COST


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself, in the clear. ``node_id`` is who made it, ``counts`` the number of items of each
    kind, ``time`` RFC 3339.
    """

    cluster_id: str
    node_id: str
    revision: int
    counts: dict[str, int]
    time: str
    format: int = FORMAT
    schema: int = ITEMS_SCHEMA
    encryption: Encryption | None = None


class Backup(msgspec.Struct, frozen=True):
    """A backup that was read whole. Without the key of an encrypted one, ``items`` is empty."""

    head: Head
    items: list[Item]


def new_encryption(kind: str, secret: bytes, salt: bytes) -> tuple[Encryption, bytes]:
    """How a new backup is encrypted, and its key. ``salt``: 16 random bytes."""
    draft = Encryption(kind, salt, b"")
    key = _derive(draft, secret)
    return msgspec.structs.replace(draft, check=_check(key)), key


def key_of(head: Head, kind: str, secret: bytes) -> bytes:
    """The key of an encrypted backup. Raises InvalidArgument when the secret is not its."""
    encryption = head.encryption
    if encryption is None:
        raise InvalidArgument("the backup is not encrypted")
    words = {"passphrase": "a passphrase", "keyfile": "a key file"}
    if encryption.kind != kind:
        raise InvalidArgument(f"the backup is encrypted with {words.get(encryption.kind, encryption.kind)}")
    key = _derive(encryption, secret)
    if not hmac.compare_digest(_check(key), encryption.check):
        raise InvalidArgument("wrong passphrase" if kind == "passphrase" else "wrong key file")
    return key


def encode(head: Head, items: Iterable[Item], key: bytes | None = None) -> Iterator[bytes]:
    """A whole backup, piece by piece."""
    digest = hashlib.sha256()

    def frame(body: bytes) -> bytes:
        piece = _FRAME.pack(len(body), zlib.crc32(body)) + body
        digest.update(piece)
        return piece

    described = msgspec.json.encode(head)
    digest.update(_MAGIC)
    yield _MAGIC + frame(described)
    seal = _sealer(key, described)
    for number, group in enumerate(_groups(items)):
        yield frame(seal(number, msgspec.msgpack.encode(group)))
    yield frame(b"") + digest.digest()


def read(file: BinaryIO, key: Callable[[Head], bytes | None]) -> Backup:
    """Read and check a whole backup; ``key`` gives the key for its head, None to check it without looking inside.

    Then it has no items.

    Raises:
        Damaged: it is damaged; says where.
        InvalidArgument: it is no backup, or of a newer version.
    """
    digest = hashlib.sha256()

    def take(count: int, what: str) -> bytes:
        data = file.read(count)
        if len(data) < count:
            raise Damaged(f"the backup is cut off in its {what}")
        digest.update(data)
        return data

    magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        raise InvalidArgument("this is not a backup of enxame")
    digest.update(magic)
    encoded = _frame(take, "head", _MAX_HEAD)
    head = _head(encoded)
    secret = key(head)
    unseal = _opener(secret, encoded) if head.encryption is not None else lambda _number, body: body
    readable = head.encryption is None or secret is not None
    items: list[Item] = []
    number = 0
    while body := _frame(take, f"part {number + 1}", _MAX_FRAME):
        if readable:
            items += _items(unseal(number, body), number)
        number += 1
    wanted = digest.digest()
    found = file.read(_DIGEST_BYTES)
    if len(found) < _DIGEST_BYTES:
        raise Damaged("the backup is cut off in its checksum")
    if found != wanted:
        raise Damaged("the backup does not match its checksum")
    if file.read(1):
        raise Damaged("the backup has something after its end")
    if readable and (counts := dict(Counter(item.kind for item in items))) != head.counts:
        raise Damaged(f"the backup holds {counts}, its head says {head.counts}")
    return Backup(head, items)


# -- inside


def _derive(encryption: Encryption, secret: bytes) -> bytes:
    if encryption.kind == "passphrase":
        if not 2 <= encryption.cost <= 1 << 20 or encryption.cost & (encryption.cost - 1):
            raise Damaged("the backup's head is damaged: impossible cost of its passphrase")
        memory = 256 * encryption.cost * 8
        return hashlib.scrypt(secret, salt=encryption.salt, n=encryption.cost, r=8, p=1, dklen=32, maxmem=memory)
    return hmac.digest(encryption.salt, secret, "sha256")


def _check(key: bytes) -> bytes:
    return hmac.digest(key, b"enxame backup", "sha256")[:16]


def _sealer(key: bytes | None, head: bytes) -> Callable[[int, bytes], bytes]:
    if key is None:
        return lambda _number, body: body
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    # A key is used for one backup alone (its salt is), so numbers do for nonces.
    cipher = AESGCM(key)
    return lambda number, body: cipher.encrypt(_NONCE.pack(0, number), body, head)


def _opener(key: bytes | None, head: bytes) -> Callable[[int, bytes], bytes]:
    if key is None:
        return lambda _number, body: body
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(key)

    def unseal(number: int, body: bytes) -> bytes:
        try:
            return cipher.decrypt(_NONCE.pack(0, number), body, head)
        except InvalidTag:
            raise Damaged(f"the backup was changed: part {number + 1} does not decrypt") from None

    return unseal


def _groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    group: list[Item] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item.data)
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _frame(take: Callable[[int, str], bytes], what: str, most: int) -> bytes:
    length, checksum = _FRAME.unpack(take(_FRAME.size, what))
    if length > most:
        raise Damaged(f"the backup is damaged: its {what} has an impossible length")
    body = take(length, what)
    if zlib.crc32(body) != checksum:
        raise Damaged(f"the backup is damaged: its {what} does not match its checksum")
    return body


def _head(encoded: bytes) -> Head:
    try:
        version = msgspec.json.decode(encoded, type=dict[str, object]).get("format")
        if isinstance(version, int) and version > FORMAT:
            raise InvalidArgument(f"the backup has format {version}, this program knows {FORMAT}: use a newer enxame")
        return msgspec.json.decode(encoded, type=Head)
    except msgspec.DecodeError as error:
        raise Damaged(f"the backup's head cannot be read: {error}") from error


def _items(body: bytes, number: int) -> list[Item]:
    try:
        return msgspec.msgpack.decode(body, type=list[Item])
    except msgspec.DecodeError as error:
        raise Damaged(f"the backup's part {number + 1} cannot be read: {error}") from error
