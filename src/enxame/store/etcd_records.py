"""How the state lies in etcd: keys, values, revisions. Pure.

    /enxame/objects/<kind>/<id>   a record: tag, checksum, and for imported ones the revision they had before
    /enxame/base                  the revision that the state had when it came here; written last by an import
    /enxame/epoch                 who leads; every commit compares its revision
    /enxame/alive                 the leader's claim, on a lease: gone when its manager is silent
    /enxame/commit                the token of the last commit, for finding out about one in doubt

etcd counts revisions from 1 in every new cluster; ours go on from where the state came from: see :class:`Revisions`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from enxame.store.backend import Corrupt, Mutation, Record

__all__ = [
    "ALIVE",
    "BASE",
    "COMMIT",
    "EPOCH",
    "OBJECTS",
    "PREFIX",
    "Epoch",
    "Revisions",
    "batches",
    "decode_base",
    "decode_epoch",
    "decode_record",
    "encode_base",
    "encode_epoch",
    "encode_value",
    "object_key",
    "split_key",
]

PREFIX: Final = b"/enxame/"
OBJECTS: Final = b"/enxame/objects/"
BASE: Final = b"/enxame/base"
EPOCH: Final = b"/enxame/epoch"
ALIVE: Final = b"/enxame/alive"
COMMIT: Final = b"/enxame/commit"

#: Of the layout above.
LAYOUT: Final = 1

_COMMITTED: Final = 0
_IMPORTED: Final = 1
_HEAD = struct.Struct(">BI")
_IMPORTED_HEAD = struct.Struct(">BIQ")


@dataclass(frozen=True, slots=True)
class Revisions:
    """Turns etcd's revisions into the store's: at etcd's ``anchor`` the state had revision ``base``."""

    anchor: int
    base: int

    def ours(self, etcd: int) -> int:
        """The store's revision. Those of an import, before the anchor, are the base's."""
        return max(etcd - self.anchor, 0) + self.base

    def etcd(self, ours: int) -> int:
        """The etcd revision. What is before the base came with the import."""
        return max(ours - self.base, 0) + self.anchor


class Epoch(msgspec.Struct, frozen=True, array_like=True):
    """One manager's time as the leader.

    ``claim`` is random, one a process; ``term`` the Raft term when it claimed; ``member`` its etcd member; ``previous``
    the revision of the epoch before.
    ``revision`` is the epoch key's: commits compare it. It is not part of the stored value.
    """

    node_id: str
    claim: str
    member: int
    term: int
    previous: int
    revision: int = 0


def object_key(kind: str, object_id: str) -> bytes:
    """The key of a record."""
    return OBJECTS + f"{kind}/{object_id}".encode()


def split_key(key: bytes) -> tuple[str, str] | None:
    """Kind and id of a record's key; None for another key."""
    if not key.startswith(OBJECTS):
        return None
    kind, _, object_id = key[len(OBJECTS) :].decode().partition("/")
    return kind, object_id


def encode_value(data: bytes, revision: int | None = None) -> bytes:
    """A record's value; with a revision when it is imported."""
    if revision is None:
        return _HEAD.pack(_COMMITTED, zlib.crc32(data)) + data
    return _IMPORTED_HEAD.pack(_IMPORTED, zlib.crc32(data), revision) + data


def decode_record(kind: str, object_id: str, value: bytes, revision: int) -> Record:
    """The record of a value that was written at (our) ``revision``. Raises Corrupt."""
    try:
        tag, checksum = _HEAD.unpack_from(value)
        data = value[_HEAD.size :]
        if tag == _IMPORTED:
            _, _, revision = _IMPORTED_HEAD.unpack_from(value)
            data = value[_IMPORTED_HEAD.size :]
    except struct.error:
        raise Corrupt(f"the swarm's state in etcd is damaged: {kind} {object_id} is cut off") from None
    if tag not in (_COMMITTED, _IMPORTED):
        raise Corrupt(f"the swarm's state in etcd has {kind} {object_id} in a form that this version does not know")
    if zlib.crc32(data) != checksum:
        raise Corrupt(f"the swarm's state in etcd is damaged: {kind} {object_id} does not match its checksum")
    return Record(kind, object_id, revision, data)


def is_rewritten(value: bytes) -> bool:
    """Whether a record's value was written with the revision that it had: its content is what it was."""
    return value[:1] == _HEAD.pack(_IMPORTED, 0)[:1]


def encode_base(revision: int) -> bytes:
    """The base's value."""
    return msgspec.msgpack.encode((LAYOUT, revision))


def decode_base(value: bytes, anchor: int) -> Revisions:
    """The base that was written at etcd's revision ``anchor``. Raises Corrupt."""
    try:
        layout, base = msgspec.msgpack.decode(value, type=tuple[int, int])
    except msgspec.DecodeError as error:
        raise Corrupt(f"the swarm's state in etcd is damaged: its base cannot be read ({error})") from error
    if layout > LAYOUT:
        raise Corrupt(
            f"the swarm's state in etcd has layout {layout}, this program knows {LAYOUT}: "
            "it was written by a newer version of enxame"
        )
    return Revisions(anchor, base)


def encode_epoch(epoch: Epoch) -> bytes:
    """The epoch's value."""
    return msgspec.msgpack.encode(msgspec.structs.replace(epoch, revision=0))


def decode_epoch(value: bytes, revision: int) -> Epoch:
    """The epoch that was written at etcd's ``revision``. Raises Corrupt."""
    try:
        epoch = msgspec.msgpack.decode(value, type=Epoch)
    except msgspec.DecodeError as error:
        raise Corrupt(f"the swarm's state in etcd is damaged: its epoch cannot be read ({error})") from error
    return msgspec.structs.replace(epoch, revision=revision)


def mutation_size(mutation: Mutation) -> int:
    """Upper bound of a mutation's bytes in a request."""
    return len(OBJECTS) + len(mutation.kind) + len(mutation.id) + len(mutation.data or b"") + 48


def batches(records: Iterable[Record], *, ops: int, size: int) -> Iterable[Sequence[Record]]:
    """Records in groups of at most ``ops``, and of about ``size`` bytes."""
    group: list[Record] = []
    room = size
    for record in records:
        need = len(record.data) + 128
        if group and (len(group) == ops or need > room):
            yield group
            group, room = [], size
        group.append(record)
        room -= need
    if group:
        yield group
