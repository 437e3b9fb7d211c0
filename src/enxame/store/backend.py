"""What keeps the store's records: the seam between the in-memory tables and durable, possibly replicated, storage.

A backend orders commits by a *revision*: an integer that only grows, chosen by the backend (SQLite counts commits, etcd
has its own and may skip numbers). An object's version is the revision of the commit that wrote it last, so the bytes of
a record need not hold it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from enxame.errors import EnxameError, Unavailable

__all__ = [
    "Backend",
    "Commit",
    "CommitFailed",
    "CommitInDoubt",
    "Corrupt",
    "Mutation",
    "NoLeader",
    "NotLeading",
    "Record",
]


class CommitFailed(Unavailable):
    """The commit did not happen: the disk is full, the write failed, or this process is no longer the leader."""


class NotLeading(CommitFailed):
    """The commit did not happen: this process does not lead (any more, or not quite yet); another one may make it."""


class NoLeader(CommitFailed):
    """Too few managers can reach each other."""

    status = 500

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers "
            "are online. Make sure more than half of the managers are online."
        )


class CommitInDoubt(NoLeader):
    """Too few managers can reach each other to find out whether the commit happened: it may have, or may yet."""


class Corrupt(EnxameError):
    """What is stored cannot be read back whole. Nothing was changed; a backup or a repair is needed."""


@dataclass(frozen=True, slots=True)
class Record:
    """One stored object: ``data`` is its msgpack, ``revision`` that of the commit that wrote it."""

    kind: str
    id: str
    revision: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of a commit: put ``data``, or delete when it is ``None``. A commit names an object at most once."""

    kind: str
    id: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Commit:
    """A whole commit, as :meth:`Backend.watch` reports it."""

    revision: int
    mutations: Sequence[Mutation]


class Backend(Protocol):
    """Durable, ordered, atomic commits of records."""

    @property
    def commit_bytes(self) -> int:
        """Soft bound: the store stops adding callers to a shared commit beyond it."""
        ...

    async def load(self) -> tuple[int, list[Record]]:
        """The current revision and every record. Called first, and again at any time: by who missed
        commits, for a backup, for a move.

        Raises:
            Corrupt: the storage is damaged.
        """
        ...

    async def commit(self, mutations: Sequence[Mutation]) -> int:
        """Make all mutations durable, or none; returns the new revision.

        A replicated backend fences: it refuses when this process is not the leader (any more). When the outcome is
        in doubt (a lost connection), the backend finds out before it answers.

        Raises:
            CommitFailed: nothing was written; later commits may succeed.
        """
        ...

    async def rewrite(self, records: Sequence[Record]) -> None:
        """Replace the bytes of records that are there, at the revisions they have: the same content in another form.
        No commit may be under way. Watchers are told nothing. Afterwards nothing of the old bytes is kept where the
        backend can help it.

        Raises:
            CommitFailed: not all were replaced; may be repeated.
        """
        ...

    def watch(self, after: int) -> AsyncGenerator[Commit, None]:
        """Commits with a revision above ``after``, in order. May include this process's own (the store skips what it
        knows); ends at once where nobody else can write.

        Raises:
            WatchLagged: what comes next is no longer kept.
        """
        ...

    async def close(self) -> None:
        """Release everything. Idempotent."""
        ...
