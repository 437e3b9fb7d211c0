"""The state of a swarm with several managers: etcd.

A commit is one transaction that compares the epoch's revision: only the manager that made the newest epoch (see
``etcd_leadership``) can commit, whatever it believes. Everybody else follows by a watch on the own member.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Final

from msgspec.structs import replace

from enxame.errors import Unavailable
from enxame.store import etcd_records as records
from enxame.store.backend import Commit, CommitFailed, CommitInDoubt, Mutation, NoLeader, NotLeading, Record
from enxame.store.etcd_client import EtcdClient
from enxame.store.etcd_messages import (
    Compacted,
    Delete,
    EtcdRefused,
    EtcdUnavailable,
    Get,
    Guard,
    KeyValue,
    Put,
    Watched,
)
from enxame.store.etcd_records import Epoch, Revisions
from enxame.store.watch import WatchLagged

__all__ = ["EtcdBackend", "NoLeader"]

_log = logging.getLogger(__name__)

_PAGE: Final = 2000
#: Seconds for reading a page, for a commit, and for finding out about one that was not answered.
_LOAD_TIMEOUT: Final = 10.0
_COMMIT_TIMEOUT: Final = 2.5
_RESOLVE_TIMEOUT: Final = 5.0
_RETRY_PAUSES: Final = (0.02, 0.05, 0.1, 0.2)

NOT_LEADING: Final = "this manager does not lead the swarm"
NOT_AGREED: Final = "the change was not made: the managers could not agree on it in time"
CATCHING_UP: Final = "this manager has just begun to lead the swarm and is still catching up; try again"


class EtcdBackend:
    """Records in the cluster that ``client`` is connected to.

    :attr:`epoch` is this manager's own epoch while it leads; without one every commit is refused. :attr:`newest` is the
    newest epoch seen, anybody's.
    """

    #: Shared commits stop growing here; a single transaction may have up to ``max_bytes``.
    commit_bytes = 1 << 20

    def __init__(self, client: EtcdClient, *, max_ops: int = 16_384, max_bytes: int = 8 << 20) -> None:
        self._client = client
        # Beside the mutations, a commit has the token; requests have a frame.
        self._max_ops = max_ops - 1
        self._max_bytes = max_bytes - 4096
        self._revisions = Revisions(0, 0)
        self._sequence = 0
        #: Where this manager's time as the leader began.
        self._since = 0
        self._closed = False
        self._moved = asyncio.Condition()
        self.epoch: Epoch | None = None
        self.newest: Epoch | None = None
        #: The claim that a live leader holds on its lease, "" when there is none.
        self.alive = ""
        #: Called when :attr:`epoch` was lost because a commit was refused or its outcome could not be found out.
        self.on_lost: Callable[[], None] = lambda: None
        #: Why the own member does not run, if it is known (``EtcdServer.trouble``).
        self.trouble: Callable[[], str] = lambda: ""
        #: Whether this manager knows of a Raft leader: decides what a refused commit says.
        self.has_leader = True
        #: etcd's revision up to which all commits were handed to the watcher and taken in by it.
        self.followed = 0

    # -- reading

    async def load(self) -> tuple[int, list[Record]]:
        """Every record at one revision, from the own member: also without a quorum. What is newer comes by the watch.

        Raises:
            Corrupt: a record does not match its checksum, or is of a newer version.
            Unavailable: the member does not answer, or holds no state (yet).
        """
        found: list[Record] = []
        items: list[KeyValue] = []
        key, revision, more = records.PREFIX, 0, True
        try:
            while more:
                page = await self._client.range(
                    key,
                    end=_PREFIX_END,
                    limit=_PAGE,
                    revision=revision,
                    serializable=True,
                    timeout=_LOAD_TIMEOUT,
                )
                revision = revision or page.revision
                items += page.items
                more = page.more
                if more:
                    key = page.items[-1].key + b"\0"
        except EtcdUnavailable as error:
            raise Unavailable(f"the swarm's state in etcd cannot be read: {error.message}") from error
        by_key = {item.key: item for item in items}
        base = by_key.get(records.BASE)
        if base is None:
            raise Unavailable("the etcd of this manager holds no swarm's state yet")
        self._revisions = records.decode_base(base.value, base.mod_revision)
        if (epoch := by_key.get(records.EPOCH)) is not None:
            self._see(records.decode_epoch(epoch.value, epoch.mod_revision))
        self.alive = by_key[records.ALIVE].value.decode() if records.ALIVE in by_key else ""
        for item in items:
            if (names := records.split_key(item.key)) is not None:
                ours = self._revisions.ours(item.mod_revision)
                found.append(records.decode_record(*names, item.value, ours))
        return self._revisions.ours(revision), found

    async def watch(self, after: int) -> AsyncGenerator[Commit, None]:
        """All commits above ``after``, own ones among them; an epoch is an empty commit. Goes on until it is closed.

        Raises:
            WatchLagged: what comes next is no longer kept: load again.
        """
        position = self._revisions.etcd(after)
        await self.follow_to(position)
        failures = 0
        while not self._closed:
            try:
                async with aclosing(self._client.watch(records.PREFIX, position + 1)) as stream:
                    async for changes in stream:
                        failures = 0
                        for revision, group in groupby(changes, lambda change: change.revision):
                            commit = self._commit_of(revision, list(group))
                            if commit is not None:
                                yield commit
                            position = revision
                            await self.follow_to(revision)
            except Compacted as error:
                raise WatchLagged(error.message) from error
            except EtcdUnavailable as error:
                if failures == 0 and not self._closed:
                    _log.debug("the watch on etcd broke, it is begun again: %s", error.message)
            except EtcdRefused as error:
                _log.warning("etcd refuses the watch, it is tried again: %s", error.message)
            if not self._closed:
                await asyncio.sleep(_pause(failures))
                failures += 1

    def _commit_of(self, revision: int, changes: Sequence[Watched]) -> Commit | None:
        mutations: list[Mutation] = []
        told = False
        for change in changes:
            if change.key == records.EPOCH and change.value is not None:
                self._see(records.decode_epoch(change.value, revision))
                told = True
            elif change.key == records.ALIVE:
                self.alive = (change.value or b"").decode()
            elif change.value is not None and records.is_rewritten(change.value):
                continue
            elif (names := records.split_key(change.key)) is not None:
                data = None
                if change.value is not None:
                    data = records.decode_record(*names, change.value, 0).data
                mutations.append(Mutation(*names, data))
        return Commit(self._revisions.ours(revision), mutations) if mutations or told else None

    def _see(self, epoch: Epoch) -> None:
        if self.newest is None or epoch.revision > self.newest.revision:
            self.newest = epoch

    async def follow_to(self, revision: int) -> None:
        """Whoever commits here has taken in everything up to etcd's ``revision``."""
        async with self._moved:
            self.followed = max(self.followed, revision)
            self._moved.notify_all()

    async def caught_up(self, revision: int) -> None:
        """Wait until the watcher has taken in all commits up to etcd's ``revision``."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.followed >= revision)

    # -- writing

    async def commit(self, mutations: Sequence[Mutation]) -> int:
        """Make all mutations durable on more than half of the members, or none.

        Raises:
            CommitFailed: the transaction is too large for etcd, or there is no quorum to begin with.
            NotLeading: this manager does not lead (any more); the commit did not happen.
            CommitInDoubt: no quorum. Should the commit happen later after all, it comes by the watch.
        """
        epoch = self.epoch
        if epoch is None:
            raise self._refusal()
        if self.followed < self._since:
            raise NotLeading(CATCHING_UP)
        self._check_size(mutations)
        operations: list[Put | Delete | Get] = [
            Delete(records.object_key(m.kind, m.id))
            if m.data is None
            else Put(records.object_key(m.kind, m.id), records.encode_value(m.data))
            for m in mutations
        ]
        return await self._transact(epoch, operations)

    async def rewrite(self, records_: Sequence[Record]) -> None:
        """Replace the bytes of records; what was before goes with the next compaction."""
        for batch in records.batches(records_, ops=self._max_ops, size=self.commit_bytes):
            epoch = self.epoch
            if epoch is None:
                raise self._refusal()
            puts = [Put(records.object_key(r.kind, r.id), records.encode_value(r.data, r.revision)) for r in batch]
            await self._transact(epoch, puts)

    async def _transact(self, epoch: Epoch, operations: Sequence[Put | Delete | Get]) -> int:
        self._sequence += 1
        token = f"{epoch.claim}:{self._sequence}".encode()
        operations = [*operations, Put(records.COMMIT, token)]
        guards = [Guard(records.EPOCH, epoch.revision)]
        try:
            result = await self._client.txn(guards, operations, timeout=_COMMIT_TIMEOUT)
        except EtcdRefused as error:
            raise CommitFailed(f"the swarm's state could not be saved: {error.message}") from error
        except EtcdUnavailable as error:
            _log.warning("etcd did not answer a commit (%s): finding out", error.message)
            return await self._resolve(epoch, token)
        except BaseException:
            self._lose(epoch)
            raise
        if not result.succeeded:
            self._lose(epoch)
            raise NotLeading(NOT_LEADING)
        return self._revisions.ours(result.revision)

    def _check_size(self, mutations: Sequence[Mutation]) -> None:
        size = sum(records.mutation_size(mutation) for mutation in mutations)
        if len(mutations) > self._max_ops or size > self._max_bytes:
            raise CommitFailed(
                f"the change is too large to be made in one step: {len(mutations)} objects, {size} bytes "
                f"(at most {self._max_ops} and {self._max_bytes})"
            )

    async def _resolve(self, epoch: Epoch, token: bytes) -> int:
        """Find out whether a commit happened. A new epoch of our own comes after it, or makes it impossible."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _RESOLVE_TIMEOUT
        attempt = 0
        try:
            while loop.time() < deadline:
                try:
                    revision = await self._ask(epoch, token)
                except (EtcdUnavailable, EtcdRefused):
                    await asyncio.sleep(_pause(attempt))
                    attempt += 1
                    continue
                if revision is None:
                    raise CommitFailed(NOT_AGREED) if self.epoch else NotLeading(NOT_LEADING)
                return self._revisions.ours(revision)
            raise self._no_quorum(in_doubt=True)
        except CommitFailed:
            raise
        finally:
            if self.epoch is epoch:
                self._lose(epoch)

    async def _ask(self, epoch: Epoch, token: bytes) -> int | None:
        bump = replace(epoch, previous=epoch.revision)
        result = await self._client.txn(
            [Guard(records.EPOCH, epoch.revision)],
            [Put(records.EPOCH, records.encode_epoch(bump)), Get(records.COMMIT)],
            [Get(records.EPOCH), Get(records.COMMIT)],
            timeout=_COMMIT_TIMEOUT / 2,
        )
        if result.succeeded:
            self._renew(replace(bump, revision=result.revision))
            return _revision_of(result.found[0], token)
        stored = result.found[0]
        if stored is None:
            return None
        newest = records.decode_epoch(stored.value, stored.mod_revision)
        if newest.claim == epoch.claim:
            # An earlier question of ours, whose answer was lost.
            self._renew(newest)
            return _revision_of(result.found[1], token)
        self._lose(epoch)
        # The last commit before the epoch that followed ours is the one asked for, or it never was.
        while newest.previous > epoch.revision:
            before = await self._client.get(records.EPOCH, revision=newest.previous, timeout=_COMMIT_TIMEOUT)
            if before is None:
                break
            newest = records.decode_epoch(before.value, before.mod_revision)
        last = await self._client.get(records.COMMIT, revision=newest.revision, timeout=_COMMIT_TIMEOUT)
        return _revision_of(last, token)

    def lead(self, epoch: Epoch) -> None:
        """Commit in this epoch, once the watcher has taken in what was committed before it."""
        self._since = epoch.revision
        self._renew(epoch)

    def _renew(self, epoch: Epoch) -> None:
        self._see(epoch)
        self.epoch = epoch

    def _lose(self, epoch: Epoch) -> None:
        if self.epoch is not None and self.epoch.claim == epoch.claim:
            self.epoch = None
            self.on_lost()

    def _refusal(self) -> CommitFailed:
        return NotLeading(NOT_LEADING) if self.has_leader else self._no_quorum()

    def _no_quorum(self, *, in_doubt: bool = False) -> CommitFailed:
        if trouble := self.trouble():
            kind = CommitInDoubt if in_doubt else CommitFailed
            return kind(f"the swarm's state cannot be saved: etcd does not run: {trouble}")
        return CommitInDoubt() if in_doubt else NoLeader()

    async def close(self) -> None:
        """End the watch's next round. The client is its maker's to close. Idempotent."""
        self._closed = True
        self.epoch = None


_PREFIX_END: Final = records.PREFIX[:-1] + bytes([records.PREFIX[-1] + 1])


def _revision_of(last: KeyValue | None, token: bytes) -> int | None:
    return last.mod_revision if last is not None and last.value == token else None


def _pause(attempt: int) -> float:
    return _RETRY_PAUSES[min(attempt, len(_RETRY_PAUSES) - 1)]
