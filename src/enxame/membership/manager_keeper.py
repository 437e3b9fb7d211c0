"""The leader's care for the other managers: who is one, who can be reached, and who is to be one no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from enxame.errors import EnxameError
from enxame.manager.failure_detector import LEFT
from enxame.membership.swarm_state import SwarmState
from enxame.model.node import ManagerStatus, Node
from enxame.store.interface import Tx
from enxame.store.watch import WatchLagged

if TYPE_CHECKING:
    from enxame.store.etcd_messages import Member
    from enxame.store.etcd_node import EtcdNode

log = logging.getLogger(__name__)

#: Between two looks, when nothing happens: seconds.
LOOK: Final = 0.5
#: How long managers have to report to a new leader, or when they are new, before they are called unreachable: seconds.
GRACE: Final = 4.0
#: The same for those that did: a link may be made anew.
HOLD: Final = 1.5
#: A manager that stays alone for so long needs no etcd: seconds. Another one may be about to join.
ALONE: Final = 3.0


class ManagerKeeper:
    """Exists while this manager leads. ``trouble`` says why another manager has no part in the agreement, empty when it
    has; ``changing`` is held while the members change.
    """

    def __init__(
        self,
        state: SwarmState,
        node_id: str,
        *,
        addr: str,
        trouble: Callable[[str], str],
        changing: asyncio.Lock,
    ) -> None:
        self._state = state
        self._node_id = node_id
        self._addr = addr
        self._trouble = trouble
        self._changing = changing
        #: Until when each manager is not called unreachable.
        self._excused: dict[str, float] = {}
        self._alone_since: float | None = None

    async def run(self) -> None:
        """Look after the managers until cancelled."""
        while True:
            async with self._state.store.watch(Node) as watch:
                try:
                    while True:
                        await self._look()
                        try:
                            async with asyncio.timeout(LOOK):
                                await watch.next()
                        except TimeoutError:
                            pass
                except WatchLagged:
                    continue

    async def _look(self) -> None:
        try:
            await self._record_standing()
            if self._changing.locked():
                return
            async with self._changing:
                if self._state.etcd is not None:
                    await self._reconcile(self._state.etcd)
                else:
                    await self._forget_demoted(set())
        except EnxameError as error:
            log.warning("the swarm's managers were not looked after: %s", error)
            await asyncio.sleep(LOOK)

    # -- who can be reached

    async def _record_standing(self) -> None:
        wanted = {
            node.id: status
            for node in self._state.store.view.all(Node)
            if (status := self._standing(node)) != node.manager_status
        }
        if not wanted:
            return

        def record(tx: Tx) -> None:
            for node_id, status in wanted.items():
                node = tx.get(Node, node_id)
                if node is not None and (node.manager_status is not None or node_id == self._node_id):
                    tx.update(replace(node, manager_status=status))

        await self._state.store.update(record)

    def _standing(self, node: Node) -> ManagerStatus | None:
        if node.id == self._node_id:
            return ManagerStatus(leader=True, reachability="reachable", addr=self._addr)
        status = node.manager_status
        if status is None:
            self._excused.pop(node.id, None)
            return None
        now = asyncio.get_running_loop().time()
        if trouble := self._trouble(node.id):
            if now < self._excused.setdefault(node.id, now + GRACE):
                return replace(status, leader=False)
            if status.reachability == "reachable":
                log.warning("the manager %s cannot be reached: %s", node.id, trouble)
            return replace(status, leader=False, reachability="unreachable")
        self._excused[node.id] = max(self._excused.get(node.id, 0.0), now + HOLD)
        return replace(status, leader=False, reachability="reachable")

    # -- who takes part

    async def _reconcile(self, etcd: EtcdNode) -> None:
        nodes = {node.id: node for node in self._state.store.view.all(Node)}
        members = await etcd.client.members(timeout=1.0)
        for member in members:
            node = nodes.get(member.name)
            if member.learner or node is None or node.spec.role != "manager" or _has_left(node):
                if await self._part_with(etcd, member, nodes):
                    return
            elif node.manager_status is None:
                # Whoever let it in did not get to say so.
                await self._note(node.id, ManagerStatus(reachability="reachable", addr=_address(node)))
        await self._forget_demoted({member.name for member in members})
        await self._go_back_when_alone(members, nodes)

    async def _forget_demoted(self, members: Collection[str]) -> None:
        for node in list(self._state.store.view.all(Node)):
            if node.manager_status is not None and node.spec.role != "manager" and node.id not in members:
                await self._note(node.id, None)

    async def _part_with(self, etcd: EtcdNode, member: Member, nodes: dict[str, Node]) -> bool:
        """Take a member out. True when this manager hands over and has nothing more to say."""
        if member.learner:
            await etcd.members.remove_id(member.id)
            return False
        if member.name == self._node_id:
            if self._node_id in nodes and nodes[self._node_id].spec.role != "manager":
                log.info("this manager is demoted: it hands leadership over")
                return await self._state.resign()
            return False
        await etcd.members.remove(member.name, reachable=self._reachable(nodes))
        log.info("node %s has no part in the managers' agreement any more", member.name)
        node = nodes.get(member.name)
        if node is not None and node.spec.role != "manager":
            await self._note(node.id, None)
        return False

    def _reachable(self, nodes: dict[str, Node]) -> set[str]:
        return {node_id for node_id in nodes if node_id == self._node_id or not self._trouble(node_id)}

    async def _note(self, node_id: str, status: ManagerStatus | None) -> None:
        def note(tx: Tx) -> None:
            node = tx.get(Node, node_id)
            if node is not None and (status is None or node.manager_status is None):
                tx.update(replace(node, manager_status=status))

        await self._state.store.update(note)

    async def _go_back_when_alone(self, members: list[Member], nodes: dict[str, Node]) -> None:
        alone = [member.name for member in members] == [self._node_id]
        to_come = any(
            node.id != self._node_id and node.spec.role == "manager" and node.status.state != "down"
            for node in nodes.values()
        )
        now = asyncio.get_running_loop().time()
        if not alone or to_come:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now >= self._alone_since + ALONE:
            await self._state.to_sqlite()
            self._alone_since = None


def _has_left(node: Node) -> bool:
    """Whether it said good-bye: it stays a manager in the list until it is demoted, but nobody waits for its vote."""
    return node.status.state == "down" and node.status.message == LEFT


def _address(node: Node) -> str:
    return f"{node.status.addr}:2377" if node.status.addr else ""
