"""Who leads the swarm, and the way to that manager."""

from __future__ import annotations

from typing import Protocol

from enxame.errors import Unavailable
from enxame.model.cluster import PeerNode
from enxame.transport.peer import Peer

__all__ = ["AlwaysLeads", "LeaderLocator", "LeadsItself"]


class LeadsItself(Unavailable):
    """There is no link to the leader: it is this manager."""

    def __init__(self, message: str = "this manager leads the swarm itself") -> None:
        super().__init__(message)


class LeaderLocator(Protocol):
    """One per manager. What it says may change between any two awaits."""

    @property
    def node_id(self) -> str:
        """This node's id."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether this manager leads and may act as the leader at this moment. Else its store only follows."""
        ...

    @property
    def leader(self) -> PeerNode | None:
        """The manager that leads as far as is known here, this one included; None when there is none."""
        ...

    async def link(self) -> Peer:
        """A link to the manager that leads, shared by all who ask and kept open: never to be closed by the caller.

        Waits a few seconds for a leader when there is none. When the link breaks later, calls on it end with
        ``Unavailable``; the next :meth:`link` is a new one. By the time of the call the other side may have lost
        leadership: it says so.

        Raises:
            NoLeader: the swarm has no leader, in Swarm's words.
            LeadsItself: this manager leads by now: do it here.
            Unavailable: the leader cannot be reached.
        """
        ...


class AlwaysLeads:
    """The only manager of a swarm."""

    def __init__(self, node_id: str, addr: str = "") -> None:
        self.node_id = node_id
        self.leader: PeerNode | None = PeerNode(node_id=node_id, addr=addr)
        self.is_leader = True

    async def link(self) -> Peer:
        """There is nobody else."""
        raise LeadsItself
