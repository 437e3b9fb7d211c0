"""Hands each node what it is to have, and takes in what its tasks report."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from enxame.control.assignments import NodeAssignments, route
from enxame.control.network_table import Changes, NetworkTables
from enxame.errors import Unavailable
from enxame.manager import attachments
from enxame.manager.settling import Settling
from enxame.model.attachment import Attached, AttachRequest, DetachRequest
from enxame.model.cluster import TLSInfo
from enxame.model.dispatch import Assignments, TaskStatusUpdate
from enxame.model.node import Node, NodeDescription, NodeStatus
from enxame.model.task import Task
from enxame.store.interface import Event, Tx
from enxame.store.store import Store
from enxame.store.watch import WatchLagged

log = logging.getLogger(__name__)

#: Events that wait for a slow session; beyond that it gets a complete set instead.
MOST_EVENTS: Final = 10_000
#: A node that does not answer must not keep tasks from stopping for longer. One that is only slow is waited for: whom
#: it sent somewhere in the meantime would be refused.
WITHDRAWAL_SECONDS: Final = 2.0


def record_statuses(tx: Tx, node_id: str, updates: Iterable[TaskStatusUpdate]) -> None:
    """Take in what a node's tasks came to. What is older than what is known, or not this node's, is dropped."""
    for update in updates:
        task = tx.get(Task, update.task_id)
        if task is None or task.node_id != node_id or update.status.state < task.status.state:
            continue
        if update.status != task.status:
            tx.update(replace(task, status=update.status))


class Dispatcher:
    """One per manager. Sessions are opened by the transport, or in-process by the manager's own agent.

    Commits are looked at once for all sessions, not once by each: :meth:`run` must be running.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[str, dict[NodeSession, None]] = {}
        self._tables: NetworkTables | None = None

    async def run(self) -> None:
        """Hand events to the sessions they concern, until cancelled or the store ends."""
        try:
            while True:
                async with self._store.watch() as watch:
                    self._tables = NetworkTables(self._store.view)
                    for session in self._all():
                        session.restart()
                    try:
                        while True:
                            self._hand_out(await watch.next())
                    except WatchLagged:
                        log.warning("the dispatcher fell behind; every node gets a complete set")
        finally:
            for session in self._all():
                session.close()

    async def open(
        self, node_id: str, description: NodeDescription, address: str, status: NodeStatus | None = None
    ) -> NodeSession:
        """A node reports for duty, from ``address``, and offers what ``description`` says. It is ready unless
        ``status`` says otherwise.
        """
        known_status = replace(status or NodeStatus(state="ready"), addr=address)

        def register(tx: Tx) -> None:
            node = tx.get(Node, node_id)
            if node is None:
                return
            known = _known(description, node)
            if node.status != known_status or node.description != known:
                tx.update(replace(node, status=known_status, description=known))

        await self._store.update(register)
        session = NodeSession(self._store, node_id, self._current_tables, self.withdraw, self._forget)
        self._sessions.setdefault(node_id, {})[session] = None
        return session

    async def describe(self, node_id: str, description: NodeDescription) -> None:
        """A node that is in session says something else about itself."""

        def change(tx: Tx) -> None:
            node = tx.get(Node, node_id)
            if node is not None and node.description != (known := _known(description, node)):
                tx.update(replace(node, description=known))

        await self._store.update(change)

    async def withdraw(self, task_id: str) -> None:
        """A task is about to stop: returns when all nodes that could send it something new do so no more, or after
        :data:`WITHDRAWAL_SECONDS`.
        """
        tables = self._current_tables()
        networks = tables.networks_of(task_id)
        changes = tables.withdraw(self._store.view, task_id)
        for session in self._all() if changes else ():
            session.tables_changed(changes)
        waiting = {session.settle(): session.node_id for session in self._all() if session.knows(networks)}
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=WITHDRAWAL_SECONDS)
            for answer in late:
                answer.cancel()
            if late:
                names = ", ".join(waiting[answer] for answer in late)
                log.warning("task %s stops though these nodes may not know it yet: %s", task_id, names)

    def _current_tables(self) -> NetworkTables:
        """Who is on which network; kept in step while :meth:`run` runs."""
        if self._tables is None:
            self._tables = NetworkTables(self._store.view)
        return self._tables

    def _hand_out(self, events: Sequence[Event]) -> None:
        changes = self._current_tables().apply(self._store.view, events)
        if changes:
            for session in self._all():
                session.tables_changed(changes)
        own, shared = route(events)
        for node_id, mine in own.items():
            for session in self._sessions.get(node_id, ()):
                session.take(mine)
        if shared:
            for session in self._all():
                session.take(shared)

    def _all(self) -> list[NodeSession]:
        return [session for sessions in self._sessions.values() for session in sessions]

    def _forget(self, session: NodeSession) -> None:
        sessions = self._sessions.get(session.node_id, {})
        sessions.pop(session, None)
        if not sessions:
            self._sessions.pop(session.node_id, None)


class NodeSession:
    """One node's conversation. Not for use by several tasks at once, except that statuses may come meanwhile."""

    def __init__(
        self,
        store: Store,
        node_id: str,
        tables: Callable[[], NetworkTables],
        withdraw: Callable[[str], Awaitable[None]],
        closed: Callable[[NodeSession], None],
    ) -> None:
        self.node_id = node_id
        self._store = store
        self._tables = tables
        self._withdraw = withdraw
        self._forget = closed
        self._settling = Settling()
        self._told = NodeAssignments(node_id, tables())
        #: Whether the node was told everything, so that differences are enough.
        self._begun = False
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._closed = False

    async def assignments(self) -> Assignments:
        """The complete set at first, then each difference as soon as there is one.

        Raises:
            Unavailable: the session was closed, or the store ended.
        """
        while not self._closed:
            if not self._begun:
                return self._complete()
            await self._news.wait()
            self._news.clear()
            if not self._begun:
                continue
            events, self._events = self._events, []
            difference = self._told.update(self._store.view, events)
            if self._settling.is_due:
                return replace(difference or Assignments(), acknowledge=self._settling.ask())
            if difference is not None:
                return difference
        raise Unavailable("the session is closed")

    async def update_status(self, updates: Sequence[TaskStatusUpdate]) -> None:
        """Commit what the node's tasks report; see :func:`record_statuses`."""
        await self._store.update(lambda tx: record_statuses(tx, self.node_id, updates))

    async def attach(self, request: AttachRequest) -> Attached:
        """Put a container of the node on an attachable network."""
        return await attachments.attach(self._store, self.node_id, request)

    async def detach(self, request: DetachRequest) -> None:
        """Take a container of the node off."""
        await attachments.detach(self._store, self.node_id, request)

    async def withdraw(self, task_id: str) -> None:
        """A task of the node is about to stop; see :meth:`Dispatcher.withdraw`."""
        if any(task.id == task_id for task in self._store.view.find(Task, "node_id", self.node_id)):
            await self._withdraw(task_id)

    async def acknowledge(self, number: int) -> None:
        """The node did what it was told with this number, and all before."""
        self._settling.answer(number)

    def knows(self, networks: Iterable[str]) -> bool:
        """Whether the node was told of one of these networks."""
        return self._begun and any(self._told.knows(network_id) for network_id in networks)

    def settle(self) -> asyncio.Future[None]:
        """Done when the node has done everything that it was told until now, or the session ended."""
        settled = self._settling.wait()
        self._news.set()
        return settled

    def take(self, events: Iterable[Event]) -> None:
        """Events that may concern the node."""
        if not self._begun:
            return
        self._events += events
        if len(self._events) > MOST_EVENTS:
            self.restart()
        self._news.set()

    def tables_changed(self, changes: Changes) -> None:
        """Somebody came to, left or changed on these networks."""
        if self._begun and self._told.tables_changed(changes):
            self._news.set()

    def close(self) -> None:
        """The conversation is over."""
        self._closed = True
        self._settling.end()
        self._forget(self)
        self._news.set()

    def restart(self) -> None:
        """The node lost the thread: tell it everything again."""
        self._begun = False
        self._events = []
        self._news.set()

    def _complete(self) -> Assignments:
        self._events = []
        self._told = NodeAssignments(self.node_id, self._tables())
        self._begun = True
        return replace(self._told.complete(self._store.view), acknowledge=self._settling.ask())


def _known(description: NodeDescription, node: Node) -> NodeDescription:
    """What a node says of itself; one that does not say whom it trusts trusts those it did."""
    if description.tls_info != TLSInfo():
        return description
    return replace(description, tls_info=node.description.tls_info)
