"""A manager's part in the managers' agreement: how the leader lets a new one in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from enxame.errors import Conflict, EnxameError, PermissionDenied, Unavailable
from enxame.manager.leader_link import LeaderLink
from enxame.membership.swarm_state import SwarmState
from enxame.model.cluster import Cluster
from enxame.model.node import ManagerStatus, Node
from enxame.store.interface import Tx
from enxame.transport.methods import (
    MANAGER_JOIN,
    MANAGER_READY,
    MANAGER_STANDING,
    ManagerJoin,
    ManagerJoinNews,
    ManagerStanding,
    Nothing,
)
from enxame.transport.peer import Peer, Served

if TYPE_CHECKING:
    from enxame.store.etcd_node import EtcdNode

log = logging.getLogger(__name__)

#: Longest wait for one that came before, for a new member to start, and for one that did not to be taken out: seconds.
TURN_DEADLINE: Final = 30.0
START_DEADLINE: Final = 20.0
_UNDO_DEADLINE: Final = 5.0


class ManagerAdmission:
    """One per manager. ``changing`` is held while the members change: by one at a time."""

    def __init__(self, state: SwarmState, leadership: LeaderLink, changing: asyncio.Lock) -> None:
        self._state = state
        self._leadership = leadership
        self._changing = changing
        #: Of those whose turn it is: set when their member has started.
        self._ready: dict[str, asyncio.Event] = {}

    def serve(self, served: Served) -> None:
        """Add the methods."""
        served.stream(MANAGER_JOIN, self._join)
        served.call(MANAGER_READY, self._is_ready)
        served.call(MANAGER_STANDING, self._standing)

    async def _join(self, peer: Peer, request: ManagerJoin) -> AsyncGenerator[ManagerJoinNews]:
        leader = await self._leadership.known()
        if leader.node_id != self._leadership.node_id:
            yield ManagerJoinNews(redirect=leader.addr)
            return
        self._check(peer.node_id)
        async with asyncio.timeout(TURN_DEADLINE):
            await self._changing.acquire()
        try:
            await self._state.to_etcd()
            etcd = self._etcd()
            members = await self._add(etcd, peer.node_id, request.peer_url)
            ready = self._ready[peer.node_id] = asyncio.Event()
            try:
                yield ManagerJoinNews(
                    members=members,
                    cluster_token=self._cluster_id(),
                    state_keys=msgspec.msgpack.encode(self._state.keys.material),
                )
                async with asyncio.timeout(START_DEADLINE):
                    await ready.wait()
                await etcd.members.promote(peer.node_id)
            except BaseException:
                await self._take_out(etcd, peer.node_id, request.peer_url)
                raise
            finally:
                del self._ready[peer.node_id]
            await self._record(peer.node_id, request)
            log.info("node %s is one of the swarm's managers", peer.node_id)
            yield ManagerJoinNews(done=True)
        except TimeoutError:
            raise Unavailable(f"node {peer.node_id} did not start its etcd member in time") from None
        finally:
            self._changing.release()

    def _check(self, node_id: str) -> None:
        node = self._state.store.view.get(Node, node_id)
        if node is None or node.spec.role != "manager":
            raise PermissionDenied(f"node {node_id} is not to be a manager")

    async def _add(self, etcd: EtcdNode, node_id: str, peer_url: str) -> dict[str, str]:
        """Make room for the new member, and announce it. Nobody else is joining: all learners were given up."""
        for member in await etcd.members.list():
            if member.learner:
                await etcd.members.remove_id(member.id)
            elif member.name == node_id:
                # It lost its data, or would not ask.
                await etcd.members.remove(node_id, reachable=self._reachable(node_id))
            elif peer_url in member.peer_urls:
                raise Conflict(f"the manager {member.name} has the address {peer_url} already")
        return await etcd.members.add(node_id, peer_url)

    def _reachable(self, without: str) -> set[str]:
        return {
            node.id
            for node in self._state.store.view.all(Node)
            if node.id != without
            and node.manager_status is not None
            and (node.manager_status.reachability == "reachable" or node.id == self._leadership.node_id)
        }

    async def _take_out(self, etcd: EtcdNode, node_id: str, peer_url: str) -> None:
        """The new one did not come: its place must not stay, unless it got its vote after all."""
        try:
            async with asyncio.timeout(_UNDO_DEADLINE):
                for member in await etcd.members.list():
                    if member.learner and (member.name == node_id or peer_url in member.peer_urls):
                        await etcd.members.remove_id(member.id)
        except (EnxameError, TimeoutError) as error:
            log.warning("the learner of node %s stays until the next manager joins: %s", node_id, error)

    async def _record(self, node_id: str, request: ManagerJoin) -> None:
        def record(tx: Tx) -> None:
            node = tx.get(Node, node_id)
            if node is not None:
                status = ManagerStatus(reachability="reachable", addr=request.addr)
                tx.update(replace(node, manager_status=status))

        await self._state.store.update(record)

    async def _is_ready(self, peer: Peer, _request: Nothing) -> Nothing:
        ready = self._ready.get(peer.node_id)
        if ready is None:
            raise Unavailable(f"it is not the turn of node {peer.node_id} to join")
        ready.set()
        return Nothing()

    async def _standing(self, peer: Peer, _request: Nothing) -> ManagerStanding:
        if not self._state.leads:
            raise Unavailable("this manager does not lead the swarm")
        if self._state.etcd is None:
            return ManagerStanding()
        members = await self._state.etcd.members.list()
        return ManagerStanding(member=any(m.name == peer.node_id and not m.learner for m in members))

    def _etcd(self) -> EtcdNode:
        if self._state.etcd is None:
            raise Unavailable("the swarm's state is not in etcd")
        return self._state.etcd

    def _cluster_id(self) -> str:
        cluster = next(iter(self._state.store.view.all(Cluster)), None)
        return cluster.id if cluster is not None else ""
