"""The swarm's state on this manager: its store, whatever keeps it, and whether this manager leads.

A swarm of one manager keeps its state in SQLite, and that manager leads. With several the state is in etcd, a member of
which runs here. Which it is says the pointer file; a running store goes on through moves from one to the other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enxame.errors import EnxameError
from enxame.membership.member_plan import MemberPlan
from enxame.membership.sealed_state import renew_key, sealed_state
from enxame.membership.state_keys import StateKeys
from enxame.model.node import Node
from enxame.store import pointer as pointers
from enxame.store.backend import Backend, Record
from enxame.store.move import clear_leftovers, move
from enxame.store.pointer import Pointer
from enxame.store.sealed import SealedBackend
from enxame.store.sqlite import SqliteBackend, write_database
from enxame.store.store import Store
from enxame.store.switching import SwitchingBackend

if TYPE_CHECKING:
    from enxame.store.etcd_node import EtcdNode
    from enxame.store.etcd_records import Epoch

NewMember = Callable[[Pointer, Mapping[str, str]], "EtcdNode"]

log = logging.getLogger(__name__)

#: Longest wait for the member of a new cluster of one: seconds. One that has its data waits for the others.
_FOUND_DEADLINE: Final = 15.0
_RESIGN_DEADLINE: Final = 3.0
#: Longest wait for the manager that was asked to lead, before another is asked: seconds.
_TAKEN_WITHIN: Final = 1.0


class SwarmState:
    """``member`` says how this manager's etcd members run; ``join`` gets one into the swarm's etcd when there is no
    state here yet. ``keys`` encrypt it at rest.

    :attr:`gained` is set while this manager leads, :attr:`lost` while it does not.
    """

    def __init__(
        self,
        directory: Path,
        node_id: str,
        *,
        keys: StateKeys,
        member: MemberPlan,
        join: Callable[[NewMember], Awaitable[EtcdNode]],
        wall: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self.keys = keys
        self._node_id = node_id
        self._plan = member
        self._join = join
        self._wall = wall
        self._backend: SwitchingBackend | None = None
        self._sealed: SealedBackend | None = None
        self._store: Store | None = None
        #: This manager's part in the managers' etcd; None while the state is in SQLite, or not there yet.
        self.etcd: EtcdNode | None = None
        self.gained = asyncio.Event()
        self.lost = asyncio.Event()
        self.lost.set()

    # -- what others ask

    @property
    def store(self) -> Store:
        """The state's store, once it was opened."""
        if self._store is None:
            raise RuntimeError("the swarm's state is not open")
        return self._store

    @property
    def is_open(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    @property
    def kind(self) -> str:
        """Where the state is: sqlite, etcd, or none yet."""
        return pointers.read(self._directory).kind

    @property
    def leads(self) -> bool:
        """Whether this manager may act as the leader at this moment."""
        etcd = self.etcd
        return self.gained.is_set() and (etcd is None or etcd.backend.epoch is not None)

    @property
    def leader(self) -> str:
        """The node id of the manager that leads, as far as is known here; empty when there is none."""
        if self.etcd is None:
            return self._node_id if self.gained.is_set() else ""
        return self._node_id if self.leads else self.etcd.leadership.leader

    @property
    def leaderless_for(self) -> float:
        """When this manager leads: for how long none led before, as far as it could see (seconds)."""
        return self.etcd.leadership.leaderless_for if self.etcd is not None else math.inf

    @property
    def trouble(self) -> str:
        """Why this manager has no part in the managers' agreement at the moment; empty when it has."""
        if self.etcd is None:
            return "" if self.gained.is_set() else "its state is not open"
        status = self.etcd.leadership.status
        if status is None and not self.leads:
            return self.etcd.server.trouble or "its etcd member does not answer"
        if status is not None and status.learner:
            return "it has no vote yet"
        return ""

    # -- life

    async def open(self) -> None:
        """Load the state and begin to follow leadership, once. Waits for a quorum when the state is in etcd.

        Raises:
            Corrupt: the state is damaged.
            EnxameError: not now; to be tried again.
        """
        if self.is_open:
            return
        pointer = pointers.read(self._directory)
        await clear_leftovers(self._directory)
        if pointer.kind == "sqlite":
            await self._take_up(SqliteBackend(self._directory / pointer.place))
            self._gain()
            return
        if pointer.kind == "none":
            node = await self._join(self.new_member)
        else:
            node = self.new_member(pointer)
            await node.start(timeout=math.inf)
        try:
            await node.voting()
            await self._take_up(node.backend)
        except BaseException:
            await node.stop()
            raise
        self.etcd = node
        node.follow()

    async def _take_up(self, backend: Backend) -> None:
        switching = SwitchingBackend(backend)
        sealed = await sealed_state(switching, self.keys, make_keys=self.kind == "sqlite")
        store = Store(sealed, wall=self._wall)
        try:
            await store.start()
        except BaseException:
            await store.close()
            raise
        self._backend, self._sealed, self._store = switching, sealed, store

    async def close(self) -> None:
        """Give leadership up, and stop. Idempotent."""
        etcd = self.etcd
        self._lose()
        if self._store is not None:
            await self._store.close()
        self.etcd = None
        if etcd is not None:
            await etcd.stop()

    async def hand_over(self, patience: float) -> bool:
        """Resign until this manager does not lead any more, for at most so many seconds; whether that came true.

        Once is not always enough: Raft may choose the same one again.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.leads and await self.resign():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_TAKEN_WITHIN):
                            await self.lost.wait()
        return self.etcd is not None and not self.leads

    async def resign(self) -> bool:
        """Ask another manager to lead; False when there is nobody to ask."""
        return self.etcd is not None and await self._resign(self.etcd)

    async def _resign(self, etcd: EtcdNode) -> bool:
        from enxame.store.etcd_members import successor

        status = etcd.leadership.status
        try:
            async with asyncio.timeout(_RESIGN_DEADLINE):
                if status is None:
                    status = await etcd.client.status(timeout=_RESIGN_DEADLINE)
                members = await etcd.members.list()
                heir = successor(members, self._within_reach(), status.member)
                if heir is None:
                    return False
                await etcd.leadership.resign(heir.id)
        except (EnxameError, TimeoutError) as error:
            log.warning("leadership was not handed over: %s", error)
        return True

    def _within_reach(self) -> set[str]:
        """The managers that the leader can reach, by what it wrote down."""
        return {
            node.id
            for node in self.store.view.all(Node)
            if node.manager_status is not None and node.manager_status.reachability == "reachable"
        }

    # -- leadership

    def new_member(self, place: Pointer, cluster: Mapping[str, str] | None = None) -> EtcdNode:
        """A member of this manager's at a place, not started yet. ``cluster``: see ``EtcdSettings.initial_cluster``."""
        from enxame.store.etcd_node import EtcdNode

        # What a member says of leadership counts while it is the one of the moment.
        def gained(epoch: Epoch) -> None:
            if node is self.etcd:
                log.info("this manager leads the swarm (epoch %d)", epoch.revision)
                self._gain()

        def lost() -> None:
            if node is self.etcd:
                log.warning("this manager does not lead the swarm any more")
                self._lose()

        settings = self._plan.settings(self._directory / place.place, cluster)
        node = EtcdNode(settings, gained=gained, lost=lost)
        return node

    def _gain(self) -> None:
        self.lost.clear()
        self.gained.set()

    def _lose(self) -> None:
        self.gained.clear()
        self.lost.set()

    async def renew_key(self) -> None:
        """Encrypt everything with a fresh key; afterwards the old one is forgotten. With several managers nothing is
        done: all of them would have to know the new key first.

        Raises:
            CommitFailed: not all of it could be rewritten: the old key is kept, and it goes on at the next start.
        """
        if self._sealed is None:
            return
        if self.kind != "sqlite":
            log.warning(
                "several managers keep their data key: copies of their disks from before the lock still hold it"
            )
            return
        await renew_key(self._sealed, self.keys)
        log.info("the swarm's state is encrypted with a fresh key")

    # -- moves

    async def to_etcd(self) -> None:
        """Move the state of the only manager to an etcd of one. Nothing to do when it is there.

        Raises:
            MoveFailed, Unavailable: nothing has changed.
        """
        if self.etcd is not None:
            return
        target = pointers.read(self._directory).next("etcd")
        node = self.new_member(target)
        # The member takes a while to start: nobody has to wait for that.
        await asyncio.to_thread(shutil.rmtree, self._directory / target.place, ignore_errors=True)
        try:
            await node.start(timeout=_FOUND_DEADLINE)
            await node.voting(timeout=_FOUND_DEADLINE)
        except BaseException:
            await self._discard(node, target)
            raise

        async def prepare(_place: Pointer, revision: int, records: list[Record]) -> Backend:
            return await node.found(revision, records, timeout=_FOUND_DEADLINE)

        async def discard(place: Pointer) -> None:
            await self._discard(node, place)

        await move(self._switching, self._directory, kind="etcd", prepare=prepare, discard=discard)
        self.etcd = node
        if not self.leads:
            self._lose()

    async def to_sqlite(self) -> None:
        """Move the state of the only manager that is left to SQLite, and end its etcd.

        Raises:
            MoveFailed: nothing has changed.
        """
        node = self.etcd
        if node is None:
            return

        async def prepare(place: Pointer, revision: int, records: list[Record]) -> Backend:
            path = self._directory / place.place
            await asyncio.to_thread(write_database, path, revision, records)
            return SqliteBackend(path)

        async def discard(place: Pointer) -> None:
            (self._directory / place.place).unlink(missing_ok=True)

        await move(self._switching, self._directory, kind="sqlite", prepare=prepare, discard=discard)
        # From here on what the member says of leadership is of no concern.
        self.etcd = None
        self._gain()
        await node.stop()
        await clear_leftovers(self._directory)
        if self.keys.passphrase:
            # It may have been locked among others: then its data key lay open before.
            try:
                await self.renew_key()
            except EnxameError as error:
                log.error("the swarm's state is not encrypted with a fresh key yet: %s", error.message)

    @property
    def _switching(self) -> SwitchingBackend:
        if self._backend is None:
            raise RuntimeError("the swarm's state is not open")
        return self._backend

    async def _discard(self, node: EtcdNode, place: Pointer) -> None:
        await node.stop()
        await asyncio.to_thread(shutil.rmtree, self._directory / place.place, ignore_errors=True)
