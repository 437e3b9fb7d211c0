"""What is said to etcd and what it answers; known without loading gRPC."""

from __future__ import annotations

from typing import NamedTuple

from enxame.errors import EnxameError


class EtcdUnavailable(EnxameError):
    """No answer: whether the call had an effect is not known."""

    status = 503


class EtcdRefused(EnxameError):
    """etcd said no; the call had no effect."""

    status = 503


class Compacted(EtcdRefused):
    """The revision that was asked for is no longer kept."""


class KeyValue(NamedTuple):
    """A key as stored. ``mod_revision`` is that of the last change; ``lease`` 0 when it has none."""

    key: bytes
    value: bytes
    mod_revision: int
    lease: int = 0


class Guard(NamedTuple):
    """A transaction's condition: the key was changed last at this revision (0: it does not exist)."""

    key: bytes
    mod_revision: int


class Put(NamedTuple):
    """Set a key."""

    key: bytes
    value: bytes
    lease: int = 0


class Delete(NamedTuple):
    """Remove a key, or all keys that begin so."""

    key: bytes
    prefix: bool = False


class Get(NamedTuple):
    """Read a key inside a transaction."""

    key: bytes


class TxnResult(NamedTuple):
    """``found`` has what each :class:`Get` of the branch that ran read."""

    succeeded: bool
    revision: int
    found: list[KeyValue | None]


class Page(NamedTuple):
    """Part of a range, as of ``revision``; ``more`` when keys follow after the last."""

    revision: int
    items: list[KeyValue]
    more: bool


class Watched(NamedTuple):
    """A changed key; ``value`` is None when it was deleted."""

    key: bytes
    value: bytes | None
    revision: int


class Status(NamedTuple):
    """What a member says of itself. ``leader`` is the Raft leader's member id, 0 when it knows none."""

    member: int
    leader: int
    term: int
    revision: int
    version: str
    learner: bool


class Member(NamedTuple):
    """A member of the cluster; the name is empty until it has started once."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    learner: bool
