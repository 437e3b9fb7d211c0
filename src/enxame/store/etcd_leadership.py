"""Who leads: the manager whose etcd member leads in Raft, proven by an epoch of its own.

Raft's leader alone is not enough: it may be an old one that does not know yet. A manager leads from when it has
written its epoch until another one did. It stops by itself when it has not heard of a quorum for a while, by its clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from enxame.errors import EnxameError
from enxame.store import etcd_records as records
from enxame.store.etcd import EtcdBackend
from enxame.store.etcd_client import EtcdClient
from enxame.store.etcd_messages import EtcdRefused, EtcdUnavailable, Get, Guard, Put, Status
from enxame.store.etcd_records import Epoch

__all__ = ["Leadership", "may_claim"]

_log = logging.getLogger(__name__)

#: Seconds between looks at the member.
_POLL: Final = 0.15
#: The lease of a leader's sign of life, and how long it may be missing before another manager takes over.
_ALIVE_TTL: Final = 2
_SILENCE: Final = 0.5
_CLAIM_TIMEOUT: Final = 1.0
#: A manager whose store does not catch up with its own epoch in time leaves leading to others until it has, but for no
#: longer than the second figure.
_CATCH_UP: Final = 5.0
_ABSTAIN: Final = 30.0
_HAND_OVER_TIMEOUT: Final = 2.0
_HAND_OVER_EVERY: Final = 5.0
#: How long the heir has to make its epoch before whoever resigned may lead again.
_HEIRS_TIME: Final = 10.0


def may_claim(status: Status, newest: Epoch | None, *, claim: str, silent_for: float, patience: float) -> bool:
    """Whether a manager may make a new epoch, given what its member says and the newest epoch.

    Its member leads in Raft since that epoch, or the epoch is its own, or there is none; or whoever made the epoch has
    given no sign of life for ``patience`` seconds.
    """
    if status.leader == 0 or status.learner:
        return False
    leads = status.leader == status.member
    if newest is None:
        return leads
    if newest.claim == claim:
        return True
    return (leads and status.term > newest.term) or silent_for >= patience


class Leadership:
    """Runs (:meth:`run`) on every manager. Calls ``gained`` with the epoch once this manager leads and its store has
    taken in all that was committed before; ``lost`` when it no longer does. Both are synchronous and quick.

    ``validity``: seconds for which hearing of a quorum counts, shorter than etcd's election timeout.
    """

    def __init__(
        self,
        client: EtcdClient,
        backend: EtcdBackend,
        *,
        node_id: str,
        gained: Callable[[Epoch], None],
        lost: Callable[[], None],
        validity: float = 0.6,
    ) -> None:
        self._client = client
        self._backend = backend
        self._node_id = node_id
        self._gained = gained
        self._lost = lost
        self._validity = validity
        self._claim = secrets.token_hex(8)
        #: When another manager was last seen to lead.
        self._led_at = float("-inf")
        #: For how long nobody led before this manager did, as far as it could see; infinite if it saw nobody. Seconds.
        self.leaderless_for = float("inf")
        self._confirmed = 0.0
        self._began = 0.0
        self._abstain_until = float("-inf")
        self._resigned_until = float("-inf")
        #: The epoch that it had not caught up with.
        self._behind = 0
        self._announced: Epoch | None = None
        #: The epoch whose manager is silent, and since when; None while it is not.
        self._silent: tuple[int, float] | None = None
        #: The claim that a sign of life was seen of last.
        self._seen_alive = ""
        self._handed_over = float("-inf")
        self._wake = asyncio.Event()
        self._claimed = asyncio.Event()
        self._status: Status | None = None
        backend.on_lost = self._on_lost

    # -- what others ask

    @property
    def leads(self) -> bool:
        """Whether this manager may act as the leader at this moment."""
        return self._announced is not None and self._loop.time() < self._confirmed + self._validity

    @property
    def leader(self) -> str:
        """The node id of the manager that leads as far as this one knows; empty when there is none."""
        newest = self._backend.newest
        if newest is None or not self._backend.has_leader:
            return ""
        return newest.node_id

    @property
    def status(self) -> Status | None:
        """What the own member said last; None while it does not answer."""
        return self._status

    async def claimed(self) -> Epoch:
        """Wait until this manager has an epoch of its own (its store may still have to catch up)."""
        while (epoch := self._backend.epoch) is None:
            self._claimed.clear()
            await self._claimed.wait()
        return epoch

    # -- running

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def run(self) -> None:
        """Follow leadership until cancelled; then it is given up."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_alive(), name="etcd: sign of life")
                group.create_task(self._watch_deadline(), name="etcd: leadership's deadline")
                while True:
                    try:
                        await (self._seek() if self._backend.epoch is None else self._hold())
                    except EnxameError as error:
                        _log.debug("leadership: %s", error.message)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_POLL):
                            await self._wake.wait()
                    self._wake.clear()
        finally:
            self._drop("this manager stops")

    async def resign(self, member: int) -> None:
        """Hand Raft leadership to another member, whose manager then leads: this one leads on until that one does, but
        does not begin anew before.

        Raises:
            EtcdRefused: it stays as it was.
            EtcdUnavailable: it is not known whether the other one will lead.
        """
        # While Raft's leader changes this manager may lose its own leadership: taking it back would undo the change.
        before, self._resigned_until = self._resigned_until, self._loop.time() + _HEIRS_TIME
        try:
            await self._client.move_leader(member, timeout=_HAND_OVER_TIMEOUT)
        except EtcdRefused:
            self._resigned_until = before
            raise
        self._wake.set()

    # -- without leadership

    async def _seek(self) -> None:
        self._announced_lost()
        try:
            status = await self._client.status(timeout=self._validity)
        except EnxameError:
            self._status = None
            self._backend.has_leader = False
            raise
        self._status = status
        self._backend.has_leader = status.leader != 0
        if status.leader not in (0, status.member):
            self._led_at = self._loop.time()
        if self._loop.time() < self._abstain_until and self._backend.followed < self._behind:
            return
        newest = self._backend.newest
        if newest is not None and newest.claim == self._claim and self._loop.time() < self._resigned_until:
            return
        silent_for = self._silence(newest)
        # The managers that do not lead in Raft leave it to the one that does, if it is there.
        patience = _SILENCE if status.leader == status.member else _SILENCE + 0.3 + 0.2 * (status.member % 4)
        if may_claim(status, newest, claim=self._claim, silent_for=silent_for, patience=patience):
            await self._make_epoch(status, newest)
        elif newest is not None and status.leader == status.member and self._backend.alive == newest.claim:
            await self._hand_over(newest)

    def _silence(self, newest: Epoch | None) -> float:
        """For how long the newest epoch's manager has given no sign of life.

        Having just begun to lead is a sign, too.
        """
        if newest is None or not self._backend.has_leader:
            self._silent = None
            return 0.0
        if self._backend.alive == newest.claim:
            self._silent = None
            self._seen_alive = newest.claim
            return 0.0
        if self._silent is None or self._silent[0] != newest.revision:
            grace = 0.0 if self._seen_alive == newest.claim else float(_ALIVE_TTL)
            self._silent = newest.revision, self._loop.time() + grace
        return max(self._loop.time() - self._silent[1], 0.0)

    async def _make_epoch(self, status: Status, newest: Epoch | None) -> None:
        began = self._loop.time()
        seen = newest.revision if newest is not None else 0
        epoch = Epoch(self._node_id, self._claim, status.member, status.term, seen)
        result = await self._client.txn(
            [Guard(records.EPOCH, seen)],
            [Put(records.EPOCH, records.encode_epoch(epoch))],
            [Get(records.EPOCH)],
            timeout=_CLAIM_TIMEOUT,
        )
        if result.succeeded:
            _log.info("node %s leads the swarm from epoch %d on", self._node_id, result.revision)
            self._confirmed = self._began = began
            self.leaderless_for = began - self._led_at
            self._backend.lead(replace(epoch, revision=result.revision))
            self._claimed.set()
            self._wake.set()
        elif (stored := result.found[0]) is not None:
            # Our view was old. What it says now decides at the next look.
            self._backend.newest = records.decode_epoch(stored.value, stored.mod_revision)
            self._wake.set()

    async def _hand_over(self, newest: Epoch) -> None:
        """Somebody else leads while our member leads in Raft: bring both together, on that manager's member."""
        if self._loop.time() < self._handed_over + _HAND_OVER_EVERY or newest.claim == self._claim:
            return
        self._handed_over = self._loop.time()
        with contextlib.suppress(EtcdRefused, EtcdUnavailable):
            await self._client.move_leader(newest.member, timeout=_HAND_OVER_TIMEOUT)

    # -- with leadership

    async def _hold(self) -> None:
        began = self._loop.time()
        remaining = self._confirmed + self._validity - began
        if remaining <= 0:
            self._drop("no quorum was heard of in time")
            return
        # A linearizable read: it is answered only if a quorum still follows our member's leader.
        try:
            stored = await self._client.get(records.EPOCH, timeout=remaining)
        except EtcdUnavailable as error:
            if self._loop.time() >= self._confirmed + self._validity:
                self._drop(error.message)
            return
        epoch = self._backend.epoch
        if epoch is None:
            return
        newest = records.decode_epoch(stored.value, stored.mod_revision) if stored is not None else None
        if newest is None or newest.claim != self._claim:
            self._backend.newest = newest
            self._drop("another manager leads" if newest else "the epoch is gone")
            return
        self._confirmed = began
        if self._announced is None:
            await self._announce()
            if self._announced is None and self._loop.time() > self._began + _CATCH_UP:
                self._abstain_until = self._loop.time() + _ABSTAIN
                self._behind = epoch.revision
                self._drop(f"its store did not catch up within {_CATCH_UP:g} s: another manager is to lead")

    async def _announce(self) -> None:
        epoch = self._backend.epoch
        if epoch is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL):
                await self._backend.caught_up(epoch.revision)
            self._announced = epoch
            self._gained(epoch)
        if self._announced is None:
            self._wake.set()

    def _drop(self, reason: str) -> None:
        if self._backend.epoch is not None:
            _log.warning("node %s no longer leads the swarm: %s", self._node_id, reason)
        self._backend.epoch = None
        self._announced_lost()

    def _announced_lost(self) -> None:
        if self._announced is not None:
            self._announced = None
            self._lost()

    def _on_lost(self) -> None:
        self._announced_lost()
        self._wake.set()

    async def _watch_deadline(self) -> None:
        """Stop leading on time, also while a call hangs."""
        while True:
            if self._backend.epoch is None:
                await asyncio.sleep(_POLL)
                continue
            left = self._confirmed + self._validity - self._loop.time()
            if left <= 0:
                self._drop("no quorum was heard of in time")
            else:
                await asyncio.sleep(left)

    async def _keep_alive(self) -> None:
        """While we lead, keep our claim on a lease: it vanishes when this process hangs although its member lives."""
        lease = 0
        while True:
            epoch = self._backend.epoch
            try:
                if epoch is None:
                    lease = 0
                elif lease == 0 or self._backend.alive != self._claim:
                    lease = await self._client.lease_grant(_ALIVE_TTL, timeout=_CLAIM_TIMEOUT)
                    sign = Put(records.ALIVE, self._claim.encode(), lease)
                    guard = Guard(records.EPOCH, epoch.revision)
                    result = await self._client.txn([guard], [sign], timeout=_CLAIM_TIMEOUT)
                    if result.succeeded:
                        self._backend.alive = self._claim
                elif not await self._client.lease_keep(lease, timeout=_CLAIM_TIMEOUT):
                    lease = 0
            except EnxameError as error:
                _log.debug("leadership's sign of life: %s", error.message)
            await asyncio.sleep(_POLL if epoch is None or lease == 0 else _ALIVE_TTL / 4)
