"""Hands each node what it is to have, and takes in what its tasks report."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from enxame.control.assignments import NodeAssignments
from enxame.control.ingress import IngressTable
from enxame.model.dispatch import Assignments, TaskStatusUpdate
from enxame.model.node import Node, NodeDescription, NodeStatus
from enxame.model.task import Task
from enxame.store.interface import Tx
from enxame.store.store import Store
from enxame.store.watch import WatchLagged

log = logging.getLogger(__name__)


class Dispatcher:
    """One per manager. Sessions are opened by the transport, or in-process by the manager's own agent."""

    def __init__(self, store: Store) -> None:
        self._store = store

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
            known = replace(description, tls_info=node.description.tls_info)
            if node.status != known_status or node.description != known:
                tx.update(replace(node, status=known_status, description=known))

        await self._store.update(register)
        return NodeSession(self._store, node_id)


class NodeSession:
    """One node's conversation. Not for use by several tasks at once, except that statuses may come meanwhile."""

    def __init__(self, store: Store, node_id: str) -> None:
        self._store = store
        self._node_id = node_id
        self._watch = store.watch()
        self._told = NodeAssignments(node_id)
        self._ingress: IngressTable | None = None

    async def assignments(self) -> Assignments:
        """The complete set at first, then each difference as soon as there is one."""
        if self._ingress is None:
            return self._complete()
        while True:
            try:
                events = await self._watch.next()
            except WatchLagged:
                self.restart()
                return self._complete()
            view = self._store.view
            table = self._ingress.ports if self._ingress.apply(view, events) else None
            difference = self._told.update(view, events, table)
            if difference is not None:
                return difference

    async def update_status(self, updates: Sequence[TaskStatusUpdate]) -> None:
        """Commit what the node's tasks report. What is older than what is known, or not this node's, is dropped."""

        def record(tx: Tx) -> None:
            for update in updates:
                task = tx.get(Task, update.task_id)
                if task is None or task.node_id != self._node_id or update.status.state < task.status.state:
                    continue
                if update.status != task.status:
                    tx.update(replace(task, status=update.status))

        await self._store.update(record)

    def close(self) -> None:
        """The conversation is over."""
        self._watch.close()

    def restart(self) -> None:
        """The node lost the thread: tell it everything again."""
        self._watch.close()
        self._watch = self._store.watch()
        self._ingress = None

    def _complete(self) -> Assignments:
        self._watch.pending()
        self._ingress = IngressTable(self._store.view, self._node_id)
        return self._told.complete(self._store.view, self._ingress.ports)
