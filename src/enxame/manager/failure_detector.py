"""Carries the verdicts of :mod:`enxame.control.heartbeats` into the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from enxame.control.heartbeats import LONGEST_EXCUSE, Health, HeartbeatBook, heartbeat_period, takeover_grace
from enxame.model.cluster import Cluster
from enxame.model.node import Node, NodeStatus
from enxame.store.interface import Tx
from enxame.store.store import Store

log = logging.getLogger(__name__)

#: Between two looks at the book: seconds.
INTERVAL: Final = 0.2

#: See :func:`patience`: seconds.
MOVED_PATIENCE: Final = 300.0

HEARTBEAT_FAILURE: Final = "heartbeat failure"
LEFT: Final = "node left the swarm"
HELD_BACK: Final = "heartbeat failure of much of the swarm at once: its tasks are not replaced yet"
FLAPPING: Final = "node came and went too often: it gets tasks again when it has stayed for a while"
_RESTARTS: Final = "its daemon restarts"
RESTARTING: Final = f"{_RESTARTS}: expected back within {{seconds:g}} s"
MANAGER_CAME_UP: Final = "manager came up: waiting for the node to report"

_STATUS: Final = {
    Health.UP: ("ready", ""),
    Health.HELD: ("unknown", HELD_BACK),
    Health.DOWN: ("down", HEARTBEAT_FAILURE),
}


def patience(cluster: Cluster | None, now: datetime) -> float | None:
    """Seconds that nodes have to report to a manager which was recovered at another address: they have to be told
    where it is, and keep their tasks running meanwhile. None: no more than ever.
    """
    secrets = cluster.internal if cluster is not None else None
    if secrets is None or not secrets.moved:
        return None
    left = secrets.incarnation + MOVED_PATIENCE - now.timestamp()
    return left if 0 < left <= MOVED_PATIENCE else None


def ask_anew(tx: Tx, own_node_id: str) -> None:
    """A manager came up: what it holds of all other nodes is that they are to report."""
    for node in tx.all(Node):
        if node.id != own_node_id and node.status.state not in ("down", "unknown"):
            tx.update(replace(node, status=replace(node.status, state="unknown", message=MANAGER_CAME_UP)))


def record_health(tx: Tx, book: HeartbeatBook, verdicts: Mapping[str, Health]) -> None:
    """Write verdicts down that still hold."""
    for node_id, health in verdicts.items():
        node = tx.get(Node, node_id)
        if node is not None and book.health(node_id) is health:
            state, message = _STATUS[health]
            tx.update(replace(node, status=replace(node.status, state=state, message=message)))


class FailureDetector:
    """``mono`` gives monotonic seconds; ``cut`` cuts a node's links. Watches all nodes but the manager's own."""

    def __init__(self, store: Store, own_node_id: str, mono: Callable[[], float], cut: Callable[[str], None]) -> None:
        self._store = store
        self._own = own_node_id
        self._mono = mono
        self._cut = cut
        self._book = HeartbeatBook()
        self._watching = asyncio.Event()
        self._undecided: dict[str, Health] = {}

    @property
    def period(self) -> float:
        """Seconds between heartbeats, for the swarm as it is."""
        return heartbeat_period(len(self._book) + 1, self._configured())

    def _configured(self) -> int:
        cluster = next(iter(self._store.view.all(Cluster)), None)
        return cluster.spec.dispatcher.heartbeat_period if cluster is not None else 0

    async def start(self, *, takeover: bool = False, patience: float | None = None) -> None:
        """Take up the swarm's nodes: what they were before is not what they are now.

        ``takeover``: another manager led until a moment ago; ``patience``: see :func:`patience`.
        """
        excused = {node.id for node in self._store.view.all(Node) if node.status.message.startswith(_RESTARTS)}
        await self._store.update(lambda tx: ask_anew(tx, self._own))
        returning = []
        for node in self._store.view.all(Node):
            if node.id == self._own:
                continue
            if node.status.state == "down":
                self._book.note_down(node.id, self._mono())
            else:
                returning.append(node.id)
        period = heartbeat_period(len(returning) + len(self._book) + 1, self._configured())
        grace = takeover_grace(len(returning), period) if takeover else patience
        for node_id in returning:
            # Who is restarting could not come at once, and has told only the manager before.
            self._book.expect(node_id, self._mono(), period, None if node_id in excused else grace)
        if returning:
            self._watch()

    def _watch(self) -> None:
        if not self._watching.is_set():
            # From now on it is known how late a look comes, also the first.
            self._book.tick(self._mono(), INTERVAL)
            self._watching.set()

    async def run(self) -> None:
        """Judge until cancelled. Costs nothing while there is only the manager itself."""
        while True:
            await self._watching.wait()
            self._undecided.update(self._book.tick(self._mono(), INTERVAL))
            if self._undecided:
                await self._decide()
            if not len(self._book):
                self._book = HeartbeatBook()  # the time until the next node comes is no delay of ours
                self._watching.clear()
            await asyncio.sleep(INTERVAL)

    def expect(self, node_id: str) -> None:
        """A node joined: it must report soon."""
        self._book.expect(node_id, self._mono(), self.period)
        self._watch()

    def register(self, node_id: str) -> NodeStatus:
        """A node reports for duty; the status it is to have (without its address)."""
        health = self._book.register(node_id, self._mono(), self.period)
        self._undecided.pop(node_id, None)
        self._watch()
        if health is Health.UP:
            return NodeStatus(state="ready")
        log.warning("node %s came and went too often; it gets no tasks for a while", node_id)
        return NodeStatus(state="down", message=FLAPPING)

    def turned_away(self, node_id: str) -> None:
        """A node that reported for duty could not be taken up: its state could not be written."""
        self._book.turned_away(node_id, self._mono())

    def beat(self, node_id: str) -> bool:
        """A node's heartbeat. False: it must report for duty first."""
        return self._book.beat(node_id, self._mono(), self.period)

    def forget(self, node_id: str) -> None:
        """A node was removed."""
        self._book.forget(node_id)
        self._undecided.pop(node_id, None)

    async def leave(self, node_id: str) -> None:
        """A node ended its tasks and left: nobody waits for it."""
        self._book.note_down(node_id, self._mono())
        await self._say(node_id, lambda status: replace(status, state="down", message=LEFT))

    async def excuse(self, node_id: str, seconds: float) -> None:
        """A node's daemon stops for a moment and leaves its containers running: nothing is moved meanwhile."""
        seconds = min(seconds, LONGEST_EXCUSE)
        if not self._book.excuse(node_id, self._mono(), seconds):
            return
        await self._say(node_id, lambda status: replace(status, message=RESTARTING.format(seconds=seconds)))

    async def _say(self, node_id: str, change: Callable[[NodeStatus], NodeStatus]) -> None:
        def record(tx: Tx) -> None:
            node = tx.get(Node, node_id)
            if node is not None:
                tx.update(replace(node, status=change(node.status)))

        await self._store.update(record)

    async def _decide(self) -> None:
        verdicts = self._undecided
        try:
            await self._store.update(lambda tx: record_health(tx, self._book, verdicts))
        except Exception:
            log.exception("the state of %d nodes could not be recorded; trying again", len(verdicts))
            return
        self._undecided = {}
        self._book.said(verdicts)
        for node_id, health in verdicts.items():
            log.info("node %s: %s", node_id, health.value)
            if health is Health.DOWN and self._book.health(node_id) is Health.DOWN:
                self._cut(node_id)
