"""One manager's knowledge of who leads, and its link to that manager."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, Protocol

from enxame.errors import Unavailable
from enxame.manager.leadership import LeadsItself
from enxame.model.cluster import PeerNode
from enxame.model.node import Node
from enxame.store.backend import NoLeader
from enxame.store.interface import View
from enxame.transport import dialer
from enxame.transport.peer import Peer

log = logging.getLogger(__name__)

#: How long is waited for a leader when there is none: seconds. An election takes about one.
PATIENCE: Final = 5.0
#: Between two looks at who leads: seconds.
_LOOK: Final = 0.05


class Standing(Protocol):
    """What the swarm's state says of leadership."""

    @property
    def leads(self) -> bool:
        """Whether this manager may act as the leader at this moment."""
        ...

    @property
    def leader(self) -> str:
        """The node id of the manager that leads, empty when none is known."""
        ...


class LeaderLink:
    """See :class:`enxame.manager.leadership.LeaderLocator`. ``view`` tells managers' addresses; ``context`` is this
    node's for links; :meth:`run` must be running.
    """

    def __init__(
        self,
        node_id: str,
        standing: Standing,
        *,
        view: Callable[[], View | None],
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        self.node_id = node_id
        self._standing = standing
        self._view = view
        self._context = context
        self._peer: Peer | None = None
        self._to = ""
        self._link: AsyncExitStack | None = None
        self._linking = asyncio.Lock()

    @property
    def is_leader(self) -> bool:
        """Whether this manager leads and may act as the leader at this moment."""
        return self._standing.leads

    @property
    def leader(self) -> PeerNode | None:
        """The manager that leads, as far as is known here."""
        node_id, view = self._standing.leader, self._view()
        node = view.get(Node, node_id) if node_id and view is not None else None
        if node is None or node.manager_status is None:
            return None
        return PeerNode(node_id=node_id, addr=node.manager_status.addr)

    async def known(self, patience: float = PATIENCE) -> PeerNode:
        """The manager that leads, this one included; waits for one. Raises NoLeader."""
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            leader = self.leader
            # One that is no longer sure of itself is not what is asked for.
            if leader is not None and (leader.node_id != self.node_id or self.is_leader):
                return leader
            if asyncio.get_running_loop().time() >= deadline:
                raise NoLeader
            await asyncio.sleep(_LOOK)

    async def link(self) -> Peer:
        """See the protocol."""
        leader = self.leader
        if self._peer is not None and not self._peer.closed and leader is not None and leader.addr == self._to:
            return self._peer
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            leader = await self.known(max(0.0, deadline - asyncio.get_running_loop().time()))
            if leader.node_id == self.node_id:
                raise LeadsItself
            try:
                async with self._linking:
                    return await self._open_while_it_leads(leader)
            except Unavailable:
                # It may be gone without anybody having noticed yet.
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(_LOOK)

    async def _open_while_it_leads(self, leader: PeerNode) -> Peer:
        """Try no longer than that manager leads: it may be out of reach, and another one elected meanwhile."""
        opening = asyncio.ensure_future(self._open(leader))
        try:
            while not opening.done():
                await asyncio.wait({opening}, timeout=_LOOK)
                if not opening.done() and (known := self.leader) is not None and known != leader:
                    raise Unavailable(f"node {leader.node_id} does not lead the swarm any more")
            return opening.result()
        finally:
            if not opening.done():
                opening.cancel()
                await asyncio.wait({opening})

    async def _open(self, leader: PeerNode) -> Peer:
        if self._peer is not None and not self._peer.closed and self._to == leader.addr:
            return self._peer
        await self._drop()
        stack = AsyncExitStack()
        self._peer = await stack.enter_async_context(dialer.link(leader.addr, self._context()))
        self._link, self._to = stack, leader.addr
        return self._peer

    async def _drop(self) -> None:
        link, self._link, self._peer, self._to = self._link, None, None, ""
        if link is not None:
            await link.aclose()

    async def run(self) -> None:
        """Cut the link as soon as another manager leads, so that nobody waits for the old one; until cancelled."""
        try:
            while True:
                await asyncio.sleep(_LOOK)
                if self._linking.locked() or self._peer is None:
                    continue
                leader = self.leader
                if leader is not None and leader.addr != self._to:
                    log.info("the swarm's leader is node %s at %s now", leader.node_id, leader.addr)
                    self._peer.close()
                    async with self._linking:
                        await self._drop()
        finally:
            await self._drop()
